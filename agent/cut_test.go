package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// scissors cut a connection after so many messages in either direction, once.
type scissors struct {
	mu   sync.Mutex
	left int
	cut  bool
}

// snip counts a message and reports whether the connection is cut with it.
func (s *scissors) snip() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	s.left--
	s.cut = s.left < 0
	return s.cut
}

type cuttable struct {
	wire.MessageConn

	scissors *scissors
}

func (c *cuttable) WriteMessage(p []byte) error {
	if c.scissors.snip() {
		_ = c.Close()
		return errors.New("cut")
	}
	return c.MessageConn.WriteMessage(p)
}

func (c *cuttable) ReadMessage(buf []byte) ([]byte, error) {
	p, err := c.MessageConn.ReadMessage(buf)
	if err == nil && c.scissors.snip() {
		_ = c.Close()
		return nil, errors.New("cut")
	}
	return p, err
}

// rejoining is a registry that, as core's, takes the same agent with the same token again: it may
// not have heard that it was let in.
type rejoining struct{ *registry }

func (r rejoining) Onboard(ctx context.Context, req hub.OnboardRequest) (string, error) {
	r.mu.Lock()
	name, again := r.keys[req.Key]
	r.mu.Unlock()
	if again && name == req.Server {
		return name, nil
	}
	return r.registry.Onboard(ctx, req)
}

// TestP13NothingIsLostWhereverTheLinkIsCut has an agent join and deploy, with the connection cut
// after the first message, the second, and so on until it is not cut any more.
func TestP13NothingIsLostWhereverTheLinkIsCut(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		link := &scissors{left: n}
		synctest.Test(t, func(t *testing.T) { joinAndDeploy(t, link) })
		if t.Failed() {
			t.Fatalf("cut after %d messages", n)
		}
		if !link.cut {
			if n < 12 {
				t.Errorf("joining and a deploy are %d messages: too few to be true", n)
			}
			return
		}
	}
}

// joinAndDeploy begins with a token and ends with an outcome.
func joinAndDeploy(t *testing.T, link *scissors) {
	t.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	known := &registry{token: wire.NewOnboardingToken(key.Public().Fingerprint()), keys: map[noise.PublicKey]string{}}
	h, err := hub.New(hub.Config{Key: key, CoreID: "core", Registry: rejoining{known}})
	if err != nil {
		t.Fatal(err)
	}
	engine := fakeengine.New("alpha")
	a, err := agent.New(agent.Config{
		Dir: t.TempDir(), Server: "alpha", Cores: []string{"memory"}, Engine: engine, Logger: slog.New(slog.DiscardHandler),
		OnboardingToken: fleet.NewSecret(known.token.Reveal()),
		Dial: func(context.Context, string) (wire.MessageConn, error) {
			ours, theirs := wire.Pipe()
			h.Accept(ours, netip.MustParseAddr("192.0.2.1"))
			return &cuttable{theirs, link}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx) })
	synctest.Wait()
	running.Go(func() { _ = a.Run(ctx) })
	defer running.Wait()
	defer cancel()

	begun := time.Now()
	for !h.Online("alpha") && time.Since(begun) < time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	model := []byte("services: {web: {image: web:1}}")
	order := applyOrder("1", "shop", "1")
	order.Release.Model = fleet.SumDigest(model)
	outcome, err := h.Dispatch(ctx, order, content{order.Release.Model: model}, func(fleet.Progress) {})
	for err != nil && time.Since(begun) < 2*time.Minute {
		// The reconciler plans again, with what the agent then says of the order.
		time.Sleep(time.Second)
		outcome, err = h.Dispatch(ctx, order, content{order.Release.Model: model}, func(fleet.Progress) {})
	}
	if err != nil || outcome.Status != fleet.OutcomeSucceeded {
		t.Errorf("outcome %+v, %v", outcome, err)
	}
	if orders := engine.Orders(); len(orders) != 1 {
		t.Errorf("the order was carried out %d times", len(orders))
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if len(known.keys) != 1 {
		t.Errorf("the server has %d keys", len(known.keys))
	}
}
