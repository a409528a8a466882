package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// maxDetails bounds an explanation: beyond it nobody reads on.
const maxDetails = 50

// explain says why a stack is as it is, from what is desired, planned, observed and
// recorded. It is pure, and always has a summary.
func explain(stack string, v view, history []api.Op) api.Why {
	e := explanation{Why: api.Why{Stack: stack, Sync: fleet.SyncUnknown, Health: fleet.HealthUnknown}}
	if len(history) > 0 {
		e.LastOp = &history[0]
	}
	if !e.locate(v) {
		e.unknown(v)
		return e.Why
	}
	e.Known = true
	// From what keeps the stack from being looked after to how well it is: the first of
	// them that has something to say gives the summary.
	e.source()
	e.blocked()
	e.due()
	e.bad()
	e.notices()
	e.containers()
	e.lastOp()
	e.fine()
	if len(e.Details) > maxDetails {
		e.Details = e.Details[:maxDetails]
	}
	return e.Why
}

// explanation is an answer in the making.
type explanation struct {
	api.Why
	from   source
	stack  fleet.Stack
	report fleet.StackReport
	state  plan.StackState
}

// say adds a fact, and makes it the summary if there is none yet.
func (e *explanation) say(detail api.WhyDetail, next ...string) {
	if e.Summary == "" {
		e.Summary = detail.Text
		if !detail.Origin.IsZero() {
			e.Summary += " (" + detail.Origin.String() + ")"
		}
	}
	e.Details = append(e.Details, detail)
	for _, n := range next {
		if n != "" && !slices.Contains(e.Next, n) {
			e.Next = append(e.Next, n)
		}
	}
}

// unlessSaid is what to do next, unless something more telling has said it already.
func (e *explanation) unlessSaid(next string) string {
	if len(e.Next) > 0 {
		return ""
	}
	return next
}

// locate finds who declares the stack and who runs it.
func (e *explanation) locate(v view) bool {
	declared := false
	for _, source := range v.sources {
		stack, ok := source.desired.Stack(e.Stack)
		if ok {
			e.from, e.stack, declared = source, stack, true
			e.Server, e.Source, e.Origin, e.Desired = stack.Server, source.sync.Name, stack.Origin, source.desired.Commit
		}
		for _, state := range source.status.Plan.Stacks {
			if state.Stack == e.Stack && (!declared || state.Server == e.Server) {
				e.from, e.state = source, state
				e.Server, e.Source = state.Server, source.sync.Name
				e.Sync, e.Health = state.Sync, state.Health
			}
		}
	}
	for _, server := range sortedServers(v) {
		report, ok := v.observed[server].Stack(e.Stack)
		if ok && (e.Server == "" || e.Server == server) {
			e.Server, e.report, e.Running = server, report, report.Release.Commit
		}
	}
	return e.Server != "" || e.LastOp != nil
}

func sortedServers(v view) []string {
	names := make([]string, 0, len(v.observed))
	for name := range v.observed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (e *explanation) unknown(v view) {
	var names []string
	for _, stack := range v.stacks() {
		names = append(names, stack.Name)
	}
	slices.Sort(names)
	e.Closest = closest(e.Stack, slices.Compact(names))
	e.Summary = fmt.Sprintf("no sync declares a stack %q, no connected server runs one, and core never deployed one", e.Stack)
	if len(e.Closest) > 0 {
		e.Next = append(e.Next, "did you mean "+strings.Join(e.Closest, ", ")+"?")
	}
	e.Next = append(e.Next, "varan get stacks lists what there is")
	for _, source := range v.sources {
		if source.status.Error != "" {
			e.Details = append(e.Details, api.WhyDetail{
				Kind: "error", Text: fmt.Sprintf("sync %s cannot be read: %s", source.sync.Name, source.status.Error),
			})
		}
	}
}

// source tells of a repository that cannot be read, or whose head is invalid.
func (e *explanation) source() {
	status := e.from.status
	if status.Error != "" {
		e.say(api.WhyDetail{
			Kind: "error", Text: fmt.Sprintf("sync %s cannot be read, so commit %s stays in force: %s",
				e.Source, e.Desired.Short(), status.Error),
		}, "varan get syncs shows its URL and branch")
	}
	if !status.Diagnostics.HasErrors() {
		return
	}
	for _, d := range status.Diagnostics {
		if d.Severity == fleet.SeverityError {
			e.say(api.WhyDetail{
				Kind: "invalid", Origin: d.Position, Text: fmt.Sprintf("commit %s is invalid, so %s stays in force: %s",
					commit(status.Head), e.Desired.Short(), d.Message),
			}, cmp.Or(d.Hint, "fix "+d.Position.String()+" and push"))
		}
	}
}

// blocked tells what keeps due work from being done.
func (e *explanation) blocked() {
	for _, b := range e.from.status.Plan.Blocked {
		if b.Op.Stack == e.Stack {
			e.say(api.WhyDetail{
				Kind: "blocked", Origin: b.Op.Origin,
				Text: fmt.Sprintf("%s on %s is blocked: %s", b.Op.Kind, b.Op.Server, b.Text),
			}, b.Hint)
			e.causes(b.Op)
		}
	}
}

// due tells what is about to be done, or waits for someone.
func (e *explanation) due() {
	for _, op := range e.from.status.Plan.Ops {
		if op.Stack != e.Stack {
			continue
		}
		e.gates(op)
		text := fmt.Sprintf("%s on %s is due for commit %s", op.Kind, op.Server, commit(e.from.status.Plan.Commit))
		next := "it is under way or about to start"
		running := e.LastOp != nil && e.LastOp.Status == api.OpRunning
		if !running && !e.from.status.AutoApply {
			next = fmt.Sprintf("sync %s does not apply by itself: varan apply %s", e.Source, e.Source)
		}
		if cause := firstCause(op); cause != "" {
			text += ": " + cause
		}
		e.say(api.WhyDetail{Kind: string(op.Kind), Origin: firstOrigin(op), Text: text}, next)
		e.causes(op)
	}
}

func (e *explanation) gates(op plan.Op) {
	for _, gate := range e.from.status.Plan.Gates {
		if slices.Contains(op.Gates, gate.ID) {
			e.say(api.WhyDetail{
				Kind: "gate", Origin: op.Origin, Text: fmt.Sprintf("%s on %s needs consent: %s", op.Kind, op.Server, gate.Text),
			}, fmt.Sprintf("varan apply %s --approve %q", e.Source, gate.ID))
		}
	}
}

// causes adds every cause of an op as a fact of its own.
func (e *explanation) causes(op plan.Op) {
	for _, cause := range op.Causes {
		e.cause(plan.ServiceChange{}, cause)
	}
	for _, change := range op.Services {
		for _, cause := range change.Causes {
			e.cause(change, cause)
		}
	}
}

func (e *explanation) cause(change plan.ServiceChange, cause plan.Cause) {
	text := cause.String()
	if change.Service != "" {
		text = fmt.Sprintf("service %s: %s", change.Service, text)
	}
	e.Details = append(e.Details, api.WhyDetail{
		Kind: string(cause.Kind), Service: change.Service, Action: string(change.Action),
		Field: cause.Field, Text: text, Origin: cause.Origin,
	})
}

// firstCause and firstOrigin prefer a service's: it is the more telling.
func firstCause(op plan.Op) string {
	for _, change := range op.Services {
		for _, cause := range change.Causes {
			return fmt.Sprintf("service %s: %s", change.Service, cause)
		}
	}
	for _, cause := range op.Causes {
		return cause.String()
	}
	return ""
}

func firstOrigin(op plan.Op) fleet.Position {
	for _, change := range op.Services {
		for _, cause := range change.Causes {
			if !cause.Origin.IsZero() {
				return cause.Origin
			}
		}
	}
	return op.Origin
}

// bad tells of the desired release's failure on this host.
func (e *explanation) bad() {
	for _, bad := range slices.Backward(e.report.Bad) {
		if bad.Release != e.stack.Release.Digest || bad.Release == "" {
			continue
		}
		after := "and putting the last good release back failed too"
		if e.Running.ID == "" {
			after = "there is no good release yet to put back"
		}
		if bad.RolledBack {
			after = fmt.Sprintf("the last good release, commit %s, runs again", e.Running.Short())
		}
		e.say(api.WhyDetail{
			Kind: "bad", Origin: e.Origin,
			Text: fmt.Sprintf("commit %s failed on %s: %s; %s", e.Desired.Short(), e.Server, bad.Reason, after),
		}, e.unlessSaid("push a fix, or try it again: varan deploy "+e.Stack))
	}
}

func (e *explanation) notices() {
	for _, notice := range e.from.status.Plan.Notices {
		if notice.Stack == e.Stack {
			next := ""
			if notice.Kind == plan.NoticeDrift {
				next = "varan deploy " + e.Stack + " repairs it; a sync with self_heal does so by itself"
			}
			e.say(api.WhyDetail{
				Kind: "notice", Origin: e.Origin, Text: fmt.Sprintf("%s on %s: %s", notice.Kind, notice.Server, notice.Text),
			}, next)
		}
	}
	if e.Source == "" && e.report.Stack != "" {
		e.say(api.WhyDetail{
			Kind: "notice", Text: fmt.Sprintf("it runs on %s, but no sync declares it, so Varan leaves it alone", e.Server),
		}, "declare it in a resource file, or take it down on the host")
	}
}

// containers tells what is not well.
func (e *explanation) containers() {
	for i := range e.report.Containers {
		c := &e.report.Containers[i]
		for _, text := range troubles(c) {
			e.say(api.WhyDetail{
				Kind: "container", Service: c.Service, Text: fmt.Sprintf("service %s on %s: %s", c.Service, e.Server, text),
			}, fmt.Sprintf("varan logs %s %s", e.Stack, c.Service))
		}
		for _, d := range c.Drift {
			e.Details = append(e.Details, api.WhyDetail{
				Kind: string(plan.CauseDrift), Service: c.Service, Field: d.Field,
				Text: fmt.Sprintf("service %s: %s is %s, deployed was %s", c.Service, d.Field, orNone(d.Have), orNone(d.Want)),
			})
		}
	}
}

func troubles(c *fleet.Container) []string {
	var found []string
	switch c.State {
	case fleet.StateExited:
		if c.ExitCode != 0 {
			found = append(found, fmt.Sprintf("its container exited with code %d", c.ExitCode))
		}
	case fleet.StateRestarting:
		found = append(found, fmt.Sprintf("its container restarts again and again (%d times), last with code %d", c.RestartCount, c.ExitCode))
	case fleet.StateDead, fleet.StatePaused, fleet.StateCreated:
		found = append(found, fmt.Sprintf("its container is %s", c.State))
	case fleet.StateRunning, fleet.StateRemoving:
	}
	if c.State == fleet.StateRunning && c.Health == fleet.HealthUnhealthy {
		found = append(found, "its health check fails")
	}
	return found
}

func orNone(s string) string { return cmp.Or(s, "(none)") }

// lastOp tells how the last thing done to the stack ended.
func (e *explanation) lastOp() {
	op := e.LastOp
	if op == nil {
		return
	}
	text := fmt.Sprintf("last done: %s of commit %s on %s by %s (%s)", op.Kind, commit(op.Commit), op.Server, op.Trigger,
		strings.ReplaceAll(string(op.Status), "_", " "))
	if op.Reason != "" {
		text += ": " + op.Reason
	}
	detail := api.WhyDetail{Kind: "last", Text: text}
	failed := op.Status != api.OpSucceeded && op.Status != api.OpRunning
	// An old failure of a commit that was replaced since is no reason for anything.
	if failed && op.Commit.ID == e.Desired.ID && e.Sync != fleet.Synced || !e.declared() {
		e.say(detail, e.unlessSaid(op.Hint))
		return
	}
	e.Details = append(e.Details, detail)
}

func (e *explanation) declared() bool { return e.stack.Name != "" }

// fine is the summary when nothing else had anything to say.
func (e *explanation) fine() {
	if e.Summary != "" {
		return
	}
	switch {
	case e.report.Stack == "":
		e.Summary = fmt.Sprintf("%s is declared for %s at %s by commit %s, and nothing is known of it there yet",
			e.Stack, e.Server, e.Origin, commit(e.Desired))
	case e.Sync == fleet.Synced || e.Sync == fleet.SyncUnknown:
		e.Summary = fmt.Sprintf("%s runs on %s as %s says at commit %s", e.Stack, e.Server, e.Origin, commit(e.Desired))
	default:
		e.Summary = fmt.Sprintf("%s on %s is %s: %s", e.Stack, e.Server, e.Sync, orNone(e.state.Text))
	}
	if e.Health != fleet.Healthy {
		e.Summary += fmt.Sprintf("; its health is %s", e.Health)
		if e.state.Text != "" {
			e.Summary += ": " + e.state.Text
		}
	}
	if op := e.LastOp; op != nil && len(op.Causes) > 0 {
		e.Summary += fmt.Sprintf("; last changed by %s: %s", op.Kind, op.Causes[len(op.Causes)-1])
	}
}

// commit is "1a2b3c4d (subject, author)".
func commit(c fleet.Commit) string {
	var about []string
	if c.Subject != "" {
		about = append(about, fmt.Sprintf("%q", c.Subject))
	}
	if c.Author != "" {
		name, _, _ := strings.Cut(c.Author, " <")
		about = append(about, "by "+name)
	}
	if len(about) == 0 {
		return c.Short()
	}
	return c.Short() + " (" + strings.Join(about, " ") + ")"
}
