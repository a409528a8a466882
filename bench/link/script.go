package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/flynn/noise"

	"github.com/varanhq/varan/wire"
)

// scriptedAgent is the other end of a handshake, made of the stock library. It answers
// within ReadMessage and counts the time that takes.
type scriptedAgent struct {
	protocol string
	purpose  byte
	named    string // the purpose in words
	static   noise.DHKey

	hs   *noise.HandshakeState
	last []byte // what the core sent last
	took time.Duration
}

func newScriptedAgent(protocol string, purpose byte, named string) (*scriptedAgent, error) {
	static, err := noise.DH25519.GenerateKeypair(rand.Reader)
	return &scriptedAgent{protocol: protocol, purpose: purpose, named: named, static: static}, err
}

// reset makes it ready for the next handshake.
func (a *scriptedAgent) reset() { a.hs, a.took = nil, 0 }

func (a *scriptedAgent) WriteMessage(p []byte) error {
	a.last = append(a.last[:0], p...)
	return nil
}

func (a *scriptedAgent) ReadMessage(buf []byte) ([]byte, error) {
	start, err := threadCPU()
	if err != nil {
		return nil, err
	}
	buf, err = a.answer(buf[:0])
	end, clockErr := threadCPU()
	a.took += end - start
	return buf, errors.Join(err, clockErr)
}

func (*scriptedAgent) SetReadDeadline(time.Time) error { return nil }

func (*scriptedAgent) Close() error { return nil }

func (a *scriptedAgent) answer(buf []byte) (_ []byte, err error) {
	if a.hs != nil { // the second message is here, the third is due
		if _, _, _, err := a.hs.ReadMessage(nil, a.last); err != nil {
			return nil, err
		}
		buf, _, _, err = a.hs.WriteMessage(buf, nil)
		return buf, err
	}
	var hint [8]byte
	a.hs, err = noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256),
		Pattern:     noise.HandshakeXX, Initiator: true, Prologue: a.prologue(hint[:], a.last), StaticKeypair: a.static,
	})
	if err != nil {
		return nil, err
	}
	buf = append(append(buf, a.purpose), hint[:]...)
	buf, _, _, err = a.hs.WriteMessage(buf, nil)
	return buf, err
}

// prologue is what both sides must agree on, as package noise describes it.
func (a *scriptedAgent) prologue(hint, prelude []byte) (b []byte) {
	part := func(p string) {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...) //nolint:gosec // short
	}
	part("varan-link")
	b = binary.BigEndian.AppendUint16(b, wire.Version)
	part(a.protocol)
	part(a.named)
	part(string(hint))
	part(string(prelude))
	return b
}
