//go:build e2e

package docker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/varanhq/varan/agent/policy"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/imageregistry"
	"github.com/varanhq/varan/wire"
)

// accountant is a core that has a registry account.
type accountant struct {
	memoryBlobs
	logins []wire.Login
	asked  *int
}

func (a accountant) Logins(context.Context) ([]wire.Login, error) {
	*a.asked++
	return a.logins, nil
}

func TestImagesArePulledWithTheAccountOfTheRelease(t *testing.T) {
	h := newHost(t)
	const password = "p4ss-" + canary
	reg := imageregistry.New(t, imageregistry.App(t), "ci", password)
	ref := reg.Host + "/team/app:1"
	t.Cleanup(func() { _, _ = h.cl.ImageRemove(context.Background(), ref, client.ImageRemoveOptions{Force: true}) })
	release := func(account string) fleet.Release {
		r := h.release("private", nil, "", svc{name: "web", yaml: "command: [sleep]", image: ref})
		if account != "" {
			r.Options.Registry = fleet.RegistryAccount{Registry: reg.Host, Account: account}
		}
		return seal(r)
	}
	asked := 0
	core := accountant{h.blobs, []wire.Login{{Registry: reg.Host, Username: "ci", Password: password}}, &asked}
	do := func(r fleet.Release) fleet.Outcome {
		return h.Do(t.Context(), h.order(fleet.OrderApply, r), core, nil)
	}
	if out := do(release("")); out.Status != fleet.OutcomeFailed || !out.Untouched || asked > 0 {
		t.Fatalf("without an account: %+v, asked %d times", out, asked)
	}
	h.want(do(release("ci")), fleet.OutcomeSucceeded)
	if asked != 1 {
		t.Errorf("core was asked %d times", asked)
	}
	if found := onDisk(t, h.dir, password); len(found) > 0 {
		t.Errorf("the password is on disk: %v", found)
	}
	h.want(do(release("ci")), fleet.OutcomeSucceeded)
	if asked != 1 {
		t.Error("core was asked for a password that nothing needed")
	}

	// An account of the host itself needs no core.
	if _, err := h.cl.ImageRemove(t.Context(), ref, client.ImageRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	h.allow(policy.Policy{Registries: []policy.Registry{{Domain: reg.Host, Username: "ci", Password: fleet.NewSecret(password)}}})
	r := release("")
	r.Stack, r.Project = "private2", "varan-test-private2"
	r.Model = h.blobs.add(strings.ReplaceAll(string(h.blobs[r.Model]), "varan-test-private", "varan-test-private2"))
	h.want(do(seal(r)), fleet.OutcomeSucceeded)
	if asked != 1 {
		t.Error("core was asked although the release names no account")
	}
}
