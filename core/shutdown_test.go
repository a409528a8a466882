package core_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
)

// attend starts an agent at a listener and waits until it is there. What it logs is returned.
func attend(t *testing.T, local *api.Client, server, core, ca string) *logBuffer {
	t.Helper()
	created, err := local.CreateOnboardingKey(t.Context(), api.OnboardingSpec{ServerGlob: server})
	must(t, err)
	log := &logBuffer{}
	a, err := agent.New(agent.Config{
		Dir: t.TempDir(), Server: server, Cores: []string{core}, CAFile: ca, Engine: fakeengine.New(server),
		OnboardingToken: created.Token.Secret(), Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent of %s ended with %v", server, err)
		}
	})
	for start := time.Now(); ; {
		if s, err := local.Server(t.Context(), server); err == nil && s.Online {
			return log
		}
		if time.Since(start) > patience {
			t.Fatalf("the agent of %s never comes: %s", server, log)
		}
	}
}

func TestA058OneShutdownDrainsAllListeners(t *testing.T) {
	t.Parallel()
	const drain = 2 * time.Second
	h := newHouse(t)
	tcp, secure := free(t), free(t)
	cert := certify(t, h.dir, "localhost", time.Now().Add(time.Hour))
	h.write(t, `
http.drain = "`+drain.String()+`"
[[listeners]]
name = "plain"
address = "`+tcp+`"
[[listeners]]
name = "secure"
kind = "tls"
address = "`+secure+`"
cert_file = "DIR/localhost.pem"
key_file = "DIR/localhost.key"
[[listeners]]
name = "local"
kind = "unix"
path = "DIR/core.sock"
`)
	socket := h.dir + "/core.sock"
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	done := h.run(ctx, t, func() { close(ready) })
	<-ready
	local := &api.Client{BaseURL: "http://core.sock", HTTP: overUnix(socket)}
	_, port, _ := net.SplitHostPort(secure)
	agents := map[string]*logBuffer{
		"alpha": attend(t, local, "alpha", "http://"+tcp, ""),
		"beta":  attend(t, local, "beta", "https://localhost:"+port, h.dir+"/localhost.pem"),
	}
	if status(t, overTLS(cert, "localhost"), "https://"+secure+"/readyz") != http.StatusOK {
		t.Error("the secure listener does not serve")
	}
	// A request whose body does not come is under way for longer than core waits.
	slow, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	must(t, err)
	defer func() { _ = slow.Close() }()
	_, err = io.WriteString(slow, "POST /api/v1/keys HTTP/1.1\r\nHost: core\r\nContent-Type: application/json\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n")
	must(t, err)
	answer := make([]byte, len("HTTP/1.1 100 Continue"))
	_, err = io.ReadFull(slow, answer)
	must(t, err)
	if string(answer) != "HTTP/1.1 100 Continue" {
		t.Fatalf("the request is not under way: %s", answer)
	}

	stopped := time.Now()
	cancel()
	for _, door := range [][2]string{{"tcp", tcp}, {"tcp", secure}, {"unix", socket}} {
		for refused := false; !refused; {
			conn, err := new(net.Dialer).DialContext(t.Context(), door[0], door[1])
			if refused = err != nil; !refused {
				_ = conn.Close()
			}
			if time.Since(stopped) > patience {
				t.Fatalf("%s still takes connections", door[1])
			}
		}
	}
	closed := time.Since(stopped)
	must(t, <-done)
	if took := time.Since(stopped); closed > drain || took < drain || took > drain+10*time.Second {
		t.Errorf("the listeners closed after %s, core ended after %s; it is to wait for %s", closed, took, drain)
	}
	for server, log := range agents {
		for start := time.Now(); !strings.Contains(log.String(), "the core is shutting down"); {
			if time.Since(start) > patience {
				t.Fatalf("the agent of %s is not told: %s", server, log)
			}
		}
	}
}
