package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// allParallel is how many containers a task for all of them works on at a time.
const allParallel = 8

// Host implements agent.Engine. A task on a container of a stack waits for the stack's
// turn, one that prunes or deletes for all orders: between the pull of an image and the
// start of its container nothing may take the image away.
func (e *Engine) Host(ctx context.Context, task fleet.HostTask) (string, error) {
	cl, err := e.conn.api()
	if err != nil {
		return "", err
	}
	if err := e.conn.ping(ctx); err != nil {
		return "", err
	}
	h := host{e: e, api: cl, task: task}
	switch task.Kind {
	case fleet.HostStartContainer, fleet.HostRestartContainer, fleet.HostPauseContainer, fleet.HostUnpauseContainer,
		fleet.HostStopContainer, fleet.HostDestroyContainer:
		return h.one(ctx)
	case fleet.HostStartAll, fleet.HostRestartAll, fleet.HostPauseAll, fleet.HostUnpauseAll, fleet.HostStopAll:
		return h.all(ctx)
	case fleet.HostPruneContainers, fleet.HostPruneNetworks, fleet.HostPruneImages, fleet.HostPruneVolumes,
		fleet.HostPruneBuildCache, fleet.HostPruneSystem:
		return h.alone(ctx, h.prune)
	case fleet.HostDeleteNetwork, fleet.HostDeleteImage, fleet.HostDeleteVolume:
		return h.alone(ctx, h.remove)
	}
	return "", wire.Errorf(wire.CodeUnknownVerb, "this agent knows no host task %q; update it", string(task.Kind))
}

// host is one task on the engine.
type host struct {
	e    *Engine
	api  api
	task fleet.HostTask
}

// verb is what is done to a container, in the words of the result.
type verb struct {
	done string
	do   func(ctx context.Context, id string) error
}

func (h host) verb() verb {
	var patience *int
	if h.task.StopSeconds > 0 {
		patience = &h.task.StopSeconds
	}
	stop := func(ctx context.Context, id string) error {
		return h.e.stopBy(ctx, h.api, id, h.task.Signal, h.task.StopSeconds)
	}
	switch h.task.Kind { //nolint:exhaustive // the others are not about containers
	case fleet.HostStartContainer, fleet.HostStartAll:
		return verb{"started", func(ctx context.Context, id string) error {
			_, err := h.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
			return err
		}}
	case fleet.HostRestartContainer, fleet.HostRestartAll:
		return verb{"restarted", func(ctx context.Context, id string) error {
			_, err := h.api.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: patience})
			return err
		}}
	case fleet.HostPauseContainer, fleet.HostPauseAll:
		return verb{"paused", func(ctx context.Context, id string) error {
			_, err := h.api.ContainerPause(ctx, id, client.ContainerPauseOptions{})
			return err
		}}
	case fleet.HostUnpauseContainer, fleet.HostUnpauseAll:
		return verb{"unpaused", func(ctx context.Context, id string) error {
			_, err := h.api.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
			return err
		}}
	case fleet.HostStopContainer, fleet.HostStopAll:
		return verb{"stopped", stop}
	}
	return verb{"removed", func(ctx context.Context, id string) error {
		if err := stop(ctx, id); err != nil {
			return err
		}
		_, err := h.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
		return err
	}}
}

// one works on the container that the task names, by name or by id.
func (h host) one(ctx context.Context) (string, error) {
	res, err := h.api.ContainerInspect(ctx, h.task.Target, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) || h.task.Target == "" {
		return "", wire.Errorf(wire.CodeNotFound, "there is no container %q", h.task.Target)
	}
	if err != nil {
		return "", fmt.Errorf("inspect container %s: %w", h.task.Target, err)
	}
	name := strings.TrimPrefix(res.Container.Name, "/")
	labels := map[string]string{}
	if res.Container.Config != nil {
		labels = res.Container.Config.Labels
	}
	if err := h.act(ctx, res.Container.ID, name, labels); err != nil {
		return "", err
	}
	return h.verb().done + " " + name, nil
}

// act does the task to one container, in its stack's turn.
func (h host) act(ctx context.Context, id, name string, labels map[string]string) error {
	if stack := labels[fleet.LabelStack]; stack != "" && labels[fleet.LabelServer] == h.e.cfg.Server {
		leave, err := h.e.enter(ctx, &fleet.Order{ID: "host:" + id, Stack: stack})
		if err != nil {
			return err
		}
		defer leave()
	}
	v := h.verb()
	if err := v.do(ctx, id); err != nil {
		return fmt.Errorf("container %s not %s: %w", name, v.done, err)
	}
	return nil
}

// all works on every container that is in a state for it, but those that are exempt.
func (h host) all(ctx context.Context) (string, error) {
	res, err := h.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return "", fmt.Errorf("list containers: %w", err)
	}
	self, _ := os.Hostname()
	var names []string
	var skipped int
	failures := make([]error, len(res.Items))
	group := errgroup.Group{}
	group.SetLimit(allParallel)
	for i := range res.Items {
		c := &res.Items[i]
		switch {
		case exempt(c.Labels) || len(self) == 12 && strings.HasPrefix(c.ID, self):
			skipped++ // the agent's own container too, or it would never get to the others
			continue
		case !h.concerns(c.State):
			continue
		}
		name := containerName(c)
		names = append(names, name)
		group.Go(func() error {
			failures[i] = h.act(ctx, c.ID, name, c.Labels)
			return nil
		})
	}
	_ = group.Wait()
	if err := errors.Join(failures...); err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s %d of %d containers", h.verb().done, len(names), len(res.Items))
	if skipped > 0 {
		text += fmt.Sprintf(", %d exempt", skipped)
	}
	return listed(text, names), nil
}

// concerns reports whether a container in that state has something to be done to it.
func (h host) concerns(state container.ContainerState) bool {
	switch h.task.Kind { //nolint:exhaustive // the others are not about all containers
	case fleet.HostStartAll:
		return state == container.StateExited || state == container.StateCreated
	case fleet.HostUnpauseAll:
		return state == container.StatePaused
	case fleet.HostStopAll:
		return state == container.StateRunning || state == container.StateRestarting || state == container.StatePaused
	}
	return state == container.StateRunning
}

func exempt(labels map[string]string) bool {
	_, ours := labels[fleet.LabelSkip]
	_, theirs := labels[fleet.LabelSkipKomodo]
	return ours || theirs
}

func containerName(c *container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID[:min(12, len(c.ID))]
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// alone runs f while no order loads the engine.
func (h host) alone(ctx context.Context, f func(context.Context) (string, error)) (string, error) {
	select {
	case h.e.pruning <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-h.e.pruning }()
	held := make([]*slot, 0, cap(h.e.slots))
	defer func() {
		for _, s := range held {
			s.release()
		}
	}()
	for range cap(h.e.slots) {
		s, err := h.e.acquire(ctx)
		if err != nil {
			return "", err
		}
		held = append(held, s)
	}
	return f(ctx)
}

// listed adds names to a result, as far as they fit.
func listed(text string, names []string) string {
	const most = 20
	if len(names) == 0 {
		return text
	}
	slices.Sort(names)
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return text + ": " + strings.Join(names, ", ") + more
}

// size is bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// ours reports whether something with these labels belongs to a stack that this agent has,
// or to another Varan agent on the same engine.
func (h host) ours(labels map[string]string) bool {
	stack, server := labels[fleet.LabelStack], labels[fleet.LabelServer]
	if stack == "" {
		return false
	}
	return server != h.e.cfg.Server || slices.ContainsFunc(h.e.states.known(), func(s *state) bool {
		return s.Stack == stack && cmp.Or(s.Project, labels[labelProject]) == labels[labelProject]
	})
}
