package core_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/diskspace"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// refused checks that something new was refused for want of room.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != http.StatusInsufficientStorage || !strings.Contains(e.Message, "disk is nearly full") || e.Hint == "" {
		t.Errorf("%s: got %v, want it refused for want of room", what, err)
	}
}

// toldOfDisk reports whether the status warns of the disk, and an alert about it is open.
func (r *rig) toldOfDisk() (warned, alerted bool) {
	r.t.Helper()
	status, err := r.Status(r.t.Context())
	must(r.t, err)
	alerts, err := r.Alerts(r.t.Context(), true, 50)
	must(r.t, err)
	warned = slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, "disk is nearly full") })
	alerted = slices.ContainsFunc(alerts, func(a api.Alert) bool { return string(a.Type) == string(fleet.AlertDiskLow) })
	return warned, alerted
}

func TestADiskThatIsNearlyFullKeepsNewWorkFromBeginningUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	var free atomic.Uint64
	free.Store(100 << 30)
	r := newRigIn(t, t.TempDir()+"/data", func(cfg *core.Config) {
		cfg.Settings.Alerts.Every = 20 * time.Millisecond
		cfg.Statfs = func(string) (diskspace.Space, error) {
			return diskspace.Space{Free: free.Load(), Total: 200 << 30}, nil
		}
	})
	repo := gitserver.New(t)
	first := repo.Commit(repository("registry.example/app:1"), "First")
	engine := r.join("alpha")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	key, err := r.CreateKey(t.Context(), api.KeySpec{Name: "spare"})
	must(t, err)
	_, err = r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: repo.URL(), AutoApply: true, IntervalSeconds: 3600})
	must(t, err)
	r.settled("web", fleet.Synced, first)

	free.Store(100 << 20)
	r.eventually("people are told", func() bool {
		warned, alerted := r.toldOfDisk()
		return warned && alerted
	})
	second := repo.Commit(repository("registry.example/app:2"), "Second")
	_, err = r.SetVariable(t.Context(), "MORE", api.VariableSpec{Value: "x"})
	refused(t, "a variable", err)
	_, err = r.CreateOnboardingKey(t.Context(), api.OnboardingSpec{})
	refused(t, "an onboarding key", err)
	_, err = r.Apply(t.Context(), "main", api.ApplyRequest{}, nil)
	refused(t, "an apply", err)

	planned, err := r.Plan(t.Context(), "main", api.PlanRequest{})
	must(t, err)
	if planned.Plan.Commit.ID != first {
		t.Errorf("commit %s was fetched onto a full disk", planned.Plan.Commit.Short())
	}
	_, err = r.Suspend(t.Context(), api.SuspendRequest{Resource: "sync/main", Seconds: 1})
	must(t, err)
	must(t, r.DeleteKey(t.Context(), key.Key.ID))
	must(t, r.DeleteVariable(t.Context(), "WEB_TOKEN"))
	if n := len(engine.Orders()); n != 1 {
		t.Errorf("%d orders were given, want the one before the disk was full", n)
	}

	free.Store(100 << 30)
	_, err = r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	r.settled("web", fleet.Synced, second)
	r.eventually("all is well again", func() bool {
		warned, alerted := r.toldOfDisk()
		return !warned && !alerted
	})
	events, err := r.Events(t.Context(), api.EventFilter{Kinds: []string{"core"}, Page: api.Page{Limit: 10}})
	must(t, err)
	if len(events) != 3 || events[0].Status != "recovered" || events[1].Status != "low" {
		t.Errorf("the history tells %+v", events)
	}
}
