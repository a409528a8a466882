package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// maxLive is how many lines a terminal shows at once; the rest are counted.
const maxLive = 12

// liveBlock is the lines at the end of a terminal that say what runs now: erased before
// anything else is written, and drawn again after.
type liveBlock struct {
	out   io.Writer
	style style
	// live is false where nothing can be erased: then nothing is drawn.
	live  bool
	width int
	drawn int
}

func newLiveBlock(a *app, quiet bool) liveBlock {
	b := liveBlock{out: a.stderr, style: styleFor(a.stderr), width: columns(a.stderr)}
	b.live = b.width > minColumns && !quiet && os.Getenv("TERM") != "dumb"
	return b
}

func (b *liveBlock) draw(lines []string) {
	if !b.live {
		return
	}
	for i, line := range lines {
		if i == maxLive {
			fmt.Fprintf(b.out, "  %s\n", b.style.dim(fmt.Sprintf("and %d more", len(lines)-maxLive)))
			b.drawn++
			break
		}
		if runes := []rune(line); len(runes) > b.width-1 {
			line = string(runes[:b.width-2]) + "…"
		}
		fmt.Fprintln(b.out, b.style.cyan(line))
		b.drawn++
	}
}

func (b *liveBlock) erase() {
	if b.drawn > 0 {
		fmt.Fprintf(b.out, "\x1b[%dA\x1b[J", b.drawn)
		b.drawn = 0
	}
}

// progressView shows the events of a run: on a terminal as a block of live lines, one for
// each running op; elsewhere as plain lines, one for each thing that ended. It writes to
// stderr; only the summary, which is the result, goes to stdout.
type progressView struct {
	liveBlock
	result io.Writer
	quiet  bool

	plan    plan.Plan
	told    map[string]bool
	running []liveOp
}

// liveOp is the last news of one running op.
type liveOp struct {
	id    string
	since time.Time
	text  string
}

func newProgressView(a *app) *progressView {
	return &progressView{liveBlock: newLiveBlock(a, a.json), result: a.stdout, quiet: a.json, told: map[string]bool{}}
}

// event takes one event of the stream.
func (v *progressView) event(e api.ApplyEvent) error {
	if e.Plan != nil {
		v.plan = *e.Plan
	}
	if v.quiet {
		return nil
	}
	v.erase()
	switch e.Kind {
	case api.EventPlan:
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
	if e.Result != nil {
		v.tell(v.out, e.Result)
	}
}

// tell writes how one op ended.
func (v *progressView) tell(w io.Writer, r *api.Op) {
	v.told[r.ID] = true
	line := v.mark(r.Status) + " " + r.ID
	if detail := changedText(r.Outcome); detail != "" {
		line += "  " + v.style.dim(detail)
	}
	if r.Status != api.OpSucceeded {
		line += "  " + opStatus(v.style, r.Status)
	}
	if !r.Ended.IsZero() && !r.Started.IsZero() {
		line += "  " + v.style.dim(r.Ended.Sub(r.Started).Round(100*time.Millisecond).String())
	}
	fmt.Fprintln(w, line)
	if r.Reason != "" {
		fmt.Fprintf(w, "    %s\n", printable(r.Reason))
	}
	if r.Status == api.OpFailed || r.Status == api.OpRolledBack {
		for _, line := range lastLines(r.Outcome.Log, maxTold) {
			fmt.Fprintf(w, "    %s\n", v.style.dim("| "+printable(line)))
		}
	}
}

// maxTold is how many lines of what failed are shown.
const maxTold = 12

// lastLines are the last lines of a log that say something.
func lastLines(log string, most int) []string {
	lines := strings.FieldsFunc(log, func(r rune) bool { return r == '\n' || r == '\r' })
	return lines[max(0, len(lines)-most):]
}

// mark tells done, failed and not done apart at a glance.
func (v *progressView) mark(status api.OpStatus) string {
	switch status {
	case api.OpSucceeded:
		return v.style.green("✓")
	case api.OpFailed, api.OpRolledBack:
		return v.style.red("✗")
	case api.OpRunning, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted:
	}
	return v.style.yellow("–")
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

// draw shows the running ops.
func (v *progressView) draw() {
	lines := make([]string, len(v.running))
	for i, op := range v.running {
		lines[i] = fmt.Sprintf("  %s  %s", op.id, op.text)
	}
	v.liveBlock.draw(lines)
}

func (v *progressView) close() {
	v.erase()
	v.running = nil
}

// summary tells what the events left out, what could not be done, and the totals.
func (v *progressView) summary(result api.RunResult) error {
	counts := map[api.OpStatus]int{}
	for i := range result.Ops {
		op := &result.Ops[i]
		counts[op.Status]++
		if !v.told[op.ID] {
			v.tell(v.result, op)
		}
	}
	for i := range v.plan.Blocked {
		b := &v.plan.Blocked[i]
		fmt.Fprintf(v.result, "%s %s  %s\n    %s\n", v.style.yellow("!"), b.Op.ID, v.style.yellow("blocked"), printable(b.Text))
	}
	for _, c := range v.plan.Resources {
		if c.Blocked != "" {
			fmt.Fprintf(v.result, "%s %s  %s\n    %s\n", v.style.yellow("!"), c.ID(), v.style.yellow("blocked"), printable(c.Blocked))
		}
	}
	if len(result.Ops) == 0 && v.plan.Empty() {
		if err := v.plan.Render(v.result, plan.RenderOptions{Color: v.style.on, Width: v.width}); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		return nil
	}
	var parts []string
	for _, status := range []api.OpStatus{
		api.OpSucceeded, api.OpRolledBack, api.OpFailed, api.OpSkipped, api.OpStale, api.OpCanceled, api.OpInterrupted,
	} {
		if counts[status] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[status], words(status)))
		}
	}
	if n := len(v.plan.Blocked); n > 0 {
		parts = append(parts, fmt.Sprintf("%d blocked", n))
	}
	fmt.Fprintf(v.result, "%s %s.\n", v.style.bold("Applied:"), strings.Join(parts, ", "))
	return nil
}
