package noise

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/flynn/noise"

	"github.com/varanhq/varan/wire"
)

// Protocol is the one protocol spoken here; a later one gets a name of its own.
const Protocol = "Noise_XX_25519_ChaChaPoly_SHA256"

// Timeout bounds a handshake as a whole.
const Timeout = 5 * time.Second

// MaxPayload bounds what an agent can say in m3.
const MaxPayload = 4 << 10

const (
	linkName   = "varan-link"
	nonceSize  = 32
	maxCoreID  = 64
	hintSize   = 8
	m1Size     = 1 + hintSize + 32
	m2Size     = 32 + 32 + tagSize + tagSize
	m3Overhead = 32 + tagSize + tagSize
	refusal    = 1 // the byte a core says no with
)

// Purpose is why an agent connects. The agent chooses it; nothing a core says before
// it is authenticated can change it.
type Purpose uint8

// The purposes.
const (
	// PurposeSession: the agent's key is known to the core.
	PurposeSession Purpose = 1
	// PurposeOnboard: the agent brings an onboarding token in its payload.
	PurposeOnboard Purpose = 2
)

// String is "session" or "onboard".
func (p Purpose) String() string {
	switch p {
	case PurposeSession:
		return "session"
	case PurposeOnboard:
		return "onboard"
	}
	return fmt.Sprintf("purpose(%d)", uint8(p))
}

func (p Purpose) valid() bool { return p == PurposeSession || p == PurposeOnboard }

// PinError says that the core showed a key that is not pinned: it is another core, or
// someone in between.
type PinError struct {
	// Got is the fingerprint of the key it showed.
	Got wire.Fingerprint
}

// Error tells the fingerprint, so that a person can compare it.
func (e *PinError) Error() string {
	return fmt.Sprintf("the core's key has the fingerprint %s, which is not pinned", e.Got)
}

// InitiatorConfig is the agent's side of a handshake.
type InitiatorConfig struct {
	// Key is the agent's own key; required.
	Key PrivateKey
	// Pins are the fingerprints of the core's key, and of its next one while it changes;
	// one or two are required.
	Pins []wire.Fingerprint
	// Purpose is required.
	Purpose Purpose
	// CoreID is the id the core must have. Optional: the pin is what counts.
	CoreID string
	// Payload is sent to the core, and to nobody else; optional, at most MaxPayload bytes.
	Payload []byte
}

func (c InitiatorConfig) validate() error {
	switch {
	case c.Key.IsZero():
		return errors.New("no private key")
	case len(c.Pins) == 0:
		return errors.New("no pinned core key")
	case len(c.Pins) > 2:
		return errors.New("more than two pinned core keys")
	case !c.Purpose.valid():
		return fmt.Errorf("unknown %v", c.Purpose)
	case len(c.Payload) > MaxPayload:
		return fmt.Errorf("payload of %d bytes", len(c.Payload))
	}
	return nil
}

// ResponderConfig is the core's side of a handshake.
type ResponderConfig struct {
	// Key is the core's own key; required.
	Key PrivateKey
	// Other is the key that will take its place, or had it before: agents whose pin hint names
	// it are shown that one. Optional.
	Other PrivateKey
	// CoreID is told to agents before they know who they talk to; at most 64 bytes.
	CoreID string
	// Authenticate decides whether the agent may come in; required. The agent learns no
	// reason, so the error may tell all.
	Authenticate func(ctx context.Context, peer PeerInfo) error
	// Slots bounds how many handshakes compute their answer to the first message at the
	// same time: each puts a value in while it does. Optional, default no bound.
	Slots chan struct{}
}

// PeerInfo is what a core knows of an agent after its handshake. The key is proven;
// the payload is what the owner of the key says.
type PeerInfo struct {
	Key     PublicKey
	Purpose Purpose
	Payload []byte
	// Shown is the key of the core that the agent was shown, and accepted.
	Shown PublicKey
}

// Initiate performs the agent's side of a handshake. conn is closed on any error.
func Initiate(ctx context.Context, conn wire.MessageConn, cfg InitiatorConfig) (*Conn, error) {
	if err := cfg.validate(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("noise handshake: %w", err)
	}
	var secured *Conn
	err := withTimeout(ctx, conn, func() (err error) {
		secured, err = initiate(conn, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("noise handshake: %w", err)
	}
	return secured, nil
}

func initiate(conn wire.MessageConn, cfg InitiatorConfig) (*Conn, error) {
	buf, err := conn.ReadMessage(make([]byte, 0, 512))
	if err != nil {
		return nil, fmt.Errorf("read prelude: %w", err)
	}
	offer, err := parsePrelude(buf)
	if err != nil {
		return nil, err
	}
	if cfg.CoreID != "" && offer.coreID != cfg.CoreID {
		return nil, errors.New("the core has another id")
	}
	hint := cfg.Pins[0][:hintSize]
	hs, err := newHandshake(cfg.Key, true, prologue(cfg.Purpose, hint, buf))
	if err != nil {
		return nil, err
	}
	m1 := append(append(make([]byte, 0, 128), byte(cfg.Purpose)), hint...)
	m1, _, _, err = hs.WriteMessage(m1, nil)
	if err != nil {
		return nil, fmt.Errorf("compute first message: %w", err)
	}
	if err := conn.WriteMessage(m1); err != nil {
		return nil, fmt.Errorf("write first message: %w", err)
	}
	m2, err := conn.ReadMessage(buf)
	if err != nil {
		return nil, fmt.Errorf("read second message: %w", err)
	}
	if len(m2) != m2Size {
		return nil, fmt.Errorf("second message of %d bytes", len(m2))
	}
	if _, _, _, err := hs.ReadMessage(nil, m2); err != nil {
		return nil, fmt.Errorf("second message: %w", err)
	}
	// Before the core learns who the agent is, the agent must know who the core is.
	core := PublicKey(hs.PeerStatic())
	if core == cfg.Key.Public() {
		return nil, errReflected
	}
	if !slices.Contains(cfg.Pins, core.Fingerprint()) {
		return nil, &PinError{Got: core.Fingerprint()}
	}
	m3, send, recv, err := hs.WriteMessage(make([]byte, 0, m3Overhead+len(cfg.Payload)), cfg.Payload)
	if err != nil {
		return nil, fmt.Errorf("compute third message: %w", err)
	}
	if err := conn.WriteMessage(m3); err != nil {
		return nil, fmt.Errorf("write third message: %w", err)
	}
	return newConn(conn, hs, send, recv), nil
}

var errReflected = errors.New("the peer shows our own key")

// Respond performs the core's side of a handshake. conn is closed on any error.
func Respond(ctx context.Context, conn wire.MessageConn, cfg ResponderConfig) (*Conn, PeerInfo, error) {
	var secured *Conn
	var peer PeerInfo
	err := withTimeout(ctx, conn, func() (err error) {
		secured, peer, err = respond(ctx, conn, cfg)
		if err != nil {
			return err
		}
		if err := cfg.Authenticate(ctx, peer); err != nil {
			_ = conn.WriteMessage([]byte{refusal})
			return fmt.Errorf("authenticate %s: %w", peer.Key.Fingerprint(), err)
		}
		return nil
	})
	if err != nil {
		return nil, peer, fmt.Errorf("noise handshake: %w", err)
	}
	return secured, peer, nil
}

func respond(ctx context.Context, conn wire.MessageConn, cfg ResponderConfig) (*Conn, PeerInfo, error) {
	if cfg.Key.IsZero() || len(cfg.CoreID) > maxCoreID {
		return nil, PeerInfo{}, errors.New("no private key, or a core id that is too long")
	}
	prelude := newPrelude(cfg.CoreID)
	// The copy is sent, as a connection may overwrite what it sends.
	if err := conn.WriteMessage(bytes.Clone(prelude)); err != nil {
		return nil, PeerInfo{}, fmt.Errorf("write prelude: %w", err)
	}
	buf, err := conn.ReadMessage(make([]byte, 0, 128))
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("read first message: %w", err)
	}
	if len(buf) != m1Size {
		return nil, PeerInfo{}, fmt.Errorf("first message of %d bytes", len(buf))
	}
	purpose, hint, m1 := Purpose(buf[0]), buf[1:1+hintSize], buf[1+hintSize:]
	if !purpose.valid() {
		return nil, PeerInfo{}, fmt.Errorf("unknown %v", purpose)
	}
	key := cfg.Key
	if !cfg.Other.IsZero() {
		if other := cfg.Other.Public().Fingerprint(); bytes.Equal(hint, other[:hintSize]) {
			key = cfg.Other
		}
	}
	hs, err := newHandshake(key, false, prologue(purpose, hint, prelude))
	if err != nil {
		return nil, PeerInfo{}, err
	}
	m2, err := answerFirst(ctx, cfg.Slots, hs, m1)
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("first message: %w", err)
	}
	if err := conn.WriteMessage(m2); err != nil {
		return nil, PeerInfo{}, fmt.Errorf("write second message: %w", err)
	}
	m3, err := conn.ReadMessage(buf)
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("read third message: %w", err)
	}
	if len(m3) < m3Overhead || len(m3) > m3Overhead+MaxPayload {
		return nil, PeerInfo{}, fmt.Errorf("third message of %d bytes", len(m3))
	}
	payload, recv, send, err := hs.ReadMessage(nil, m3)
	if err != nil {
		return nil, PeerInfo{}, fmt.Errorf("third message: %w", err)
	}
	peer := PeerInfo{Key: PublicKey(hs.PeerStatic()), Purpose: purpose, Payload: payload, Shown: key.Public()}
	if peer.Key == key.Public() {
		return nil, peer, errReflected
	}
	return newConn(conn, hs, send, recv), peer, nil
}

// answerFirst does three of the handshake's four scalar multiplications, for anybody
// who sent 41 bytes.
func answerFirst(ctx context.Context, slots chan struct{}, hs *noise.HandshakeState, m1 []byte) ([]byte, error) {
	if slots != nil {
		if err := enter(ctx, slots); err != nil {
			return nil, err
		}
		defer func() { <-slots }()
	}
	if _, _, _, err := hs.ReadMessage(nil, m1); err != nil {
		return nil, err
	}
	m2, _, _, err := hs.WriteMessage(make([]byte, 0, m2Size), nil)
	return m2, err
}

// enter waits for a slot, no longer than a handshake may take.
func enter(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(Timeout)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-timer.C:
		return errors.New("too many handshakes at once")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withTimeout runs a handshake, which must end with ctx and read nothing after Timeout.
// The connection's own deadline does that: a core makes thousands of handshakes at once
// when it starts, and a context with a timer is the most expensive part of one that is
// no cryptography.
func withTimeout(ctx context.Context, conn wire.MessageConn, handshake func() error) error {
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	}
	err := conn.SetReadDeadline(time.Now().Add(Timeout))
	if err == nil {
		err = handshake()
	}
	if !stop() { // the connection is closed already
		err = errors.Join(context.Cause(ctx), err)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
	}
	return err
}

func newHandshake(key PrivateKey, initiator bool, prologue []byte) (*noise.HandshakeState, error) {
	static := key.reveal()
	return noise.NewHandshakeState(noise.Config{
		CipherSuite:   newSuite(&handshakeDH{static: static}),
		Pattern:       noise.HandshakeXX,
		Initiator:     initiator,
		Prologue:      prologue,
		StaticKeypair: noise.DHKey{Private: []byte(staticHandle), Public: static.PublicKey().Bytes()},
	})
}

// prologue is everything said in the clear and everything that must be agreed upon.
// Each part has its length in front: no two different sets of parts are the same bytes.
func prologue(purpose Purpose, hint, prelude []byte) []byte {
	b := make([]byte, 0, 256)
	b = appendPart(b, linkName)
	b = binary.BigEndian.AppendUint16(b, wire.Version)
	b = appendPart(b, Protocol)
	b = appendPart(b, purpose.String())
	b = appendPart(b, string(hint))
	return appendPart(b, string(prelude)) // core id, nonce and the protocols offered
}

func appendPart(b []byte, part string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part))) //nolint:gosec // parts are short
	return append(b, part...)
}

type prelude struct{ coreID string }

func newPrelude(coreID string) []byte {
	b := make([]byte, nonceSize, nonceSize+1+len(coreID)+1+len(Protocol))
	_, _ = rand.Read(b) // never fails
	for _, part := range []string{coreID, Protocol} {
		b = append(append(b, byte(len(part))), part...) //nolint:gosec // at most maxCoreID
	}
	return b
}

// parsePrelude reads a prelude, which may offer protocols that are not known here.
func parsePrelude(b []byte) (prelude, error) {
	if len(b) < nonceSize || len(b) > 512 {
		return prelude{}, fmt.Errorf("prelude of %d bytes", len(b))
	}
	var parts []string
	for b = b[nonceSize:]; len(b) > 0; {
		end := 1 + int(b[0])
		if end > len(b) {
			return prelude{}, errors.New("malformed prelude")
		}
		parts = append(parts, string(b[1:end]))
		b = b[end:]
	}
	if len(parts) < 2 || len(parts[0]) > maxCoreID {
		return prelude{}, errors.New("malformed prelude")
	}
	if !slices.Contains(parts[1:], Protocol) {
		return prelude{}, fmt.Errorf("the core offers none of the protocols spoken here (%s)", Protocol)
	}
	return prelude{coreID: parts[0]}, nil
}
