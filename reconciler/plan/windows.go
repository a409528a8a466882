package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Times are the openings of a window.
type Times interface {
	// Open reports whether it is open, and until when that stays so: a closed one opens then,
	// or never when that is zero.
	Open(at time.Time) (open bool, until time.Time)
}

// Window is a sync window whose schedule was read.
type Window struct {
	fleet.SyncWindow
	Times Times
}

// Text is like `deny window "Every day at 02:00" for 2h`.
func (w *Window) Text() string {
	return fmt.Sprintf("%s window %q for %s", w.Kind, w.Schedule, short(w.Duration))
}

// short is a duration without the zeros that Go ends it with.
func short(d time.Duration) string {
	text := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if len(text) > len(tail) && text[len(text)-len(tail):] == tail {
			text = text[:len(text)-len(tail)+1]
		}
	}
	return text
}

// Override is a person's wish to work outside the sync windows.
type Override struct {
	By     string
	Reason string
}

// windowEdges has the plan looked at again when a window opens or closes.
func (p *planner) windowEdges() {
	for i := range p.in.Policy.Windows {
		if at, ok := p.in.Policy.Windows[i].edge(p.in.Now); ok {
			p.recheck(at)
		}
	}
}

// edge is the next time at which the window opens or closes.
func (w *Window) edge(after time.Time) (time.Time, bool) {
	_, until := w.Times.Open(after)
	return until, !until.IsZero()
}

// closed says which sync window keeps work from being done, and what can be done about it.
//
// A deny window that is open closes all that it is about. Where there are allow windows
// one of them must be open. What no window is about is open at all times.
func (p *planner) closed(it *item) (text, hint string) {
	windows := p.windowsOf(it)
	if len(windows) == 0 {
		return "", ""
	}
	shut, why := shutAt(windows, p.in.Now)
	if !shut {
		return "", ""
	}
	manual := !slices.ContainsFunc(why, func(w *Window) bool { return !w.Manual })
	if o := p.in.Policy.Override; o != nil && manual {
		return "", ""
	}
	text = "outside its sync windows: " + why[0].Text()
	if why[0].Kind == fleet.WindowDeny {
		text = "inside a sync window that denies it: " + why[0].Text()
	}
	if len(why) > 1 {
		text += fmt.Sprintf(" and %d more", len(why)-1)
	}
	if at, ok := opening(windows, p.in.Now); ok {
		text += "; open from " + clock(at)
	} else {
		text += "; it does not open again"
	}
	hint = "the window lets nobody through; manual = true in it would"
	if manual {
		hint = "varan apply " + p.in.Desired.Sync + " --override-window --reason \"...\" goes all the same"
	}
	return text, hint
}

// shutAt reports whether windows keep work back at a time, and which do.
func shutAt(windows []*Window, at time.Time) (shut bool, why []*Window) {
	var denies, waiting []*Window
	allowed := false
	for _, w := range windows {
		open, _ := w.Times.Open(at)
		switch {
		case w.Kind == fleet.WindowDeny && open:
			denies = append(denies, w)
		case w.Kind == fleet.WindowDeny:
		case open:
			allowed = true
		default:
			waiting = append(waiting, w)
		}
	}
	if len(denies) > 0 {
		return true, denies
	}
	return !allowed && len(waiting) > 0, waiting
}

// maxEdges bounds the search for the next opening.
const maxEdges = 200

// opening is the next time at which windows let work through.
func opening(windows []*Window, after time.Time) (time.Time, bool) {
	at := after
	for range maxEdges {
		var next time.Time
		for _, w := range windows {
			if edge, ok := w.edge(at); ok && (next.IsZero() || edge.Before(next)) {
				next = edge
			}
		}
		if next.IsZero() || !next.After(at) {
			return time.Time{}, false
		}
		at = next
		if shut, _ := shutAt(windows, at); !shut {
			return at, true
		}
	}
	return time.Time{}, false
}

// windowsOf are the windows that are about an item.
func (p *planner) windowsOf(it *item) []*Window {
	if len(p.in.Policy.Windows) == 0 {
		return nil
	}
	var stack *fleet.Stack
	for i := range p.in.Desired.Stacks {
		if s := &p.in.Desired.Stacks[i]; s.Name == it.stack && (stack == nil || s.Server == it.server) {
			stack = s
		}
	}
	var list []*Window
	for i := range p.in.Policy.Windows {
		w := &p.in.Policy.Windows[i]
		if w.concerns(it.address, stack, p.servers[it.server].Tags) {
			list = append(list, w)
		}
	}
	return list
}

// concerns reports whether the window is about a stack on a server. Of one that left Git the
// tags are not known: a window that denies is about it, to be on the safe side.
func (w *Window) concerns(at address, stack *fleet.Stack, serverTags []string) bool {
	named := func(patterns []string, name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return glob(p, name) })
	}
	if !named(w.Stacks, at.stack) || !named(w.Servers, at.server) || !all(w.ServerTags, serverTags) {
		return false
	}
	if stack == nil && len(w.Tags) > 0 {
		return w.Kind == fleet.WindowDeny
	}
	return stack == nil || all(w.Tags, stack.Tags)
}

// all reports whether every wanted tag is there.
func all(wanted, have []string) bool {
	return !slices.ContainsFunc(wanted, func(tag string) bool { return !slices.Contains(have, tag) })
}
