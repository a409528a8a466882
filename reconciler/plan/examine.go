package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// finding is what a look at one desired stack found.
type finding struct {
	// kind is the work to do; empty when there is none.
	kind     OpKind
	services []ServiceChange
	causes   []Cause
	// bad is set when the desired release failed there before.
	bad *fleet.BadRelease
	// stopped is set when a person stopped the stack and it is to stay so.
	stopped bool
	// differs is set when the desired release is not the one that was deployed.
	differs bool
	// drift says what self-healing would repair, if the policy let it.
	drift string
	// volumes changed their definition.
	volumes []fleet.Volume
}

// serviceWork is a change of a service that has live containers.
type serviceWork struct {
	ServiceChange
	live int
}

// comparison is the difference between a release and what runs, service by service.
type comparison struct {
	list []serviceWork
	// hard is set when something differs that is worth an op of its own.
	hard bool
	// relabel is set when a container does not carry the desired digest.
	relabel bool
}

// examine compares one desired stack with its report.
func (p *planner) examine(s *fleet.Stack, r *fleet.StackReport, away outage) finding {
	forced := p.forced[s.Name]
	if s.Unreadable != "" {
		return unread(r, away)
	}
	f := finding{differs: r.Release.Digest != s.Release.Digest}
	if r.Stopped && !s.Deploy && !forced {
		f.stopped = true
		return f
	}
	c := &p.scratch
	c.compare(s, r)
	switch {
	case r.Release.Digest == "" && len(r.Containers) == 0:
		f.kind = OpCreate
		f.causes = p.creationCauses(s, c)
	case f.differs || c.relabel:
		f.kind = OpUpdate
		f.volumes = changedVolumes(r.Release.Volumes, s.Release.Volumes)
		f.causes = updateCauses(&r.Release, &s.Release, f.volumes)
	case r.Stopped:
		f.kind = OpHeal
		f.causes = []Cause{{Kind: CauseNotRunning, Text: "a person stopped it; deploy = true starts it again"}}
	case r.SecretsGone:
		// Nobody's doing, and nothing that waiting could repair: no matter of policy.
		f.kind = OpHeal
		f.causes = []Cause{{Kind: CauseMissing, Text: "secret files are gone since the host restarted"}}
	case c.hard && p.in.Policy.SelfHeal:
		f.kind = OpHeal
	case c.hard && !forced:
		f.drift = c.summary(r)
		return f
	case forced:
		f.kind = OpUpdate
	default:
		return f
	}
	if forced {
		f.causes = slices.Insert(f.causes, 0, Cause{Kind: CauseForced, Text: "a person asked for it"})
	}
	if f.kind == OpUpdate && !forced && len(f.causes) == 0 && c.onlyRestarts() && !recreates(s) {
		f.kind = OpRestart
	}
	if len(f.causes) == 0 {
		f.causes = []Cause{c.mostTelling(r, f.differs)}
	}
	if f.kind != OpCreate {
		c.recreateWhole(s, r)
	}
	if f.differs {
		f.causes = append(f.causes, sourceCauses(r.Release.Source, s.Release.Source)...)
	}
	f.services = c.changes()
	if f.differs && f.kind != OpHeal && !forced {
		f.bad = remembered(r.Bad, s.Release.Digest)
	}
	return f
}

// recreateWhole makes every container new where the release, or its new project, asks for it.
func (c *comparison) recreateWhole(s *fleet.Stack, r *fleet.StackReport) {
	switch {
	case renamed(r, s):
		c.recreateAll("project_name", "the project is taken down and made anew; its named volumes stay as they are")
	case s.Release.Options.DestroyFirst:
		c.recreateAll("destroy_before_deploy", "the stack is taken down first")
	case s.Release.Options.Up.ForceRecreate:
		c.recreateAll("extra_args", "every deploy recreates all containers")
	}
}

// creationCauses tell a stack that is new from one that moved here, and from one whose
// project runs already.
func (p *planner) creationCauses(s *fleet.Stack, c *comparison) []Cause {
	if theirs := p.runsAlready(s); theirs != nil {
		c.takeOver(theirs)
		return []Cause{adoptionCause(s, p.forced[s.Name])}
	}
	for _, o := range p.left[s.Name] {
		return []Cause{{Kind: CauseMoved, Field: "server", From: o.Server, To: s.Server, Origin: s.Origin}}
	}
	return []Cause{{Kind: CauseNew, Text: "not on " + s.Server + " yet", Origin: s.Origin}}
}

// unread is of a stack whose files cannot be had: whether there is anything to do is not
// known, and on a server that is away nobody asks.
func unread(r *fleet.StackReport, away outage) finding {
	f := finding{kind: OpUpdate, causes: []Cause{{Kind: CauseSource, Text: "its files cannot be read"}}}
	switch {
	case r.Release.Digest == "" && len(r.Containers) == 0:
		f.kind = OpCreate
	case away.reason != "":
		return finding{}
	}
	return f
}

// recreates reports whether each deploy makes every container anew.
func recreates(s *fleet.Stack) bool {
	return s.Release.Options.DestroyFirst || s.Release.Options.Up.ForceRecreate
}

// renamed reports whether what was deployed is another Compose project.
func renamed(r *fleet.StackReport, s *fleet.Stack) bool {
	return r.Release.Digest != "" && r.Release.Project != s.Release.Project
}

// remembered finds the newest failure of a release.
func remembered(bad []fleet.BadRelease, d fleet.Digest) *fleet.BadRelease {
	for i := len(bad) - 1; i >= 0; i-- {
		if bad[i].Release == d {
			return &bad[i]
		}
	}
	return nil
}

func badText(b *fleet.BadRelease) string {
	text := "failed here before"
	if b.Commit != "" {
		text = "commit " + fleet.Commit{ID: b.Commit}.Short() + " " + text
	}
	if b.Reason != "" {
		text += ": " + b.Reason
	}
	if b.RolledBack {
		text += "; the last good release runs"
	}
	return text
}

// compare starts afresh, with the memory of the comparison before.
func (c *comparison) compare(s *fleet.Stack, r *fleet.StackReport) {
	*c = comparison{list: c.list[:0]}
	recorded := r.Release.Digest != ""
	for i := range s.Release.Services {
		want := &s.Release.Services[i]
		l := look(want, r, recorded)
		change, hard := l.change(s)
		change.count(l.live, want.Replicas)
		c.hard = c.hard || hard
		c.relabel = c.relabel || l.otherDigest
		c.list = append(c.list, serviceWork{change, l.live})
	}
	c.hard = c.hard || len(r.Drift) > 0
	c.addUndeclared(s, r)
}

// count says how many containers the change concerns.
func (s *ServiceChange) count(live, replicas int) {
	switch s.Action {
	case ActionCreate:
		s.Create = max(replicas-live, 0)
	case ActionRecreate, ActionScale:
		s.Create, s.Remove = max(replicas-live, 0), max(live-replicas, 0)
		if s.Action == ActionRecreate {
			s.Recreate = min(live, replicas)
		}
	case ActionStart, ActionRestart, ActionRemove, ActionKeep:
	}
}

// addUndeclared adds the services that run and are not desired.
func (c *comparison) addUndeclared(s *fleet.Stack, r *fleet.StackReport) {
	for i := range r.Containers {
		name := r.Containers[i].Service
		if _, ok := s.Release.Service(name); ok {
			continue
		}
		c.hard = true
		if i := slices.IndexFunc(c.list, func(have serviceWork) bool { return have.Service == name }); i >= 0 {
			c.list[i].Remove++
			continue
		}
		cause := Cause{Kind: CauseDrift, Text: "no such service is declared"}
		if _, deployed := r.Release.Service(name); deployed && r.Release.Digest != s.Release.Digest {
			cause = Cause{Kind: CauseLeftGit, Text: "no longer declared"}
		}
		change := ServiceChange{Service: name, Action: ActionRemove, Causes: []Cause{cause}, Remove: 1}
		c.list = append(c.list, serviceWork{ServiceChange: change})
	}
	byName := func(a, b serviceWork) int { return cmp.Compare(a.Service, b.Service) }
	if !slices.IsSortedFunc(c.list, byName) {
		slices.SortStableFunc(c.list, byName)
	}
}

// changes are the services of an op.
func (c *comparison) changes() []ServiceChange {
	list := make([]ServiceChange, len(c.list))
	for i := range c.list {
		list[i] = c.list[i].ServiceChange
	}
	return list
}

// onlyRestarts reports whether there is a service to restart and nothing else to do.
func (c *comparison) onlyRestarts() bool {
	restarts := false
	for i := range c.list {
		switch c.list[i].Action {
		case ActionRestart:
			restarts = true
		case ActionKeep:
		case ActionCreate, ActionRecreate, ActionStart, ActionScale, ActionRemove:
			return false
		}
	}
	return restarts
}

// recreateAll is what taking the stack down first amounts to.
func (c *comparison) recreateAll(field, why string) {
	for i := range c.list {
		switch c.list[i].Action {
		case ActionKeep, ActionStart, ActionRestart, ActionScale:
			c.list[i].Action = ActionRecreate
			c.list[i].Recreate = c.list[i].live - c.list[i].Remove
			c.list[i].Causes = append(c.list[i].Causes, Cause{
				Kind: CauseOptions, Field: field, Text: why,
			})
		case ActionCreate, ActionRecreate, ActionRemove:
		}
	}
}

// mostTelling picks the one cause that explains the op when the stack itself has none.
func (c *comparison) mostTelling(r *fleet.StackReport, differs bool) Cause {
	for _, change := range c.list {
		if change.Action == ActionKeep || len(change.Causes) == 0 {
			continue
		}
		first := change.Causes[0]
		first.Field = strings.TrimSuffix(servicePrefix+change.Service+"."+first.Field, ".")
		return first
	}
	if len(r.Drift) > 0 && !differs {
		return driftCauses(r.Drift)[0]
	}
	if differs {
		return Cause{Kind: CauseOptions, Text: "files or deploy options changed"}
	}
	return Cause{Kind: CauseUnknown, Text: "what runs is not what is declared"}
}

// summary says in a few words what differs.
func (c *comparison) summary(r *fleet.StackReport) string {
	var parts []string
	for _, change := range c.list {
		if change.Action == ActionKeep {
			continue
		}
		for _, cause := range change.Causes {
			parts = append(parts, change.Service+": "+cause.String())
		}
	}
	for _, cause := range driftCauses(r.Drift) {
		parts = append(parts, cause.String())
	}
	return strings.Join(parts, "; ")
}

// sight is what is seen of one declared service.
type sight struct {
	want *fleet.Service
	// have is the service in the recorded release, nil when it is not there.
	have     *fleet.Service
	recorded bool
	live     int
	// otherDigest is set when a live container carries another digest than want's.
	otherDigest bool
	drift       []fleet.Drift
	// down describes a container that should run and does not.
	down string
}

func look(want *fleet.Service, r *fleet.StackReport, recorded bool) sight {
	l := sight{want: want, recorded: recorded}
	for i := range r.Release.Services {
		if r.Release.Services[i].Name == want.Name {
			l.have = &r.Release.Services[i]
			break
		}
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		if c.Service != want.Name || c.State == fleet.StateRemoving {
			continue
		}
		l.live++
		l.otherDigest = l.otherDigest || c.Digest != want.Digest
		l.drift = append(l.drift, c.Drift...)
		if text := containerText(c); down(want, c) && (l.down == "" || text < l.down) {
			l.down = text // of several the same one each time, whatever their order
		}
	}
	return l
}

// down reports whether a container should run and does not. One that restarts, is
// paused or is unhealthy is a matter of health: bringing it up again changes nothing.
func down(want *fleet.Service, c *fleet.Container) bool {
	switch c.State {
	case fleet.StateCreated, fleet.StateDead:
		return true
	case fleet.StateExited:
		return !want.OneShot
	case fleet.StateRunning, fleet.StatePaused, fleet.StateRestarting, fleet.StateRemoving:
	}
	return false
}

func containerText(c *fleet.Container) string {
	if c.State == fleet.StateExited {
		return "exited with code " + strconv.Itoa(c.ExitCode)
	}
	return string(c.State)
}

// change decides what happens to the service. hard is false for what is put right along
// with other work but is no work of its own: a one-shot that did its job may have been
// cleaned away, and a stack's ignored services may be down.
func (l *sight) change(s *fleet.Stack) (change ServiceChange, hard bool) {
	change = ServiceChange{Service: l.want.Name, Action: ActionKeep}
	switch {
	case l.have != nil && l.have.Digest != l.want.Digest:
		change.Action, change.Causes = ActionRecreate, fieldCauses(l.have.Fields, l.want.Fields)
		if len(change.Causes) == 0 {
			change.Causes = []Cause{{Kind: CauseUnknown, Text: "the digest differs"}}
		}
	case l.live == 0 && l.have == nil && l.recorded:
		change.Action, change.Causes = ActionCreate, []Cause{{Kind: CauseNew, Text: "newly declared"}}
	case l.live == 0 && l.have == nil:
		change.Action = ActionCreate
	case l.otherDigest:
		change.Action, change.Causes = ActionRecreate, []Cause{{Kind: CauseUnknown, Text: l.digestText()}}
	case len(l.drift) > 0:
		change.Action, change.Causes = ActionRecreate, driftCauses(l.drift)
	default:
		change, hard = l.countAndState(s)
		if l.restarts() {
			l.restart(&change)
			hard = true
		}
		return change, hard
	}
	if change.Action == ActionRecreate && l.live == 0 {
		change.Action = ActionCreate
	}
	return change, true
}

// restarts reports whether a file changed that asks for a restart only.
func (l *sight) restarts() bool {
	return l.have != nil && l.have.Restart != l.want.Restart && l.live > 0
}

// restart adds a restart to a change. What is done anyway includes it, or comes first.
func (l *sight) restart(change *ServiceChange) {
	if change.Action == ActionKeep {
		change.Action = ActionRestart
	}
	causes := fieldCauses(l.have.Fields, l.want.Fields)
	if len(causes) == 0 {
		causes = []Cause{{Kind: CauseField, Text: "a file that asks for a restart changed"}}
	}
	change.Causes = append(change.Causes, causes...)
}

func (l *sight) digestText() string {
	if l.recorded {
		return "the container carries another digest"
	}
	return "there is no record of what was deployed"
}

// countAndState looks at a service whose definition is right.
func (l *sight) countAndState(s *fleet.Stack) (change ServiceChange, hard bool) {
	change = ServiceChange{Service: l.want.Name, Action: ActionKeep}
	ignored := slices.Contains(s.IgnoreServices, l.want.Name)
	rescaled := l.have != nil && l.have.Replicas != l.want.Replicas
	switch {
	case l.live != l.want.Replicas && (rescaled || l.live > l.want.Replicas):
		change.Action = ActionScale
		change.Causes = []Cause{{
			Kind: CauseScale, Field: "replicas", From: strconv.Itoa(l.live), To: strconv.Itoa(l.want.Replicas),
		}}
		return change, true
	case l.live < l.want.Replicas:
		change.Action = ActionCreate
		change.Causes = []Cause{{Kind: CauseMissing, Text: missingText(l.want.Replicas-l.live, l.want.Replicas)}}
		return change, !l.want.OneShot && !ignored
	case l.down != "":
		change.Action = ActionStart
		change.Causes = []Cause{{Kind: CauseNotRunning, Text: l.down}}
		return change, !ignored
	}
	return change, false
}

func missingText(missing, replicas int) string {
	if replicas == 1 {
		return "the container is missing"
	}
	return fmt.Sprintf("%d of %d containers missing", missing, replicas)
}

func driftCauses(drift []fleet.Drift) []Cause {
	var causes []Cause
	for _, d := range drift {
		c := Cause{Kind: CauseDrift, Field: d.Field, From: d.Want, To: d.Have}
		if !slices.Contains(causes, c) {
			causes = append(causes, c)
		}
	}
	slices.SortStableFunc(causes, func(a, b Cause) int { return cmp.Compare(a.Field, b.Field) })
	return causes
}
