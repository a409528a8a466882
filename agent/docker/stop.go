package docker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

const (
	// signalsFrom is the minor version of the API from which an engine stops a container by
	// a signal that is not its own; an older one takes no notice of it.
	signalsFrom = 42
	// stopPatience is Docker's own, for a container that says nothing else.
	stopPatience = 10 * time.Second
)

// stopBy stops a container: by its own signal if none is given, and within its own time if
// that is zero.
func (e *Engine) stopBy(ctx context.Context, cl api, id, signal string, seconds int) error {
	opts := client.ContainerStopOptions{Signal: signal}
	if seconds > 0 {
		opts.Timeout = &seconds
	}
	if signal != "" {
		version, err := e.conn.info(ctx)
		if err != nil {
			return err
		}
		if !knowsSignals(version.APIVersion) {
			opts.Signal = ""
			if err := signalAndWait(ctx, cl, id, signal, &opts); err != nil {
				return err
			}
		}
	}
	// Of a container that has ended already this keeps the restart policy from starting it.
	_, err := cl.ContainerStop(ctx, id, opts)
	return err
}

func knowsSignals(apiVersion string) bool {
	major, minor, _ := strings.Cut(apiVersion, ".")
	n, err := strconv.Atoi(minor)
	return err != nil || major != "1" || n >= signalsFrom
}

// signalAndWait sends a container the signal and gives it the time that it has to end. One that
// does not is to be stopped without more ado.
func signalAndWait(ctx context.Context, cl api, id, signal string, opts *client.ContainerStopOptions) error {
	res, err := cl.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	if state := res.Container.State; state == nil || !state.Running || state.Paused {
		return nil // a paused one hears nothing; how it is stopped is the engine's matter
	}
	patience := stopPatience
	switch cfg := res.Container.Config; {
	case opts.Timeout != nil:
		patience = time.Duration(*opts.Timeout) * time.Second
	case cfg != nil && cfg.StopTimeout != nil && *cfg.StopTimeout >= 0:
		patience = time.Duration(*cfg.StopTimeout) * time.Second
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Before the signal: it may end at once.
	exit := cl.ContainerWait(waiting, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := cl.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal}); err != nil {
		return fmt.Errorf("send %s: %w", signal, err)
	}
	select {
	case <-exit.Result:
	case err := <-exit.Error:
		if err != nil && waiting.Err() != nil {
			at := 0
			opts.Timeout = &at
		}
	}
	return ctx.Err()
}
