// Package why explains: why a stack runs what it runs, why it changed and why it does not, why
// a server, a sync or a procedure is as it is, and what to type next. It is pure: an answer
// follows from the state of one moment and from the records of the history.
//
// It may import the domain, the reconciler's values and core/api.
package why

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// maxDetails bounds an explanation: beyond it nobody reads on.
const maxDetails = 50

// Source is a sync with what is known of it.
type Source struct {
	Sync    api.Sync
	Status  reconciler.SyncStatus
	Desired fleet.Desired
}

// unreadable is why the repository cannot be read; most errors begin with the words that are said
// before it.
func (s *Source) unreadable() string {
	return strings.TrimPrefix(s.Status.Error, "sync "+s.Sync.Name+" cannot be read: ")
}

// State is what is known at one moment.
type State struct {
	Now         time.Time
	Sources     []Source
	Stacks      []api.Stack
	Servers     []api.Server
	Observed    fleet.Observed
	Suspensions []plan.Suspension
	Updates     []api.Update
	Procedures  []api.Procedure
	Schedules   []api.Schedule
}

// Subject is what is asked about.
type Subject struct {
	// Kind is "stack", "server", "sync" or "procedure".
	Kind, Name string
	// Server is the one of a stack that is asked about.
	Server string
}

// The kinds of subject.
const (
	KindStack     = "stack"
	KindServer    = "server"
	KindSync      = "sync"
	KindProcedure = "procedure"
)

// Records are what the history says of a subject.
type Records struct {
	// LastOp is the last thing done to a stack.
	LastOp *api.Op
	// Last is the newest record that tells of a change, and what led to it, the first cause last.
	Last []api.Event
	// Good is the same of the newest that succeeded, when that is another.
	Good []api.Event
}

// Find is the subject that somebody means by a name: "web", "web@alpha", "server/alpha",
// "sync/home", "procedure/nightly". A name without a kind is that of a stack, if there is one,
// and of a server, a sync or a procedure otherwise. ok is false when there is none of that name.
func (s *State) Find(text string) (of Subject, ok bool) {
	kind, name, explicit := strings.Cut(text, "/")
	if !explicit {
		kind, name = "", text
	}
	switch kind {
	case "deployment", "repo":
		kind = KindStack
	case "resource_sync":
		kind = KindSync
	case "schedule":
		kind = KindProcedure
	}
	for _, k := range []string{KindStack, KindServer, KindSync, KindProcedure} {
		if kind != "" && kind != k {
			continue
		}
		of = Subject{Kind: k, Name: name}
		if k == KindStack {
			of.Name, of.Server, _ = strings.Cut(name, "@")
			of.Server, ok = s.place(of)
		} else {
			ok = slices.Contains(s.Names(k), name)
		}
		if ok {
			return of, true
		}
	}
	of = Subject{Kind: cmp.Or(kind, KindStack), Name: name}
	if of.Kind == KindStack {
		of.Name, of.Server, _ = strings.Cut(name, "@")
	}
	return of, false
}

// place is the server of a stack that there is most to say about: the one that is asked for, or
// the one on which it is worst.
func (s *State) place(of Subject) (server string, ok bool) {
	worst := -1
	for i := range s.Stacks {
		stack := &s.Stacks[i]
		if stack.Name != of.Name || of.Server != "" && stack.Server != of.Server {
			continue
		}
		if bad := badness(stack); bad > worst {
			worst, server = bad, stack.Server
		}
	}
	return cmp.Or(server, of.Server), worst >= 0
}

func badness(stack *api.Stack) int {
	sync := []fleet.SyncState{fleet.Synced, fleet.SyncUnknown, fleet.OutOfSync, fleet.SyncBlocked}
	health := []fleet.HealthState{
		fleet.Healthy, fleet.HealthUnknown, fleet.Suspended, fleet.Progressing, fleet.Missing, fleet.Degraded,
	}
	bad := 8*slices.Index(health, stack.Health) + slices.Index(sync, stack.Sync)
	if stack.Source != "" {
		bad += 100 // what a sync declares comes before what merely runs
	}
	return max(bad, 0)
}

// Names are those of everything of a kind.
func (s *State) Names(kind string) (names []string) {
	switch kind {
	case KindStack:
		for i := range s.Stacks {
			names = append(names, s.Stacks[i].Name)
		}
	case KindServer:
		for i := range s.Servers {
			names = append(names, s.Servers[i].Name)
		}
	case KindSync:
		for i := range s.Sources {
			names = append(names, s.Sources[i].Sync.Name)
		}
	case KindProcedure:
		for i := range s.Procedures {
			names = append(names, s.Procedures[i].Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Explain answers. It always has a summary.
func Explain(of Subject, s *State, r Records) api.Why {
	e := explanation{State: s, records: r, Why: api.Why{
		Kind: of.Kind, Name: of.Name, Server: of.Server, Sync: fleet.SyncUnknown, Health: fleet.HealthUnknown,
		LastOp: r.LastOp, Because: r.Last, Good: r.Good,
	}}
	switch of.Kind {
	case KindServer:
		e.explainServer()
	case KindSync:
		e.explainSync()
	case KindProcedure:
		e.explainProcedure()
	default:
		e.explainStack()
	}
	if len(e.Details) > maxDetails {
		e.Details = e.Details[:maxDetails]
	}
	return e.Why
}

// explanation is an answer in the making.
type explanation struct {
	api.Why
	*State

	records Records
	from    Source
	stack   fleet.Stack
	report  fleet.StackReport
	state   plan.StackState
}

// say adds a fact, and makes it the summary if there is none yet.
func (e *explanation) say(detail api.WhyDetail, next ...string) {
	if e.Summary == "" {
		e.Summary = detail.Text
		if !detail.Origin.IsZero() {
			e.Summary += " (" + detail.Origin.String() + ")"
		}
	}
	e.add(detail, next...)
}

// add adds a fact that is no answer by itself.
func (e *explanation) add(detail api.WhyDetail, next ...string) {
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

// suspended tells of the suspensions that concern the subject. of says what they are of.
func (e *explanation) suspended(concerns func(u *plan.Suspension) bool) {
	for i := range e.Suspensions {
		u := &e.Suspensions[i]
		if !u.InForce(e.Now) || !concerns(u) {
			continue
		}
		text := u.Resource() + " is suspended " + u.Who()
		if !u.At.IsZero() {
			text += "; since " + e.moment(u.At)
		}
		e.say(api.WhyDetail{Kind: "suspended", Text: text}, "varan resume "+word(u.Resource()))
	}
}

// source tells of a repository that cannot be read, or whose head is invalid.
func (e *explanation) source() {
	status := &e.from.Status
	good := status.Good.Short()
	if status.Error != "" {
		text := fmt.Sprintf("sync %s cannot be read, so commit %s stays in force: %s", e.Source, good, e.from.unreadable())
		if !status.NextPoll.IsZero() {
			text += "; it is tried again at " + e.moment(status.NextPoll)
		}
		e.say(api.WhyDetail{Kind: "error", Text: text}, "varan sync show "+e.Source+" shows its URL and branch")
	}
	if !status.Diagnostics.HasErrors() {
		return
	}
	for _, d := range status.Diagnostics {
		if d.Severity == fleet.SeverityError {
			e.say(api.WhyDetail{
				Kind: "invalid", Origin: d.Position, Text: fmt.Sprintf("commit %s is invalid, so %s stays in force: %s",
					commit(status.Head), good, d.Message),
			}, cmp.Or(d.Hint, "fix "+d.Position.String()+" and push"))
		}
	}
}

// moment is a time, and how far away it is.
func (e *explanation) moment(at time.Time) string {
	text := at.UTC().Format("2006-01-02 15:04:05 UTC")
	switch d := at.Sub(e.Now); {
	case d > 0:
		return fmt.Sprintf("%s (in %s)", text, span(d))
	case d > -time.Second:
		return text
	default:
		return fmt.Sprintf("%s (%s ago)", text, span(-d))
	}
}

// span is a duration as people say it: its largest unit, and the next.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return join(int(d/day), "d", int(d%day/time.Hour), "h")
	case d >= time.Hour:
		return join(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "m")
	case d >= time.Minute:
		return join(int(d/time.Minute), "m", int(d%time.Minute/time.Second), "s")
	}
	return fmt.Sprintf("%ds", int(d/time.Second))
}

func join(a int, unit string, b int, smaller string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unit)
	}
	return fmt.Sprintf("%d%s%d%s", a, unit, b, smaller)
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

// word is a name as a shell takes it.
func word(name string) string {
	if strings.ContainsAny(name, " '\"$&|;<>()*?[]#~\\`") {
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return name
}

func orNone(s string) string { return cmp.Or(s, "(none)") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
