package noise_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

const coreID = "main"

// world is an agent and a core that know each other.
type world struct {
	agent, core noise.PrivateKey
	initiator   noise.InitiatorConfig
	responder   noise.ResponderConfig
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{agent: newKey(tb), core: newKey(tb)}
	w.initiator = noise.InitiatorConfig{
		Key: w.agent, Pins: []wire.Fingerprint{w.core.Public().Fingerprint()}, Purpose: noise.PurposeSession,
	}
	w.responder = noise.ResponderConfig{
		Key: w.core, CoreID: coreID,
		Authenticate: func(_ context.Context, peer noise.PeerInfo) error {
			if peer.Key != w.agent.Public() {
				return fmt.Errorf("unknown key %v", peer.Key)
			}
			return nil
		},
	}
	return w
}

// ends is what came of a handshake.
type ends struct {
	agent, core       *noise.Conn
	peer              noise.PeerInfo
	agentErr, coreErr error
}

// shake runs a handshake over two ends of a connection.
func (w *world) shake(ctx context.Context, a, c wire.MessageConn) (e ends) {
	var wg sync.WaitGroup
	wg.Go(func() { e.core, e.peer, e.coreErr = noise.Respond(ctx, c, w.responder) })
	e.agent, e.agentErr = noise.Initiate(ctx, a, w.initiator)
	wg.Wait()
	return e
}

func (w *world) established(t *testing.T, a, c wire.MessageConn) (agent, core *noise.Conn) {
	t.Helper()
	e := w.shake(t.Context(), a, c)
	if e.agentErr != nil || e.coreErr != nil {
		t.Fatalf("handshake: agent %v, core %v", e.agentErr, e.coreErr)
	}
	t.Cleanup(func() {
		_ = e.agent.Close()
		_ = e.core.Close()
	})
	return e.agent, e.core
}

// tap sits between the two ends and may change or swallow each message.
type tap struct {
	wire.MessageConn
	mu    sync.Mutex
	sent  [][]byte
	alter func(i int, p []byte) []byte // nil result: nothing is sent
}

func (t *tap) WriteMessage(p []byte) error {
	t.mu.Lock()
	i := len(t.sent)
	t.sent = append(t.sent, bytes.Clone(p))
	t.mu.Unlock()
	if t.alter != nil {
		if p = t.alter(i, bytes.Clone(p)); p == nil {
			return nil
		}
	}
	return t.MessageConn.WriteMessage(p)
}

func send(t *testing.T, from, to *noise.Conn, text string) {
	t.Helper()
	if err := from.WriteMessage([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got, err := to.ReadMessage(nil)
	if err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

func TestBothSidesKnowEachOther(t *testing.T) {
	w := newWorld(t)
	w.initiator.Payload = bytes.Repeat([]byte("p"), noise.MaxPayload)
	w.initiator.Purpose = noise.PurposeOnboard
	a, c := wire.Pipe()
	e := w.shake(t.Context(), a, c)
	if e.agentErr != nil || e.coreErr != nil {
		t.Fatalf("agent %v, core %v", e.agentErr, e.coreErr)
	}
	if e.agent.Peer() != w.core.Public() || e.core.Peer() != w.agent.Public() || e.peer.Key != w.agent.Public() {
		t.Error("a side took the other for somebody else")
	}
	if e.peer.Purpose != noise.PurposeOnboard || !bytes.Equal(e.peer.Payload, w.initiator.Payload) {
		t.Errorf("the core understood %v and %d bytes", e.peer.Purpose, len(e.peer.Payload))
	}
	for range 3 {
		send(t, e.agent, e.core, "hello")
		send(t, e.core, e.agent, "welcome")
	}
	for _, size := range []int{0, 1, wire.MaxMessage - 16} {
		send(t, e.core, e.agent, string(make([]byte, size)))
	}
	if err := e.agent.WriteMessage(make([]byte, wire.MaxMessage-15)); err == nil {
		t.Error("a message that no frame can carry was accepted")
	}
}

func TestN01NothingReadableCrossesTheWire(t *testing.T) {
	w := newWorld(t)
	const canary = "canary-of-the-coal-mine"
	w.initiator.Payload = []byte(canary)
	a, c := wire.Pipe()
	at, ct := &tap{MessageConn: a}, &tap{MessageConn: c}
	agent, core := w.established(t, at, ct)
	for range 4 {
		send(t, agent, core, canary)
		send(t, core, agent, canary)
	}
	public := w.agent.Public()
	for _, message := range append(at.sent, ct.sent...) {
		if bytes.Contains(message, []byte(canary)) || bytes.Contains(message, public[:]) {
			t.Errorf("readable: %q", message)
		}
	}
}

func TestN02TheAgentSaysNothingToAnotherCore(t *testing.T) {
	w := newWorld(t)
	impostor := newKey(t)
	w.responder.Key = impostor
	a, c := wire.Pipe()
	at := &tap{MessageConn: a}
	e := w.shake(t.Context(), at, c)
	pin, ok := errors.AsType[*noise.PinError](e.agentErr)
	if !ok || pin.Got != impostor.Public().Fingerprint() {
		t.Errorf("the agent says %v", e.agentErr)
	}
	if e.coreErr == nil {
		t.Error("the impostor got through")
	}
	if len(at.sent) != 1 {
		t.Errorf("the agent sent %d messages, want only the first", len(at.sent))
	}
}

func TestN03ThereIsNoTrustOnFirstUse(t *testing.T) {
	w := newWorld(t)
	pin := w.initiator.Pins[0]
	for _, pins := range [][]wire.Fingerprint{nil, {}, {pin, pin, pin}} {
		w.initiator.Pins = pins
		a, c := wire.Pipe()
		if _, err := noise.Initiate(t.Context(), a, w.initiator); err == nil {
			t.Errorf("the agent dialed with %d pins", len(pins))
		}
		if err := c.WriteMessage(nil); err == nil {
			t.Error("the connection is still open")
		}
	}
}

func TestN04TheCoreKnowsAnAgentByItsKeyOnly(t *testing.T) {
	w := newWorld(t)
	w.initiator.Key = newKey(t)
	w.initiator.Payload = []byte(w.agent.Public().String())
	a, c := wire.Pipe()
	e := w.shake(t.Context(), a, c)
	if e.coreErr == nil || e.core != nil {
		t.Fatal("a stranger was let in")
	}
	if e.agentErr != nil {
		t.Fatal(e.agentErr)
	}
	if _, err := e.agent.ReadMessage(nil); !errors.Is(err, noise.ErrRefused) {
		t.Errorf("the agent learns %v, want ErrRefused", err)
	}
	if err := e.agent.WriteMessage([]byte("x")); err == nil {
		t.Error("the agent's connection is still open")
	}
}

func TestN05WhatIsSaidInTheClearChangesNothing(t *testing.T) {
	changes := map[string]struct {
		message int // of the side that sends it
		byCore  bool
		alter   func(p []byte) []byte
	}{
		"another nonce":          {0, true, func(p []byte) []byte { p[5] ^= 1; return p }},
		"another core id":        {0, true, func(p []byte) []byte { p[34] ^= 1; return p }},
		"one more protocol":      {0, true, func(p []byte) []byte { return append(p, 1, 'X') }},
		"another purpose":        {0, false, func(p []byte) []byte { p[0] = byte(noise.PurposeOnboard); return p }},
		"another pin hint":       {0, false, func(p []byte) []byte { p[1] ^= 1; return p }},
		"a protocol taken away":  {0, true, func(p []byte) []byte { return p[:37] }},
		"a purpose out of range": {0, false, func(p []byte) []byte { p[0] = 3; return p }},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, c := wire.Pipe()
			alter := func(i int, p []byte) []byte {
				if i == change.message {
					return change.alter(p)
				}
				return p
			}
			at, ct := &tap{MessageConn: a}, &tap{MessageConn: c}
			if change.byCore {
				ct.alter = alter
			} else {
				at.alter = alter
			}
			e := w.shake(t.Context(), at, ct)
			if e.agentErr == nil || e.coreErr == nil {
				t.Errorf("the handshake went through: agent %v, core %v", e.agentErr, e.coreErr)
			}
			if _, shown := errors.AsType[*noise.PinError](e.agentErr); shown {
				t.Error("the agent got to see a key")
			}
		})
	}
	w := newWorld(t)
	w.initiator.CoreID = "another"
	a, c := wire.Pipe()
	if e := w.shake(t.Context(), a, c); e.agentErr == nil {
		t.Error("a core with another id than asked for was accepted")
	}
}

func TestN06OwnKeyIsNoPeer(t *testing.T) {
	w := newWorld(t)
	w.initiator.Key, w.agent = w.core, w.core
	a, c := wire.Pipe()
	if e := w.shake(t.Context(), a, c); e.agentErr == nil || e.coreErr == nil {
		t.Errorf("agent %v, core %v: a side spoke with itself", e.agentErr, e.coreErr)
	}
	// The core's own check, against an agent that does not check.
	w = newWorld(t)
	a, c = wire.Pipe()
	ended := make(chan error, 1)
	w.responder.Authenticate = func(context.Context, noise.PeerInfo) error { return nil }
	go func() {
		_, _, err := noise.Respond(t.Context(), c, w.responder)
		ended <- err
	}()
	stockInitiate(t, a, stockKey(t, w.core), noise.PurposeSession, nil)
	if err := <-ended; err == nil {
		t.Error("the core let itself in")
	}
}

// lowOrderPoints are the points of Curve25519 and its twist whose order is so small
// that a shared secret with them is no secret, with the encodings that reduce to them.
func lowOrderPoints(t *testing.T) (points [][]byte) {
	t.Helper()
	for _, s := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		point, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		masked := bytes.Clone(point)
		masked[31] |= 0x80 // the top bit is ignored
		points = append(points, point, masked)
	}
	return points
}

func TestN07PointsOfLowOrderAreRefused(t *testing.T) {
	w := newWorld(t)
	for i, point := range lowOrderPoints(t) {
		a, c := wire.Pipe()
		substitute := func(at int) func(int, []byte) []byte {
			return func(i int, p []byte) []byte {
				if i == at {
					copy(p[len(p)-32:], point)
				}
				return p
			}
		}
		e := w.shake(t.Context(), &tap{MessageConn: a, alter: substitute(0)}, c)
		if e.coreErr == nil {
			t.Errorf("point %d as the agent's ephemeral key: accepted", i)
		}
		a, c = wire.Pipe()
		e = w.shake(t.Context(), a, &tap{MessageConn: c, alter: func(i int, p []byte) []byte {
			if i == 1 {
				copy(p, point)
			}
			return p
		}})
		if e.agentErr == nil {
			t.Errorf("point %d as the core's ephemeral key: accepted", i)
		}
		// As static keys: somebody claims the key, whose secret is known to all.
		a, c = wire.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, _, err := noise.Respond(t.Context(), c, noise.ResponderConfig{
				Key: w.core, CoreID: coreID,
				Authenticate: func(context.Context, noise.PeerInfo) error { return nil },
			})
			ended <- err
		}()
		forged := noise.StockKey{Private: make([]byte, 32), Public: point}
		stockInitiate(t, a, forged, noise.PurposeSession, nil)
		if err := <-ended; err == nil {
			t.Errorf("point %d as the agent's static key: accepted", i)
		}
	}
}

func TestN08SizesAreExact(t *testing.T) {
	first := append([]byte{1}, make([]byte, 40)...)
	for _, size := range []int{0, 1, 31, 32, 40, 42, 4096, 65535} {
		w := newWorld(t)
		a, c := wire.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, _, err := noise.Respond(t.Context(), c, w.responder)
			ended <- err
		}()
		if _, err := a.ReadMessage(nil); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, size)
		copy(message, first)
		_ = a.WriteMessage(message)
		if err := <-ended; err == nil {
			t.Errorf("a first message of %d bytes was accepted", size)
		}
		if got, err := a.ReadMessage(nil); err == nil {
			t.Errorf("a first message of %d bytes was answered by %d bytes", size, len(got))
		}
	}
	w := newWorld(t)
	w.initiator.Payload = make([]byte, noise.MaxPayload+1)
	a, c := wire.Pipe()
	if _, err := noise.Initiate(t.Context(), a, w.initiator); err == nil {
		t.Error("too large a payload was sent")
	}
	_ = c.Close()
	for _, size := range []int{noise.MaxPayload, noise.MaxPayload + 1} {
		w := newWorld(t)
		a, c := wire.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, _, err := noise.Respond(t.Context(), c, w.responder)
			ended <- err
		}()
		stockInitiate(t, a, stockKey(t, w.agent), noise.PurposeSession, make([]byte, size))
		if err := <-ended; (err == nil) != (size == noise.MaxPayload) {
			t.Errorf("payload of %d bytes: %v", size, err)
		}
	}
	for _, prelude := range [][]byte{
		{},
		make([]byte, 31), make([]byte, 32), make([]byte, 33), make([]byte, 513),
		append(make([]byte, 32), 255), append(make([]byte, 32), append([]byte{65}, make([]byte, 65)...)...),
	} {
		w := newWorld(t)
		a, c := wire.Pipe()
		_ = c.WriteMessage(prelude)
		if _, err := noise.Initiate(t.Context(), a, w.initiator); err == nil {
			t.Errorf("a prelude of %d bytes was accepted", len(prelude))
		}
	}
}

func TestN10ManySendersKeepTheOrderOfNonces(t *testing.T) {
	w := newWorld(t)
	a, c := wire.Pipe()
	agent, core := w.established(t, a, c)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 20 {
				if err := agent.WriteMessage(binary.BigEndian.AppendUint64(nil, uint64(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 64 * 20 {
		if _, err := core.ReadMessage(nil); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestN11ConnectionsWearOut(t *testing.T) {
	w := newWorld(t)
	a, c := wire.Pipe()
	agent, core := w.established(t, a, c)
	age := time.Until(agent.RenewAt())
	if age < 21*time.Hour || age > 27*time.Hour {
		t.Errorf("due after %v, want 24h give or take a tenth", age)
	}
	now := time.Now()
	if agent.NeedsRenewal(now) || !agent.NeedsRenewal(now.Add(27*time.Hour)) {
		t.Error("age does not decide on renewal")
	}
	for _, conn := range []*noise.Conn{agent, core} {
		conn.SetNonces(1 << 32)
	}
	if !agent.NeedsRenewal(now) {
		t.Error("after 2^32 messages no renewal is due")
	}
	send(t, agent, core, "still works, so that a new connection can be made first")
	for _, nonce := range []uint64{1 << 33, 1<<64 - 1} {
		w := newWorld(t)
		a, c := wire.Pipe()
		agent, core := w.established(t, a, c)
		agent.SetNonces(nonce)
		if err := agent.WriteMessage(nil); err == nil {
			t.Errorf("nonce %d was used", nonce)
		}
		if _, err := core.ReadMessage(nil); err == nil {
			t.Error("the connection is still open")
		}
	}
}

func TestN13ABindingBelongsToOneConnection(t *testing.T) {
	w := newWorld(t)
	seen := map[[32]byte]bool{}
	for range 4 {
		a, c := wire.Pipe()
		agent, core := w.established(t, a, c)
		if agent.Binding() != core.Binding() {
			t.Error("the two ends have different bindings")
		}
		if seen[agent.Binding()] {
			t.Error("two connections have the same binding")
		}
		seen[agent.Binding()] = true
	}
}

// TestN14TwoKeysAreAcceptedNeverThree changes keys at random. An agent gets in exactly
// if it pins a key that the core holds and hints at it.
func TestN14TwoKeysAreAcceptedNeverThree(t *testing.T) {
	keys := []noise.PrivateKey{newKey(t), newKey(t), newKey(t)}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		pick := func(name string) int { return rapid.IntRange(0, 2).Draw(rt, name) }
		current, next, pin := pick("current"), pick("next"), pick("pin")
		w.responder.Key = keys[current]
		if rapid.Bool().Draw(rt, "rotating") {
			w.responder.Other = keys[next]
		} else {
			next = current
		}
		w.initiator.Pins = []wire.Fingerprint{keys[pin].Public().Fingerprint()}
		a, c := wire.Pipe()
		e := w.shake(t.Context(), a, c)
		if in, want := e.agentErr == nil && e.coreErr == nil, pin == current || pin == next; in != want {
			rt.Errorf("core holds %d and %d, agent pins %d: in = %v (%v, %v)", current, next, pin, in, e.agentErr, e.coreErr)
		}
	})
}

func TestAHandshakeEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for name, side := range map[string]func(conn wire.MessageConn) error{
			"core": func(conn wire.MessageConn) error {
				_, _, err := noise.Respond(t.Context(), conn, w.responder)
				return err
			},
			"agent": func(conn wire.MessageConn) error {
				_, err := noise.Initiate(t.Context(), conn, w.initiator)
				return err
			},
		} {
			_, conn := wire.Pipe()
			start := time.Now()
			if err := side(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			if took := time.Since(start); took != noise.Timeout {
				t.Errorf("%s: ended after %v, want %v", name, took, noise.Timeout)
			}
		}
	})
}

func TestAHandshakeEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, conn := wire.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, _, err := noise.Respond(ctx, conn, w.responder)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Respond = %v, want context.Canceled", err)
	}
}

func TestSlotsBoundTheHandshakesThatCompute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.responder.Slots = make(chan struct{}, 1)
		w.responder.Slots <- struct{}{} // somebody else computes
		a, c := wire.Pipe()
		result := make(chan ends, 1)
		go func() { result <- w.shake(t.Context(), a, c) }()
		synctest.Wait()
		select {
		case <-result:
			t.Fatal("the handshake did not wait for its slot")
		default:
		}
		<-w.responder.Slots
		if e := <-result; e.agentErr != nil || e.coreErr != nil {
			t.Errorf("agent %v, core %v", e.agentErr, e.coreErr)
		}
		if len(w.responder.Slots) != 0 {
			t.Error("the slot was not given back")
		}
	})
}
