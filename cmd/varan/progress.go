package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// maxLive is how many running ops a terminal shows at once; the rest are counted.
const maxLive = 12

// progressView shows the events of a run: on a terminal as a block of live lines, one for
// each running op; elsewhere as plain lines, one for each thing that ended. It writes to
// stderr, so that results stay alone on stdout.
type progressView struct {
	out   io.Writer
	style style
	live  bool
	quiet bool
	width int

	ops     map[string]plan.Op
	running []liveOp
	drawn   int
}

// liveOp is the last news of one running op.
type liveOp struct {
	id    string
	since time.Time
	text  string
}

func newProgressView(a *app) *progressView {
	v := &progressView{out: a.stderr, style: styleFor(a.stderr), quiet: a.json, ops: map[string]plan.Op{}, width: 100}
	if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		v.live = !a.json
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			v.width = w
		}
	}
	return v
}

func styleIsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// event takes one event of the stream.
func (v *progressView) event(e api.ApplyEvent) error {
	if v.quiet {
		return nil
	}
	v.erase()
	switch e.Kind {
	case api.EventPlan:
		if e.Plan != nil {
			for _, op := range e.Plan.Ops {
				v.ops[op.ID] = op
			}
		}
	case api.EventStarted:
		v.running = append(v.running, liveOp{id: e.Op, since: e.At, text: "queued"})
	case api.EventProgress:
		v.progress(e)
	case api.EventEnded:
		v.ended(e)
	case api.EventDone, api.EventError:
		v.running = nil
	}
	v.draw()
	return nil
}

func (v *progressView) progress(e api.ApplyEvent) {
	if e.Progress == nil {
		return
	}
	for i := range v.running {
		if v.running[i].id == e.Op {
			v.running[i].text = progressText(*e.Progress)
		}
	}
}

func progressText(p fleet.Progress) string {
	text := string(p.Phase)
	if p.Service != "" {
		text += " " + p.Service
	}
	if p.Text != "" {
		text += ": " + p.Text
	}
	if p.Percent > 0 {
		text += fmt.Sprintf(" %d%%", p.Percent)
	}
	return printable(text)
}

func (v *progressView) ended(e api.ApplyEvent) {
	for i := range v.running {
		if v.running[i].id == e.Op {
			v.running = append(v.running[:i], v.running[i+1:]...)
			break
		}
	}
	if e.Result == nil {
		return
	}
	r := e.Result
	mark := v.style.green("✓")
	if r.Status != api.OpSucceeded {
		mark = v.style.red("✗")
	}
	line := fmt.Sprintf("%s %s", mark, e.Op)
	if detail := changedText(r.Outcome); detail != "" {
		line += "  " + v.style.dim(detail)
	}
	if r.Status != api.OpSucceeded {
		line += "  " + opStatus(v.style, r.Status)
	}
	if !r.Ended.IsZero() && !r.Started.IsZero() {
		line += "  " + v.style.dim(r.Ended.Sub(r.Started).Round(100*time.Millisecond).String())
	}
	fmt.Fprintln(v.out, line)
	if r.Reason != "" {
		fmt.Fprintf(v.out, "    %s\n", printable(r.Reason))
	}
}

// changedText is like "recreated web; started db".
func changedText(o fleet.Outcome) string {
	var parts []string
	for _, p := range []struct {
		verb     string
		services []string
	}{{"recreated", o.Recreated}, {"started", o.Started}, {"removed", o.Removed}} {
		if len(p.services) > 0 {
			parts = append(parts, p.verb+" "+strings.Join(p.services, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// draw writes the live block; erase takes it away again.
func (v *progressView) draw() {
	if !v.live {
		return
	}
	for i, op := range v.running {
		if i == maxLive {
			fmt.Fprintf(v.out, "  %s\n", v.style.dim(fmt.Sprintf("and %d more", len(v.running)-maxLive)))
			v.drawn++
			break
		}
		line := fmt.Sprintf("  %s  %s", op.id, op.text)
		if runes := []rune(line); len(runes) > v.width-1 {
			line = string(runes[:v.width-2]) + "…"
		}
		fmt.Fprintln(v.out, v.style.cyan(line))
		v.drawn++
	}
}

func (v *progressView) erase() {
	if v.drawn > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

func (v *progressView) close() {
	v.erase()
	v.running = nil
}

// summary is the last line of a run.
func (v *progressView) summary(result api.RunResult) {
	counts := map[api.OpStatus]int{}
	for i := range result.Ops {
		counts[result.Ops[i].Status]++
	}
	if len(result.Ops) == 0 {
		fmt.Fprintln(v.out, v.style.green("Nothing to do: the fleet is what Git says."))
		return
	}
	var parts []string
	for _, status := range []api.OpStatus{
		api.OpSucceeded, api.OpRolledBack, api.OpFailed, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted,
	} {
		if counts[status] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[status], strings.ReplaceAll(string(status), "_", " ")))
		}
	}
	fmt.Fprintf(v.out, "%s %s.\n", v.style.bold("Applied:"), strings.Join(parts, ", "))
}
