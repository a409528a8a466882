package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/agent/docker/job"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// endGrace is how long ending and removing a container may take once its time is over.
const endGrace = time.Minute

// oneOff runs a container of a service of what the stack runs. The journal says that it is
// about to be started before it is, and how it ended before it is removed: whoever resumes
// the order finds the container, or knows its end, and never starts a second one.
func (t *task) oneOff(ctx context.Context, deadline time.Time, blobs agent.Blobs) fleet.Outcome {
	if t.rec.Exit != nil {
		return t.exited(ctx, nil)
	}
	c, f := t.single(ctx)
	if f == nil && c == nil && t.rec.Run == "" {
		if f, untouched := t.begin(ctx, deadline, blobs); f != nil && untouched {
			return t.outcome(f, true)
		} else if f != nil {
			return t.exited(ctx, f)
		}
		t.said = tail{max: maxSaid} // what starting it said is of no use now
		c, f = t.single(context.WithoutCancel(ctx))
	}
	switch {
	case f != nil:
		f.Retryable = f.Retryable && !t.rec.Touched
		return t.outcome(f, !t.rec.Touched)
	case c != nil && c.StartedAt.IsZero():
		f = &failure{Reason: "the container was made and not started when the agent stopped", Hint: "nothing of it has run: run it again"}
		return t.exited(ctx, f)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	t.slot.release() // it may take long, and loads the engine no more than any other
	switch {
	case t.order.Run.Detach && (c != nil || t.rec.Run == runsDone):
		return t.outcome(nil, true)
	case c == nil:
		return t.outcome(&failure{
			Reason: "nobody knows whether the container ran to its end: it was started, or about to be, and is not here",
			Hint:   "see what it did before it is run again",
		}, false)
	}
	return t.exited(ctx, t.attend(ctx, c))
}

// single is the container of the order; nil when there is none.
func (t *task) single(ctx context.Context) (*live, *failure) {
	found, err := t.e.list(ctx, nil, labelProject+"="+t.project, fleet.LabelOrder+"="+t.order.ID)
	if err != nil {
		return nil, t.away(ctx, err)
	}
	i := slices.IndexFunc(found, func(l live) bool { return l.oneOff })
	if i < 0 {
		return nil, nil //nolint:nilnil // no container is an answer
	}
	return &found[i], nil
}

// begin starts the container. untouched failures came before anything was started.
func (t *task) begin(ctx context.Context, deadline time.Time, blobs agent.Blobs) (f *failure, untouched bool) {
	run := t.order.Run
	good := t.e.states.get(t.order.Stack).Good
	if good == nil {
		return &failure{Reason: "the stack does not run here", Hint: "deploy the stack first"}, true
	}
	if _, ok := good.Service(run.Service); !ok {
		names := make([]string, len(good.Services))
		for i := range good.Services {
			names[i] = good.Services[i].Name
		}
		return &failure{
			Reason: fmt.Sprintf("what runs of the stack has no service %q", run.Service),
			Hint:   "it has " + strings.Join(names, ", "),
		}, true
	}
	if f := t.permitted(good); f != nil {
		return f, true
	}
	bounded, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if run.Pull {
		if f := t.renew(bounded, *good, []string{run.Service}, blobs); f != nil {
			return f, true
		}
	}
	s, f := t.e.siteOf(t.order.Stack, good)
	if f != nil {
		return f, true
	}
	req := t.request(good, s, deadline)
	var err error
	if req.Model, err = t.e.writeModel(t.order.Stack, good); err != nil {
		return &failure{Reason: err.Error()}, true
	}
	req.Op, req.OneOffLabels = job.Run, map[string]string{fleet.LabelOrder: t.order.ID}
	req.OneOff = &job.OneOff{
		Service: run.Service, Command: run.Command, Entrypoint: run.Entrypoint, Env: run.Env, WorkDir: run.WorkDir,
		User: run.User, NoDeps: run.NoDeps, ServicePorts: run.ServicePorts, AutoRemove: run.Detach,
	}
	t.rec.Touched, t.rec.Run = true, runsStarted
	if err := t.e.journal.save(t.rec); err != nil {
		return &failure{Reason: err.Error(), Retryable: true}, true
	}
	t.tell(fleet.PhaseUp, run.Service, "starting")
	if _, err := t.work(ctx, fleet.PhaseUp, req); err != nil {
		return t.notBegun(ctx, err, deadline), false
	}
	t.rec.Run = runsDone
	if err := t.e.journal.save(t.rec); err != nil {
		return &failure{Reason: err.Error()}, false
	}
	return nil, false
}

// notBegun says why a container did not start: Docker's own words are the last that Compose
// says.
func (t *task) notBegun(ctx context.Context, err error, deadline time.Time) *failure {
	if !time.Now().Before(deadline) {
		return tooLong()
	}
	if said := strings.TrimSpace(t.said.String()); said != "" {
		err = errors.New(said[strings.LastIndexByte(said, '\n')+1:])
	}
	f := t.away(ctx, fmt.Errorf("run %s: %w", t.order.Run.Service, err))
	f.Retryable = false
	return f
}

func tooLong() *failure {
	return &failure{
		Reason: "it did not end before the order's timeout, and was stopped",
		Hint:   "give the execution a timeout that is long enough",
	}
}

// attend passes on what the container says and waits for its end. How it ended is in the
// journal when it returns nil.
func (t *task) attend(ctx context.Context, c *live) *failure {
	read := wire.LogsRequest{Follow: true}
	err := t.e.containerLogs(ctx, read, c, position{tail: -1}, func(line wire.LogLine) error {
		t.note(line.Text)
		t.tell(fleet.PhaseUp, line.Service, line.Text)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		t.note("what it says cannot be read: " + err.Error())
	}
	wake := t.e.wakeups(ctx, t.project)
	for ctx.Err() == nil {
		now, f := t.single(ctx)
		switch {
		case ctx.Err() != nil:
		case f != nil:
			t.note(f.Reason)
		case now == nil:
			return &failure{Reason: "the container was removed before its end", Hint: "see what it did before it is run again"}
		case now.State == fleet.StateExited || now.State == fleet.StateDead:
			t.rec.Exit = &now.ExitCode
			if err := t.e.journal.save(t.rec); err != nil {
				return &failure{Reason: err.Error()}
			}
			return nil
		}
		pause(ctx, wake, lookEvery)
	}
	return tooLong()
}

// exited removes the container and makes the outcome: the failure, or what its end says.
func (t *task) exited(ctx context.Context, f *failure) fleet.Outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endGrace)
	defer cancel()
	if err := t.clear(ctx); err != nil {
		t.note("the container was not removed: " + err.Error())
	}
	if f == nil && *t.rec.Exit != 0 {
		f = &failure{Reason: fmt.Sprintf("service %s: the container exited with code %d", t.order.Run.Service, *t.rec.Exit)}
	}
	out := t.outcome(f, false)
	out.Log = t.said.String()
	return out
}

// clear stops and removes the container, if it is there, with its anonymous volumes.
func (t *task) clear(ctx context.Context) error {
	c, f := t.single(ctx)
	if f != nil {
		return errors.New(f.Reason)
	}
	if c == nil {
		return nil
	}
	cl, err := t.e.conn.api()
	if err != nil {
		return err
	}
	var patience *int
	if t.order.StopSeconds > 0 {
		patience = &t.order.StopSeconds
	}
	if _, err := cl.ContainerStop(ctx, c.ID, client.ContainerStopOptions{Timeout: patience}); err != nil {
		t.note(err.Error())
	}
	_, err = cl.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
