package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// explainStack goes from what keeps the stack from being looked after to how well it is: the
// first that has something to say gives the summary.
func (e *explanation) explainStack() {
	if !e.locate() {
		e.unknown()
		return
	}
	e.Known = true
	e.suspended(e.concerns)
	e.source()
	e.blocked()
	e.due()
	e.bad()
	e.notices()
	e.containers()
	e.lastOp()
	e.fine()
	e.updates()
	e.elsewhere()
}

// concerns reports whether a suspension is about the stack.
func (e *explanation) concerns(u *plan.Suspension) bool {
	switch u.Kind {
	case plan.KindServer:
		return u.Name == e.Server
	case plan.KindSync:
		return u.Name == e.Source
	case plan.KindProcedure:
		return false
	}
	return u.Name == e.Name && (u.Server == "" || u.Server == e.Server)
}

// locate finds who declares the stack and who runs it.
func (e *explanation) locate() bool {
	for _, source := range e.Sources {
		e.locateIn(source)
	}
	for _, server := range slices.Sorted(maps.Keys(e.Observed)) {
		report, ok := e.Observed[server].Stack(e.Name)
		if ok && (e.Server == "" || e.Server == server) {
			e.Server, e.report, e.Running = server, report, report.Release.Commit
		}
	}
	return e.Source != "" || e.report.Stack != "" || e.LastOp != nil
}

// locateIn takes what a sync declares and plans of the stack.
func (e *explanation) locateIn(source Source) {
	declared := false
	for i := range source.Desired.Stacks {
		stack := &source.Desired.Stacks[i]
		if stack.Name == e.Name && (e.Server == "" || e.Server == stack.Server) {
			e.from, e.stack, declared = source, *stack, true
			e.Server, e.Source, e.Origin, e.Desired = stack.Server, source.Sync.Name, stack.Origin, source.Desired.Commit
		}
	}
	for _, state := range source.Status.Plan.Stacks {
		if state.Stack == e.Name && (e.Server == "" || state.Server == e.Server) && (declared || e.Source == "") {
			e.from, e.state = source, state
			e.Server, e.Source = state.Server, source.Sync.Name
			e.Sync, e.Health = state.Sync, state.Health
		}
	}
}

// unknown is the answer about what there is not.
func (e *explanation) unknown() {
	switch e.Kind {
	case KindServer:
		e.Summary = fmt.Sprintf("no sync declares a server %q, and none joined under that name", e.Name)
	case KindSync:
		e.Summary = fmt.Sprintf("there is no sync %q", e.Name)
	case KindProcedure:
		e.Summary = fmt.Sprintf("no sync declares a procedure %q", e.Name)
	default:
		e.Summary = fmt.Sprintf("no sync declares a stack %q, no connected server runs one, and core never deployed one", e.Name)
	}
	if e.Server != "" && e.Kind == KindStack {
		e.Summary = fmt.Sprintf("no sync declares a stack %q for server %q, which does not run one either", e.Name, e.Server)
	}
	e.Next = append(e.Next, "varan get "+e.Kind+"s lists what there is")
	for _, source := range e.Sources {
		if source.Status.Error != "" {
			e.Details = append(e.Details, api.WhyDetail{
				Kind: "error", Text: fmt.Sprintf("sync %s cannot be read: %s", source.Sync.Name, source.unreadable()),
			})
		}
	}
}

// blocked tells what keeps due work from being done.
func (e *explanation) blocked() {
	for i := range e.from.Status.Plan.Blocked {
		b := &e.from.Status.Plan.Blocked[i]
		if b.Op.Stack != e.Name || b.Op.Server != e.Server && e.declared() && b.Op.Kind != plan.OpRemove {
			continue
		}
		text := fmt.Sprintf("%s on %s is blocked: %s", b.Op.Kind, b.Op.Server, b.Text)
		hint := b.Hint
		switch b.Reason {
		case plan.BlockSuspended: // the suspension was told already
			text = fmt.Sprintf("%s on %s waits for the end of that", b.Op.Kind, b.Op.Server)
		case plan.BlockOffline:
			if seen := e.Observed[b.Op.Server].Received; !seen.IsZero() {
				text += ", last heard of at " + e.moment(seen)
			}
			e.say(api.WhyDetail{Kind: "blocked", Origin: b.Op.Origin, Text: text}, hint, "varan why server/"+b.Op.Server)
		case plan.BlockDependency:
			if hint == "" && len(b.Op.StackAfter) > 0 {
				hint = "varan why " + b.Op.StackAfter[0]
			}
		case plan.BlockBusy:
			if op := e.LastOp; op != nil && op.Status == api.OpRunning {
				hint = fmt.Sprintf("varan logs -f --deploy '%s/%s'", op.Run, op.ID)
			}
		case plan.BlockUnknown, plan.BlockDisabled, plan.BlockBad, plan.BlockForeign, plan.BlockEngine, plan.BlockPolicy, plan.BlockSource,
			plan.BlockHeld, plan.BlockLoop, plan.BlockWindow, plan.BlockRollout, plan.BlockDisk:
		}
		if b.Reason != plan.BlockOffline {
			e.say(api.WhyDetail{Kind: "blocked", Origin: b.Op.Origin, Text: text}, hint)
		}
		e.causes(b.Op)
	}
}

// due tells what is about to be done, or waits for someone.
func (e *explanation) due() {
	for _, op := range e.from.Status.Plan.Ops {
		if op.Stack != e.Name || op.Server != e.Server && e.declared() && op.Kind != plan.OpRemove {
			continue
		}
		e.gates(op)
		text := fmt.Sprintf("%s on %s is due for commit %s", op.Kind, op.Server, commit(e.from.Status.Plan.Commit))
		next := e.dueNext(&op)
		if cause := firstCause(op); cause != "" {
			text += ": " + cause
		}
		e.say(api.WhyDetail{Kind: string(op.Kind), Origin: firstOrigin(op), Text: text}, next)
		e.causes(op)
	}
}

// dueNext is what becomes of work that is due, and what a person can do about it.
func (e *explanation) dueNext(op *plan.Op) string {
	last := e.LastOp
	switch {
	case last != nil && last.Status == api.OpRunning:
		return fmt.Sprintf("it is under way: varan logs -f --deploy '%s/%s'", last.Run, last.ID)
	case len(op.Gates) > 0:
		return ""
	case !e.from.Status.AutoApply:
		return fmt.Sprintf("sync %s does not apply by itself: varan apply %s", e.Source, e.Source)
	case last != nil && last.Status == api.OpFailed && last.Release == op.Release && last.Outcome.Retryable:
		return fmt.Sprintf("it failed and is tried again by itself, with growing pauses; varan deploy %s tries it now", e.Name)
	}
	return "it is under way or about to start"
}

func (e *explanation) gates(op plan.Op) {
	for _, gate := range e.from.Status.Plan.Gates {
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
		}, e.unlessSaid("push a fix, or try it again: varan deploy "+e.Name))
	}
}

func (e *explanation) notices() {
	for _, notice := range e.from.Status.Plan.Notices {
		if notice.Stack == e.Name {
			next := ""
			if notice.Kind == plan.NoticeDrift {
				next = "varan deploy " + e.Name + " repairs it; a sync with self_heal does so by itself"
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
			}, fmt.Sprintf("varan logs %s %s", e.Name, c.Service))
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
			e.Name, e.Server, e.Origin, commit(e.Desired))
	case e.Sync == fleet.Synced || e.Sync == fleet.SyncUnknown:
		e.Summary = fmt.Sprintf("%s runs on %s as %s says at commit %s", e.Name, e.Server, e.Origin, commit(e.Desired))
		if e.Running.ID != "" && e.Running.ID != e.Desired.ID {
			e.Summary += fmt.Sprintf("; nothing of it changed since commit %s", commit(e.Running))
		}
	default:
		e.Summary = fmt.Sprintf("%s on %s is %s: %s", e.Name, e.Server, e.Sync, orNone(e.state.Text))
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

// updates tells of newer images that are not deployed, and why they are not.
func (e *explanation) updates() {
	for i := range e.Updates {
		u := &e.Updates[i]
		if u.Stack != e.Name || u.Server != e.Server {
			continue
		}
		detail := api.WhyDetail{Kind: "update", Service: u.Service}
		of := fmt.Sprintf("service %s: %s stands for a newer image than the one that runs", u.Service, u.Image)
		if u.Tag != "" {
			e.add(api.WhyDetail{
				Kind: "update", Service: u.Service, Text: fmt.Sprintf("service %s: there is a newer tag than %s: %s", u.Service, u.Image, u.Tag),
			}, "change the tag in Git, and push")
		}
		switch u.State {
		case api.UpdateAvailable:
			detail.Text = of + "; it is only told of, because auto_update is off"
			next := "varan updates " + e.Name + " --apply"
			if u.Auto {
				detail.Text = of + "; the next GlobalAutoUpdate deploys it"
				next += " deploys it now"
			}
			e.add(detail, next)
		case api.UpdateTooYoung, api.UpdateHeld:
			detail.Text = of + ": " + cmp.Or(u.Reason, strings.ReplaceAll(string(u.State), "_", " "))
			e.add(detail, "varan updates "+e.Name+" --apply deploys it all the same")
		case api.UpdateUnknown:
			if u.Reason != "" {
				detail.Text = fmt.Sprintf("service %s: whether there is a newer %s is not known: %s", u.Service, u.Image, u.Reason)
				e.add(detail, "varan updates "+e.Name+" --check")
			}
		case api.UpdateCurrent, api.UpdateSkipped:
		}
	}
}

// elsewhere tells how the stack is on its other servers.
func (e *explanation) elsewhere() {
	for i := range e.Stacks {
		s := &e.Stacks[i]
		if s.Name != e.Name || s.Server == e.Server || s.Source == "" {
			continue
		}
		text := fmt.Sprintf("on %s it is %s / %s", s.Server, s.Sync, s.Health)
		if s.Text != "" {
			text += ": " + s.Text
		}
		next := ""
		if s.Sync != fleet.Synced || s.Health != fleet.Healthy {
			next = "varan why " + s.Name + "@" + s.Server
		}
		e.add(api.WhyDetail{Kind: "elsewhere", Text: text}, next)
	}
}
