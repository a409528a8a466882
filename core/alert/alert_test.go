package alert_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/reconciler/procedure"
)

// memory is an alert.Store.
type memory struct {
	mu   sync.Mutex
	all  []alert.Alert
	open map[string]alert.Alert
}

func (m *memory) OpenAlert(_ context.Context, a alert.Alert) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, a)
	if _, is := m.open[a.Key]; is && a.Key != "" {
		return false, nil
	}
	if a.Key != "" {
		m.open[a.Key] = a
	}
	return true, nil
}

func (m *memory) ResolveAlert(_ context.Context, key string, at time.Time) (alert.Alert, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.open[key]
	delete(m.open, key)
	a.Resolved = at
	return a, ok, nil
}

func (m *memory) OpenAlerts(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.open {
		keys = append(keys, key)
	}
	return keys, nil
}

// world is a service in a bubble, with an endpoint in memory.
type world struct {
	*testing.T
	service *alert.Service
	store   *memory
	log     strings.Builder

	mu   sync.Mutex
	view alert.View
	// sent are the texts of what the endpoint got; answer is what it says next.
	sent   []string
	tries  int
	answer func() (int, error)
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(req.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	status, err := http.StatusOK, error(nil)
	if w.answer != nil {
		status, err = w.answer()
	}
	if err != nil {
		return nil, err
	}
	if status == http.StatusOK {
		var a struct {
			Level string
			Text  string
			Data  struct{ Type string }
		}
		_ = json.Unmarshal(body, &a)
		w.sent = append(w.sent, a.Level+" "+a.Data.Type+": "+a.Text)
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Header: http.Header{}, Request: req}, nil
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// took are the alerts that the endpoint got since the last call.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func (w *world) pass(d time.Duration) {
	w.Helper()
	time.Sleep(d)
	synctest.Wait()
}

func in(t *testing.T, test func(w *world)) {
	t.Helper()
	inWith(t, func(*memory) {}, test)
}

// inWith is in with a store in which something is already.
func inWith(t *testing.T, setup func(*memory), test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, store: &memory{open: map[string]alert.Alert{}}}
		setup(w.store)
		w.view = alert.View{
			Observed: fleet.Observed{"alpha": {Server: "alpha", Online: true, Received: time.Now()}},
			Desired: []fleet.Desired{{
				Sync: "main", Servers: []fleet.Server{{Name: "alpha", Enabled: true}},
				Stacks: []fleet.Stack{{Name: "web", Server: "alpha"}},
				Alerters: []fleet.Alerter{{
					Name: "hook", Enabled: true,
					Endpoint: fleet.Endpoint{Type: fleet.EndpointCustom, URL: fleet.NewSecret("http://canary.example/token")},
				}},
			}},
		}
		var err error
		w.service, err = alert.New(alert.Config{
			Store: w.store, Transport: w, Local: time.UTC,
			Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
			View: func(context.Context) (alert.View, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.view, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = w.service.Run(ctx)
		}()
		test(w)
		cancel()
		<-done
		if strings.Contains(w.log.String(), "canary") {
			t.Errorf("the address is in the log:\n%s", w.log.String())
		}
	})
}

func (w *world) online(is bool) {
	w.set(func() {
		w.view.Observed = fleet.Observed{"alpha": {Server: "alpha", Online: is, Received: time.Now()}}
	})
}

func (w *world) health(h fleet.HealthState) {
	w.set(func() {
		w.view.Syncs = []reconciler.SyncStatus{{Sync: "main", Planned: true, AutoApply: true, Plan: plan.Plan{
			Stacks: []plan.StackState{{Stack: "web", Server: "alpha", Health: h, Text: "1 of 2 run"}},
		}}}
	})
}

func (w *world) want(want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.took()); diff != "" {
		w.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestAServerThatStaysAwayIsToldOfOnce(t *testing.T) {
	in(t, func(w *world) {
		w.online(false)
		w.pass(20 * time.Second)
		w.online(true) // it only reconnected
		w.pass(time.Minute)
		w.want()
		w.online(false)
		w.pass(10 * time.Minute)
		if got := w.took(); len(got) != 1 || !strings.HasPrefix(got[0], "CRITICAL ServerUnreachable: server alpha cannot be reached") {
			t.Errorf("told %q", got)
		}
		w.online(true)
		w.pass(time.Minute)
		if got := w.took(); len(got) != 1 || !strings.HasPrefix(got[0], "OK ServerUnreachable: over: server alpha") {
			t.Errorf("told %q", got)
		}
	})
}

func TestServersThatWaitAndKeysThatAreTriedOutAreToldOf(t *testing.T) {
	in(t, func(w *world) {
		w.set(func() {
			w.view.Pending = []alert.Pending{{Server: "beta", Text: "waits for approval"}}
			w.view.Tried = []alert.Tried{{Key: "abc", Failures: 19}}
		})
		w.pass(time.Minute)
		w.want("OK ServerPending: server beta waits for approval")
		w.set(func() { w.view.Tried[0].Failures = 20 }) // O11
		w.pass(time.Minute)
		w.want("WARNING OnboardingAbuse: 20 agents were refused with the onboarding key abc: is it in the wrong hands?")
		w.set(func() { w.view.Pending, w.view.Tried = nil, nil })
		w.pass(time.Minute)
		w.want(
			"OK OnboardingAbuse: over: 20 agents were refused with the onboarding key abc: is it in the wrong hands?",
			"OK ServerPending: over: server beta waits for approval")
	})
}

func TestNewerImagesAreToldOfUntilTheyRun(t *testing.T) {
	in(t, func(w *world) {
		w.set(func() {
			w.view.Newer = []alert.Newer{
				{Stack: "web", Server: "alpha", Service: "app", Image: "app:1"},
				{Stack: "web", Server: "alpha", Service: "app", Image: "app:1", Tag: "2"},
				{Stack: "one", Server: "alpha", Service: "one", Kind: fleet.KindDeployment, Image: "one:1"},
			}
		})
		w.pass(time.Minute)
		w.want(
			"OK DeploymentImageUpdateAvailable: one on alpha: there is a newer image of one:1 for service one",
			"OK StackImageUpdateAvailable: web on alpha: there is a newer image of app:1 for service app",
			"OK StackImageUpdateAvailable: web on alpha: service app could move from app:1 to the tag 2")
		w.pass(time.Hour)
		w.want()
		w.set(func() { w.view.Newer = w.view.Newer[2:] })
		w.pass(time.Minute)
		w.want(
			"OK StackImageUpdateAvailable: over: web on alpha: there is a newer image of app:1 for service app",
			"OK StackImageUpdateAvailable: over: web on alpha: service app could move from app:1 to the tag 2")
		w.service.Tell(alert.Alert{
			Type: fleet.AlertStackAutoUpdated, Level: alert.LevelOK, Server: "alpha", Text: "updated",
			Target: fleet.ResourceName{Kind: "stack", Name: "web"},
		})
		w.pass(time.Minute)
		w.want("OK StackAutoUpdated: updated")
	})
}

func TestQuietDisabledAndMaintainedServersAreNotToldOf(t *testing.T) {
	in(t, func(w *world) {
		for _, s := range []fleet.Server{
			{Name: "alpha", Enabled: true, Quiet: true},
			{Name: "alpha"},
			{Name: "alpha", Enabled: true, Maintenance: []fleet.MaintenanceWindow{{Schedule: fleet.WindowDaily, Minutes: 60}}},
		} {
			w.online(false)
			w.set(func() { w.view.Desired[0].Servers = []fleet.Server{s} })
			w.pass(5 * time.Minute)
			w.want()
		}
		w.pass(time.Hour) // the bubble began at midnight: the window is over, and the server still away
		if got := w.took(); len(got) != 1 {
			t.Errorf("after the window: told %q", got)
		}
	})
}

func TestAStackThatIsNotWellIsToldOf(t *testing.T) {
	in(t, func(w *world) {
		w.health(fleet.Missing)
		w.pass(time.Minute)
		w.want() // it never ran
		w.health(fleet.Healthy)
		w.pass(time.Minute)
		w.health(fleet.Degraded)
		w.pass(time.Minute)
		w.want("WARNING StackStateChange: stack web on alpha is degraded: 1 of 2 run")
		w.health(fleet.Progressing) // neither well nor not
		w.pass(time.Minute)
		w.want()
		w.health(fleet.Healthy)
		w.pass(time.Minute)
		w.want("OK StackStateChange: over: stack web on alpha is degraded: 1 of 2 run")
		w.health(fleet.Missing)
		w.pass(time.Minute)
		w.want("WARNING StackStateChange: stack web on alpha is missing: 1 of 2 run")
		w.set(func() { w.view.Desired[0].Stacks[0].Quiet = true })
		w.pass(time.Minute)
		w.took()
		w.health(fleet.Healthy)
		w.pass(time.Minute)
		w.health(fleet.Degraded)
		w.pass(time.Minute)
		w.want()
	})
}

func (w *world) op(status reconciler.OpStatus, commit string) {
	w.service.OpEnded(reconciler.Event{
		Kind: reconciler.EventOpEnded, At: time.Now(), Stack: "web", Server: "alpha",
		Result: &reconciler.OpResult{Status: status, Reason: "exited with 1"},
	}, commit)
	synctest.Wait()
}

func TestADeployThatFailsIsToldOfOnceACommit(t *testing.T) {
	in(t, func(w *world) {
		w.op(reconciler.OpRolledBack, "c1")
		w.op(reconciler.OpRolledBack, "c1")
		w.want("WARNING StackRolledBack: web on alpha was rolled back, the last good release runs: exited with 1")
		w.op(reconciler.OpFailed, "c2")
		w.want("CRITICAL StackDeployFailed: deploying web on alpha failed: exited with 1")
		w.pass(time.Minute)
		w.want()
		w.op(reconciler.OpSucceeded, "c3")
		if got := w.took(); len(got) != 2 || !strings.HasPrefix(got[0], "OK StackRolledBack: over") {
			t.Errorf("told %q", got)
		}
		w.set(func() { w.view.Desired[0].Stacks[0].Quiet = true })
		w.op(reconciler.OpFailed, "c4")
		w.want()
	})
}

func TestSyncsAndProceduresAreToldOf(t *testing.T) {
	in(t, func(w *world) {
		w.set(func() {
			w.view.Syncs = []reconciler.SyncStatus{{
				Sync: "main", Planned: true, Head: fleet.Commit{ID: "0123456789"},
				Diagnostics: fleet.Diagnostics{{Rule: "unknown-key", Severity: fleet.SeverityError, Message: "no such key"}},
				Plan:        plan.Plan{Ops: []plan.Op{{ID: "update web"}}, Commit: fleet.Commit{ID: "abcdef0123"}},
			}}
		})
		w.pass(time.Minute)
		got := w.took()
		slices.Sort(got)
		want := []string{
			"OK ResourceSyncPendingUpdates: sync main: 1 changes of commit abcdef01 wait to be applied",
			"WARNING SyncFailed: sync main: commit 01234567 is invalid: error: no such key [unknown-key]",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		w.set(func() { w.view.Syncs[0].Diagnostics, w.view.Syncs[0].Plan.Ops = nil, nil })
		w.pass(time.Minute)
		if got := w.took(); len(got) != 2 || !strings.HasPrefix(got[0], "OK ") {
			t.Errorf("told %q", got)
		}
		failed := procedure.Run{ID: "r", Procedure: "nightly", Status: procedure.StatusFailed, Reason: "stage 1: no", FailureAlert: true, Ended: time.Now()}
		w.service.ProcedureEnded(failed)
		failed.FailureAlert = false
		w.service.ProcedureEnded(failed)
		synctest.Wait()
		w.want("WARNING ProcedureFailed: procedure nightly failed: stage 1: no")
	})
}

func TestAlertersChooseWhatTheySend(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*fleet.Alerter)
		sends  bool
	}{
		"everything":           {func(*fleet.Alerter) {}, true},
		"switched off":         {func(a *fleet.Alerter) { a.Enabled = false }, false},
		"its types":            {func(a *fleet.Alerter) { a.Types = []string{"StackDeployFailed"} }, true},
		"other types":          {func(a *fleet.Alerter) { a.Types = []string{"ServerUnreachable"} }, false},
		"its resources":        {func(a *fleet.Alerter) { a.Resources = []fleet.ResourceName{{Kind: "stack", Name: "web"}} }, true},
		"other resources":      {func(a *fleet.Alerter) { a.Resources = []fleet.ResourceName{{Kind: "server", Name: "web"}} }, false},
		"all but its resource": {func(a *fleet.Alerter) { a.Except = []fleet.ResourceName{{Kind: "stack", Name: "web"}} }, false},
		"in maintenance": {func(a *fleet.Alerter) {
			a.Maintenance = []fleet.MaintenanceWindow{{Schedule: fleet.WindowWeekly, DayOfWeek: "saturday", Minutes: 90}}
		}, false},
		"maintained elsewhen": {func(a *fleet.Alerter) {
			a.Maintenance = []fleet.MaintenanceWindow{{Schedule: fleet.WindowOneTime, Date: "2000-01-02", Minutes: 90}}
		}, true},
		"maintained in another zone": {func(a *fleet.Alerter) { // midnight in London is one o'clock in Amsterdam
			a.Maintenance = []fleet.MaintenanceWindow{{Schedule: fleet.WindowDaily, Hour: 1, Minutes: 30, Timezone: "Europe/Amsterdam"}}
		}, false},
		"maintained since yesterday": {func(a *fleet.Alerter) {
			a.Maintenance = []fleet.MaintenanceWindow{{Schedule: fleet.WindowOneTime, Date: "1999-12-30", Hour: 12, Minutes: 48 * 60}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				w.set(func() { tc.change(&w.view.Desired[0].Alerters[0]) })
				w.op(reconciler.OpFailed, "c1")
				if got := w.took(); (len(got) == 1) != tc.sends {
					t.Errorf("sent %q", got)
				}
			})
		})
	}
}

func TestAnEndpointThatIsAwayIsTriedAgain(t *testing.T) {
	in(t, func(w *world) {
		left := 3
		w.set(func() {
			w.answer = func() (int, error) {
				left--
				if left == 2 {
					return 0, errors.New("connection refused")
				} else if left >= 0 {
					return http.StatusServiceUnavailable, nil
				}
				return http.StatusOK, nil
			}
		})
		began := time.Now()
		w.op(reconciler.OpFailed, "c1")
		w.pass(time.Minute)
		w.want("CRITICAL StackDeployFailed: deploying web on alpha failed: exited with 1")
		if w.tries != 4 || time.Since(began) < 7*time.Second {
			t.Errorf("%d tries", w.tries)
		}
		w.set(func() { w.tries, w.answer = 0, func() (int, error) { return http.StatusForbidden, nil } })
		w.op(reconciler.OpFailed, "c2")
		w.pass(time.Hour)
		if w.tries != 1 {
			t.Errorf("%d tries of what is refused for good", w.tries)
		}
	})
}

func TestAnOutageDropsTheOldestAndSaysHowMany(t *testing.T) {
	in(t, func(w *world) {
		w.set(func() { w.answer = func() (int, error) { return 0, errors.New("connection refused") } })
		for i := range 200 {
			w.op(reconciler.OpFailed, strings.Repeat("c", i+1))
		}
		w.set(func() { w.answer = nil })
		w.pass(time.Hour)
		if n := len(w.took()); n < 60 || n > 70 {
			t.Errorf("%d alerts came through", n)
		}
		if !strings.Contains(w.log.String(), "alerts dropped") || !strings.Contains(w.log.String(), "count=") {
			t.Errorf("the log says\n%s", w.log.String())
		}
	})
}

func TestExecutionsSendAndTest(t *testing.T) {
	in(t, func(w *world) {
		for want, err := range map[string]error{
			"no alerter": errors.Join(w.service.Test(w.Context(), "none"), w.service.Send(w.Context(), "", "m", "", []string{"none"})),
			"OK, WARN":   w.service.Send(w.Context(), "FATAL", "m", "", nil),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				w.Errorf("%v, want %s", err, want)
			}
		}
		if err := w.service.Send(w.Context(), "warning", "disk", "90 %", []string{"hook"}); err != nil {
			w.Fatal(err)
		}
		if err := w.service.Test(w.Context(), "hook"); err != nil {
			w.Fatal(err)
		}
		synctest.Wait()
		got := w.took()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"OK Test: a test of the alerter hook", "WARNING Custom: disk\n90 %"}, got); diff != "" {
			w.Error(diff)
		}
		w.set(func() { w.answer = func() (int, error) { return 0, errors.New("refused") } })
		if err := w.service.Test(w.Context(), "hook"); err == nil || strings.Contains(err.Error(), "canary") {
			w.Errorf("err %v", err)
		}
	})
}

func TestWhatWasToldBeforeARestartIsNotToldAgain(t *testing.T) {
	inWith(t, func(m *memory) {
		m.open["server/alpha"] = alert.Alert{Key: "server/alpha", Type: fleet.AlertServerUnreachable, Text: "away"}
		m.open["stack/web@alpha"] = alert.Alert{Key: "stack/web@alpha", Type: fleet.AlertStackStateChange, Text: "not well"}
	}, func(w *world) {
		w.online(false)
		w.set(func() { w.view.Syncs = []reconciler.SyncStatus{{Sync: "main"}} }) // not read yet
		w.pass(5 * time.Minute)
		w.want()
		w.online(true)
		w.pass(time.Minute)
		w.want("OK ServerUnreachable: over: away")
		w.set(func() { w.view.Syncs[0].Planned = true })
		w.pass(time.Minute)
		w.want("OK StackStateChange: over: not well")
	})
}
