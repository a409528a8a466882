package procedure_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
)

// asks puts a stage that waits for an approval in front of the procedure's others.
func (w *world) asks(name string, s fleet.Stage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Name, s.Enabled, s.Approval = "ask", true, true
	for i := range w.catalog.Procedures {
		if p := &w.catalog.Procedures[i]; p.Name == name {
			p.Stages = slices.Insert(p.Stages, 0, s)
		}
	}
}

func TestARunWaitsForADecision(t *testing.T) {
	in(t, func(w *world) {
		decide := func(name string, d procedure.Decision) error {
			_, err := w.runner.Decide(w.Context(), name, d)
			return err
		}
		w.declare("p", []fleet.Execution{x("StopStack", "stack", "db")})
		w.asks("p", fleet.Stage{Approvers: []string{"ann", "eve"}, Policy: fleet.Policy{Timeout: fleet.Duration(time.Hour)}})
		if err := decide("p", procedure.Decision{Approve: true}); !errors.Is(err, procedure.ErrNotWaiting) {
			t.Errorf("nothing waits: %v", err)
		}
		run := w.start("p")
		synctest.Wait()
		if got := w.runner.Active()[0].Status; got != procedure.StatusWaiting || w.done() != "" {
			t.Errorf("%s, did %s", got, w.done())
		}
		if err := decide(run.ID, procedure.Decision{Approve: true, Actor: "bob"}); !errors.Is(err, procedure.ErrNotApprover) {
			t.Errorf("bob decided: %v", err)
		}
		w.refuse = "ended Approval"
		if err := decide(run.ID, procedure.Decision{Approve: true, Actor: "ann"}); err == nil {
			t.Error("a decision that is not on record counts")
		}
		w.refuse = ""
		if err := decide("p", procedure.Decision{Approve: true, Actor: "ann", Reason: "fine"}); err != nil {
			t.Error(err)
		}
		if run = w.await(run); run.Status != procedure.StatusSucceeded || run.Steps[0].Text != "approved by ann: fine" || w.done() != "stop db@alpha" {
			t.Errorf("%s: %s, %+v, did %s", run.Status, run.Reason, run.Steps, w.done())
		}
		ends := map[string]func(run procedure.Run){
			"stage ask: Approval ann, eve: rejected by eve": func(procedure.Run) { _ = decide("p", procedure.Decision{Actor: "eve"}) },
			"nobody approved it within 1h0m0s":              func(procedure.Run) { time.Sleep(time.Hour) },
			"canceled by bob":                               func(run procedure.Run) { w.runner.Cancel(run.ID, "bob") },
		}
		for want, end := range ends {
			w.did = nil
			run := w.start("p")
			synctest.Wait()
			end(run)
			if run = w.await(run); run.Status == procedure.StatusSucceeded || !strings.Contains(run.Reason, want) || w.done() != "" {
				t.Errorf("%s: %s, did %s; want %s", run.Status, run.Reason, w.done(), want)
			}
		}
	})
}

// disk is a journal that outlives its processes, and one that is killed writes no more.
type disk struct {
	mu   sync.Mutex
	runs map[string]procedure.Run
}

// process is a process that is killed at its write with the number at.
type process struct {
	*disk
	writes, at int
	killed     context.CancelFunc
}

var errKilled = errors.New("killed")

func (p *process) write(run string, change func(r *procedure.Run)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	if p.at > 0 && p.writes >= p.at {
		p.killed()
		return errKilled
	}
	r := p.runs[run]
	r.Steps = slices.Clone(r.Steps)
	change(&r)
	p.runs[run] = r
	return nil
}

func put(r *procedure.Run, s procedure.Step) {
	for len(r.Steps) < s.Number {
		r.Steps = append(r.Steps, procedure.Step{})
	}
	r.Steps[s.Number-1] = s
}

func (p *process) BeginProcedure(_ context.Context, run procedure.Run) error {
	return p.write(run.ID, func(r *procedure.Run) { *r = run })
}

func (p *process) ProcedureStarted(_ context.Context, run string, at time.Time) error {
	return p.write(run, func(r *procedure.Run) { r.Started = at })
}

func (p *process) StageStarted(_ context.Context, run string, steps []procedure.Step) error {
	return p.write(run, func(r *procedure.Run) {
		for _, s := range steps {
			put(r, s)
		}
	})
}

func (p *process) StepStarted(_ context.Context, run string, s procedure.Step) error {
	return p.write(run, func(r *procedure.Run) { put(r, s) })
}

func (p *process) StepEnded(_ context.Context, run string, s procedure.Step) error {
	return p.write(run, func(r *procedure.Run) { put(r, s) })
}

func (p *process) EndProcedure(_ context.Context, run procedure.Run) error {
	return p.write(run.ID, func(r *procedure.Run) { *r = run })
}

func (p *process) OpenProcedures(context.Context) ([]procedure.Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var open []procedure.Run
	for _, r := range p.runs {
		if r.Ended.IsZero() {
			open = append(open, r)
		}
	}
	return open, nil
}

// life runs a process until it is killed, or nothing is left to do. What it does counts in did.
func life(t *testing.T, d *disk, at int, w *world, start bool) (writes int) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	p := &process{disk: d, at: at, killed: kill}
	stub := &world{T: t, takes: map[string]time.Duration{}, fails: map[string]string{}, heals: map[string]int{}, busy: map[string]int{}}
	stub.catalog = w.catalog
	alive := dying{stub, ctx}
	r, err := procedure.New(procedure.Config{
		Applier: stub, Hosts: alive, Alerts: stub, Journal: p, Logger: slog.New(slog.DiscardHandler),
		Catalog: func(context.Context) (procedure.Catalog, error) { return w.catalog, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = r.Run(ctx)
	}()
	if start {
		_, _, _ = r.Start(ctx, procedure.Request{Procedure: "outer", Inputs: map[string]string{"SERVER": "beta"}})
	}
	for synctest.Wait(); ctx.Err() == nil; synctest.Wait() {
		if _, err := r.Decide(ctx, "inner", procedure.Decision{Approve: true, Actor: "ann"}); err != nil {
			break
		}
	}
	for len(r.Active()) > 0 && ctx.Err() == nil {
		time.Sleep(time.Second)
	}
	kill()
	<-over
	w.did = append(w.did, stub.did...)
	return p.writes
}

// dying does nothing once its process is killed.
type dying struct {
	*world
	alive context.Context //nolint:containedctx // it is the process
}

func (d dying) Host(ctx context.Context, server string, task fleet.HostTask) (string, error) {
	if d.alive.Err() != nil {
		return "", errKilled
	}
	return d.world.Host(ctx, server, task)
}

func TestAKillAtAnyWriteRunsNothingTwice(t *testing.T) {
	lived := func(t *testing.T, at int) (w *world, d *disk, writes int) {
		t.Helper()
		w = &world{T: t}
		w.catalog.Servers = []string{"alpha", "beta"}
		w.declare("inner", []fleet.Execution{x("PruneImages", "server", "alpha")})
		w.asks("inner", fleet.Stage{})
		w.declare("outer", []fleet.Execution{x("PruneNetworks", "server", "${{ inputs.SERVER }}")},
			[]fleet.Execution{x("RunProcedure", "procedure", "inner")}, []fleet.Execution{x("PruneVolumes", "server", "alpha")})
		w.catalog.Procedures[1].Inputs = []fleet.Input{{Name: "SERVER"}}
		d = &disk{runs: map[string]procedure.Run{}}
		writes = life(t, d, at, w, true)
		life(t, d, 0, w, false)
		return w, d, writes
	}
	whole := []string{"prune_images on alpha", "prune_networks on beta", "prune_volumes on alpha"}
	most, resumed := 1000, 0
	for at := 0; at <= most; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d, writes := lived(t, at)
				did := slices.Sorted(slices.Values(w.did))
				if at == 0 {
					if most = writes; !slices.Equal(did, whole) {
						t.Errorf("without a kill it did %q", did)
					}
					return
				}
				if !slices.Equal(slices.Compact(slices.Clone(did)), did) {
					t.Errorf("killed at write %d, it did %q", at, did)
				}
				open := slices.Collect(maps.Values(d.runs))
				open = slices.DeleteFunc(open, func(r procedure.Run) bool { return !r.Ended.IsZero() })
				if slices.Equal(did, whole) && len(open) == 0 {
					resumed++
				}
				if wanted := procedure.Resumable(open); len(wanted) > 0 {
					t.Errorf("killed at write %d, %v could go on and did not", at, wanted)
				}
			})
		})
	}
	if resumed < 3 {
		t.Errorf("of %d kills, the next process finished %d runs", most, resumed)
	}
}

func TestResumableIsWhatIsNotHalfDone(t *testing.T) {
	t.Parallel()
	at := time.Unix(1, 0)
	ended := procedure.Step{Number: 1, Type: "None", Ended: at}
	open := []procedure.Run{
		{ID: "queued"},
		{ID: "begun", Started: at},
		{ID: "between stages", Started: at, Steps: []procedure.Step{ended}},
		{ID: "approved", Started: at, Steps: []procedure.Step{{Number: 1, Type: "Approval", Ended: at}}},
		{ID: "outer", Started: at, Steps: []procedure.Step{ended, {Number: 2, Type: "RunProcedure"}}},
		{ID: "inner", Parent: "outer", ParentStep: 2, Started: at, Steps: []procedure.Step{{Number: 1, Type: "Approval"}}},
		{ID: "busy", Started: at, Steps: []procedure.Step{{Number: 1, Type: "StopStack"}, {Number: 2, Type: "RunProcedure"}}},
		{ID: "of busy", Parent: "busy", ParentStep: 2},
		{ID: "orphan", Parent: "gone", ParentStep: 1},
	}
	want := map[string]bool{"queued": true, "approved": true, "outer": true, "inner": true}
	if diff := cmp.Diff(want, procedure.Resumable(open)); diff != "" {
		t.Error(diff)
	}
}
