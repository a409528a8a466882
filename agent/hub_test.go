package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// registry is a hub.Registry in memory that lets one token in.
type registry struct {
	token wire.OnboardingToken

	mu    sync.Mutex
	keys  map[noise.PublicKey]string
	epoch uint64
}

func (r *registry) ServerByKey(_ context.Context, key noise.PublicKey) (hub.Admitted, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := r.keys[key]; ok {
		return hub.Admitted{Server: name}, nil
	}
	return hub.Admitted{}, errors.New("unknown key")
}

func (r *registry) NextEpoch(context.Context, string) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	return r.epoch, nil
}

func (r *registry) Onboard(_ context.Context, req hub.OnboardRequest) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if req.Token.SecretHash() != r.token.SecretHash() || len(r.keys) > 0 {
		return "", errors.New("no such token, or it is used")
	}
	r.keys[req.Key] = req.Server
	return req.Server, nil
}

func (*registry) Servers(context.Context) ([]string, error) { return nil, nil }

// realCore is a hub behind a port that outlives it, as a core's does over restarts.
type realCore struct {
	t        testing.TB
	key      noise.PrivateKey
	registry *registry
	addr     string

	hub     *hub.Hub
	changes chan string
	orphans chan fleet.Outcome
	kill    func()
}

func (c *realCore) start() {
	c.t.Helper()
	c.changes, c.orphans = make(chan string, 1024), make(chan fleet.Outcome, 16)
	changes, orphans := c.changes, c.orphans
	h, err := hub.New(hub.Config{
		Key: c.key, CoreID: "core", Registry: c.registry,
		OnChange: func(server string, _ []string) {
			select {
			case changes <- server:
			default:
			}
		},
		OnOutcome: func(_ string, o fleet.Outcome) { orphans <- o },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(c.t.Context(), "tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.addr = listener.Addr().String()
	server := &http.Server{Handler: h}
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	wg.Go(func() { _ = h.Run(ctx) })
	c.hub = h
	c.kill = sync.OnceFunc(func() {
		_ = server.Close()
		cancel()
		wg.Wait()
	})
	c.t.Cleanup(c.kill)
}

// online waits until the hub has the agent's report.
func (c *realCore) online() fleet.ServerReport {
	c.t.Helper()
	for {
		if report := c.hub.Observed()["alpha"]; report.Online && report.Agent.Engine != "" {
			return report
		}
		<-c.changes
	}
}

// content serves blobs.
type content map[fleet.Digest][]byte

func (c content) Blob(_ context.Context, digest fleet.Digest) ([]byte, error) {
	if blob, ok := c[digest]; ok {
		return blob, nil
	}
	return nil, errors.New("no such blob")
}

// newRealCore starts a core on loopback that knows no agent, and has a token for one.
func newRealCore(tb testing.TB) *realCore {
	tb.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	core := &realCore{
		t: tb, key: key, addr: "127.0.0.1:0",
		registry: &registry{token: wire.NewOnboardingToken(key.Public().Fingerprint()), keys: map[noise.PublicKey]string{}},
	}
	core.start()
	return core
}

func newPair(tb testing.TB) (*realCore, *fakeengine.Engine) {
	tb.Helper()
	core := newRealCore(tb)
	engine := fakeengine.New("alpha")
	a, err := agent.New(agent.Config{
		Dir: tb.TempDir(), Server: "alpha", Cores: []string{"http://" + core.addr}, Engine: engine,
		OnboardingToken: fleet.NewSecret(core.registry.token.Reveal()), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return core, engine
}

func TestTheRealHubAndTheAgentUnderstandEachOther(t *testing.T) {
	core, engine := newPair(t)
	core.online()
	model := []byte("services: {web: {image: web:1}}")
	order := applyOrder("1", "shop", "1")
	order.Release.Model = fleet.SumDigest(model)
	outcome, err := core.hub.Dispatch(t.Context(), order, content{order.Release.Model: model}, func(fleet.Progress) {})
	if err != nil || outcome.Status != fleet.OutcomeSucceeded {
		t.Fatalf("outcome %+v, %v", outcome, err)
	}
	if stack, ok := core.hub.Observed()["alpha"].Stack("shop"); !ok || stack.Release.Digest != order.Release.Digest {
		t.Errorf("core observes %+v when it has the outcome, want the new release", stack)
	}
	engine.Set(fleet.StackReport{Stack: "blog", Project: "blog"})
	if _, ok := core.hub.Refresh(t.Context(), nil)["alpha"].Stack("blog"); !ok {
		t.Error("a refresh does not show what runs")
	}
	logs, err := core.hub.Logs(t.Context(), "alpha", wire.LogsRequest{Stack: "shop", Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = logs.Close() }()
	var line wire.LogLine
	if err := json.NewDecoder(bufio.NewReader(logs)).Decode(&line); err != nil || line.Service != "web" {
		t.Errorf("log line %+v, %v", line, err)
	}
}

func TestADeploySurvivesARestartOfTheRealHub(t *testing.T) {
	core, engine := newPair(t)
	core.online()
	started, release := engine.Hold("shop")
	defer release()
	first, ctx := core.hub, t.Context()
	go func() {
		// Its core dies: nobody hears the outcome here.
		_, _ = first.Dispatch(ctx, applyOrder("1", "shop", "1"), content{}, func(fleet.Progress) {})
	}()
	<-started
	core.kill()
	core.start()
	core.online()
	release()
	if outcome := <-core.orphans; outcome.Order != "1" || outcome.Status != fleet.OutcomeSucceeded {
		t.Errorf("outcome %+v", outcome)
	}
	if stack, ok := core.hub.Observed()["alpha"].Stack("shop"); !ok || len(stack.Containers) != 2 {
		t.Errorf("the new core observes %+v, want the stack", stack)
	}
	if n := len(engine.Orders()); n != 1 {
		t.Errorf("the engine was asked %d times, want once", n)
	}
}

// An order's way through link, ledger and back, the engine's own work left out.
func BenchmarkOrder(b *testing.B) {
	core, _ := newPair(b)
	core.online()
	var n atomic.Int64
	b.SetParallelism(25) // 50 at a time on two cores
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := strconv.FormatInt(n.Add(1), 10)
			outcome, err := core.hub.Dispatch(b.Context(), applyOrder(id, "s"+id, "1"), content{}, func(fleet.Progress) {})
			if err != nil || outcome.Status != fleet.OutcomeSucceeded {
				b.Errorf("outcome %+v, %v", outcome, err)
			}
		}
	})
}
