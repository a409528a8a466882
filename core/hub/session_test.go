package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

func TestASessionFromHelloToGoodbye(t *testing.T) {
	c := newCore(t, nil)
	key := c.register("alpha")
	a := c.connect(key, "alpha")
	if w := a.welcome; w.Core != "main" || w.Server != "alpha" || w.Epoch != 1 || w.Version != wire.Version || w.Time.IsZero() {
		t.Errorf("welcome %+v", w)
	}
	if got := c.hub.Observed()["alpha"]; got.Online {
		t.Error("a server that has not reported yet is online")
	}
	a.report(true, "web", "db")
	if got := c.heard("alpha"); got.stacks != nil {
		t.Errorf("a full report changed only %v", got.stacks)
	}
	got := c.hub.Observed()["alpha"]
	if !got.Online || got.Epoch != 1 || got.Received.IsZero() || got.Agent.Engine != "20.10" {
		t.Errorf("observed %+v", got)
	}
	if diff := cmp.Diff([]string{"db", "web"}, stacksOf(got)); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	a.peer.Close(t.Context(), wire.Errorf(wire.CodeShutdown, "bye"))
	if got := c.heard("alpha"); got.stacks != nil {
		t.Errorf("a disconnect changed only %v", got.stacks)
	}
	if got := c.hub.Observed()["alpha"]; got.Online || len(got.Stacks) != 2 {
		t.Errorf("after it left, observed %+v", got)
	}
	if got, ok := c.hub.Observed()["never-seen"]; !ok || got.Online {
		t.Errorf("a registered server that never connected: %v, %+v", ok, got)
	}
}

func TestTheSkewOfAnAgentsClockIsKnown(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	if got := c.hub.Observed()["alpha"].Skew; got != 0 {
		t.Errorf("an agent that does not say what time it is has a skew of %s", got)
	}
	for _, skew := range []time.Duration{0, time.Minute + 30*time.Second, -10 * 365 * 24 * time.Hour} {
		report := wire.Report{Full: true, Time: time.Now().Add(skew)}
		if err := a.peer.Call(t.Context(), wire.VerbReport, report, nil); err != nil {
			t.Fatal(err)
		}
		got := c.hub.Observed()["alpha"]
		if off := got.Skew - skew; off.Abs() > 20*time.Second || !got.Online { // a busy machine may take its time
			t.Errorf("a skew of %s is taken for %s", skew, got.Skew)
		}
	}
}

func TestPartialReportsChangeOnlyWhatTheyName(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha", "web", "db", "old")
	before := c.hub.Observed()
	report := wire.Report{
		Agent:  fleet.AgentInfo{Version: "1.0"},
		Stacks: []fleet.StackReport{{Stack: "web", Project: "changed"}, {Stack: "new"}},
		Gone:   []string{"old"},
	}
	if err := a.peer.Call(t.Context(), wire.VerbReport, report, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"new", "old", "web"}, sorted(c.heard("alpha").stacks)); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	got := c.hub.Observed()["alpha"]
	if diff := cmp.Diff([]string{"db", "new", "web"}, stacksOf(got)); diff != "" {
		t.Errorf("stacks (-want +got):\n%s", diff)
	}
	if stack, _ := got.Stack("web"); stack.Project != "changed" {
		t.Error("the stack's new report was not kept")
	}
	if diff := cmp.Diff([]string{"db", "old", "web"}, stacksOf(before["alpha"])); diff != "" {
		t.Errorf("what was observed before changed (-want +got):\n%s", diff)
	}
}

func TestRefreshAsksTheEngines(t *testing.T) {
	c := newCore(t, nil)
	fresh := func(stack string) wire.HandlerFunc {
		return func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
			return wire.Report{Stacks: []fleet.StackReport{{Stack: stack}}}, nil
		}
	}
	a, b := c.online(c.register("alpha"), "alpha", "stale"), c.online(c.register("beta"), "beta", "stale")
	a.on(wire.VerbObserve, fresh("a"))
	b.on(wire.VerbObserve, fresh("b"))
	got := c.hub.Refresh(t.Context(), []string{"alpha"})
	if a, b := stacksOf(got["alpha"]), stacksOf(got["beta"]); a[0] != "a" || b[0] != "stale" {
		t.Errorf("after a refresh of alpha: %v, %v", a, b)
	}
	got = c.hub.Refresh(t.Context(), nil)
	if b := stacksOf(got["beta"]); b[0] != "b" {
		t.Errorf("after a refresh of all: %v", b)
	}
}

func TestASlowAgentHoldsNobodyUp(t *testing.T) {
	c := newCore(t, nil)
	slow, quick := c.online(c.register("slow"), "slow", "old"), c.online(c.register("quick"), "quick", "old")
	slow.on(wire.VerbObserve, func(ctx context.Context, _ wire.Verb, _ []byte, _ io.Writer) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	answered := make(chan struct{})
	quick.on(wire.VerbObserve, func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
		close(answered)
		return wire.Report{Stacks: []fleet.StackReport{{Stack: "new"}}}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan fleet.Observed)
	go func() { done <- c.hub.Refresh(ctx, nil) }()
	<-answered
	quick.report(false, "more") // the quick one goes on while the slow one is waited for
	cancel()
	got := <-done
	if len(got["slow"].Stacks) != 1 || got["slow"].Stacks[0].Stack != "old" {
		t.Errorf("of the slow agent: %v", stacksOf(got["slow"]))
	}
}

func TestN04AClaimedNameMustBeTheKeys(t *testing.T) {
	c := newCore(t, nil)
	c.register("beta")
	a, err := c.dial(c.register("alpha"), noise.PurposeSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.peer.Call(t.Context(), wire.VerbHello, wire.Hello{Version: 1, Server: "beta"}, nil), wire.CodeDenied)
	wantCode(t, <-a.ended, wire.CodeDenied)
	if got := c.hub.Observed()["beta"]; got.Online {
		t.Error("beta is online by alpha's key")
	}
}

func TestP10AnotherVersionIsToldBoth(t *testing.T) {
	c := newCore(t, nil)
	for _, version := range []int{0, wire.MinVersion - 1, wire.Version + 1} {
		a, err := c.dial(c.register("alpha"), noise.PurposeSession, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = a.peer.Call(t.Context(), wire.VerbHello, wire.Hello{Version: version, Server: "alpha"}, nil)
		wantCode(t, err, wire.CodeVersion)
		if !strings.Contains(err.Error(), "want 1 to 1") {
			t.Errorf("the agent learns %v", err)
		}
	}
}

func TestHelloComesFirstAndOnce(t *testing.T) {
	c := newCore(t, nil)
	key := c.register("alpha")
	a, err := c.dial(key, noise.PurposeSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.peer.Call(t.Context(), wire.VerbReport, wire.Report{}, nil), wire.CodeProtocol)
	hello := wire.Hello{Version: wire.Version, Server: "alpha"}
	if err := a.peer.Call(t.Context(), wire.VerbHello, hello, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, a.peer.Call(t.Context(), wire.VerbApply, nil, nil), wire.CodeUnknownVerb)
	wantCode(t, a.peer.Call(t.Context(), wire.VerbHello, hello, nil), wire.CodeProtocol)
}

func TestN12TheNewestSessionWins(t *testing.T) {
	c := newCore(t, nil)
	key := c.register("alpha")
	first := c.online(key, "alpha", "one")
	second := c.connect(key, "alpha")
	if second.welcome.Epoch != 2 {
		t.Errorf("epoch %d, want 2", second.welcome.Epoch)
	}
	wantCode(t, <-first.ended, wire.CodeReplaced)
	if !c.hub.Observed()["alpha"].Online {
		t.Error("the server went offline in between")
	}
	second.report(true, "two")
	c.heard("alpha")
	got := c.hub.Observed()["alpha"]
	if diff := cmp.Diff([]string{"two"}, stacksOf(got)); diff != "" || got.Epoch != 2 || !got.Online {
		t.Errorf("observed %+v", got)
	}
}

func TestP09ClonedKeysAreNoticed(t *testing.T) {
	var log syncBuffer
	c := newCore(t, func(cfg *hub.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	key := c.register("alpha")
	for range 3 {
		c.connect(key, "alpha")
	}
	if strings.Contains(log.String(), "duplicate identity") {
		t.Error("two swaps are taken for a clone")
	}
	c.connect(key, "alpha")
	if !strings.Contains(log.String(), "duplicate identity") {
		t.Errorf("three swaps go unnoticed:\n%s", log.String())
	}
}

func TestP02RefusalsAllLookTheSame(t *testing.T) {
	var log syncBuffer
	c := newCore(t, func(cfg *hub.Config) { cfg.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	token := wire.NewOnboardingToken(c.key.Public().Fingerprint())
	join := func(token, server string) []byte {
		payload, err := json.Marshal(wire.Join{Token: token, Server: server})
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	known := c.register("alpha")
	for name, try := range map[string]struct {
		key     noise.PrivateKey
		purpose noise.Purpose
		payload []byte
	}{
		"unknown key":               {newKey(t), noise.PurposeSession, nil},
		"session with a payload":    {known, noise.PurposeSession, join(token.Reveal(), "alpha")},
		"onboarding without token":  {known, noise.PurposeOnboard, nil},
		"onboarding with garbage":   {newKey(t), noise.PurposeOnboard, []byte("{]")},
		"onboarding, token unknown": {newKey(t), noise.PurposeOnboard, join(token.Reveal(), "beta")},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := c.dial(try.key, try.purpose, try.payload)
			if err != nil {
				t.Fatal(err)
			}
			wantRefused(t, a)
		})
	}
	c.stop() // which waits for the last line
	for _, reason := range []string{"no server has that key", "no such token", "onboarding payload is not"} {
		if !strings.Contains(log.String(), reason) {
			t.Errorf("the log lacks %q", reason)
		}
	}
	if strings.Contains(log.String(), strings.Split(token.Reveal(), "_")[2]) {
		t.Error("the log shows a token")
	}
}

func TestOnboardingOpensASession(t *testing.T) {
	c := newCore(t, nil)
	token := wire.NewOnboardingToken(c.key.Public().Fingerprint())
	c.registry.tokens[token.ID()] = token.SecretHash()
	payload, err := json.Marshal(wire.Join{Token: token.Reveal(), Server: "gamma"})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	a, err := c.dial(key, noise.PurposeOnboard, payload)
	if err != nil {
		t.Fatal(err)
	}
	var welcome wire.Welcome
	if err := a.peer.Call(t.Context(), wire.VerbHello, wire.Hello{Version: 1, Server: "gamma"}, &welcome); err != nil {
		t.Fatal(err)
	}
	if req := c.registry.asked[0]; req.Key != key.Public() || req.Server != "gamma" || req.RemoteAddr.String() != "127.0.0.1" {
		t.Errorf("the registry was asked %+v", req)
	}
	c.online(key, "gamma", "web") // and from now on the key is enough
}

func TestO11GuessingIsStopped(t *testing.T) {
	c := newCore(t, func(cfg *hub.Config) {
		now := time.Now()
		cfg.Clock = func() time.Time { return now }
	})
	for range 12 {
		a, err := c.dial(newKey(t), noise.PurposeOnboard, []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		wantRefused(t, a)
		payload, err := json.Marshal(wire.Join{Token: wire.NewOnboardingToken(wire.Fingerprint{}).Reveal(), Server: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if a, err = c.dial(newKey(t), noise.PurposeOnboard, payload); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, a)
	}
	if got := len(c.registry.asked); got != 5 {
		t.Errorf("the registry was asked %d times, want 5: ten failures, every other of them a token", got)
	}
}

func TestL06HandshakesUnderWayAreLimited(t *testing.T) {
	addrs := map[string]netip.Addr{}
	var mu sync.Mutex
	failed := make(lineWriter, 100)
	c := newCore(t, func(cfg *hub.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(failed, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.HalfOpen = func() (int, int) { return 3, 2 }
		cfg.ClientAddr = func(r *http.Request) netip.Addr {
			mu.Lock()
			defer mu.Unlock()
			return addrs[r.Header.Get("X-Test")]
		}
	})
	for name, addr := range map[string]string{
		"a1": "192.0.2.1", "a2": "192.0.2.77", "a3": "::ffff:192.0.2.200", "b": "198.51.100.1", "c": "2001:db8::1",
	} {
		addrs[name] = netip.MustParseAddr(addr)
	}
	try := func(name string) (*ws.Conn, error) {
		return ws.Dial(t.Context(), c.url, ws.DialConfig{Header: http.Header{"X-Test": {name}}})
	}
	open := func(name string) *ws.Conn {
		t.Helper()
		conn, err := try(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := conn.ReadMessage(nil); err != nil { // the prelude: it is under way
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	refused := func(name string) {
		t.Helper()
		if conn, err := try(name); err == nil {
			_ = conn.Close()
			t.Errorf("%s: let in", name)
		} else if !strings.Contains(err.Error(), "503") {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := open("a1")
	open("a2")
	refused("a3") // the same /24
	open("b")
	refused("c") // three in all
	_ = first.WriteMessage([]byte("nonsense"))
	<-failed
	open("c")
}

func wantRefused(t *testing.T, a *agent) {
	t.Helper()
	if err := <-a.ended; !errors.Is(err, noise.ErrRefused) {
		t.Errorf("the agent learns %v, want ErrRefused", err)
	}
}

func TestShutdownIsToldToAgents(t *testing.T) {
	c := newCore(t, nil)
	a, b := c.online(c.register("alpha"), "alpha"), c.online(c.register("beta"), "beta")
	c.stop()
	wantCode(t, <-a.ended, wire.CodeShutdown)
	wantCode(t, <-b.ended, wire.CodeShutdown)
	if _, err := c.dial(newKey(t), noise.PurposeSession, nil); err == nil {
		t.Error("an agent got in after the end")
	}
}

func TestADroppedServerIsGone(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha", "web")
	c.hub.Drop(t.Context(), "alpha")
	wantCode(t, <-a.ended, wire.CodeDenied)
	if _, ok := c.hub.Observed()["alpha"]; ok {
		t.Error("the server is still observed")
	}
	c.hub.Drop(t.Context(), "never heard of")
}

func TestConfigIsChecked(t *testing.T) {
	good := hub.Config{Key: newKey(t), CoreID: "main", Registry: newRegistry()}
	if _, err := hub.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*hub.Config){
		"no key":      func(c *hub.Config) { c.Key = noise.PrivateKey{} },
		"no id":       func(c *hub.Config) { c.CoreID = "" },
		"long id":     func(c *hub.Config) { c.CoreID = strings.Repeat("x", 65) },
		"no registry": func(c *hub.Config) { c.Registry = nil },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := hub.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lineWriter is a log that wakes who waits for a failed handshake.
type lineWriter chan struct{}

func (w lineWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("handshake failed")) {
		w <- struct{}{}
	}
	return len(p), nil
}
