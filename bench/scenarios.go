package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

func (r *run) firstDeploy(ctx context.Context, c *column) (err error) {
	c.firstRunning, c.firstDone, c.firstCPU, err = r.deploy(ctx, r.files(func(int) int { return 0 }), r.n)
	return err
}

// noop plans afresh: the head is asked for, the agent reads every container, and the
// result is compared. Nothing is found to do.
func (r *run) noop(ctx context.Context, c *column) error {
	const rounds = 10
	var walls []time.Duration
	before := r.core.CPU() + r.agent.CPU()
	for range rounds {
		start := time.Now()
		result, err := r.api.Plan(ctx, "bench", api.PlanRequest{Refresh: true})
		if err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		if !result.Plan.Empty() || len(result.Plan.Stacks) != r.n {
			return fmt.Errorf("the no-op plan is not one: %s", result.Plan.String())
		}
		walls = append(walls, time.Since(start))
	}
	c.noop, c.noopCPU = median(walls), (r.core.CPU()+r.agent.CPU()-before)/rounds
	return nil
}

func (r *run) oneChanged(ctx context.Context, c *column) error {
	const rounds = 5
	var running, done, cpu []time.Duration
	for round := 1; round <= rounds; round++ {
		files := r.files(func(int) int { return round })
		one := map[string]string{stackName(0) + "/compose.yaml": files[stackName(0)+"/compose.yaml"]}
		ran, ended, used, err := r.deploy(ctx, one, 1)
		if err != nil {
			return err
		}
		running, done, cpu = append(running, ran), append(done, ended), append(cpu, used)
	}
	c.oneRunning, c.oneDone, c.oneCPU = median(running), median(done), median(cpu)
	return nil
}

// heal stops a container, and then removes one, behind Varan's back, and measures until
// one runs in its place.
func (r *run) heal(ctx context.Context, c *column) error {
	var stopped, removed []time.Duration
	// A stack that has to be healed more often than this in a short time is healed slower.
	for range 4 {
		took, err := r.repaired(ctx, r.n-1, func(id string) error {
			now := 0
			_, err := r.docker.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &now})
			return err
		})
		if err != nil {
			return fmt.Errorf("stop a container: %w", err)
		}
		stopped = append(stopped, took)
		took, err = r.repaired(ctx, r.n-2, func(id string) error {
			_, err := r.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
			return err
		})
		if err != nil {
			return fmt.Errorf("remove a container: %w", err)
		}
		removed = append(removed, took)
	}
	c.healStopped, c.healRemoved = median(stopped), median(removed)
	return nil
}

// repaired breaks a stack's container and returns how long it took from then to
// the start of one in its place.
func (r *run) repaired(ctx context.Context, stack int, damage func(id string) error) (time.Duration, error) {
	list, err := r.docker.ContainerList(ctx, client.ContainerListOptions{
		Filters: client.Filters{}.Add("label", fleet.LabelStack+"="+stackName(stack)),
	})
	if err != nil || len(list.Items) != 1 {
		return 0, fmt.Errorf("find the container: %d found, %w", len(list.Items), err)
	}
	started, stop := r.watchStarts(ctx)
	defer stop()
	if err := damage(list.Items[0].ID); err != nil {
		return 0, err
	}
	broken := time.Now()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case at := <-started:
		return at.Sub(broken), r.idle(ctx)
	case <-timeout.C:
		return 0, errors.New("it was not repaired in time")
	}
}

func (r *run) allChanged(ctx context.Context, c *column) (err error) {
	c.allRunning, c.allDone, c.allCPU, err = r.deploy(ctx, r.files(func(int) int { return 99 }), r.n)
	return err
}

// burst sends 20 webhooks at once and counts how often the Git server was asked.
func (r *run) burst(ctx context.Context, c *column) error {
	before := r.polls.Load()
	acks := make([]time.Duration, 20)
	group, gctx := errgroup.WithContext(ctx)
	for i := range acks {
		group.Go(func() (err error) {
			acks[i], err = r.webhook(gctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("send 20 webhooks: %w", err)
	}
	if err := r.quiet(ctx); err != nil {
		return err
	}
	c.burstPasses, c.burstAck = int(r.polls.Load()-before), median(acks)
	return nil
}

// quiet waits until the Git server was not asked anything for a second.
func (r *run) quiet(ctx context.Context) error {
	last, since := r.polls.Load(), time.Now()
	return until(ctx, "the Git server to be left alone", func() bool {
		if now := r.polls.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
}
