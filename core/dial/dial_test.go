package dial_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/core/dial"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// fakeHub serves what it is given until the test ends it.
type fakeHub struct {
	mu       sync.Mutex
	sessions map[string]chan error // of those that are connected, by server
	changed  chan struct{}
	refuse   error // what becomes of a connection, if it is no session
	served   int
}

func newHub() *fakeHub {
	return &fakeHub{sessions: map[string]chan error{}, changed: make(chan struct{})}
}

func (h *fakeHub) set(server string, end chan error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, server)
	if end != nil {
		h.sessions[server] = end
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *fakeHub) Dialled(ctx context.Context, server string, conn wire.MessageConn, _ netip.Addr) error {
	defer func() { _ = conn.Close() }()
	h.mu.Lock()
	refuse := h.refuse
	h.served++
	h.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	end := make(chan error, 1)
	h.set(server, end)
	defer h.set(server, nil)
	select {
	case err := <-end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *fakeHub) Connected(server string) (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[server] != nil, h.changed
}

// end ends the session of a server.
func (h *fakeHub) end(server string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions[server] <- err
}

// try is one attempt to make a connection.
type try struct {
	at     time.Time
	target dial.Target
}

// rig is a service that dials into memory.
type rig struct {
	*dial.Service
	t   *testing.T
	hub *fakeHub
	log *strings.Builder

	mu      sync.Mutex
	targets map[string]dial.Target
	fails   error
	tries   []try
}

func newRig(t *testing.T, targets map[string]dial.Target) *rig {
	t.Helper()
	r := &rig{t: t, hub: newHub(), log: &strings.Builder{}, targets: targets}
	r.Service = dial.New(dial.Config{
		Targets: func() map[string]dial.Target {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.targets
		},
		Hub: r.hub, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Open: func(_ context.Context, target dial.Target) (wire.MessageConn, netip.Addr, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tries = append(r.tries, try{time.Now(), target})
			if r.fails != nil {
				return nil, netip.Addr{}, r.fails
			}
			ours, _ := wire.Pipe()
			return ours, netip.MustParseAddr("192.0.2.1"), nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return r
}

// change lets f change what is declared and what answers.
func (r *rig) change(f func()) {
	r.t.Helper()
	r.mu.Lock()
	f()
	r.mu.Unlock()
	r.Poke()
	synctest.Wait()
}

func (r *rig) tried() []try {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

func (r *rig) connected(server string, want bool) {
	r.t.Helper()
	synctest.Wait()
	if got, _ := r.hub.Connected(server); got != want {
		r.t.Errorf("%s: connected is %v", server, got)
	}
}

func one(address string) map[string]dial.Target {
	return map[string]dial.Target{"alpha": {Address: address}}
}

func TestAnAgentThatDoesNotAnswerIsTriedLessAndLessUpToAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.change(func() { r.targets, r.fails = one("10.0.0.5"), errors.New("connection refused") })
		if state, ok := r.State("alpha"); !ok || state.Text != "connection refused" || state.Address != "10.0.0.5" {
			t.Errorf("state %+v, %v", state, ok)
		}
		time.Sleep(30 * time.Minute)
		tries := r.tried()
		// With full jitter half a minute on average, once the ceiling is reached.
		if n := len(tries); n < 30 || n > 120 {
			t.Errorf("%d tries in half an hour", n)
		}
		for i := 1; i < len(tries); i++ {
			if wait, most := tries[i].at.Sub(tries[i-1].at), min(time.Minute, time.Second<<min(i-1, 10)); wait > most {
				t.Errorf("try %d came after %v, want at most %v", i, wait, most)
			}
		}
		if n := strings.Count(r.log.String(), "connection refused"); n != 1 {
			t.Errorf("what lasts was logged %d times", n)
		}
		r.change(func() { r.fails = nil })
		r.Now("alpha") // somebody accepted its key
		r.connected("alpha", true)
		if state, _ := r.State("alpha"); state.Text != "connected" {
			t.Errorf("state %+v", state)
		}
	})
}

func TestASessionThatEndsIsFollowedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, one("10.0.0.5"))
		r.connected("alpha", true)
		time.Sleep(time.Hour)
		if n := len(r.tried()); n != 1 {
			t.Errorf("%d connections while one is there", n)
		}
		r.hub.end("alpha", errors.New("cut"))
		time.Sleep(time.Second) // after a session worth having there is not much of a wait
		r.connected("alpha", true)
		time.Sleep(21 * time.Hour)
		if n := len(r.tried()); n != 3 {
			t.Errorf("%d connections, want a new one beside the good one before its keys get old", n)
		}
		r.connected("alpha", true)
	})
}

func TestNobodyIsDialledWhoseAgentIsConnectedAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.hub.set("alpha", make(chan error, 1)) // it dialled
		r.change(func() { r.targets = one("10.0.0.5") })
		time.Sleep(time.Hour)
		if n := len(r.tried()); n != 0 {
			t.Errorf("%d tries", n)
		}
		r.hub.set("alpha", nil)
		time.Sleep(time.Second)
		r.connected("alpha", true)
		if n := len(r.tried()); n != 1 {
			t.Errorf("%d tries when it had gone", n)
		}
	})
}

func TestWhatACommitSaysOfAnAddressHoldsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, map[string]dial.Target{"alpha": {Address: "10.0.0.5"}, "beta": {Address: "10.0.0.6"}})
		r.connected("alpha", true)
		r.connected("beta", true)
		for _, moved := range []dial.Target{{Address: "10.0.0.7"}, {Address: "10.0.0.7", VerifyTLS: true}} {
			r.change(func() { r.targets = map[string]dial.Target{"alpha": moved, "beta": {Address: "10.0.0.6"}} })
			r.connected("alpha", true)
			if tries := r.tried(); tries[len(tries)-1].target != moved {
				t.Errorf("after the change to %+v the last try was %+v", moved, tries[len(tries)-1])
			}
		}
		if n := len(r.tried()); n != 4 {
			t.Errorf("%d tries: beta's connection has nothing to do with it", n)
		}
		// The address leaves Git, or the server is disabled.
		r.change(func() { r.targets = map[string]dial.Target{"beta": {Address: "10.0.0.6"}} })
		r.connected("alpha", false)
		r.connected("beta", true)
		if _, ok := r.State("alpha"); ok {
			t.Error("there is a state of a server that is not dialled")
		}
		time.Sleep(time.Hour)
		if n := len(r.tried()); n != 4 {
			t.Errorf("%d tries after the address was gone", n)
		}
	})
}

func TestAnAddressThatWasNeverToldOfIsFoundWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.mu.Lock()
		r.targets = one("10.0.0.5")
		r.mu.Unlock()
		time.Sleep(time.Minute + time.Second)
		r.connected("alpha", true)
	})
}

func TestTheKeyOfAnAgentThatNobodyAcceptedIsKeptForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := noise.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, nil)
		r.hub.refuse = &hub.RefusedError{Key: key.Public(), Err: errors.New("nobody has this key")}
		r.change(func() { r.targets = one("10.0.0.5") })
		state, _ := r.State("alpha")
		if state.AttemptedKey != key.Public().String() || state.AttemptedFingerprint != key.Public().Fingerprint().String() ||
			state.Text != "nobody has this key" {
			t.Errorf("state %+v", state)
		}
		// It stays through other failures, and goes with a session.
		r.change(func() { r.fails = errors.New("connection refused") })
		time.Sleep(5 * time.Minute)
		if state, _ := r.State("alpha"); state.AttemptedKey == "" || state.Text != "connection refused" {
			t.Errorf("state after another failure %+v", state)
		}
		r.hub.mu.Lock()
		r.hub.refuse = nil
		r.hub.mu.Unlock()
		r.change(func() { r.fails = nil })
		r.Now("alpha")
		r.connected("alpha", true)
		if state, _ := r.State("alpha"); state.AttemptedKey != "" || state.Text != "connected" {
			t.Errorf("state of a session %+v", state)
		}
	})
}

// What a commit says must not lead core to what clouds offer to a machine itself, with a proxy
// in between or without.
func TestCoreDialsNoLinkLocalAddress(t *testing.T) {
	for _, address := range []string{
		"169.254.169.254", "http://169.254.169.254/latest", "[fe80::1%25eth0]:80", "fe80::1", "[::ffff:169.254.169.254]:80",
		"ws://[fd00:ec2::254]", "0.0.0.0", "[::]:8120", "224.0.0.1",
	} {
		if _, _, err := dial.Open(t.Context(), dial.Target{Address: address}); err == nil || !strings.Contains(err.Error(), "core dials no link-local") {
			t.Errorf("core dials %s: %v", address, err)
		}
	}
	if _, _, err := dial.Open(t.Context(), dial.Target{Address: "http://user:canary@10.0.0.5"}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("an address with a login: %v", err)
	}
}
