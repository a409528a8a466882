package noise_test

import (
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"testing"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// The other end in these tests is the library as it comes, with its own Diffie-Hellman
// function, driven by the description of the handshake in the package comment alone.

func stockKey(tb testing.TB, key noise.PrivateKey) noise.StockKey {
	tb.Helper()
	block, _ := pem.Decode(keyPEM(tb, key))
	public := key.Public()
	return noise.StockKey{Private: block.Bytes[len(block.Bytes)-32:], Public: public[:]}
}

func stockPrologue(purpose string, hint, prelude []byte) (b []byte) {
	part := func(p string) { b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...) }
	part("varan-link")
	b = binary.BigEndian.AppendUint16(b, 1)
	part("Noise_XX_25519_ChaChaPoly_SHA256")
	part(purpose)
	part(string(hint))
	part(string(prelude))
	return b
}

// stockInitiate is an agent that does as it is told and checks nothing. It stops when
// the core does not answer.
func stockInitiate(tb testing.TB, conn wire.MessageConn, key noise.StockKey, purpose noise.Purpose, payload []byte) (send, recv *noise.StockCipher) {
	tb.Helper()
	prelude, err := conn.ReadMessage(nil)
	if err != nil {
		tb.Fatal(err)
	}
	hint := make([]byte, 8)
	hs, err := noise.StockHandshake(true, stockPrologue(purpose.String(), hint, prelude), key)
	if err != nil {
		tb.Fatal(err)
	}
	m1, _, _, err := hs.WriteMessage(append([]byte{byte(purpose)}, hint...), nil)
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.WriteMessage(m1)
	m2, err := conn.ReadMessage(nil)
	if err != nil {
		return nil, nil
	}
	if _, _, _, err = hs.ReadMessage(nil, m2); err != nil {
		tb.Fatal(err)
	}
	m3, send, recv, err := hs.WriteMessage(nil, payload)
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.WriteMessage(m3)
	return send, recv
}

func TestACoreUnderstandsAStockAgent(t *testing.T) {
	w := newWorld(t)
	a, c := wire.Pipe()
	type result struct {
		conn *noise.Conn
		peer noise.PeerInfo
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		conn, peer, err := noise.Respond(t.Context(), c, w.responder)
		ended <- result{conn, peer, err}
	}()
	out, in := stockInitiate(t, a, stockKey(t, w.agent), noise.PurposeSession, []byte("hi"))
	r := <-ended
	if r.err != nil || string(r.peer.Payload) != "hi" {
		t.Fatalf("%q, %v", r.peer.Payload, r.err)
	}
	for range 3 {
		message, err := out.Encrypt(nil, nil, []byte("ping"))
		if err != nil {
			t.Fatal(err)
		}
		_ = a.WriteMessage(message)
		if got, err := r.conn.ReadMessage(nil); err != nil || string(got) != "ping" {
			t.Fatalf("core got %q, %v", got, err)
		}
		if err := r.conn.WriteMessage([]byte("pong")); err != nil {
			t.Fatal(err)
		}
		message, err = a.ReadMessage(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := in.Decrypt(nil, nil, message); err != nil || string(got) != "pong" {
			t.Fatalf("agent got %q, %v", got, err)
		}
	}
}

func TestAnAgentUnderstandsAStockCore(t *testing.T) {
	w := newWorld(t)
	a, c := wire.Pipe()
	prelude := append(make([]byte, 32), "\x04main\x07Future1\x20Noise_XX_25519_ChaChaPoly_SHA256"...)
	type result struct {
		conn *noise.Conn
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		conn, err := noise.Initiate(t.Context(), a, w.initiator)
		ended <- result{conn, err}
	}()
	_ = c.WriteMessage(append([]byte(nil), prelude...))
	m1, err := c.ReadMessage(nil)
	if err != nil || len(m1) != 41 {
		t.Fatalf("first message of %d bytes, %v", len(m1), err)
	}
	hs, err := noise.StockHandshake(false, stockPrologue("session", m1[1:9], prelude), stockKey(t, w.core))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := hs.ReadMessage(nil, m1[9:]); err != nil {
		t.Fatal(err)
	}
	m2, _, _, err := hs.WriteMessage(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.WriteMessage(m2)
	m3, err := c.ReadMessage(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, in, out, err := hs.ReadMessage(nil, m3)
	if err != nil {
		t.Fatal(err)
	}
	r := <-ended
	if r.err != nil {
		t.Fatal(r.err)
	}
	message, err := out.Encrypt(nil, nil, []byte("welcome"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.WriteMessage(message)
	if got, err := r.conn.ReadMessage(nil); err != nil || string(got) != "welcome" {
		t.Fatalf("agent got %q, %v", got, err)
	}
	if err := r.conn.WriteMessage([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	message, err = c.ReadMessage(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := in.Decrypt(nil, nil, message); err != nil || string(got) != "hello" {
		t.Fatalf("core got %q, %v", got, err)
	}
}

// FuzzRespond plays an agent that sends whatever it likes before it is known.
func FuzzRespond(f *testing.F) {
	w := newWorld(f)
	f.Add(make([]byte, 41), make([]byte, 64))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, m1, m3 []byte) {
		a, c := wire.Pipe()
		_ = a.WriteMessage(m1)
		_ = a.WriteMessage(m3)
		if _, _, err := noise.Respond(t.Context(), c, w.responder); err == nil {
			t.Error("noise was taken for an agent")
		}
	})
}

// FuzzInitiate plays a core that sends whatever it likes.
func FuzzInitiate(f *testing.F) {
	w := newWorld(f)
	f.Add(append(make([]byte, 32), "\x04main\x20Noise_XX_25519_ChaChaPoly_SHA256"...), make([]byte, 96))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, prelude, m2 []byte) {
		a, c := wire.Pipe()
		_ = c.WriteMessage(prelude)
		_ = c.WriteMessage(m2)
		_, err := noise.Initiate(t.Context(), a, w.initiator)
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Initiate = %v", err)
		}
	})
}
