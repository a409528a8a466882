package procedure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// do carries out a unit and returns its steps as they ended.
func (x *run) do(ctx context.Context, u *unit) []Step {
	switch {
	case u.verb.order != "":
		return x.order(ctx, u)
	case len(u.targets) > 0:
		return x.apply(ctx, u)
	case hostTasks[u.execution.Type] != "":
		return x.host(ctx, u)
	case u.execution.Type == "CancelProcedure":
		n := x.r.Cancel(cmp.Or(u.execution.Text("update_id"), u.procedure), "procedure "+x.record.Procedure)
		u.steps[0].Text = fmt.Sprintf("%d runs end after their stage", n)
		return all(u, StatusSucceeded, "")
	case u.procedure != "":
		return x.nested(ctx, u)
	case isMaintenance(u.execution.Type):
		return x.maintain(ctx, u)
	}
	switch u.execution.Type {
	case "None":
		return all(u, StatusSucceeded, "")
	case "Sleep":
		return x.sleep(ctx, u)
	case "RunSync":
		return x.sync(ctx, u)
	case "TestAlerter":
		return said(ctx, u, x.r.cfg.Alerts.Test(ctx, u.execution.Text("alerter")))
	case "SendAlert":
		return said(ctx, u, x.r.cfg.Alerts.Send(ctx, u.execution.Text("level"), u.execution.Text("message"),
			u.execution.Text("details"), u.execution.List("alerters")))
	}
	return all(u, StatusFailed, u.execution.Type+" is not run by Varan yet")
}

func said(ctx context.Context, u *unit, err error) []Step {
	if err != nil {
		return all(u, statusOf(ctx, err), err.Error())
	}
	return all(u, StatusSucceeded, "")
}

// sleep waits. A cancel ends it: nothing is half done by that.
func (x *run) sleep(ctx context.Context, u *unit) []Step {
	if x.pause(ctx, time.Duration(u.execution.Int("duration_ms"))*time.Millisecond) {
		return all(u, StatusSucceeded, "")
	}
	return all(u, StatusCanceled, cmp.Or(x.whyStopped(), errShutdown).Error())
}

func (x *run) host(ctx context.Context, u *unit) []Step {
	p := u.execution
	text, err := x.r.cfg.Hosts.Host(ctx, p.Text("server"), fleet.HostTask{
		Kind: hostTasks[p.Type], Target: cmp.Or(p.Text("container"), p.Text("name")),
		Signal: p.Text("signal"), StopSeconds: p.Int("time"),
	})
	u.steps[0].Text = text
	return said(ctx, u, err)
}

// order gives one order to one stack on one server.
func (x *run) order(ctx context.Context, u *unit) []Step {
	t, step := u.targets[0], u.steps[0]
	req := reconciler.OrderRequest{
		Kind: u.verb.order, Sync: t.Sync, Stack: t.Name, Server: t.Server,
		Services: u.execution.List("services"), StopSeconds: u.execution.Int(u.verb.stopTime),
		StopSignal: u.execution.Text("signal"),
		Watch:      func(p fleet.Progress) { x.progress(&step, progressText(p)) },
	}
	if req.Kind == fleet.OrderRun {
		var err error
		if req.Run, err = oneOff(u.execution); err != nil {
			return all(u, StatusFailed, err.Error())
		}
		// The agent ends what runs for longer, whatever becomes of core.
		if until, bounded := ctx.Deadline(); bounded {
			req.Timeout = max(time.Until(until), time.Second)
		}
	}
	outcome, err := x.r.cfg.Applier.Order(ctx, req)
	if err == nil {
		err = outcome.Err()
	}
	if req.Kind == fleet.OrderRun {
		u.steps[0].Log = outcome.Log
	}
	if err != nil {
		u.steps[0].Log = outcome.Log
		return all(u, statusOf(ctx, err), cmp.Or(outcome.Reason, err.Error()))
	}
	return all(u, StatusSucceeded, "")
}

// oneOff is what an execution wants to run of a service.
func oneOff(x *fleet.Execution) (*fleet.OneOff, error) {
	run := &fleet.OneOff{
		Service: x.Text("service"), Command: x.List("command"), Entrypoint: fleet.SplitWords(x.Text("entrypoint")),
		WorkDir: x.Text("workdir"), User: x.Text("user"), NoDeps: x.Bool("no_deps"), ServicePorts: x.Bool("service_ports"),
		Detach: x.Bool("detach"), Pull: x.Bool("pull"),
	}
	text := x.Text("env")
	if text == "" {
		return run, nil
	}
	var env map[string]any
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		return nil, errors.New(`env is no table: write env = { NAME = "value" }`)
	}
	run.Env = make(map[string]string, len(env))
	for name, value := range env {
		switch value.(type) {
		case map[string]any, []any, nil:
			return nil, fmt.Errorf("%s in env is neither a text nor a number nor a flag", name)
		}
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, fmt.Errorf("%q cannot be the name of a variable in env", name)
		}
		run.Env[name] = fmt.Sprint(value)
	}
	return run, nil
}

func progressText(p fleet.Progress) string {
	return strings.TrimSpace(string(p.Phase) + " " + strings.TrimSpace(p.Service+" "+p.Text))
}

// busyPause is how long to wait before a look at whether an agent is done with a stack.
const busyPause = time.Second

// apply applies the stacks of one sync. Those that an agent is at work on are waited for.
func (x *run) apply(ctx context.Context, u *unit) []Step {
	req := reconciler.ApplyRequest{
		Sync: u.targets[0].Sync, Actor: x.actor(), Parent: x.record.ID, StopSeconds: u.execution.Int(u.verb.stopTime), Watch: x.follow(u),
	}
	for i := range u.steps {
		req.Only = append(req.Only, u.steps[i].Stack)
	}
	for open := true; open; {
		slices.Sort(req.Only)
		req.Only = slices.Compact(req.Only)
		if u.verb.forced {
			req.Forced = req.Only
		}
		run, result, err := x.r.cfg.Applier.Apply(ctx, req)
		var busy []string
		for i := range u.steps {
			s := &u.steps[i]
			switch {
			case !slices.Contains(req.Only, s.Stack) || s.Status != StatusRunning:
			case err != nil:
				s.Status, s.Reason = statusOf(ctx, err), reasonOf(err)
			case isBusy(run.Plan, s):
				busy = append(busy, s.Stack)
			default:
				s.take(run, result)
			}
		}
		req.Only = busy
		open = len(busy) > 0
		if open && !x.pause(ctx, busyPause) {
			for i := range u.steps {
				if s := &u.steps[i]; s.Status == StatusRunning {
					s.Status, s.Reason = StatusCanceled, "it waited for other work on the stack to end"
				}
			}
			open = false
		}
	}
	return u.steps
}

// take is how a run of the reconciler ended for a step.
func (s *Step) take(run reconciler.Run, result reconciler.RunResult) {
	s.Run = run.ID
	s.Status, s.Reason, s.Log = became(run, result, func(op plan.Op) bool { return op.Stack == s.Stack && op.Server == s.Server })
	if s.Status != StatusSucceeded {
		return
	}
	s.Text = "commit " + run.Plan.Commit.Short()
	if !slices.ContainsFunc(run.Plan.Ops, func(op plan.Op) bool { return op.Stack == s.Stack && op.Server == s.Server }) {
		s.Text = "nothing to do at " + s.Text
	}
}

// isBusy reports whether an agent is at work on what a step is about.
func isBusy(p plan.Plan, s *Step) bool {
	return slices.ContainsFunc(p.Blocked, func(b plan.Blocked) bool {
		return b.Reason == plan.BlockBusy && (s.Stack == "" || b.Op.Stack == s.Stack && b.Op.Server == s.Server)
	})
}

// pause waits; it returns false when the run is not to go on.
func (x *run) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.canceled:
	case <-ctx.Done():
	}
	return false
}

// actor is who a run of the reconciler is said to be asked for by.
func (x *run) actor() string {
	if x.record.Procedure == "" {
		return x.record.Actor
	}
	return "procedure " + x.record.Procedure
}

// follow passes the progress of a run of the reconciler on to the steps it is about.
func (x *run) follow(u *unit) func(reconciler.Event) {
	steps := slices.Clone(u.steps) // news may still come when the unit has ended
	return func(e reconciler.Event) {
		if e.Kind != reconciler.EventProgress || e.Progress == nil {
			return
		}
		for i := range steps {
			if s := &steps[i]; s.Stack == "" || s.Stack == e.Stack && s.Server == e.Server {
				text := progressText(*e.Progress)
				if s.Stack == "" {
					text = e.Stack + ": " + text
				}
				x.progress(s, text)
				return
			}
		}
	}
}

// became sums up what a run did about the ops that concern: what is worst counts.
func became(run reconciler.Run, result reconciler.RunResult, concerns func(plan.Op) bool) (status Status, reason, log string) {
	status = StatusSucceeded
	for _, b := range run.Plan.Blocked {
		if concerns(b.Op) {
			return StatusFailed, cmp.Or(b.Text, string(b.Reason)), ""
		}
	}
	for i := range run.Plan.Ops {
		op := &run.Plan.Ops[i]
		at := slices.IndexFunc(result.Ops, func(r reconciler.OpResult) bool { return r.Op == op.ID })
		if at < 0 || !concerns(*op) {
			continue
		}
		r := &result.Ops[at]
		if r.Status == reconciler.OpSucceeded {
			continue
		}
		status, log = StatusFailed, r.Outcome.Log
		if r.Status == reconciler.OpCanceled {
			status = StatusCanceled
		}
		reason = cmp.Or(r.Reason, r.Outcome.Reason, string(r.Status))
		if r.Status == reconciler.OpRolledBack {
			reason += "; the last good release runs again"
		}
		return status, reason, log
	}
	return status, "", ""
}

// sync applies a sync, or the stacks of it that are chosen.
func (x *run) sync(ctx context.Context, u *unit) []Step {
	p, step := u.execution, &u.steps[0]
	req := reconciler.ApplyRequest{Sync: p.Text("sync"), Actor: x.actor(), Parent: x.record.ID, Watch: x.follow(u)}
	if typ := p.Text("resource_type"); typ != "" || len(p.List("resources")) > 0 {
		only, err := x.selection(ctx, p)
		if err != nil {
			return all(u, StatusFailed, err.Error())
		}
		if len(only) == 0 {
			step.Text = "nothing to deploy: what a file says of other resources counts as soon as it is read"
			return all(u, StatusSucceeded, "")
		}
		req.Only = only
	}
	for {
		run, result, err := x.r.cfg.Applier.Apply(ctx, req)
		if err != nil {
			return all(u, statusOf(ctx, err), reasonOf(err))
		}
		step.Run = cmp.Or(run.ID, step.Run)
		step.Text = fmt.Sprintf("commit %s, %d changes", run.Plan.Commit.Short(), len(result.Ops))
		away := slices.DeleteFunc(slices.Clone(run.Plan.Blocked), func(b plan.Blocked) bool { return b.Reason != plan.BlockOffline })
		if len(away) > 0 {
			// They are caught up with when their servers are back; waiting is no failure.
			step.Text += fmt.Sprintf(", %d wait for their servers", len(away))
		}
		busy := isBusy(run.Plan, &Step{})
		run.Plan.Blocked = slices.DeleteFunc(slices.Clone(run.Plan.Blocked), func(b plan.Blocked) bool {
			return b.Reason == plan.BlockOffline || b.Reason == plan.BlockBusy || b.Reason == plan.BlockDependency
		})
		status, reason, log := became(run, result, func(plan.Op) bool { return true })
		step.Log = log
		if status != StatusSucceeded || !busy {
			return all(u, status, reason)
		}
		if !x.pause(ctx, busyPause) {
			return all(u, StatusCanceled, "it waited for other work on a stack to end")
		}
	}
}

// stackTypes are the resource types that a sync deploys, as Komodo writes them.
var stackTypes = map[string]fleet.Kind{
	"stack": fleet.KindStack, "deployment": fleet.KindDeployment, "repo": fleet.KindRepo,
}

// selection are the stacks that resource_type and resources choose.
func (x *run) selection(ctx context.Context, p *fleet.Execution) ([]string, error) {
	catalog, err := x.r.cfg.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	typ := strings.ToLower(p.Text("resource_type"))
	kind, deployed := stackTypes[typ]
	if typ != "" && !deployed {
		return nil, nil
	}
	wanted := map[string]bool{}
	for _, name := range p.List("resources") {
		wanted[name] = false
	}
	var only []string
	for _, t := range catalog.Stacks {
		if t.Sync != p.Text("sync") || typ != "" && cmp.Or(t.Kind, fleet.KindStack) != kind {
			continue
		}
		if _, ok := wanted[t.Name]; !ok && len(wanted) > 0 {
			continue
		}
		wanted[t.Name] = true
		only = append(only, t.Name)
	}
	for _, name := range p.List("resources") {
		if !wanted[name] {
			return nil, fmt.Errorf("sync %s declares no %s %q", p.Text("sync"), cmp.Or(typ, "stack"), name)
		}
	}
	slices.Sort(only)
	return slices.Compact(only), nil
}

// reasonOf is an error as a sentence: of many findings, the first.
func reasonOf(err error) string {
	if diagnostics, ok := errors.AsType[fleet.Diagnostics](err); ok {
		for _, d := range diagnostics {
			if d.Severity == fleet.SeverityError {
				return "the commit is invalid: " + d.String()
			}
		}
	}
	return err.Error()
}
