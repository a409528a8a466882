package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// dialTimeout bounds the outer connection; the handshake has a limit of its own.
const dialTimeout = 15 * time.Second

// webSocketDialer is the default of Config.Dial.
func webSocketDialer(cfg Config) (func(context.Context, string) (wire.MessageConn, error), error) {
	for _, address := range cfg.Cores {
		if _, err := ws.URL(address); err != nil {
			return nil, &ConfigError{Err: err, Hint: "an address is like wss://varan.example.com or ws://10.0.0.5:9120"}
		}
	}
	dial := ws.DialConfig{}
	var err error
	if dial.TLS, err = cfg.tlsConfig(); err != nil {
		return nil, err
	}
	if !cfg.Proxy.IsEmpty() {
		proxy, err := ws.ParseProxy(cfg.Proxy.Reveal())
		if err != nil {
			return nil, &ConfigError{Err: err, Hint: "give it like http://proxy.example.com:3128"}
		}
		dial.Proxy = http.ProxyURL(proxy)
	}
	return func(ctx context.Context, address string) (wire.MessageConn, error) {
		conn, err := ws.Dial(ctx, address, dial)
		if err != nil {
			return nil, err // not conn: a nil *ws.Conn is not a nil interface
		}
		return conn, nil
	}, nil
}

// connectTo opens a session at one address, with the first of the agent's keys that core
// accepts. With the first session an agent onboards.
func (a *Agent) connectTo(ctx context.Context, address string) (*session, error) {
	var (
		refused []noise.PublicKey
		reason  error
	)
	current := a.id.have().Current.Public()
	for _, key := range a.id.offers() {
		s, err := a.connectWith(ctx, address, key, refused)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, noise.ErrRefused) && !errors.Is(err, errReplaced):
			return nil, err
		case reason == nil || key.Public() == current:
			reason = err
		}
		refused = append(refused, key.Public())
	}
	return nil, reason
}

// errReplaced says that core has another key of this agent.
var errReplaced = errors.New("core has a newer key of this agent than the one that it showed")

// connectWith opens a session with one key: outer connection, handshake, Hello.
func (a *Agent) connectWith(
	ctx context.Context, address string, key noise.PrivateKey, refused []noise.PublicKey,
) (*session, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := a.cfg.Dial(dialCtx, address)
	if errors.Is(err, ws.ErrProxyLogin) {
		return nil, &personError{err, "put it into the proxy's address, http://USER:PASSWORD@HOST:PORT, in VARAN_PROXY or HTTPS_PROXY"}
	}
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return nil, fmt.Errorf("%w; --ca-file names its authority, and with --insecure-skip-verify any does: "+
			"core is authenticated by its key, inside TLS", err)
	}
	if err != nil {
		return nil, err
	}
	return a.secure(ctx, conn, address, key, refused)
}

// secure opens a session over a connection, whoever made it: handshake, Hello, and what is to
// be remembered of both. It closes the connection when it fails.
func (a *Agent) secure(
	ctx context.Context, conn wire.MessageConn, address string, key noise.PrivateKey, refused []noise.PublicKey,
) (*session, error) {
	handshake, err := a.id.handshake(key, a.cfg.Server)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	secured, err := noise.Initiate(ctx, conn, handshake)
	if err != nil {
		return nil, explainRefusal(err, handshake.Purpose)
	}
	log := a.log.With(slog.String("core", address))
	s, err := openSession(ctx, a, secured, key.Public(), refused, log)
	if err != nil {
		return nil, explainRefusal(err, handshake.Purpose)
	}
	if err := a.remember(ctx, s, handshake.Purpose); err != nil {
		s.close(ctx, wire.Errorf(wire.CodeInternal, "the agent could not record whom it believes"))
		return nil, err
	}
	close(s.remembered)
	log.InfoContext(ctx, "connected to core", slog.String("server", s.welcome.Server), slog.Uint64("epoch", s.welcome.Epoch))
	if skew := time.Since(s.welcome.Time); !s.welcome.Time.IsZero() && skew.Abs() > time.Minute {
		log.WarnContext(ctx, "the clocks of core and this host differ", slog.Duration("skew", skew.Round(time.Second)))
	}
	return s, nil
}

// remember makes durable what the opening of a session says about core.
func (a *Agent) remember(ctx context.Context, s *session, purpose noise.Purpose) error {
	if purpose != noise.PurposeOnboard {
		return a.id.changedCore(s.conn.Peer())
	}
	if err := a.id.onboarded(s.conn.Peer(), a.cfg.Server, time.Now()); err != nil {
		return err
	}
	if a.cfg.ForgetToken != nil {
		if err := a.cfg.ForgetToken(); err != nil {
			s.log.WarnContext(ctx, "the onboarding token is spent and could not be removed; remove it within a day, or the next start is refused",
				slog.Any("err", err))
		}
	}
	s.log.InfoContext(ctx, "onboarded", slog.String("server", a.cfg.Server),
		slog.String("core_fingerprint", s.conn.Peer().Fingerprint().String()))
	return nil
}

// handshake says who we are and whom we accept. The purpose is ours to choose: nothing
// that a core says before it is authenticated can make an agent show its token.
func (id *identity) handshake(key noise.PrivateKey, server string) (noise.InitiatorConfig, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	cfg := noise.InitiatorConfig{Key: key, Purpose: noise.PurposeSession}
	for _, pin := range id.pins {
		cfg.Pins = append(cfg.Pins, pin.Fingerprint())
	}
	if id.token == nil {
		return cfg, nil
	}
	cfg.Purpose = noise.PurposeOnboard
	cfg.Pins = []wire.Fingerprint{id.token.Core()}
	var err error
	if cfg.Payload, err = json.Marshal(wire.Join{Token: id.token.Reveal(), Server: server}); err != nil {
		return noise.InitiatorConfig{}, fmt.Errorf("encode join: %w", err)
	}
	return cfg, nil
}

// personError is a failure that goes on until a person does something.
type personError struct {
	err  error
	hint string
}

func (e *personError) Error() string { return e.err.Error() + ": " + e.hint }

func (e *personError) Unwrap() error { return e.err }

// errNotJoined says that core did not take the onboarding token, or not yet.
var errNotJoined = errors.New("core did not let this agent join")

// needsPerson reports whether trying again soon is of no use.
func needsPerson(err error) bool {
	_, ok := errors.AsType[*personError](err)
	return ok
}

// explainRefusal adds to an error what a person can do about it.
func explainRefusal(err error, purpose noise.Purpose) error {
	_, mismatch := errors.AsType[*noise.PinError](err)
	switch {
	case mismatch:
		return &personError{err, "nothing was sent to it; if core's key was replaced on purpose, give the agent the new one"}
	case errors.Is(err, noise.ErrRefused) && purpose == noise.PurposeOnboard:
		return &personError{fmt.Errorf("%w: %w", errNotJoined, err), "the onboarding token may be used, expired or made for another name, or the server waits for approval; core's log has the reason"}
	case errors.Is(err, errReplaced):
		return &personError{err, "was the state directory restored from a backup? varan onboarding-key create --rekey NAME on core lets it in again"}
	case errors.Is(err, noise.ErrRefused):
		return fmt.Errorf("%w: core does not know this agent's key, or the server is disabled; core's log has the reason", err)
	}
	return err
}
