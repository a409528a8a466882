package agent_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire/ws"
)

// serveHTTP is a core behind a real WebSocket.
func (c *fakeCore) serveHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := ws.Upgrade(w, r)
	if err != nil {
		c.t.Errorf("upgrade: %v", err)
		return
	}
	go c.serve(conn)
}

// The default dialer, over loopback TCP: plain, and TLS with each way to trust it.
func TestTheAgentReachesCoreOverWebSocket(t *testing.T) {
	cases := map[string]struct {
		tls    bool
		change func(t *testing.T, c *agent.Config, server *httptest.Server)
	}{
		"plain": {},
		"TLS with a private authority": {true, func(t *testing.T, c *agent.Config, server *httptest.Server) {
			t.Helper()
			c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			if err := os.WriteFile(c.CAFile, ca, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"TLS with any certificate": {true, func(_ *testing.T, c *agent.Config, _ *httptest.Server) { c.InsecureSkipVerify = true }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			mux := http.NewServeMux()
			mux.HandleFunc("/ws/agent", r.core.serveHTTP)
			server := httptest.NewUnstartedServer(mux)
			if tc.tls {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer server.Close()
			r.cfg.Dial, r.cfg.Cores = nil, []string{server.URL}
			if tc.change != nil {
				tc.change(t, &r.cfg, server)
			}
			order := applyOrder("1", "shop", "1")
			order.Release.Model = r.core.put(strings.Repeat("model ", 100_000))
			r.start()
			s := r.session()
			s.mustOrder(order)
			if outcome := <-s.results; outcome.Status != fleet.OutcomeSucceeded {
				t.Errorf("outcome %+v", outcome)
			}
			s.cut()
			r.session()
			r.stopped()
		})
	}
}
