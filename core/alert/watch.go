package alert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

// unreachableAfter is how long a server must be away, over two looks at least, before
// anybody is told: an agent that reconnects is no news.
const unreachableAfter = 30 * time.Second

// View is what there is to look at.
type View struct {
	Observed fleet.Observed
	// Desired are the last good commits of the syncs, Syncs how they are doing.
	Desired []fleet.Desired
	Syncs   []reconciler.SyncStatus
	// Pending are the servers that wait for approval; Tried the onboarding keys that are good
	// for something and whose limits refused agents.
	Pending []Pending
	Tried   []Tried
	// LowDisk says how full core's own disk is, when it is nearly full.
	LowDisk string
	// Clock says what is the matter with the clock of core's host.
	Clock string
	// Flapping are the servers whose sessions push each other off.
	Flapping []string
	// Runs are the runs of procedures under way.
	Runs []procedure.Run
	// Newer are images that wait for a person; those that are deployed by themselves are not
	// among them.
	Newer []Newer
}

// Newer is an image that there is and that does not run.
type Newer struct {
	Stack, Server, Service string
	Kind                   fleet.Kind
	Image                  string
	// Tag is set where it is under another tag than the one that is declared.
	Tag string
}

// Pending is a server that waits for approval.
type Pending struct{ Server, Text string }

// Tried is an onboarding key that agents were refused with.
type Tried struct {
	Key      string
	Failures int
}

// manyFailures is from where on it is no mistake any more (rule O11).
const manyFailures = 20

// watcher finds what is the matter by comparing looks. It is told the time, and does nothing
// itself.
type watcher struct {
	// since is when a matter was first seen; looks how often in a row.
	seen map[string]sighting
	// well are the stacks that were well once: only what ran can be missing.
	well map[string]bool
}

type sighting struct {
	since time.Time
	looks int
}

func newWatcher() *watcher { return &watcher{seen: map[string]sighting{}, well: map[string]bool{}} }

// look returns what is the matter now, by key, with matters that have to last first counted
// only when they did. kept are keys that are neither the matter nor over: nothing is known.
func (w *watcher) look(v View, now time.Time, local *time.Location) (matters map[string]Alert, kept map[string]bool) {
	matters, kept = map[string]Alert{}, map[string]bool{}
	current := map[string]bool{}
	report := func(a Alert, looks int, lasting time.Duration) {
		current[a.Key] = true
		s := w.seen[a.Key]
		if s.looks == 0 {
			s.since = now
		}
		s.looks++
		w.seen[a.Key] = s
		if s.looks >= looks && now.Sub(s.since) >= lasting {
			matters[a.Key] = a
		} else {
			kept[a.Key] = true
		}
	}
	servers := serversOf(v)
	held := watchServers(v, servers, now, local, report, kept)
	w.stacks(v, held, report, kept)
	watchSyncs(v, report)
	watchImages(v, held, report, kept)
	watchOnboarding(v, report)
	watchDisks(v, report)
	watchClocks(v, report)
	watchRuns(v, report)
	for key := range w.seen {
		if !current[key] {
			delete(w.seen, key)
		}
	}
	return matters, kept
}

// serversOf are the declared servers by name.
func serversOf(v View) map[string]fleet.Server {
	servers := map[string]fleet.Server{}
	for i := range v.Desired {
		for _, s := range v.Desired[i].Servers {
			servers[s.Name] = s
		}
	}
	return servers
}

// servers reports those that are away, and returns those about which nothing is to be said.
func watchServers(
	v View, declared map[string]fleet.Server, now time.Time, local *time.Location,
	report func(Alert, int, time.Duration), kept map[string]bool,
) (held map[string]bool) {
	held = map[string]bool{}
	for name, r := range v.Observed {
		s, ok := declared[name]
		key := "server/" + name
		switch {
		case ok && !s.Enabled || s.Quiet:
		case quietAt(s.Maintenance, now, local):
			held[name], kept[key] = true, true
		case !r.Online:
			text := fmt.Sprintf("server %s cannot be reached", name)
			if !r.Received.IsZero() {
				text += " since " + r.Received.UTC().Format(time.RFC3339)
			}
			report(Alert{
				Key: key, Type: fleet.AlertServerUnreachable, Level: LevelCritical, Server: name, Text: text,
				Target: fleet.ResourceName{Kind: "server", Name: name},
				Data:   map[string]any{"id": name, "name": name, "region": nil, "err": map[string]any{"error": text, "trace": []string{}}},
			}, 2, unreachableAfter)
		}
		if !r.Online {
			held[name] = true // what is not known of its stacks is not told either
		}
	}
	return held
}

// watchDisks reports those that are nearly full.
func watchDisks(v View, report func(Alert, int, time.Duration)) {
	if v.LowDisk != "" {
		report(Alert{
			Key: "disk/", Type: fleet.AlertDiskLow, Level: LevelCritical, Target: fleet.ResourceName{Kind: "core", Name: "core"},
			Text: "core's disk is nearly full, nothing new begins until there is room: " + v.LowDisk,
			Data: map[string]any{"id": "core", "name": "core", "text": v.LowDisk},
		}, 1, 0)
	}
	for name, r := range v.Observed {
		if low := r.Agent.LowDisk; low != "" {
			report(Alert{
				Key: "disk/" + name, Type: fleet.AlertDiskLow, Level: LevelCritical, Server: name,
				Target: fleet.ResourceName{Kind: "server", Name: name},
				Text:   fmt.Sprintf("the disk of server %s is nearly full, its agent takes no new orders until there is room: %s", name, low),
				Data:   map[string]any{"id": name, "name": name, "text": low},
			}, 1, 0)
		}
	}
}

// watchClocks reports that of core's host, when it jumped or was set back.
func watchClocks(v View, report func(Alert, int, time.Duration)) {
	if v.Clock == "" {
		return
	}
	report(Alert{
		Key: "clock/", Type: fleet.AlertClock, Level: LevelWarning, Target: fleet.ResourceName{Kind: "core", Name: "core"},
		Text: v.Clock, Data: map[string]any{"id": "core", "name": "core", "text": v.Clock},
	}, 1, 0)
}

// stacks reports those that are not well.
func (w *watcher) stacks(v View, held map[string]bool, report func(Alert, int, time.Duration), kept map[string]bool) {
	quiet, kinds := map[string]bool{}, map[string]fleet.Kind{}
	for i := range v.Desired {
		for k := range v.Desired[i].Stacks {
			s := &v.Desired[i].Stacks[k]
			quiet[s.Name+"@"+s.Server], kinds[s.Name+"@"+s.Server] = s.Quiet, s.Kind
		}
	}
	for i := range v.Syncs {
		for _, s := range v.Syncs[i].Plan.Stacks {
			place := s.Stack + "@" + s.Server
			key := "stack/" + place
			switch {
			case quiet[place]:
			case held[s.Server] || s.Health == fleet.HealthUnknown || s.Health == fleet.Progressing:
				kept[key] = true
			case s.Health == fleet.Healthy:
				w.well[place] = true
			case s.Health == fleet.Degraded || s.Health == fleet.Missing && w.well[place]:
				text := fmt.Sprintf("stack %s on %s is %s", s.Stack, s.Server, strings.ToLower(string(s.Health)))
				if s.Text != "" {
					text += ": " + s.Text
				}
				report(Alert{
					Key: key, Type: fleet.AlertStackStateChange, Level: LevelWarning, Server: s.Server, Text: text,
					Target: fleet.ResourceName{Kind: string(cmp.Or(kinds[place], fleet.KindStack)), Name: s.Stack},
					Data: map[string]any{
						"id": s.Stack, "name": s.Stack, "server_id": s.Server, "server_name": s.Server,
						"from": "Running", "to": komodoState(s.Health),
					},
				}, 2, 0)
			}
		}
	}
}

// watchImages reports newer images.
func watchImages(v View, held map[string]bool, report func(Alert, int, time.Duration), kept map[string]bool) {
	for i := range v.Newer {
		n := &v.Newer[i]
		place := n.Stack + "@" + n.Server + "/" + n.Service
		a := Alert{
			Key: "image/" + place, Type: fleet.AlertStackUpdateAvailable, Level: LevelOK, Server: n.Server,
			Target: fleet.ResourceName{Kind: string(cmp.Or(n.Kind, fleet.KindStack)), Name: n.Stack},
			Text:   fmt.Sprintf("%s on %s: there is a newer image of %s for service %s", n.Stack, n.Server, n.Image, n.Service),
			Data: map[string]any{
				"id": n.Stack, "name": n.Stack, "server_id": n.Server, "server_name": n.Server, "service": n.Service, "image": n.Image,
			},
		}
		if n.Tag != "" {
			a.Key = "tag/" + place + ":" + n.Tag
			a.Text = fmt.Sprintf("%s on %s: service %s could move from %s to the tag %s", n.Stack, n.Server, n.Service, n.Image, n.Tag)
			a.Data["tag"] = n.Tag
		}
		if n.Kind == fleet.KindDeployment {
			a.Type = fleet.AlertDeploymentUpdateAvailable
			delete(a.Data, "service")
		}
		if held[n.Server] {
			kept[a.Key] = true
			continue
		}
		report(a, 1, 0)
	}
}

// komodoState is a health as Komodo calls the state of a stack.
func komodoState(h fleet.HealthState) string {
	if h == fleet.Missing {
		return "Down"
	}
	return "Unhealthy"
}

// syncs reports those that cannot be read or are invalid, and those with changes that wait
// for somebody.
func watchSyncs(v View, report func(Alert, int, time.Duration)) {
	quiet := map[string]bool{}
	for i := range v.Desired {
		for k := range v.Desired[i].Syncs {
			quiet[v.Desired[i].Syncs[k].Name] = v.Desired[i].Syncs[k].QuietPending
		}
	}
	for i := range v.Syncs {
		s := &v.Syncs[i]
		target := fleet.ResourceName{Kind: "resource_sync", Name: s.Sync}
		data := map[string]any{"id": s.Sync, "name": s.Sync}
		if problem, looks := troubleOf(s); problem != "" {
			report(Alert{
				Key: "sync/" + s.Sync, Type: fleet.AlertSyncFailed, Level: LevelWarning, Target: target,
				Text: "sync " + s.Sync + ": " + problem, Data: map[string]any{"id": s.Sync, "name": s.Sync, "err": problem},
			}, looks, 0)
		}
		if n := waiting(s); n > 0 && !quiet[s.Sync] {
			report(Alert{
				Key: "pending/" + s.Sync, Type: fleet.AlertPendingUpdates, Level: LevelOK, Target: target, Data: data,
				Text: fmt.Sprintf("sync %s: %d changes of commit %s wait to be applied", s.Sync, n, s.Plan.Commit.Short()),
			}, 2, 0)
		}
	}
}

// watchOnboarding reports who waits to be let in, and who tries to get in.
func watchOnboarding(v View, report func(Alert, int, time.Duration)) {
	for _, p := range v.Pending {
		report(Alert{
			Key: "server-pending/" + p.Server, Type: fleet.AlertServerPending, Level: LevelOK, Server: p.Server,
			Target: fleet.ResourceName{Kind: "server", Name: p.Server},
			Text:   fmt.Sprintf("server %s %s", p.Server, p.Text), Data: map[string]any{"id": p.Server, "name": p.Server},
		}, 1, 0)
	}
	for _, name := range v.Flapping {
		report(Alert{
			Key: "duplicate-identity/" + name, Type: fleet.AlertDuplicateIdentity, Level: LevelCritical, Server: name,
			Target: fleet.ResourceName{Kind: "server", Name: name},
			Text:   fmt.Sprintf("two agents seem to have the key of server %s, they push each other off: was its state directory copied?", name),
			Data:   map[string]any{"id": name, "name": name},
		}, 1, 0)
	}
	for _, k := range v.Tried {
		if k.Failures < manyFailures {
			continue
		}
		report(Alert{
			Key: "onboarding/" + k.Key, Type: fleet.AlertOnboardingAbuse, Level: LevelWarning,
			Target: fleet.ResourceName{Kind: "onboarding_key", Name: k.Key},
			Text:   fmt.Sprintf("%d agents were refused with the onboarding key %s: is it in the wrong hands?", k.Failures, k.Key),
			Data:   map[string]any{"id": k.Key, "name": k.Key, "failures": k.Failures},
		}, 1, 0)
	}
}

// watchRuns reports runs of procedures that wait for somebody's approval.
func watchRuns(v View, report func(Alert, int, time.Duration)) {
	for i := range v.Runs {
		r := &v.Runs[i]
		if r.Status != procedure.StatusWaiting || len(r.Steps) == 0 {
			continue
		}
		step := &r.Steps[len(r.Steps)-1]
		stage := cmp.Or(r.Stages[step.Stage].Name, fmt.Sprintf("stage %d", step.Stage+1))
		text := fmt.Sprintf("procedure %s waits for an approval of %q", r.Procedure, stage)
		if step.Target != "" {
			text += " by " + step.Target
		}
		report(Alert{
			Key: "approval/" + r.ID, Type: fleet.AlertApprovalPending, Level: LevelWarning,
			Target: fleet.ResourceName{Kind: "procedure", Name: r.Procedure},
			Text:   text + ": varan procedure approve " + r.ID,
			Data:   map[string]any{"id": r.Procedure, "name": r.Procedure, "run": r.ID, "stage": stage, "approvers": r.Stages[step.Stage].Approvers},
		}, 1, 0)
	}
}

// troubleOf says why a sync does not follow its branch, and how many looks that has to last.
func troubleOf(s *reconciler.SyncStatus) (problem string, looks int) {
	for _, d := range s.Diagnostics {
		if d.Severity == fleet.SeverityError {
			return fmt.Sprintf("commit %s is invalid: %s", s.Head.Short(), d), 1
		}
	}
	return s.Error, 2
}

// waiting counts the ops that nothing but a person's consent keeps from being done.
func waiting(s *reconciler.SyncStatus) int {
	if s.Phase == reconciler.PhaseApplying {
		return 0
	}
	n := 0
	for i := range s.Plan.Ops {
		if !s.AutoApply || len(s.Plan.Ops[i].Gates) > 0 {
			n++
		}
	}
	return n
}

// deployed is what the end of an op says: a matter, or that one is over. Of one release on
// one server a failure is told once.
func deployed(e reconciler.Event, kind fleet.Kind, commit string) (matter Alert, over string) {
	if e.Result == nil || e.Stack == "" {
		return Alert{}, ""
	}
	prefix := "deploy/" + e.Stack + "@" + e.Server + "/"
	reason := cmp.Or(e.Result.Reason, e.Result.Outcome.Reason)
	a := Alert{
		Key: prefix + commit, Server: e.Server, Target: fleet.ResourceName{Kind: string(cmp.Or(kind, fleet.KindStack)), Name: e.Stack},
		Data: map[string]any{
			"id": e.Stack, "name": e.Stack, "server_id": e.Server, "server_name": e.Server, "commit": commit, "reason": reason,
		},
	}
	switch e.Result.Status {
	case reconciler.OpSucceeded:
		return Alert{}, prefix
	case reconciler.OpFailed:
		if e.Result.Outcome.Retryable {
			return Alert{}, "" // it is tried again; a server or sync that stays away is told of as such
		}
		a.Type, a.Level = fleet.AlertStackDeployFailed, LevelCritical
		a.Text = fmt.Sprintf("deploying %s on %s failed: %s", e.Stack, e.Server, reason)
		return a, ""
	case reconciler.OpRolledBack:
		a.Type, a.Level = fleet.AlertStackRolledBack, LevelWarning
		a.Text = fmt.Sprintf("%s on %s was rolled back, the last good release runs: %s", e.Stack, e.Server, reason)
		return a, ""
	case reconciler.OpSkipped, reconciler.OpStale, reconciler.OpCanceled:
	}
	return Alert{}, ""
}

// sorted are keys in order.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
