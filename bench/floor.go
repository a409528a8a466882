package main

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

const floorLabel = "dev.varan.bench-floor"

// floor does a benchmark's work with plain calls to the Engine.
type floor struct {
	docker   *client.Client
	parallel int
	ids      []string
}

// create makes and starts n containers.
func (f *floor) create(ctx context.Context, n int) (time.Duration, error) {
	f.ids = make([]string, n)
	start := time.Now()
	err := f.each(ctx, n, f.one)
	return time.Since(start), err
}

// recreate stops, removes, makes and starts all of them.
func (f *floor) recreate(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := f.each(ctx, len(f.ids), f.again)
	return time.Since(start), err
}

// recreateOne does it to the first.
func (f *floor) recreateOne(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := f.again(ctx, 0)
	return time.Since(start), err
}

func (f *floor) remove(ctx context.Context) error {
	return f.each(ctx, len(f.ids), func(ctx context.Context, i int) error {
		_, err := f.docker.ContainerRemove(ctx, f.ids[i], client.ContainerRemoveOptions{Force: true})
		return err
	})
}

func (f *floor) each(ctx context.Context, n int, work func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.parallel)
	for i := range n {
		group.Go(func() error { return work(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("plain engine calls: %w", err)
	}
	return nil
}

func (f *floor) one(ctx context.Context, i int) error {
	made, err := f.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: benchImage, Labels: map[string]string{floorLabel: "1"}},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped},
		},
	})
	if err != nil {
		return err
	}
	f.ids[i] = made.ID
	_, err = f.docker.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	return err
}

func (f *floor) again(ctx context.Context, i int) error {
	grace := 1
	if _, err := f.docker.ContainerStop(ctx, f.ids[i], client.ContainerStopOptions{Timeout: &grace}); err != nil {
		return err
	}
	if _, err := f.docker.ContainerRemove(ctx, f.ids[i], client.ContainerRemoveOptions{}); err != nil {
		return err
	}
	return f.one(ctx, i)
}
