package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/moby/moby/client"
)

// api is what the agent itself asks of Docker. It reads, and it does the few changes
// that Compose has no word for.
type api interface {
	ContainerList(ctx context.Context, options client.ContainerListOptions) (client.ContainerListResult, error)
	ContainerInspect(ctx context.Context, id string, options client.ContainerInspectOptions) (client.ContainerInspectResult, error)
	ContainerLogs(ctx context.Context, id string, options client.ContainerLogsOptions) (client.ContainerLogsResult, error)
	ContainerStart(ctx context.Context, id string, options client.ContainerStartOptions) (client.ContainerStartResult, error)
	ContainerRestart(ctx context.Context, id string, options client.ContainerRestartOptions) (client.ContainerRestartResult, error)
	ContainerPause(ctx context.Context, id string, options client.ContainerPauseOptions) (client.ContainerPauseResult, error)
	ContainerUnpause(ctx context.Context, id string, options client.ContainerUnpauseOptions) (client.ContainerUnpauseResult, error)
	ContainerStop(ctx context.Context, id string, options client.ContainerStopOptions) (client.ContainerStopResult, error)
	ContainerKill(ctx context.Context, id string, options client.ContainerKillOptions) (client.ContainerKillResult, error)
	ContainerWait(ctx context.Context, id string, options client.ContainerWaitOptions) client.ContainerWaitResult
	ContainerRemove(ctx context.Context, id string, options client.ContainerRemoveOptions) (client.ContainerRemoveResult, error)
	ImageInspect(ctx context.Context, image string, options ...client.ImageInspectOption) (client.ImageInspectResult, error)
	ImageTag(ctx context.Context, options client.ImageTagOptions) (client.ImageTagResult, error)
	ImageRemove(ctx context.Context, image string, options client.ImageRemoveOptions) (client.ImageRemoveResult, error)
	ImageList(ctx context.Context, options client.ImageListOptions) (client.ImageListResult, error)
	NetworkList(ctx context.Context, options client.NetworkListOptions) (client.NetworkListResult, error)
	NetworkRemove(ctx context.Context, id string, options client.NetworkRemoveOptions) (client.NetworkRemoveResult, error)
	VolumeList(ctx context.Context, options client.VolumeListOptions) (client.VolumeListResult, error)
	VolumeRemove(ctx context.Context, id string, options client.VolumeRemoveOptions) (client.VolumeRemoveResult, error)
	BuildCachePrune(ctx context.Context, options client.BuildCachePruneOptions) (client.BuildCachePruneResult, error)
	Events(ctx context.Context, options client.EventsListOptions) client.EventsResult
	ServerVersion(ctx context.Context, options client.ServerVersionOptions) (client.ServerVersionResult, error)
	Ping(ctx context.Context, options client.PingOptions) (client.PingResult, error)
	Close() error
}

// errEngineAway means that the Docker Engine does not answer.
var errEngineAway = errors.New("the docker engine does not answer")

// conn holds the client. A client settles the API version once, so that a new one is
// needed when the engine comes back: it may be another version.
type conn struct {
	host string

	mu      sync.Mutex
	client  api
	version *client.ServerVersionResult
}

// engineHost is the address of the engine.
func engineHost(configured string) string {
	if configured != "" {
		return configured
	}
	if host := os.Getenv(client.EnvOverrideHost); host != "" {
		return host
	}
	return client.DefaultDockerHost
}

// api returns the client, making one when there is none.
func (c *conn) api() (api, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		cl, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(c.host))
		if err != nil {
			return nil, fmt.Errorf("open the engine at %s: %w", c.host, err)
		}
		c.client = cl
	}
	return c.client, nil
}

// renew lets go of a client that an engine was lost with.
func (c *conn) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		_ = c.client.Close()
	}
	c.client, c.version = nil, nil
}

// info asks for the engine's version once per client.
func (c *conn) info(ctx context.Context) (client.ServerVersionResult, error) {
	cl, err := c.api()
	if err != nil {
		return client.ServerVersionResult{}, err
	}
	c.mu.Lock()
	known := c.version
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	v, err := cl.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return v, fmt.Errorf("%w: %w", errEngineAway, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = &v
	return v, nil
}

// ping tells whether the engine answers.
func (c *conn) ping(ctx context.Context) error {
	cl, err := c.api()
	if err != nil {
		return err
	}
	if _, err := cl.Ping(ctx, client.PingOptions{}); err != nil {
		return fmt.Errorf("%w: %w", errEngineAway, err)
	}
	return nil
}
