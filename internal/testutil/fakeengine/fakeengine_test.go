package fakeengine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/enginetest"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
)

// content is a store of blobs in memory.
type content map[fleet.Digest][]byte

func (c content) put(text string) fleet.Digest {
	digest := fleet.SumDigest([]byte(text))
	c[digest] = []byte(text)
	return digest
}

func (c content) Fetch(_ context.Context, digests []fleet.Digest, each func(fleet.Digest, []byte) error) error {
	for _, digest := range digests {
		if err := each(digest, c[digest]); err != nil {
			return err
		}
	}
	return nil
}

func release(stack string, version int) (fleet.Release, agent.Blobs) {
	blobs := content{}
	web := fmt.Sprintf("web %d", version)
	return fleet.Release{
		Digest: fleet.SumDigest([]byte(stack + web)), Stack: stack, Project: stack, Model: blobs.put("services: " + web),
		Services: []fleet.Service{
			{Name: "db", Digest: fleet.SumDigest([]byte("db")), Image: "db:1", Replicas: 1},
			{Name: "web", Digest: fleet.SumDigest([]byte(web)), Image: "web:1", Replicas: 1},
		},
		Files: []fleet.File{{Path: "web.conf", Mode: 0o644, Digest: blobs.put("conf of " + web)}},
	}, blobs
}

func TestFakeConforms(t *testing.T) {
	enginetest.Run(t, func(*testing.T) enginetest.Host {
		engine := fakeengine.New("alpha")
		return enginetest.Host{
			Engine: engine, Server: "alpha", Release: release,
			Broken: func(stack string, version int) (fleet.Release, agent.Blobs) {
				r, blobs := release(stack, version)
				engine.Break(r.Digest, "service web: exited with code 1")
				return r, blobs
			},
		}
	})
}

func (content) Logins(context.Context) ([]wire.Login, error) { return nil, nil }
