package why

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/reconciler/plan"
)

// explainProcedure says why a procedure ran, or does not run, and when it does next.
func (e *explanation) explainProcedure() {
	at := slices.IndexFunc(e.Procedures, func(p api.Procedure) bool { return p.Name == e.Name })
	if at < 0 {
		e.unknown()
		return
	}
	p := &e.Procedures[at]
	e.Known, e.Source, e.Origin = true, p.Source, p.Origin
	e.suspended(func(u *plan.Suspension) bool { return u.Kind == plan.KindProcedure && u.Name == p.Name })
	if p.LastRun != nil {
		e.lastRun(p.LastRun)
	}
	i := slices.IndexFunc(e.Schedules, func(s api.Schedule) bool { return s.Procedure == p.Name })
	if i >= 0 {
		e.schedule(&e.Schedules[i])
	}
	if p.LastRun == nil {
		e.add(api.WhyDetail{Kind: "last", Text: "it never ran"})
	}
	if e.unlessSaid("varan run") != "" {
		e.Next = []string{"varan run " + word(e.Name)}
	}
	if e.Summary != "" {
		return
	}
	e.Summary = fmt.Sprintf("procedure %s never ran, and has no schedule (%s)", p.Name, cmp.Or(p.Origin.String(), p.Source))
	if p.LastRun != nil {
		e.Summary = fmt.Sprintf("procedure %s has no schedule; %s", p.Name, e.runText(p.LastRun))
	}
}

func (e *explanation) runText(r *api.ProcedureRun) string {
	text := fmt.Sprintf("its last run, begun %s for %s, %s", e.moment(r.Created), cmp.Or(r.Actor, r.Trigger), r.Status)
	if !r.Ended.IsZero() {
		text += " after " + span(r.Ended.Sub(r.Created))
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// lastRun is the answer while a run is open, and when it did not succeed.
func (e *explanation) lastRun(r *api.ProcedureRun) {
	detail := api.WhyDetail{Kind: "run", Text: e.runText(r)}
	switch r.Status {
	case api.ProcedureWaiting:
		detail.Text = fmt.Sprintf("the run that began at %s for %s waits for an approval", e.moment(r.Created), cmp.Or(r.Actor, r.Trigger))
		e.say(detail, "varan procedure approve "+word(e.Name), "varan procedure reject "+word(e.Name))
	case api.ProcedureQueued, api.ProcedureRunning:
		detail.Text = fmt.Sprintf("it is %s since %s, for %s", r.Status, e.moment(r.Created), cmp.Or(r.Actor, r.Trigger))
		e.say(detail, "varan procedure show "+r.ID, "varan procedure cancel "+word(e.Name))
	case api.ProcedureFailed, api.ProcedureCanceled, api.ProcedureInterrupted:
		e.say(detail, "varan procedure show "+r.ID, "varan run "+word(e.Name))
	case api.ProcedureSucceeded:
		e.add(detail)
	}
}

// schedule tells when the procedure runs by itself, or why it does not.
func (e *explanation) schedule(s *api.Schedule) {
	detail := api.WhyDetail{Kind: "schedule", Origin: e.Origin}
	of := fmt.Sprintf("its schedule %q (%s)", s.Expression, s.Timezone)
	switch {
	case s.Error != "":
		detail.Text = of + " is no time: " + s.Error
		e.say(detail, fmt.Sprintf("varan schedule explain %q", s.Expression))
	case !s.Enabled && s.Source == api.OwnSource:
		detail.Text = of + " is switched off"
		e.say(detail, "varan procedure enable "+word(e.Name))
	case !s.Enabled:
		detail.Text = of + " is switched off"
		e.say(detail, fmt.Sprintf("set schedule_enabled = true at %s and push", e.Origin))
	case len(s.Next) == 0:
		detail.Text = of + " has no time to come"
		e.say(detail, fmt.Sprintf("varan schedule explain %q", s.Expression))
	default:
		detail.Text = fmt.Sprintf("%s has it run next at %s", of, e.moment(s.Next[0].At))
		if s.Next[0].Note != "" {
			detail.Text += ", " + s.Next[0].Note
		}
		if e.Summary == "" {
			e.Summary = fmt.Sprintf("procedure %s runs next at %s, by its schedule %q", e.Name, e.moment(s.Next[0].At), s.Expression)
		}
		e.add(detail)
	}
	if s.Skipped > 0 {
		e.add(api.WhyDetail{Kind: "skipped", Text: fmt.Sprintf("%s of its schedule had no run", plural(s.Skipped, "time"))},
			"varan history --kind schedule says why")
	}
}
