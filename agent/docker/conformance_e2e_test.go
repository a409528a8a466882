//go:build e2e

package docker_test

import (
	"fmt"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/enginetest"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Host {
		t.Helper()
		h := newHost(t)
		db := svc{name: "db", yaml: "command: [sleep]"}
		return enginetest.Host{
			Engine: h.Engine,
			Server: h.server,
			Stack:  func(word string) string { return "conf-" + word },
			Release: func(stack string, version int) (fleet.Release, agent.Blobs) {
				return h.release(stack, nil, "", db, svc{name: "web", yaml: fmt.Sprintf("command: [serve]\nenvironment: {ANSWER: v%d}", version)}), h.blobs
			},
			Broken: func(stack string, version int) (fleet.Release, agent.Blobs) {
				return h.release(stack, nil, "", db, svc{name: "web", yaml: fmt.Sprintf("command: [exit, '%d']", version)}), h.blobs
			},
		}
	})
}
