// Package auth checks who calls core's API. A caller is an API key, nothing else: core
// keeps only the SHA-256 of its secret, which is 256 random bits, so that neither a slow
// hash nor a lockout is needed to make guessing hopeless.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/network"
)

// keyPrefix starts every API key; the digit is its format's version.
const keyPrefix = "vk1"

const (
	idSize     = 8
	secretSize = 32
)

// seenFor is after how long without a use a key's next one is told again; maxSeen bounds the
// memory for it. Of refusals a few are told for each address, and over all of them, every
// tellAgain: a flood of them must not fill the history.
const (
	seenFor        = 24 * time.Hour
	maxSeen        = 10_000
	toldPerAddress = 3
	toldTotal      = 30
	tellAgain      = 10 * time.Minute
)

// noteEvery bounds how often the use of one key is written down.
const noteEvery = time.Minute

var (
	// ErrUnauthorized is every failure to show a valid key; why stays in the log.
	ErrUnauthorized = errors.New("no valid API key")
	// ErrTooMany says that an address failed too often lately.
	ErrTooMany = errors.New("too many failed attempts")
)

// NewKey makes an API key: the id it is listed by, the key to hand out once, and the hash
// to store.
func NewKey() (id string, key fleet.Secret, hash [32]byte) {
	var random [idSize + secretSize]byte
	_, _ = rand.Read(random[:]) // never fails: it crashes the program instead
	id = encoding().EncodeToString(random[:idSize])
	secret := encoding().EncodeToString(random[idSize:])
	return id, fleet.NewSecret(keyPrefix + "_" + id + "_" + secret), sha256.Sum256(random[idSize:])
}

// ParseKey splits the one canonical form of a key into its id and the hash of its secret.
func ParseKey(key string) (id string, hash [32]byte, err error) {
	parts := strings.Split(key, "_")
	if len(parts) != 3 || parts[0] != keyPrefix {
		return "", hash, fmt.Errorf("%w: not of the form vk1_<id>_<secret>", ErrUnauthorized)
	}
	if _, err := decode(parts[1], idSize); err != nil {
		return "", hash, err
	}
	secret, err := decode(parts[2], secretSize)
	if err != nil {
		return "", hash, err
	}
	return parts[1], sha256.Sum256(secret), nil
}

// decode accepts exactly what encoding writes, so that a key has one spelling.
func decode(s string, size int) ([]byte, error) {
	raw, err := encoding().DecodeString(s)
	if err != nil || len(raw) != size || encoding().EncodeToString(raw) != s {
		return nil, fmt.Errorf("%w: not canonical lower-case base32", ErrUnauthorized)
	}
	return raw, nil
}

func encoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// Keys is where the hashes are. It is asked when a key is shown, never for all of them.
type Keys interface {
	// KeyHash returns the name of the key and the hash of its secret. Any error means
	// that the key opens nothing.
	KeyHash(ctx context.Context, id string) (name string, hash [32]byte, err error)
	// KeyUsed notes the time of the last use.
	KeyUsed(ctx context.Context, id string, at time.Time) error
}

// Actor is who calls.
type Actor struct {
	// ID and Name are those of the API key.
	ID, Name string
	// Remote is the address that the request came from, Listener the name of what took it.
	Remote, Listener string
}

type (
	actorKey    struct{}
	listenerKey struct{}
)

// WithListener names, for the history, the listener that takes the requests below ctx.
func WithListener(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, listenerKey{}, name)
}

// WithActor names who acts where no request does.
func WithActor(ctx context.Context, actor Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

type localKey struct{}

// WithLocal lets requests below ctx in without a key: the kernel says that they come from
// root or from core's own user, who could read every key anyway.
func WithLocal(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, localKey{}, name)
}

// local is the caller of a request that needs no key. What a proxy passes on is not its own.
func local(r *http.Request) (Actor, bool) {
	name, ok := r.Context().Value(localKey{}).(string)
	h := r.Header
	if !ok || h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" || h.Get("X-Forwarded-For") != "" || h.Get("Forwarded") != "" {
		return Actor{}, false
	}
	listener, _ := r.Context().Value(listenerKey{}).(string)
	return Actor{Name: name, Listener: listener}, true
}

// ActorOf is who made the request that ctx belongs to; zero outside of one.
func ActorOf(ctx context.Context) Actor {
	actor, _ := ctx.Value(actorKey{}).(Actor)
	return actor
}

// Attempt is a caller that came for the first time in a while, or that was refused.
type Attempt struct {
	Actor

	// Refused is why, without any secret; empty for one who was let in.
	Refused string
}

// Config says where the keys are.
type Config struct {
	Keys Keys // required
	// Tell is called for the history with attempts worth a record; optional.
	Tell   func(ctx context.Context, a Attempt)
	Logger *slog.Logger     // required
	Now    func() time.Time // optional, default time.Now
	// Failures are how many failures a minute are answered as such: of one address, and of
	// all. Optional, default 5 and 100.
	Failures func() (perAddress, total int)
}

// Failures per minute that are answered as such: per address, and over all of them.
const (
	maxFailures      = 5
	maxFailuresTotal = 100
)

// Guard lets only callers with a valid API key through. No other code compares keys.
type Guard struct {
	keys     Keys
	cache    *cache
	logger   *slog.Logger
	clock    func() time.Time
	failures *Limiter
	tell     func(ctx context.Context, a Attempt)
	// told bounds what is told of refusals.
	told *Limiter

	mu    sync.Mutex
	noted map[string]time.Time
	// seen is when a key was last used from an address.
	seen map[string]time.Time
	// open are the requests under way, by the id of their key.
	open map[string]map[*request]struct{}
}

// request is one that a key opened.
type request struct{ cancel context.CancelFunc }

type requestKey struct{}

// New makes a guard.
func New(cfg Config) (*Guard, error) {
	if cfg.Keys == nil || cfg.Logger == nil {
		return nil, errors.New("auth: Keys and Logger are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Failures == nil {
		cfg.Failures = func() (int, int) { return maxFailures, maxFailuresTotal }
	}
	return &Guard{
		keys: cfg.Keys, cache: newCache(cfg.Keys, cfg.Now), logger: cfg.Logger, clock: cfg.Now, noted: map[string]time.Time{},
		tell: cfg.Tell, told: NewLimiter(func() (int, int) { return toldPerAddress, toldTotal }, tellAgain), seen: map[string]time.Time{},
		failures: NewLimiter(cfg.Failures, time.Minute), open: map[string]map[*request]struct{}{},
	}, nil
}

// Wrap lets requests with a valid key through to next, which finds the caller with ActorOf,
// and hands all others to refuse.
func (g *Guard) Wrap(next http.Handler, refuse func(w http.ResponseWriter, r *http.Request, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		actor, err := g.Check(r)
		if err != nil {
			refuse(w, r, err)
			return
		}
		ctx, leave := g.enter(context.WithValue(r.Context(), actorKey{}, actor), actor.ID)
		defer leave()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// enter notes a request, so that it can be ended when its key is.
func (g *Guard) enter(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	r := &request{cancel}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[id] == nil {
		g.open[id] = map[*request]struct{}{}
	}
	g.open[id][r] = struct{}{}
	return context.WithValue(ctx, requestKey{}, r), func() {
		cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.open[id], r)
		if len(g.open[id]) == 0 {
			delete(g.open, id)
		}
	}
}

// Revoked is to be called after a key was deleted from Keys. It opens nothing from then on,
// and the requests that it opened end, streams included, but for the one that ctx belongs to.
func (g *Guard) Revoked(ctx context.Context, id string) {
	g.cache.forget(id)
	own, _ := ctx.Value(requestKey{}).(*request)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.noted, id)
	for r := range g.open[id] {
		if r != own {
			r.cancel()
		}
	}
}

// Reload forgets what is known of the keys: the next request asks Keys.
func (g *Guard) Reload() { g.cache.forget("") }

// Check returns the caller of a request. Too many failures from one address are answered
// with ErrTooMany, but a valid key is never refused for what others behind the same
// address did.
func (g *Guard) Check(r *http.Request) (Actor, error) {
	if actor, ok := local(r); ok {
		return actor, nil
	}
	actor, err := g.verify(r)
	if err == nil {
		g.note(r.Context(), actor.ID)
		g.welcome(r.Context(), actor)
		return actor, nil
	}
	peer, host := Peer(r), Host(r)
	if g.tell != nil && g.told.Allow(host, g.clock()) {
		listener, _ := r.Context().Value(listenerKey{}).(string)
		g.tell(r.Context(), Attempt{Actor: Actor{Remote: peer, Listener: listener}, Refused: err.Error()})
	}
	if !g.failures.Allow(host, g.clock()) {
		return Actor{}, ErrTooMany
	}
	g.logger.LogAttrs(r.Context(), slog.LevelWarn, "api key refused",
		slog.String("peer", peer), slog.String("err", err.Error()))
	return Actor{}, ErrUnauthorized
}

func (g *Guard) verify(r *http.Request) (Actor, error) {
	text, err := presented(r.Header)
	if err != nil {
		return Actor{}, err
	}
	id, hash, err := ParseKey(text)
	if err != nil {
		return Actor{}, err
	}
	name, want, err := g.cache.hash(r.Context(), id)
	if err != nil {
		return Actor{}, fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	if subtle.ConstantTimeCompare(hash[:], want[:]) != 1 {
		return Actor{}, fmt.Errorf("%w: wrong secret for key %s", ErrUnauthorized, id)
	}
	listener, _ := r.Context().Value(listenerKey{}).(string)
	return Actor{ID: id, Name: name, Remote: Peer(r), Listener: listener}, nil
}

// presented is the key of a request: one of the two headers, once. A query parameter would
// end up in logs, so none is looked at. Clients that know a key and a secret apart send
// "key:secret", or the secret in a header of its own: the key is then the id.
func presented(header http.Header) (string, error) {
	bearer, plain, secret := header.Values("Authorization"), header.Values("X-Api-Key"), header.Values("X-Api-Secret")
	if len(bearer)+len(plain) != 1 || len(secret) > len(plain) {
		return "", fmt.Errorf("%w: want exactly one Authorization or X-API-Key header", ErrUnauthorized)
	}
	if len(secret) == 1 {
		return joined(plain[0], secret[0]), nil
	}
	if len(plain) == 1 {
		return plain[0], nil
	}
	scheme, key, _ := strings.Cut(bearer[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", fmt.Errorf("%w: the Authorization is not a Bearer", ErrUnauthorized)
	}
	if id, secret, both := strings.Cut(key, ":"); both {
		return joined(id, secret), nil
	}
	return key, nil
}

// joined is the one form of a key that was sent in two parts: its id, with or without the
// prefix, and its secret. The whole key is taken for a secret too, if the id is its own.
func joined(id, secret string) string {
	whole := keyPrefix + "_" + strings.TrimPrefix(id, keyPrefix+"_") + "_"
	return whole + strings.TrimPrefix(secret, whole)
}

// welcome tells of a key that was not used from its address for a day.
func (g *Guard) welcome(ctx context.Context, actor Actor) {
	if g.tell == nil {
		return
	}
	now, place := g.clock(), actor.ID+" "+actor.Remote
	g.mu.Lock()
	last, known := g.seen[place]
	if len(g.seen) >= maxSeen && !known {
		clear(g.seen) // told once too often is better than remembered without end
	}
	g.seen[place] = now
	g.mu.Unlock()
	if !known || now.Sub(last) >= seenFor {
		g.tell(ctx, Attempt{Actor: actor})
	}
}

// note writes down that a key was used, but not every time.
func (g *Guard) note(ctx context.Context, id string) {
	now := g.clock()
	g.mu.Lock()
	due := now.Sub(g.noted[id]) >= noteEvery
	if due {
		if len(g.noted) >= maxTracked {
			clear(g.noted)
		}
		g.noted[id] = now
	}
	g.mu.Unlock()
	if !due {
		return
	}
	if err := g.keys.KeyUsed(ctx, id, now); err != nil {
		g.logger.LogAttrs(ctx, slog.LevelWarn, "api key use not noted", slog.String("err", err.Error()))
	}
}

// Peer is the address at the other end of the connection, without its port. Headers that a
// client can write, like X-Forwarded-For, have no say in it.
func Peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Host is what limits per address count by: the peer, or of IPv6 the network that one host has.
func Host(r *http.Request) string {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return network.Host(addr.Addr()).String()
}
