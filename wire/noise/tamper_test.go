package noise_test

import (
	"errors"
	"testing"
	"time"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// TestN09EveryByteOfTheHandshakeCounts flips each byte of each message in turn.
func TestN09EveryByteOfTheHandshakeCounts(t *testing.T) {
	w := newWorld(t)
	w.initiator.Payload = []byte("abc")
	a, c := wire.Pipe()
	at, ct := &tap{MessageConn: a}, &tap{MessageConn: c}
	w.established(t, at, ct)
	for side, messages := range [][][]byte{at.sent, ct.sent} {
		for i, message := range messages {
			for at := range message {
				flip := func(j int, p []byte) []byte {
					if i == j {
						p[at] ^= 0x40
					}
					return p
				}
				a, c := wire.Pipe()
				if side == 0 {
					a = &tap{MessageConn: a, alter: flip}
				} else {
					c = &tap{MessageConn: c, alter: flip}
				}
				e := w.shake(t.Context(), a, c)
				if e.coreErr == nil {
					t.Fatalf("side %d, message %d, byte %d changed: the core let the agent in", side, i, at)
				}
			}
		}
	}
}

// TestN09EveryByteOfASessionCounts changes one thing in a session of three messages;
// what came before still arrives, and nothing after.
func TestN09EveryByteOfASessionCounts(t *testing.T) {
	session := func(t *testing.T, alter func(i int, p []byte) []byte) (received int) {
		t.Helper()
		w := newWorld(t)
		a, c := wire.Pipe()
		at := &tap{MessageConn: a}
		agent, core := w.established(t, at, c)
		done := len(at.sent)
		at.alter = func(i int, p []byte) []byte { return alter(i-done, p) }
		for _, text := range []string{"one", "two", "three"} {
			_ = agent.WriteMessage([]byte(text))
		}
		for {
			_ = core.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := core.ReadMessage(nil); err != nil {
				break
			}
			received++
			if received == 3 {
				return received
			}
		}
		if _, err := core.ReadMessage(nil); !errors.Is(err, noise.ErrClosed) {
			t.Errorf("after an error: %v, want ErrClosed", err)
		}
		if err := core.WriteMessage(nil); err == nil {
			t.Error("after an error the core still writes")
		}
		return received
	}
	for at := range len("two") + 16 {
		if n := session(t, func(i int, p []byte) []byte {
			if i == 1 {
				p[at] ^= 1
			}
			return p
		}); n != 1 {
			t.Errorf("byte %d changed: %d messages arrived, want 1", at, n)
		}
	}
	var first []byte
	for name, alter := range map[string]func(i int, p []byte) []byte{
		"dropped":   func(i int, p []byte) []byte { return map[bool][]byte{true: nil, false: p}[i == 1] },
		"truncated": func(i int, p []byte) []byte { return p[:len(p)-i%2] },
		"emptied":   func(i int, p []byte) []byte { return p[:len(p)*(1-i%2)] },
		"refusal":   func(i int, p []byte) []byte { return map[bool][]byte{true: {1}, false: p}[i == 1] },
		"repeated": func(i int, p []byte) []byte {
			if i == 0 {
				first = p
			}
			return map[bool][]byte{true: first, false: p}[i == 1]
		},
	} {
		if n := session(t, alter); n != 1 {
			t.Errorf("%s: %d messages arrived, want 1", name, n)
		}
	}
}
