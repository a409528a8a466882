package plan_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

func TestRenderKeepsForeignTextFromActingOnTheTerminal(t *testing.T) {
	in := mustParse(t, map[string]string{"before": pair, "git": pairNext, "world": `engine alpha "\x1b]0;owned\x07\u202e"`})
	in.Desired.Commit.Subject = "clear \x1b[2J"
	p := plan.Compute(in)
	for _, text := range []string{render(t, p, plan.RenderOptions{}), p.String()} {
		if strings.ContainsAny(text, "\x1b\x07\u202e") {
			t.Errorf("control characters get through: %q", text)
		}
	}
}

func TestRenderKeepsToTheWidth(t *testing.T) {
	in := mustParse(t, map[string]string{
		"before": pair, "git": pairNext,
		"world": `bad db "service db exited with code 1 after it had complained at great length about the state of its disk"`,
	})
	for line := range strings.Lines(render(t, plan.Compute(in), plan.RenderOptions{Width: 72, Verbose: true})) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 72 && !strings.HasPrefix(line, "Plan:") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestRenderColoursTheSigns(t *testing.T) {
	in := mustParse(t, map[string]string{"before": pair, "git": pairNext})
	text := render(t, plan.Compute(in), plan.RenderOptions{Color: true})
	if !strings.Contains(text, "\x1b[33m-/+\x1b[0m") {
		t.Errorf("no colour: %q", text)
	}
}

func TestPlanOfNothingIsOneLine(t *testing.T) {
	text := render(t, plan.Compute(plan.Input{Desired: fleet.Desired{Sync: "home"}}), plan.RenderOptions{})
	if strings.Count(text, "\n") != 1 {
		t.Errorf("got %q", text)
	}
}
