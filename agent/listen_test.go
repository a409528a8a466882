package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// listening is a hub and an agent that waits to be dialled by it.
type listening struct {
	*realCore

	agentAddr string
	dir       string
	logs      *logBuffer
	stop      func() // ends the agent
}

func newListening(t *testing.T, change func(*agent.Config, *realCore)) *listening {
	t.Helper()
	core := newRealCore(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listening{realCore: core, agentAddr: listener.Addr().String(), dir: t.TempDir(), logs: &logBuffer{}}
	cfg := agent.Config{
		Dir: l.dir, Server: "alpha", Engine: fakeengine.New("alpha"), CorePublicKeys: []string{core.key.Public().String()},
		Listen: agent.ListenConfig{Listener: listener}, Logger: slog.New(slog.NewTextHandler(l.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg, core)
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// dial is what core does with the address of server alpha. The result is why it ended.
func (l *listening) dial(ctx context.Context, server, scheme string) error {
	conn, err := ws.DialAgent(ctx, scheme+"://"+l.agentAddr, ws.DialConfig{
		TLS: &tls.Config{InsecureSkipVerify: true},
	})
	if err != nil {
		return err
	}
	return l.hub.Dialled(ctx, server, conn, netip.MustParseAddr("127.0.0.1"))
}

// accept has core know the key that the agent shows.
func (l *listening) accept() {
	l.t.Helper()
	refused, ok := errors.AsType[*hub.RefusedError](l.dial(l.t.Context(), "alpha", "wss"))
	if !ok || refused.Key.IsZero() {
		l.t.Fatalf("core learned no key: %v", refused)
	}
	l.registry.mu.Lock()
	l.registry.keys[refused.Key] = "alpha"
	l.registry.mu.Unlock()
}

func TestCoreDialsAnAgentThatListens(t *testing.T) {
	l := newListening(t, nil)
	l.accept() // it shows its key, since core has shown the pinned one; core does not know it yet
	ctx, hangUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.dial(ctx, "alpha", "wss") }()
	l.online()
	order := applyOrder("1", "shop", "1")
	outcome, err := l.hub.Dispatch(t.Context(), order, content{}, func(fleet.Progress) {})
	if err != nil || outcome.Status != fleet.OutcomeSucceeded {
		t.Fatalf("outcome %+v, %v", outcome, err)
	}
	// The newer of two connections is the one that counts; the older one ends.
	second := make(chan error, 1)
	go func() { second <- l.dial(ctx, "alpha", "wss") }()
	t.Logf("the older connection: %v", <-ended)
	l.online()
	if _, err := l.hub.Dispatch(t.Context(), applyOrder("2", "shop", "2"), content{}, func(fleet.Progress) {}); err != nil {
		t.Errorf("an order over the second connection: %v", err)
	}
	hangUp() // core dials the server no more
	t.Logf("the newer connection: %v", <-second)
	if l.hub.Observed()["alpha"].Online {
		t.Error("the agent is connected when core dials it no more")
	}
}

func TestACoreThatIsNotPinnedLearnsNothingByDialling(t *testing.T) {
	l := newListening(t, func(cfg *agent.Config, _ *realCore) {
		cfg.Listen.Plain = true
		cfg.CorePublicKeys = []string{mustKey(t).Public().String()}
	})
	refused, ok := errors.AsType[*hub.RefusedError](l.dial(t.Context(), "alpha", "ws"))
	if !ok || !refused.Key.IsZero() {
		t.Errorf("a core with another key learned %+v", refused)
	}
	l.stop() // it may still be about to write
	if !strings.Contains(l.logs.String(), "not pinned") {
		t.Errorf("the agent does not say so:\n%s", l.logs.String())
	}
}

func TestAnAgentThatListensJoinsWithItsToken(t *testing.T) {
	l := newListening(t, func(cfg *agent.Config, core *realCore) {
		cfg.CorePublicKeys = nil
		cfg.OnboardingToken = fleet.NewSecret(core.registry.token.Reveal())
	})
	if err := l.dial(t.Context(), "beta", "wss"); err == nil || len(l.registry.keys) > 0 {
		t.Errorf("alpha's agent joined at beta's address: %v", err)
	}
	go func() { _ = l.dial(t.Context(), "alpha", "wss") }()
	l.online()
}

func mustKey(t *testing.T) noise.PrivateKey {
	t.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheAgentAtAnAddressMustBeThatOfTheServer(t *testing.T) {
	l := newListening(t, nil)
	l.accept()
	err := l.dial(t.Context(), "beta", "wss")
	if err == nil || !strings.Contains(err.Error(), `server beta is that of server "alpha"`) {
		t.Errorf("alpha's agent at beta's address: %v", err)
	}
}

func TestOtherAddressesThanTheAllowedOnesAreClosedBeforeTLS(t *testing.T) {
	l := newListening(t, func(cfg *agent.Config, _ *realCore) {
		cfg.Listen.Allowed = []string{"10.0.0.0/8", "192.0.2.7", "fd00::/8"}
	})
	if err := l.dial(t.Context(), "alpha", "wss"); err == nil {
		t.Fatal("loopback is let in")
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.agentAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a stranger was sent something")
	}
}

func TestTheAgentMakesItsCertificateOnce(t *testing.T) {
	dir := t.TempDir()
	start := func(change func(*agent.Config)) error {
		cfg := agent.Config{
			Dir: dir, Server: "alpha", Engine: fakeengine.New("alpha"), CorePublicKeys: []string{mustKey(t).Public().String()},
			Listen: agent.ListenConfig{Address: "127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler),
		}
		if change != nil {
			change(&cfg)
		}
		a, err := agent.New(cfg)
		if err == nil {
			a.Close()
		}
		return err
	}
	if err := start(nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keys", "listen.key")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
	if err := start(nil); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the second start made another key (%v)", err)
	}
	for name, change := range map[string]func(*agent.Config){
		"half a pair":     func(c *agent.Config) { c.Listen.CertFile = "cert.pem" },
		"no such file":    func(c *agent.Config) { c.Listen.CertFile, c.Listen.KeyFile = "cert.pem", "key.pem" },
		"not an address":  func(c *agent.Config) { c.Listen.Allowed = []string{"core.example.com"} },
		"nowhere to talk": func(c *agent.Config) { c.Listen = agent.ListenConfig{} },
	} {
		if fault, ok := errors.AsType[*agent.ConfigError](start(change)); !ok || fault.Hint == "" {
			t.Errorf("%s: %v, want what to change", name, fault)
		}
	}
}

func TestManyConnectionsAtOnceComeToOneSession(t *testing.T) {
	l := newListening(t, nil)
	l.accept()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	ended := make(chan struct{}, 5)
	for range 6 {
		wg.Go(func() {
			_ = l.dial(ctx, "alpha", "wss")
			ended <- struct{}{}
		})
	}
	for range 5 {
		<-ended
	}
	l.online()
	outcome, err := l.hub.Dispatch(t.Context(), applyOrder("1", "shop", "1"), content{}, func(fleet.Progress) {})
	if err != nil || outcome.Status != fleet.OutcomeSucceeded {
		t.Errorf("outcome %+v, %v", outcome, err)
	}
	if got := l.hub.Flapping(); len(got) != 1 || got[0] != "alpha" {
		t.Errorf("flapping: %q, want alpha, which six connections were made to at once", got)
	}
	cancel()
	<-ended
	wg.Wait()
}

func TestAnAgentThatDialsTakesItsSessionBackFromACoreThatDials(t *testing.T) {
	l := newListening(t, func(cfg *agent.Config, core *realCore) { cfg.Cores = []string{"http://" + core.addr} })
	l.accept()
	l.online()
	_ = l.dial(t.Context(), "alpha", "wss") // ends because the agent's next connection is newer
	l.online()
	if _, err := l.hub.Dispatch(t.Context(), applyOrder("1", "shop", "1"), content{}, func(fleet.Progress) {}); err != nil {
		t.Error(err)
	}
}
