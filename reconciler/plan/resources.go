package plan

import (
	"cmp"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// ResourceAction is what happens to the record of a resource.
type ResourceAction string

// The actions.
const (
	ResourceCreate ResourceAction = "create"
	ResourceUpdate ResourceAction = "update"
	ResourceDelete ResourceAction = "delete"
)

// ResourceChange is a change of what core keeps of one declared resource, of any kind. An
// apply records creations and updates before the first op, and deletions after the last.
type ResourceChange struct {
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	Action ResourceAction `json:"action"`
	// Fields say what an update changes.
	Fields []Cause `json:"fields,omitempty"`
	// Blocked says why it cannot be made: another sync owns the resource, or this one is
	// suspended. Hint may say what to do.
	Blocked string `json:"blocked,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Gates lists ids of gates that must be approved first.
	Gates  []string       `json:"gates,omitempty"`
	Origin fleet.Position `json:"origin,omitzero"`
}

// Resource is "stack/web".
func (c ResourceChange) Resource() string { return c.Kind + "/" + c.Name }

// ID is "update stack/web".
func (c ResourceChange) ID() string { return string(c.Action) + " " + c.Resource() }

// Same reports whether two changes do the same to the same resource.
func (c ResourceChange) Same(other ResourceChange) bool {
	return c.ID() == other.ID() && c.Blocked == other.Blocked && slices.Equal(c.Fields, other.Fields)
}

// resourceOrder is the order in which kinds are recorded: what others refer to comes first.
func resourceOrder(kind string) int {
	order := []string{
		"variable", "user_group", "server", "alerter", "action", "swarm", "builder", "repo", "build",
		"stack", "deployment", "resource_sync", "procedure",
	}
	if i := slices.Index(order, kind); i >= 0 {
		return i
	}
	return len(order)
}

// resources compares what is declared with the records. Both lists are walked in their order,
// so that thousands that did not change cost little.
func (p *planner) resources() {
	have, want := byResource(p.in.Records), byResource(p.in.Desired.Resources)
	for len(have) > 0 || len(want) > 0 {
		order := -1
		switch {
		case len(want) == 0:
		case len(have) == 0:
			order = 1
		default:
			order = compareResources(have[0], want[0])
		}
		switch {
		case order < 0:
			p.unrecorded(&have[0])
			have = have[1:]
		case order > 0:
			p.unknown(&want[0])
			want = want[1:]
		default:
			p.known(&have[0], &want[0])
			have, want = have[1:], want[1:]
		}
	}
	slices.SortStableFunc(p.plan.Resources, func(a, b ResourceChange) int {
		last := func(c ResourceChange) int {
			if c.Action == ResourceDelete {
				return 1
			}
			return 0
		}
		return cmp.Or(
			last(a)-last(b), resourceOrder(a.Kind)-resourceOrder(b.Kind), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
		)
	})
}

func compareResources(a, b fleet.Resource) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// byResource returns the list sorted, copying only when it is not.
func byResource(list []fleet.Resource) []fleet.Resource {
	if slices.IsSortedFunc(list, compareResources) {
		return list
	}
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, compareResources)
	return sorted
}

// unknown plans the record of a resource that has none of this sync's.
func (p *planner) unknown(want *fleet.Resource) {
	if !p.selects(want.Kind, want.Name) {
		return
	}
	change := ResourceChange{Kind: want.Kind, Name: want.Name, Action: ResourceCreate, Origin: want.Origin}
	if owner := p.in.ForeignRecords[want.ID()]; owner != "" {
		if workload(want.Kind) && p.place[want.Name] != "" {
			return // its op says so
		}
		change.Blocked = ownedBy(owner, want.Name)
	}
	p.plan.Resources = append(p.plan.Resources, change)
}

// known plans the update of a record, if anything differs.
func (p *planner) known(have, want *fleet.Resource) {
	if slices.EqualFunc(have.Fields, want.Fields, func(a, b fleet.Field) bool { return a.Path == b.Path && a.Same(b) }) ||
		!p.selects(want.Kind, want.Name) {
		return
	}
	if fields := fieldCauses(have.Fields, want.Fields); len(fields) > 0 {
		p.plan.Resources = append(p.plan.Resources, ResourceChange{
			Kind: want.Kind, Name: want.Name, Action: ResourceUpdate, Fields: fields, Origin: want.Origin,
		})
	}
}

// unrecorded deals with the record of what is no longer declared.
func (p *planner) unrecorded(record *fleet.Resource) {
	switch {
	case !p.selects(record.Kind, record.Name):
	case p.in.Policy.Delete:
		p.plan.Resources = append(p.plan.Resources, ResourceChange{
			Kind: record.Kind, Name: record.Name, Action: ResourceDelete, Origin: record.Origin,
		})
	case !workload(record.Kind): // of a stack, the containers tell
		p.plan.Notices = append(p.plan.Notices, Notice{
			Stack: record.ID(), Kind: NoticeOrphan, Text: "it left Git and is kept; delete = true on the sync would remove it",
		})
	}
}

// workload reports whether a kind of resource runs on servers.
func workload(kind string) bool {
	return kind == string(fleet.KindStack) || kind == string(fleet.KindDeployment) || kind == string(fleet.KindRepo)
}

func ownedBy(sync, name string) string {
	if sync == name { // a sync that no files declare
		return "a sync " + name + " was added by hand"
	}
	return "the sync " + sync + " owns " + name
}

// Covers reports whether an op of the plan tells of a change already: it deploys or removes
// what the record is of.
func (p Plan) Covers(c ResourceChange) bool {
	if !workload(c.Kind) || c.Action == ResourceUpdate {
		return false
	}
	is := func(stack string) bool { return Declares(c.Kind, c.Name, stack) }
	return slices.ContainsFunc(p.Ops, func(op Op) bool { return is(op.Stack) }) ||
		slices.ContainsFunc(p.Blocked, func(b Blocked) bool { return is(b.Op.Stack) })
}

// Declares reports whether a resource is what a stack was declared as: one whose name a
// resource of another kind has too is called after its kind.
func Declares(kind, name, stack string) bool {
	return stack == name || kind != string(fleet.KindStack) && stack == name+"-"+kind
}

// ValidResources lists the changes of a saved plan that a fresh one still makes.
func ValidResources(saved, fresh Plan) []ResourceChange {
	var valid []ResourceChange
	for _, c := range fresh.Resources {
		if slices.ContainsFunc(saved.Resources, c.Same) {
			valid = append(valid, c)
		}
	}
	return valid
}

// countPruned is how many resources the plan would remove: those whose record goes, and
// stacks without one.
func (p *planner) countPruned() (count int, onlyStacks bool) {
	onlyStacks = true
	for i := range p.plan.Resources {
		c := &p.plan.Resources[i]
		if c.Action != ResourceDelete {
			continue
		}
		if !workload(c.Kind) {
			count++
			onlyStacks = false
			continue
		}
		// The op that removes the stack counts; a stack that never was anywhere has none.
		if !slices.ContainsFunc(p.items, func(it *item) bool { return it.prunes && Declares(c.Kind, c.Name, it.stack) }) {
			count++
		}
	}
	for _, it := range p.items {
		if it.prunes {
			count++
		}
	}
	return count, onlyStacks
}

// resourceText names the resources in a sentence: "procedure nightly".
func resourceText(kind, name string) string { return spoken(kind) + " " + name }
