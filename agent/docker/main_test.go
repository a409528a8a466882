package docker_test

import (
	"context"
	"os"
	"testing"

	"github.com/varanhq/varan/agent/docker/worker"
)

// TestMain is also the worker: the tests give their own program to the engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "compose-worker" {
		os.Exit(worker.Main(context.Background(), os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}
