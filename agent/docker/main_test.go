package docker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/varanhq/varan/agent/docker"
	"github.com/varanhq/varan/agent/docker/worker"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

// TestMain is also the worker: the tests give their own program to the engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "compose-worker" {
		os.Exit(worker.Main(context.Background(), os.Stdin, os.Stdout))
	}
	if len(os.Args) > 2 && os.Args[1] == "fake-worker" {
		os.Exit(fakeWorker(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		os.Exit(agentMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// errand is what a child process that plays an agent is asked to do.
type errand struct {
	Server, Dir string
	Order       fleet.Order
	Blobs       memoryBlobs
}

// agentMain carries out one order, to be killed while it does.
func agentMain(args []string) int {
	b, err := os.ReadFile(args[0])
	var e errand
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	engine, err := docker.New(docker.Config{Server: e.Server, Dir: e.Dir, Worker: []string{os.Args[0], "compose-worker"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	engine.Do(context.Background(), e.Order, e.Blobs, nil)
	return 0
}

// memoryBlobs serves blobs from memory.
type memoryBlobs map[fleet.Digest][]byte

func (m memoryBlobs) Fetch(_ context.Context, digests []fleet.Digest, each func(fleet.Digest, []byte) error) error {
	for _, d := range digests {
		if err := each(d, m[d]); err != nil {
			return err
		}
	}
	return nil
}

func (m memoryBlobs) add(content string) fleet.Digest {
	d := fleet.SumDigest([]byte(content))
	m[d] = []byte(content)
	return d
}

func (memoryBlobs) Logins(context.Context) ([]wire.Login, error) { return nil, nil }
