// Package enginetest says what every agent.Engine must do. The real engine and the fake
// one both run it, so that tests with the fake mean something.
package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// Host is one host to test: an engine and releases that it can run.
type Host struct {
	Engine agent.Engine
	// Server is the name the engine serves.
	Server string
	// Release makes a release of a stack with the long-running services "web" and "db",
	// one container each. Another version gives web another digest and leaves db as it
	// is. The blobs hold everything the release names.
	Release func(stack string, version int) (fleet.Release, agent.Blobs)
	// Broken is Release with a web that comes up and then fails its verdict.
	Broken func(stack string, version int) (fleet.Release, agent.Blobs)
	// Stack makes a stack name out of a short word; identity when nil. Engines that
	// share a Docker with other tests need names of their own.
	Stack func(word string) string
}

// Run tests the engine; each subtest asks for a fresh host. Tests that need Docker may
// take seconds each.
func Run(t *testing.T, host func(t *testing.T) Host) {
	t.Helper()
	cases := []struct {
		name string
		test func(s suite)
	}{
		{"ApplyBringsTheStackUp", suite.applyBringsTheStackUp},
		{"TheSameOrderIsDoneOnce", suite.theSameOrderIsDoneOnce},
		{"ApplyingWhatRunsTouchesNothing", suite.applyingWhatRunsTouchesNothing},
		{"AnUpdateRecreatesOnlyWhatChanged", suite.anUpdateRecreatesOnlyWhatChanged},
		{"ABrokenReleaseIsRolledBack", suite.aBrokenReleaseIsRolledBack},
		{"ABrokenFirstReleaseFails", suite.aBrokenFirstReleaseFails},
		{"MissingContentTouchesNothing", suite.missingContentTouchesNothing},
		{"ACanceledOrderTouchesNothing", suite.aCanceledOrderTouchesNothing},
		{"RemoveIsIdempotent", suite.removeIsIdempotent},
		{"StopStaysUntilStart", suite.stopStaysUntilStart},
		{"PauseStaysUntilUnpause", suite.pauseStaysUntilUnpause},
		{"DownStaysDownAndIsRemembered", suite.downStaysDownAndIsRemembered},
		{"RestartKeepsTheContainers", suite.restartKeepsTheContainers},
		{"ObserveSortsByName", suite.observeSortsByName},
		{"WatchTellsOfChanges", suite.watchTellsOfChanges},
		{"LogsAreJSONLines", suite.logsAreJSONLines},
		{"NothingIsLeftToRecover", suite.nothingIsLeftToRecover},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h := host(t)
			if h.Stack == nil {
				h.Stack = func(word string) string { return word }
			}
			tc.test(suite{h, t})
		})
	}
}

type suite struct {
	Host
	t *testing.T
}

// apply makes an order for a release.
func (s suite) apply(id string, release fleet.Release) fleet.Order {
	return fleet.Order{
		ID: id, Kind: fleet.OrderApply, Stack: release.Stack, Server: s.Server, Project: release.Project, Release: release,
	}
}

// order makes an order of another kind for the stack of a release.
func (s suite) order(id string, kind fleet.OrderKind, release fleet.Release) fleet.Order {
	return fleet.Order{ID: id, Kind: kind, Stack: release.Stack, Server: s.Server, Project: release.Project}
}

func (s suite) do(t *testing.T, order fleet.Order, blobs agent.Blobs) fleet.Outcome {
	t.Helper()
	return s.Engine.Do(t.Context(), order, blobs, func(fleet.Progress) {})
}

func (s suite) mustDo(t *testing.T, order fleet.Order, blobs agent.Blobs) fleet.Outcome {
	t.Helper()
	outcome := s.do(t, order, blobs)
	if outcome.Status != fleet.OutcomeSucceeded || outcome.Order != order.ID || outcome.Stack != order.Stack {
		t.Fatalf("%s %s: %+v", order.Kind, order.Stack, outcome)
	}
	return outcome
}

// up applies version 1 of a stack.
func (s suite) up(t *testing.T, word string) fleet.Release {
	t.Helper()
	release, blobs := s.Release(s.Stack(word), 1)
	s.mustDo(t, s.apply("up-"+word, release), blobs)
	return release
}

func (s suite) observe(t *testing.T, release fleet.Release) (fleet.StackReport, bool) {
	t.Helper()
	report, ok, err := s.Engine.ObserveStack(t.Context(), release.Stack)
	if err != nil {
		t.Fatal(err)
	}
	return report, ok
}

// mustRun checks that the containers of a release run, and returns their ids by service.
func (s suite) mustRun(t *testing.T, release fleet.Release) map[string]string {
	t.Helper()
	report, ok := s.observe(t, release)
	if !ok {
		t.Fatalf("nothing of %s is there", release.Stack)
	}
	if report.Release.Digest != release.Digest || report.Busy != "" {
		t.Errorf("reported release %q, busy %q; want %q and idle", report.Release.Digest, report.Busy, release.Digest)
	}
	ids := map[string]string{}
	for _, c := range report.Containers {
		want, _ := release.Service(c.Service)
		if c.State != fleet.StateRunning || c.Digest != want.Digest || len(c.Drift) > 0 {
			t.Errorf("container %+v, want it running with digest %s", c, want.Digest)
		}
		ids[c.Service] = c.ID
	}
	if len(ids) != 2 || len(report.Containers) != 2 {
		t.Fatalf("containers %+v, want one of web and one of db", report.Containers)
	}
	return ids
}

func (s suite) applyBringsTheStackUp() {
	t := s.t
	release, blobs := s.Release(s.Stack("shop"), 1)
	if _, ok := s.observe(t, release); ok {
		t.Fatal("the stack is there before it was applied")
	}
	var phases []fleet.Phase
	order := s.apply("first", release)
	outcome := s.Engine.Do(t.Context(), order, blobs, func(p fleet.Progress) {
		if p.Order != order.ID || p.Stack != order.Stack {
			t.Errorf("progress of another order: %+v", p)
		}
		phases = append(phases, p.Phase)
	})
	if outcome.Status != fleet.OutcomeSucceeded {
		t.Fatalf("outcome %+v", outcome)
	}
	if diff := cmp.Diff([]string{"db", "web"}, slices.Sorted(slices.Values(outcome.Started))); diff != "" {
		t.Errorf("started services (-want +got):\n%s", diff)
	}
	if outcome.EndedAt.Before(outcome.StartedAt) || outcome.StartedAt.IsZero() {
		t.Errorf("started %v, ended %v", outcome.StartedAt, outcome.EndedAt)
	}
	if !slices.Contains(phases, fleet.PhaseUp) {
		t.Errorf("phases %v lack %s", phases, fleet.PhaseUp)
	}
	s.mustRun(t, release)
}

func (s suite) theSameOrderIsDoneOnce() {
	t := s.t
	release, blobs := s.Release(s.Stack("shop"), 1)
	order := s.apply("only", release)
	first := s.mustDo(t, order, blobs)
	ids := s.mustRun(t, release)
	second := s.mustDo(t, order, nil) // nothing may be fetched again
	if diff := cmp.Diff(first.Started, second.Started); diff != "" || !first.EndedAt.Equal(second.EndedAt) {
		t.Errorf("the repeat gave another outcome: %+v, then %+v", first, second)
	}
	if diff := cmp.Diff(ids, s.mustRun(t, release)); diff != "" {
		t.Errorf("the repeat replaced containers (-before +after):\n%s", diff)
	}
}

func (s suite) applyingWhatRunsTouchesNothing() {
	t := s.t
	release, blobs := s.Release(s.Stack("shop"), 1)
	s.mustDo(t, s.apply("first", release), blobs)
	ids := s.mustRun(t, release)
	outcome := s.mustDo(t, s.apply("second", release), blobs)
	if n := len(outcome.Started) + len(outcome.Recreated) + len(outcome.Removed); n != 0 {
		t.Errorf("services were touched: %+v", outcome)
	}
	if diff := cmp.Diff(ids, s.mustRun(t, release)); diff != "" {
		t.Errorf("containers were replaced (-before +after):\n%s", diff)
	}
}

func (s suite) anUpdateRecreatesOnlyWhatChanged() {
	t := s.t
	before := s.mustRun(t, s.up(t, "shop"))
	release, blobs := s.Release(s.Stack("shop"), 2)
	outcome := s.mustDo(t, s.apply("update", release), blobs)
	if diff := cmp.Diff([]string{"web"}, outcome.Recreated); diff != "" {
		t.Errorf("recreated services (-want +got):\n%s", diff)
	}
	after := s.mustRun(t, release)
	if after["db"] != before["db"] {
		t.Error("db was recreated although it did not change")
	}
	if after["web"] == before["web"] {
		t.Error("web was not recreated")
	}
}

func (s suite) aBrokenReleaseIsRolledBack() {
	t := s.t
	good := s.up(t, "shop")
	broken, blobs := s.Broken(s.Stack("shop"), 2)
	outcome := s.do(t, s.apply("break", broken), blobs)
	if outcome.Status != fleet.OutcomeRolledBack || outcome.Reason == "" || outcome.Retryable {
		t.Errorf("outcome %+v, want it rolled back, with a reason, not retryable", outcome)
	}
	s.mustRun(t, good)
	report, _ := s.observe(t, good)
	if len(report.Bad) != 1 || report.Bad[0].Release != broken.Digest || !report.Bad[0].RolledBack {
		t.Errorf("bad releases %+v, want the broken one, rolled back", report.Bad)
	}
}

func (s suite) aBrokenFirstReleaseFails() {
	t := s.t
	broken, blobs := s.Broken(s.Stack("shop"), 1)
	outcome := s.do(t, s.apply("break", broken), blobs)
	if outcome.Status != fleet.OutcomeFailed || outcome.Reason == "" || outcome.Untouched {
		t.Errorf("outcome %+v, want it failed, touched, with a reason", outcome)
	}
	report, _ := s.observe(t, broken)
	if len(report.Bad) != 1 || report.Bad[0].RolledBack || report.Release.Digest != "" {
		t.Errorf("report %+v, want one bad release and none that is good", report)
	}
	release, blobs := s.Release(s.Stack("shop"), 2)
	s.mustDo(t, s.apply("repair", release), blobs)
	s.mustRun(t, release)
}

// noBlobs has nothing.
type noBlobs struct{}

func (noBlobs) Fetch(context.Context, []fleet.Digest, func(fleet.Digest, []byte) error) error {
	return errors.New("core has no such blob")
}

func (s suite) missingContentTouchesNothing() {
	t := s.t
	release, _ := s.Release(s.Stack("shop"), 1)
	outcome := s.do(t, s.apply("first", release), noBlobs{})
	if outcome.Status != fleet.OutcomeFailed || !outcome.Untouched {
		t.Errorf("outcome %+v, want it failed and untouched", outcome)
	}
	if report, ok := s.observe(t, release); ok && len(report.Containers)+len(report.Bad) > 0 {
		t.Errorf("report %+v, want nothing", report)
	}
}

func (s suite) aCanceledOrderTouchesNothing() {
	t := s.t
	release, blobs := s.Release(s.Stack("shop"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcome := s.Engine.Do(ctx, s.apply("first", release), blobs, func(fleet.Progress) {})
	if outcome.Status != fleet.OutcomeCanceled || !outcome.Untouched {
		t.Errorf("outcome %+v, want it canceled and untouched", outcome)
	}
	if report, ok := s.observe(t, release); ok && len(report.Containers)+len(report.Bad) > 0 {
		t.Errorf("report %+v, want nothing", report)
	}
}

func (s suite) removeIsIdempotent() {
	t := s.t
	release := s.up(t, "shop")
	s.mustDo(t, s.order("down", fleet.OrderRemove, release), nil)
	if report, ok := s.observe(t, release); ok {
		t.Errorf("report %+v after the removal, want none", report)
	}
	s.mustDo(t, s.order("down again", fleet.OrderRemove, release), nil)
}

func (s suite) stopStaysUntilStart() {
	t := s.t
	release := s.up(t, "shop")
	s.mustDo(t, s.order("stop", fleet.OrderStop, release), nil)
	report, ok := s.observe(t, release)
	if !ok || !report.Stopped || len(report.Containers) != 2 {
		t.Fatalf("report %+v, want it stopped with its containers", report)
	}
	for _, c := range report.Containers {
		if c.State == fleet.StateRunning {
			t.Errorf("%s still runs", c.Name)
		}
	}
	s.mustDo(t, s.order("start", fleet.OrderStart, release), nil)
	s.mustRun(t, release)
	if report, _ := s.observe(t, release); report.Stopped {
		t.Error("still stopped after a start")
	}
}

func (s suite) pauseStaysUntilUnpause() {
	t := s.t
	release := s.up(t, "shop")
	s.mustDo(t, s.order("pause", fleet.OrderPause, release), nil)
	report, ok := s.observe(t, release)
	if !ok || !report.Stopped {
		t.Fatalf("report %+v, want it to count as stopped by a person", report)
	}
	for _, c := range report.Containers {
		if c.State != fleet.StatePaused {
			t.Errorf("%s is %s", c.Name, c.State)
		}
	}
	s.mustDo(t, s.order("unpause", fleet.OrderUnpause, release), nil)
	s.mustRun(t, release)
	if report, _ := s.observe(t, release); report.Stopped {
		t.Error("still stopped after it was unpaused")
	}
}

func (s suite) downStaysDownAndIsRemembered() {
	t := s.t
	release := s.up(t, "shop")
	one := s.order("down web", fleet.OrderDown, release)
	one.Services = []string{"web"}
	s.mustDo(t, one, nil)
	if report, ok := s.observe(t, release); !ok || report.Stopped || len(report.Containers) != 1 {
		t.Errorf("report %+v after one service was taken down, want the other", report)
	}
	for _, id := range []string{"down", "down again"} {
		s.mustDo(t, s.order(id, fleet.OrderDown, release), nil)
		report, ok := s.observe(t, release)
		if !ok || !report.Stopped || len(report.Containers) != 0 || report.Release.Digest != release.Digest {
			t.Errorf("%s: report %+v, want it stopped, without containers, with its release", id, report)
		}
	}
	release, blobs := s.Release(release.Stack, 1)
	s.mustDo(t, s.apply("up again", release), blobs)
	s.mustRun(t, release)
}

func (s suite) restartKeepsTheContainers() {
	t := s.t
	release := s.up(t, "shop")
	before, _ := s.observe(t, release)
	ids := s.mustRun(t, release)
	order := s.order("restart", fleet.OrderRestart, release)
	order.Services = []string{"web"}
	s.mustDo(t, order, nil)
	if diff := cmp.Diff(ids, s.mustRun(t, release)); diff != "" {
		t.Errorf("containers were replaced (-before +after):\n%s", diff)
	}
	after, _ := s.observe(t, release)
	started := func(r fleet.StackReport, service string) time.Time {
		i := slices.IndexFunc(r.Containers, func(c fleet.Container) bool { return c.Service == service })
		return r.Containers[i].StartedAt
	}
	if !started(after, "web").After(started(before, "web")) {
		t.Error("web was not restarted")
	}
	if !started(after, "db").Equal(started(before, "db")) {
		t.Error("db was restarted although only web was asked for")
	}
}

func (s suite) observeSortsByName() {
	t := s.t
	second, first := s.up(t, "shop"), s.up(t, "blog")
	info, reports, err := s.Engine.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Engine == "" || info.EngineError != "" {
		t.Errorf("agent info %+v, want the engine's version and no error", info)
	}
	var names []string
	for _, r := range reports {
		names = append(names, r.Stack)
	}
	if diff := cmp.Diff([]string{first.Stack, second.Stack}, names); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	one, _ := s.observe(t, first)
	if diff := cmp.Diff(one, reports[0]); diff != "" {
		t.Errorf("Observe and ObserveStack differ (-one +all):\n%s", diff)
	}
}

func (s suite) watchTellsOfChanges() {
	t := s.t
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan string, 1024)
	ended := make(chan error, 1)
	go func() { ended <- s.Engine.Watch(ctx, func(stack string) { changes <- stack }) }()
	if first := <-changes; first != "" {
		t.Errorf("the first change is of %q, want \"\": what happened before was missed", first)
	}
	release := s.up(t, "shop")
	for stack := range changes {
		if stack == release.Stack {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
}

func (s suite) logsAreJSONLines() {
	t := s.t
	release := s.up(t, "shop")
	var out bytes.Buffer
	if err := s.Engine.Logs(t.Context(), wire.LogsRequest{Stack: release.Stack, Service: "web"}, &out); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for scanner := bufio.NewScanner(&out); scanner.Scan(); lines++ {
		var line wire.LogLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil || line.Service != "web" || line.Container == "" {
			t.Errorf("line %q: %+v, %v", scanner.Text(), line, err)
		}
	}
	if lines == 0 {
		t.Error("no line at all; web is expected to print one when it starts")
	}
}

func (s suite) nothingIsLeftToRecover() {
	t := s.t
	s.up(t, "shop")
	orders, err := s.Engine.Recover(t.Context())
	if err != nil || len(orders) > 0 {
		t.Errorf("Recover = %v, %v; want nothing", orders, err)
	}
}

func (noBlobs) Logins(context.Context) ([]wire.Login, error) { return nil, nil }
