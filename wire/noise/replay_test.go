package noise_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// recorder keeps what it reads as well as what is written.
type recorder struct {
	tap

	got [][]byte
}

func (r *recorder) ReadMessage(buf []byte) ([]byte, error) {
	p, err := r.MessageConn.ReadMessage(buf)
	if err == nil {
		r.got = append(r.got, bytes.Clone(p))
	}
	return p, err
}

// recorded is what both sides of a good session said.
func recorded(t *testing.T, w *world) (agentSaid, coreSaid [][]byte) {
	t.Helper()
	a, c := wire.Pipe()
	r := &recorder{tap: tap{MessageConn: a}}
	agent, core := w.established(t, r, c)
	send(t, agent, core, "hello")
	send(t, core, agent, "welcome")
	return r.sent, r.got
}

// say writes messages, and reads what comes until the connection ends.
func say(conn wire.MessageConn, messages [][]byte) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := conn.ReadMessage(nil); err != nil {
				return
			}
		}
	})
	for _, p := range messages {
		if conn.WriteMessage(p) != nil {
			break
		}
	}
	wg.Wait()
}

// What somebody recorded of a session opens none: each side brings a new key to every one.
func TestP04WhatWasRecordedOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		agentSaid, coreSaid := recorded(t, w)

		ours, theirs := wire.Pipe()
		go say(theirs, agentSaid)
		if conn, _, err := noise.Respond(t.Context(), ours, w.responder); err == nil {
			_ = conn.Close()
			t.Error("core took the messages of an earlier session of the agent")
		}
		_ = ours.Close()

		ours, theirs = wire.Pipe()
		go say(theirs, coreSaid)
		if conn, err := noise.Initiate(t.Context(), ours, w.initiator); err == nil {
			_ = conn.Close()
			t.Error("the agent took the messages of an earlier session of core")
		}
		_ = ours.Close()
	})
}

func TestP04AProofBelongsToOneSession(t *testing.T) {
	w := newWorld(t)
	agentSaid, coreSaid := recorded(t, w)
	last := agentSaid[1] // m3, in which the agent proves its key
	for name, proof := range map[string]func(r *recorder) []byte{
		"of another session":         func(*recorder) []byte { return last },
		"core's own, sent back":      func(r *recorder) []byte { return r.got[len(r.got)-1] },
		"core's of another session":  func(*recorder) []byte { return coreSaid[1] },
		"the agent's first, again":   func(r *recorder) []byte { return r.sent[0] },
		"one and what was after it":  func(*recorder) []byte { return bytes.Join(agentSaid[1:3], nil) },
		"nothing at all":             func(*recorder) []byte { return []byte{} },
		"its own, and a second time": func(r *recorder) []byte { return append(r.sent[1], r.sent[1]...) },
	} {
		asked := false
		responder := w.responder
		responder.Authenticate = func(ctx context.Context, info noise.PeerInfo) error {
			asked = true
			return w.responder.Authenticate(ctx, info)
		}
		a, c := wire.Pipe()
		r := &recorder{tap: tap{MessageConn: a}}
		r.alter = func(i int, p []byte) []byte {
			if i == 1 {
				return proof(r)
			}
			return p
		}
		with := *w
		with.responder = responder
		if e := with.shake(t.Context(), r, c); e.coreErr == nil || asked {
			t.Errorf("a proof that is %s: core says %v, and asked whose key it is: %v", name, e.coreErr, asked)
		}
		_ = a.Close()
	}
}
