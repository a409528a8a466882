package update_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/update"
	"github.com/varanhq/varan/core/update/registry"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

var begin = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// world is a fleet with one registry.
type world struct {
	*testing.T
	now     time.Time
	desired []fleet.Desired
	running fleet.Observed
	// images are what tags stand for, details what is known of digests, tags those there are.
	images  map[string]string
	details map[string]registry.Details
	tags    []string
	silent  map[string]error
	asked   []string
	// outcome is how an update ends; nil is well.
	outcome func(req reconciler.UpdateRequest) (reconciler.OpResult, error)
	updates []reconciler.UpdateRequest
	stored  map[string][]api.Update
	events  []string
	alerts  []alert.Alert
	service *update.Service
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		T: t, now: begin, images: map[string]string{}, details: map[string]registry.Details{}, silent: map[string]error{},
		stored: map[string][]api.Update{}, running: fleet.Observed{},
	}
	var err error
	w.service, err = update.New(update.Config{
		Registry: w, Fleet: w, Store: w, Tell: func(a alert.Alert) { w.alerts = append(w.alerts, a) },
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// deployed declares a stack whose services run the images of the same names.
func (w *world) deployed(name, server string, policy fleet.UpdatePolicy, services ...string) {
	stack := fleet.Stack{Name: name, Server: server, Kind: fleet.KindStack, Updates: policy}
	stack.Release = fleet.Release{Digest: fleet.SumDigest([]byte(name)), Stack: name, Server: server}
	report := fleet.StackReport{Stack: name}
	for _, s := range services {
		ref := s + ":1"
		stack.Release.Services = append(stack.Release.Services, fleet.Service{Name: s, Image: ref, Replicas: 1})
		report.Containers = append(report.Containers, fleet.Container{
			Service: s, State: fleet.StateRunning, ImageID: "id-old", ImageDigests: []string{"sha256:old"},
		})
		if w.images[ref] == "" {
			w.images[ref] = "sha256:old"
		}
	}
	report.Release = stack.Release
	r := w.running[server]
	r.Server, r.Online, r.Agent.Arch = server, true, "amd64"
	r.Stacks = append(r.Stacks, report)
	w.running[server] = r
	w.desired = append(w.desired, fleet.Desired{Sync: "fleet", Stacks: []fleet.Stack{stack}})
}

// pushed gives a tag a newer image.
func (w *world) pushed(ref, digest string) {
	w.images[ref] = digest
	w.details[digest] = registry.Details{Manifests: []string{digest + "-amd64"}, Configs: []string{"id-" + digest}}
}

func (w *world) Digest(_ context.Context, img registry.Image) (string, error) {
	w.asked = append(w.asked, img.Ref)
	return w.images[img.Ref], w.silent[img.Ref]
}

func (w *world) Tags(context.Context, registry.Image) ([]string, error) { return w.tags, nil }

func (w *world) Details(_ context.Context, _ registry.Image, digest, os, arch string) (registry.Details, error) {
	if os != "linux" || arch != "amd64" {
		w.Errorf("asked for %s/%s", os, arch)
	}
	return w.details[digest], w.silent[digest]
}

func (w *world) Desired() []fleet.Desired        { return w.desired }
func (w *world) Observed() fleet.Observed        { return w.running }
func (*world) Refresh(context.Context, []string) {}
func (w *world) Updates(context.Context) ([]api.Update, error) {
	var all []api.Update
	for _, key := range slices.Sorted(maps.Keys(w.stored)) {
		all = append(all, w.stored[key]...)
	}
	return all, nil
}

func (w *world) PutUpdates(_ context.Context, stack, server string, updates []api.Update, events []api.Event) error {
	w.stored[stack+"@"+server] = slices.Clone(updates)
	for _, e := range events {
		w.events = append(w.events, e.Text)
	}
	return nil
}

func (w *world) Update(_ context.Context, req reconciler.UpdateRequest) (reconciler.Run, reconciler.OpResult, error) {
	w.updates = append(w.updates, req)
	result := reconciler.OpResult{Status: reconciler.OpSucceeded}
	var err error
	if w.outcome != nil {
		if result, err = w.outcome(req); err != nil || result.Status != reconciler.OpSucceeded {
			return reconciler.Run{}, result, err
		}
	}
	report, _ := w.running[req.Server].Stack(req.Stack)
	for i := range report.Containers { // shared with the report
		c := &report.Containers[i]
		if _, ok := req.Causes[c.Service]; ok || req.All {
			c.ImageDigests = []string{w.images[c.Service+":1"]}
		}
	}
	return reconciler.Run{}, result, err
}

// run looks once, and returns "stack@server/service state" of each service.
func (w *world) run(mode update.Mode, stack string) (states []string, result api.UpdateResult) {
	w.Helper()
	w.updates, w.asked = nil, nil
	result, err := w.service.Run(w.Context(), update.Request{Mode: mode, Stack: stack, Actor: "ada"})
	if err != nil {
		w.Fatal(err)
	}
	for _, u := range result.Updates {
		states = append(states, fmt.Sprintf("%s@%s/%s %s", u.Stack, u.Server, u.Service, u.State))
	}
	return states, result
}

func (w *world) want(got []string, want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("(-want +got):\n%s", diff)
	}
}

func (w *world) rolledBack(service string) {
	w.outcome = func(req reconciler.UpdateRequest) (reconciler.OpResult, error) {
		if _, ok := req.Causes[service]; !ok {
			return reconciler.OpResult{Status: reconciler.OpSucceeded}, nil
		}
		return reconciler.OpResult{Status: reconciler.OpRolledBack, Reason: "service " + service + ": exited with code 1"}, nil
	}
}

func TestPollingTellsAndAutoUpdateDeploys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("blog", "alpha", fleet.UpdatePolicy{}, "blog")
	w.deployed("mail", "alpha", fleet.UpdatePolicy{Poll: true}, "mx")
	w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true}, "app", "db")
	states, _ := w.run(update.Auto, "")
	w.want(states, "mail@alpha/mx current", "web@alpha/app current", "web@alpha/db current")
	w.pushed("mx:1", "sha256:new")
	w.pushed("app:1", "sha256:new")
	states, _ = w.run(update.Check, "")
	w.want(states, "mail@alpha/mx available", "web@alpha/app available", "web@alpha/db current")
	if len(w.updates) > 0 || len(w.alerts) > 0 {
		t.Errorf("a look did %+v", w.updates)
	}
	states, result := w.run(update.Auto, "")
	w.want(states, "mail@alpha/mx available", "web@alpha/app current", "web@alpha/db current")
	if len(w.updates) != 1 || len(w.updates[0].Causes) != 1 || w.updates[0].All || w.updates[0].Sync != "fleet" {
		t.Errorf("updates %+v", w.updates)
	}
	if got := w.updates[0].Causes["app"]; got.From != "app:1 (old)" || got.To != "app:1 (new)" {
		t.Errorf("cause %+v", got)
	}
	if len(result.Done) != 1 || len(w.alerts) != 1 || w.alerts[0].Type != fleet.AlertStackAutoUpdated {
		t.Errorf("done %q, alerts %+v", result.Done, w.alerts)
	}
	if got := strings.Join(w.events, "\n"); strings.Count(got, "stands for a newer image") != 2 || strings.Count(got, "updated: app runs app:1 (new)") != 1 {
		t.Errorf("events:\n%s", got)
	}
	w.desired[1].Stacks[0].Updates = fleet.UpdatePolicy{}
	w.run(update.Check, "")
	if len(w.stored["mail@alpha"]) > 0 {
		t.Error("a stack that does not poll any more is remembered")
	}
}

func TestAnImageThatFailedIsHeldEverywhereUntilThereIsAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	auto := fleet.UpdatePolicy{Auto: true}
	w.deployed("web", "alpha", auto, "app", "db")
	w.deployed("web", "beta", auto, "app", "db")
	w.pushed("app:1", "sha256:bad")
	w.pushed("db:1", "sha256:good")
	w.rolledBack("app")
	states, result := w.run(update.Auto, "")
	w.want(states, "web@alpha/app held", "web@alpha/db current", "web@beta/app held", "web@beta/db current")
	var services []string
	for _, u := range w.updates {
		services = append(services, u.Server+" "+strings.Join(slices.Sorted(maps.Keys(u.Causes)), "+"))
	}
	w.want(services, "alpha app+db", "alpha db", "beta db")
	if result.Failed != 1 || !strings.Contains(strings.Join(w.events, "\n"), "the update of app was undone") {
		t.Errorf("failed %d, events %q", result.Failed, w.events)
	}
	w.run(update.Auto, "")
	if len(w.updates) > 0 {
		t.Errorf("it was tried again: %+v", w.updates)
	}
	// A person may try it all the same; another image is tried by itself.
	w.run(update.Apply, "web")
	if len(w.updates) != 2 {
		t.Errorf("a person's wish gave %+v", w.updates)
	}
	w.outcome = nil
	w.pushed("app:1", "sha256:better")
	states, _ = w.run(update.Auto, "")
	w.want(states, "web@alpha/app current", "web@alpha/db current", "web@beta/app current", "web@beta/db current")
	for _, u := range w.stored["web@alpha"] {
		if u.Failed != "" {
			t.Errorf("the failure is still remembered: %+v", u)
		}
	}
}

func TestAFailureThatSaysNothingOfTheImageIsNotHeldAgainstIt(t *testing.T) {
	t.Parallel()
	for name, outcome := range map[string]func(reconciler.UpdateRequest) (reconciler.OpResult, error){
		"retryable": func(reconciler.UpdateRequest) (reconciler.OpResult, error) {
			return reconciler.OpResult{Status: reconciler.OpFailed, Reason: "the registry is away", Outcome: fleet.Outcome{Retryable: true}}, nil
		},
		"stale": func(reconciler.UpdateRequest) (reconciler.OpResult, error) {
			return reconciler.OpResult{Status: reconciler.OpStale, Reason: "something changed"}, nil
		},
		"error": func(reconciler.UpdateRequest) (reconciler.OpResult, error) {
			return reconciler.OpResult{}, errors.New("the commit is invalid")
		},
		"kept back": func(reconciler.UpdateRequest) (reconciler.OpResult, error) {
			return reconciler.OpResult{}, fmt.Errorf("update web: %w: suspended", reconciler.ErrKeptBack)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true}, "app")
			w.pushed("app:1", "sha256:new")
			w.outcome = outcome
			states, result := w.run(update.Auto, "")
			w.want(states, "web@alpha/app available")
			if len(result.Done) != 1 || (result.Failed > 0) == (name == "kept back") {
				t.Errorf("result %+v", result)
			}
			w.outcome = nil
			states, _ = w.run(update.Auto, "")
			w.want(states, "web@alpha/app current")
		})
	}
}

func TestAMinimumAgeCountsFromWhenTheImageWasMadeOrFirstSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true, MinAge: 24 * time.Hour}, "app", "undated")
	w.pushed("app:1", "sha256:new")
	w.pushed("undated:1", "sha256:new2")
	d := w.details["sha256:new"]
	d.Created = begin.Add(-20 * time.Hour)
	w.details["sha256:new"] = d
	states, result := w.run(update.Auto, "")
	w.want(states, "web@alpha/app too_young", "web@alpha/undated too_young")
	if got := result.Updates[0].Reason; got != "it is 20h old, and must be 1d" {
		t.Errorf("reason %q", got)
	}
	w.now = begin.Add(5 * time.Hour)
	states, _ = w.run(update.Auto, "")
	w.want(states, "web@alpha/app current", "web@alpha/undated too_young")
	w.now = begin.Add(25 * time.Hour)
	states, _ = w.run(update.Auto, "")
	w.want(states, "web@alpha/app current", "web@alpha/undated current")
	w.pushed("app:1", "sha256:newer")
	states, _ = w.run(update.Apply, "web")
	w.want(states, "web@alpha/app current", "web@alpha/undated current")
}

func TestWhatIsNotLookedForAndWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true, Skip: []string{"skip"}},
		"skip", "pinned", "built", "local", "away", "other", "index")
	services := w.desired[0].Stacks[0].Release.Services
	services[1].Image = "pinned:1@sha256:abc"
	services[2].Fields = []fleet.Field{{Path: "build.context", Value: "."}}
	report := w.running["alpha"].Stacks[0]
	report.Containers[3].ImageDigests = nil
	w.silent["away:1"] = errors.New("registry.lan cannot be reached from core")
	w.pushed("other:1", "sha256:other")
	w.silent["sha256:other"] = errors.New("the newer image is not for linux/amd64")
	w.pushed("index:1", "sha256:index")
	w.details["sha256:index"] = registry.Details{Manifests: []string{"sha256:m"}, Configs: []string{"id-old"}}
	states, result := w.run(update.Auto, "")
	w.want(states, "web@alpha/skip skipped", "web@alpha/pinned skipped", "web@alpha/built skipped", "web@alpha/local skipped",
		"web@alpha/away unknown", "web@alpha/other unknown", "web@alpha/index current")
	for _, u := range result.Updates {
		if u.Reason == "" {
			t.Errorf("%s is %s without a reason", u.Service, u.State)
		}
	}
	if diff := cmp.Diff([]string{"away:1", "other:1", "index:1"}, w.asked); diff != "" || len(w.updates) > 0 {
		t.Errorf("asked (-want +got):\n%s\nupdates %+v", diff, w.updates)
	}
}

func TestOnlyWhatRunsWellIsUpdatedByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*fleet.ServerReport)
		// byHand says that a person may.
		byHand bool
	}{
		"the server is not connected":     {func(r *fleet.ServerReport) { r.Online = false }, false},
		"it is not deployed":              {func(r *fleet.ServerReport) { r.Stacks[0].Release = fleet.Release{} }, false},
		"a person stopped it":             {func(r *fleet.ServerReport) { r.Stacks[0].Stopped = true }, false},
		"the agent is at work on it":      {func(r *fleet.ServerReport) { r.Stacks[0].Busy = "op" }, false},
		"does not run as declared":        {func(r *fleet.ServerReport) { r.Stacks[0].Release.Digest = "other" }, false},
		"service app is not well: exited": {func(r *fleet.ServerReport) { r.Stacks[0].Containers[0].State = fleet.StateExited }, true},
		"not well: unhealthy":             {func(r *fleet.ServerReport) { r.Stacks[0].Containers[0].Health = fleet.HealthUnhealthy }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true}, "app")
			w.pushed("app:1", "sha256:new")
			r := w.running["alpha"]
			c.change(&r)
			w.running["alpha"] = r
			states, result := w.run(update.Auto, "")
			w.want(states, "web@alpha/app available")
			if len(w.updates) > 0 || len(result.Done) != 1 || !strings.Contains(result.Done[0], name) {
				t.Errorf("done %q, updates %+v", result.Done, w.updates)
			}
			w.run(update.Apply, "web")
			if (len(w.updates) > 0) != c.byHand {
				t.Errorf("a person's wish gave %+v", w.updates)
			}
		})
	}
}

func TestANewerTagIsOnlyTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true, Tags: []fleet.TagPolicy{{Service: "app", Policy: "^1"}}}, "app", "db")
	w.tags = []string{"1", "2"}
	w.desired[0].Stacks[0].Updates.Tags[0].Policy = "<3"
	_, result := w.run(update.Auto, "")
	if result.Updates[0].Tag != "2" || result.Updates[1].Tag != "" || len(w.updates) > 0 {
		t.Errorf("%+v", result.Updates)
	}
	if got := strings.Join(w.events, "\n"); !strings.Contains(got, "could move to the tag 2") {
		t.Errorf("events %q", got)
	}
	events := len(w.events)
	w.run(update.Auto, "")
	if len(w.events) != events {
		t.Errorf("it was told twice: %q", w.events)
	}
}

func TestAllServicesAndStacksThatDoNotPoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("web", "alpha", fleet.UpdatePolicy{Auto: true, AllServices: true}, "app", "db")
	w.deployed("blog", "alpha", fleet.UpdatePolicy{}, "blog")
	w.pushed("app:1", "sha256:new")
	w.run(update.Auto, "")
	if len(w.updates) != 1 || !w.updates[0].All {
		t.Errorf("updates %+v", w.updates)
	}
	w.pushed("blog:1", "sha256:new")
	states, _ := w.run(update.Apply, "blog")
	w.want(states, "blog@alpha/blog current")
	if len(w.alerts) != 1 {
		t.Errorf("alerts %+v; what a person did is none", w.alerts)
	}
	_, err := w.service.Run(t.Context(), update.Request{Mode: update.Check, Stack: "none"})
	if !errors.Is(err, update.ErrUnknownStack) {
		t.Errorf("err %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.service.Run(ctx, update.Request{Mode: update.Auto}); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
}
