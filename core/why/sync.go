package why

import (
	"fmt"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// explainSync says what a sync does, or waits for.
func (e *explanation) explainSync() {
	at := slices.IndexFunc(e.Sources, func(s Source) bool { return s.Sync.Name == e.Name })
	if at < 0 {
		e.unknown()
		return
	}
	e.from = e.Sources[at]
	status, sync := &e.from.Status, &e.from.Sync
	e.Known, e.Source, e.Desired = true, sync.Name, status.Good
	e.Sync, e.Health = e.sum(sync.Name)
	e.suspended(func(u *plan.Suspension) bool { return u.Kind == plan.KindSync && u.Name == sync.Name })
	e.source()
	p := &status.Plan
	for _, gate := range p.Gates {
		e.say(api.WhyDetail{Kind: "gate", Text: "it needs consent: " + gate.Text},
			fmt.Sprintf("varan apply %s --approve %q", sync.Name, gate.ID))
	}
	e.pending(p)
	for i := range p.Blocked {
		b := &p.Blocked[i]
		text := fmt.Sprintf("%s %s@%s is blocked: %s", b.Op.Kind, b.Op.Stack, b.Op.Server, b.Text)
		e.say(api.WhyDetail{Kind: "blocked", Text: text, Origin: b.Op.Origin}, e.unlessSaid("varan why "+b.Op.Stack+"@"+b.Op.Server))
	}
	if e.Summary == "" {
		e.Summary = e.calm()
	}
	if status.Phase != reconciler.PhaseApplying && !status.NextPoll.IsZero() {
		text := fmt.Sprintf("core looks at branch %s again at %s", sync.Branch, e.moment(status.NextPoll))
		e.add(api.WhyDetail{Kind: "poll", Text: text}, "varan sync run "+sync.Name+" looks now")
	}
}

// sum is the worst of each axis of the stacks of a sync.
func (e *explanation) sum(sync string) (fleet.SyncState, fleet.HealthState) {
	var worst *api.Stack
	for i := range e.Stacks {
		if s := &e.Stacks[i]; s.Source == sync && (worst == nil || badness(s) > badness(worst)) {
			worst = s
		}
	}
	if worst == nil {
		return fleet.Synced, fleet.Healthy
	}
	return worst.Sync, worst.Health
}

// pending tells of work that is due.
func (e *explanation) pending(p *plan.Plan) {
	sync := e.from.Sync.Name
	n := len(p.Ops) + len(p.Resources)
	if n == 0 {
		return
	}
	text := fmt.Sprintf("%s of commit %s due", areChanges(n), commit(p.Commit))
	switch {
	case e.from.Status.Phase == reconciler.PhaseApplying:
		text += " and under way"
	case !e.from.Status.AutoApply:
		text += "; it does not apply by itself"
	case len(p.Gates) > 0:
		text += "; what needs consent waits for it"
	default:
		text += ", and about to be made"
	}
	next := "varan plan " + sync + ", then varan apply " + sync
	if e.from.Status.AutoApply {
		next = "varan plan " + sync
	}
	e.say(api.WhyDetail{Kind: "due", Text: text}, e.unlessSaid(next))
}

func areChanges(n int) string {
	if n == 1 {
		return "1 change is"
	}
	return fmt.Sprintf("%d changes are", n)
}

// calm is the summary when there is nothing to do.
func (e *explanation) calm() string {
	status := &e.from.Status
	if status.LastPass.IsZero() {
		return fmt.Sprintf("sync %s was not read yet", e.Name)
	}
	return fmt.Sprintf("the fleet is as commit %s of branch %s says; last looked at %s",
		commit(status.Good), e.from.Sync.Branch, e.moment(status.LastPass))
}
