package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// rotations is a hub.Rotations in memory with one change under way.
type rotations struct {
	mu        sync.Mutex
	proposed  []noise.PublicKey
	confirmed int
}

func (*rotations) Open(context.Context, string) (string, error) { return "one", nil }

func (r *rotations) Propose(_ context.Context, _, id string, key noise.PublicKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "one" {
		return hub.ErrNoRotation
	}
	r.proposed = append(r.proposed, key)
	return nil
}

func (r *rotations) Confirm(context.Context, string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confirmed++
	return nil
}

func proposal(a *agent, id string, key noise.PublicKey) wire.RotateProposed {
	return wire.RotateProposed{ID: id, Key: key.String(), MAC: wire.RotateMAC(a.conn.Binding(), id, key.String())}
}

func TestN13AProposalCountsOnItsOwnConnectionOnly(t *testing.T) {
	t.Parallel()
	record := &rotations{}
	c := newCore(t, func(cfg *hub.Config) { cfg.Rotations = record })
	a, b := c.connect(c.register("alpha"), "alpha"), c.connect(c.register("beta"), "beta")
	if a.welcome.Rotation != "one" {
		t.Errorf("welcome %+v", a.welcome)
	}
	next := newKey(t).Public()
	good := proposal(a, "one", next)
	bad := map[string]wire.RotateProposed{
		"of another connection": proposal(b, "one", next),
		"with another key":      {ID: good.ID, Key: newKey(t).Public().String(), MAC: good.MAC},
		"with another id":       {ID: "two", Key: good.Key, MAC: good.MAC},
		"without a MAC":         {ID: good.ID, Key: good.Key},
		"without a key":         {ID: good.ID, MAC: good.MAC},
		"in no change":          proposal(a, "two", next),
	}
	for name, msg := range bad {
		if err := a.peer.Call(t.Context(), wire.VerbRotatePropose, msg, nil); err == nil {
			t.Errorf("a proposal %s was accepted", name)
		}
	}
	if len(record.proposed) != 0 {
		t.Errorf("recorded %v", record.proposed)
	}
	var accepted wire.RotateAccepted
	if err := a.peer.Call(t.Context(), wire.VerbRotatePropose, good, &accepted); err != nil || accepted.ID != "one" {
		t.Errorf("accepted %+v, %v", accepted, err)
	}
	if len(record.proposed) != 1 || record.proposed[0] != next {
		t.Errorf("recorded %v", record.proposed)
	}
}

func TestARetiredKeyMaySayThatItWasReplacedAndNothingElse(t *testing.T) {
	t.Parallel()
	record := &rotations{}
	c := newCore(t, func(cfg *hub.Config) {
		cfg.Rotations = record
		cfg.Registry = &retiring{registry: cfg.Registry.(*registry)}
	})
	a, err := c.dial(c.register("alpha"), noise.PurposeSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	var welcome wire.Welcome
	if err := a.peer.Call(t.Context(), wire.VerbHello, wire.Hello{Version: wire.Version, Server: "alpha"}, &welcome); err != nil {
		t.Fatal(err)
	}
	if !welcome.Retired || welcome.Epoch != 0 || welcome.Rotation != "" {
		t.Errorf("welcome %+v", welcome)
	}
	for _, verb := range []wire.Verb{wire.VerbReport, wire.VerbResult, wire.VerbRegistry, wire.VerbRotatePropose} {
		err := a.peer.Call(t.Context(), verb, json.RawMessage("{}"), nil)
		if refused, ok := errors.AsType[*wire.Error](err); !ok || refused.Code != wire.CodeDenied {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if c.hub.Online("alpha") {
		t.Error("its server is online")
	}
	if err := a.peer.Call(t.Context(), wire.VerbRotateConfirm, wire.RotateConfirmed{}, nil); err != nil || record.confirmed != 1 {
		t.Errorf("confirmed %d times, %v", record.confirmed, err)
	}
}

// retiring knows every key as one that was replaced.
type retiring struct{ *registry }

func (r *retiring) ServerByKey(ctx context.Context, key noise.PublicKey) (hub.Admitted, error) {
	a, err := r.registry.ServerByKey(ctx, key)
	a.Retired = true
	return a, err
}

func TestCoreTellsAgentsOfItsKeysAndWhoTookThem(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	pinned := map[string]noise.PublicKey{}
	c := newCore(t, func(cfg *hub.Config) {
		cfg.PinnedCoreKey = func(_ context.Context, server string, key noise.PublicKey) {
			mu.Lock()
			defer mu.Unlock()
			pinned[server] = key
		}
	})
	heard := make(chan wire.CoreKeys, 1)
	good, old := c.connect(c.register("good"), "good"), c.connect(c.register("old"), "old")
	good.on(wire.VerbCoreKey, func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
		var keys wire.CoreKeys
		err := wire.Decode(body, &keys)
		heard <- keys
		return nil, err
	})
	next := newKey(t)
	c.hub.SetKeys(c.key, next, true)
	told, failed := c.hub.TellCoreKeys(t.Context())
	if len(told) != 1 || told[0] != "good" || failed["old"] == nil {
		t.Errorf("told %v, failed %v", told, failed)
	}
	if keys := <-heard; keys.Current != c.key.Public().String() || keys.Next != next.Public().String() {
		t.Errorf("heard %+v", keys)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(pinned) != 1 || pinned["good"] != next.Public() {
		t.Errorf("pinned %v", pinned)
	}
	_ = old
}

func TestADisconnectedServerIsGoneWithinASecond(t *testing.T) {
	t.Parallel()
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha", "web")
	begun := time.Now()
	c.hub.Disconnect(t.Context(), "alpha", "the server was disabled")
	wantCode(t, <-a.ended, wire.CodeDenied)
	if took := time.Since(begun); took > 5*time.Second { // a second, and a loaded machine
		t.Errorf("gone after %v", took)
	}
	for c.hub.Observed()["alpha"].Online {
		c.heard("alpha")
	}
}
