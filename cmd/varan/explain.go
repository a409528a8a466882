package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/sync/rules"
)

// ruleJSON is a rule for programs.
type ruleJSON struct {
	ID           string `json:"id"`
	Group        string `json:"group"`
	Severity     string `json:"severity"`
	Configurable bool   `json:"configurable"`
	Title        string `json:"title"`
	Why          string `json:"why"`
	Bad          string `json:"bad,omitempty"`
	Good         string `json:"good,omitempty"`
	Origin       string `json:"origin"`
}

func toRuleJSON(e rules.Entry) ruleJSON {
	return ruleJSON{
		ID: e.ID, Group: string(e.Group), Severity: e.Severity.String(), Configurable: e.Configurable(),
		Title: e.Title, Why: e.Why, Bad: e.Bad, Good: e.Good, Origin: e.Group.Origin(),
	}
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [RULE]",
		Short: "Say what a rule is about and why it matters",
		Long: `Say what a rule is about and why it matters, with an example. Every finding of validate and
plan ends with the name of its rule. Without a name all rules are listed; the name of a
group lists its rules.`,
		Example: "  varan explain cap-drop-all\n  varan explain hardening\n  varan explain",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listRules("")
			}
			id := strings.Trim(args[0], "[]")
			if entry, ok := rules.Lookup(id); ok {
				if a.json {
					return a.printJSON(toRuleJSON(entry))
				}
				explainRule(a.stdout, entry)
				return nil
			}
			for _, group := range rules.Groups() {
				if string(group) == id {
					return a.listRules(group)
				}
			}
			hint := "varan explain lists all rules"
			if near := rules.Closest(id); near != "" {
				hint = "did you mean " + near + "?"
			}
			return &exit.Error{Code: exit.Usage, Err: fmt.Errorf("there is no rule %q", id), Hint: hint}
		},
	}
}

// listRules lists a group, or all of them.
func (a *app) listRules(only rules.Group) error {
	s := styleFor(a.stdout)
	list := []ruleJSON{}
	for _, group := range rules.Groups() {
		if only != "" && group != only {
			continue
		}
		t := table{head: []string{"RULE", "DEFAULT", "WHAT"}}
		for _, e := range rules.All() {
			if e.Group == group {
				list = append(list, toRuleJSON(e))
				t.add(e.ID, e.Severity.String(), e.Title)
			}
		}
		if a.json {
			continue
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", s.bold(string(group)), group.About())
		t.write(a.stdout, s)
		fmt.Fprintln(a.stdout)
	}
	if a.json {
		return a.printJSON(list)
	}
	return nil
}

func explainRule(w io.Writer, e rules.Entry) {
	s := styleFor(w)
	fmt.Fprintf(w, "%s: %s\n\n%s\n", s.bold(e.ID), e.Title, fold(e.Why, 90))
	example := func(head, text string) {
		if text != "" {
			fmt.Fprintf(w, "\n%s\n\n    %s\n", head, strings.ReplaceAll(text, "\n", "\n    "))
		}
	}
	example("Instead of:", e.Bad)
	if e.Bad == "" {
		example("For example:", e.Good)
	} else {
		example("Write:", e.Good)
	}
	fmt.Fprintf(w, "\nBy default it is %s; group %s, reported by %s.\n", withArticle(e.Severity.String()), e.Group, e.Group.Origin())
	if e.Configurable() {
		fmt.Fprintf(w, "To change that, in .varan.toml at the root of the repository:\n\n    [rules]          # or [rules.trusted], [rules.untrusted]\n"+
			"    %s = \"off\"   # or note, warn, error\n\n    [[exception]]\n    rule = %q\n    stack = \"...\"\n    reason = \"...\"\n", e.ID, e.ID)
	}
}

func withArticle(word string) string {
	if word == "error" {
		return "an error"
	}
	return "a " + word
}

// fold breaks a text into lines.
func fold(text string, width int) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i > 0 && column+1+len(word) > width:
			out.WriteByte('\n')
			column = 0
		case i > 0:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	return out.String()
}
