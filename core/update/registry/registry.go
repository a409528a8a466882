// Package registry asks image registries what a tag stands for. It pulls nothing: a digest
// costs one HEAD, and only what is newer than what runs is looked at closer. It keeps to a
// budget for each registry and to what registries say of their own limits.
package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/varanhq/varan/fleet"
)

const (
	// rememberFor is how long an answer stands for another.
	rememberFor = 10 * time.Minute
	// requestTimeout bounds one question, its logins included.
	requestTimeout = 30 * time.Second
	// maxKept bounds what is remembered.
	maxKept = 4096
	// dockerHub is what people call the registry of names without a host.
	dockerHub = "docker.io"
)

// Credentials open a registry.
type Credentials struct {
	Username string
	Password fleet.Secret
}

// Config wires a Client.
type Config struct {
	// Credentials finds those of an account at a registry, or of any account there when none
	// is named; optional. They are kept in memory for as long as an answer is.
	Credentials func(ctx context.Context, registry, account string) (Credentials, bool, error)
	// Transport is optional, default http.DefaultTransport.
	Transport http.RoundTripper
	// Insecure are registries that may be asked without encryption, beside those on loopback;
	// optional.
	Insecure func() []string
	// Budget is how many requests a registry is asked in an hour; optional, default 200.
	Budget func() int
	// Now is optional, default time.Now.
	Now func() time.Time
}

// Client asks registries. Its methods are safe for concurrent use.
type Client struct {
	cfg    Config
	limits *limits

	mu sync.Mutex
	// pullers keep logins, by registry and account; answers what was heard.
	pullers map[string]kept[*remote.Puller]
	digests map[string]kept[string]
	tags    map[string]kept[[]string]
	details map[string]Details
}

type kept[T any] struct {
	value T
	at    time.Time
}

// Image names an image, and the account to ask for it with.
type Image struct {
	// Ref is as Compose writes it: "nginx", "ghcr.io/me/app:1.2".
	Ref string
	// Account is that of the stack; it counts only at its own registry.
	Account fleet.RegistryAccount
}

// Details say more of one digest.
type Details struct {
	// Manifests and Configs are those that a platform could have: two where variants of one
	// processor differ.
	Manifests, Configs []string
	// Created is what the image says of itself; zero when it says nothing believable.
	Created time.Time
}

// Error is a question without an answer, in words that hold no secret.
type Error struct {
	Registry string
	Message  string
	// Wait is set when asking again before that time is of no use.
	Wait time.Time
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// New returns a Client.
func New(cfg Config) *Client {
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Insecure == nil {
		cfg.Insecure = func() []string { return nil }
	}
	if cfg.Budget == nil {
		cfg.Budget = func() int { return defaultBudget }
	}
	return &Client{
		cfg: cfg, limits: newLimits(cfg.Budget, cfg.Now), pullers: map[string]kept[*remote.Puller]{},
		digests: map[string]kept[string]{}, tags: map[string]kept[[]string]{}, details: map[string]Details{},
	}
}

// Pinned reports whether a reference names its content, which then never changes.
func Pinned(ref string) bool { return strings.Contains(ref, "@") }

// Tag is the tag of a reference; "latest" when it has none.
func Tag(ref string) string {
	tag, err := name.NewTag(ref)
	if err != nil {
		return ""
	}
	return tag.TagStr()
}

// Digest is what a tag stands for now: the digest of a manifest, or of an index of them.
func (c *Client) Digest(ctx context.Context, img Image) (string, error) {
	return remember(c, c.digests, img.Account.Account+" "+img.Ref, func() (string, error) {
		tag, err := name.NewTag(img.Ref)
		if err != nil {
			return "", &Error{Message: fmt.Sprintf("%q is no name of an image", img.Ref)}
		}
		var digest string
		err = c.ask(ctx, tag.Registry, img, func(ctx context.Context, p *remote.Puller) error {
			d, err := p.Head(ctx, tag)
			if err == nil {
				digest = d.Digest.String()
			}
			return err
		})
		return digest, err
	})
}

// Tags are all tags of an image.
func (c *Client) Tags(ctx context.Context, img Image) ([]string, error) {
	tag, err := name.NewTag(img.Ref)
	if err != nil {
		return nil, &Error{Message: fmt.Sprintf("%q is no name of an image", img.Ref)}
	}
	return remember(c, c.tags, img.Account.Account+" "+tag.Context().Name(), func() ([]string, error) {
		var tags []string
		err := c.ask(ctx, tag.Registry, img, func(ctx context.Context, p *remote.Puller) error {
			var err error
			tags, err = p.List(ctx, tag.Context())
			return err
		})
		return tags, err
	})
}

// remember answers from what was heard lately, or asks.
func remember[T any](c *Client, from map[string]kept[T], key string, ask func() (T, error)) (T, error) {
	now := c.cfg.Now()
	c.mu.Lock()
	have, ok := from[key]
	c.mu.Unlock()
	if ok && now.Sub(have.at) < rememberFor {
		return have.value, nil
	}
	value, err := ask()
	if err != nil {
		return value, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(from) >= maxKept {
		clear(from)
	}
	from[key] = kept[T]{value, now}
	return value, nil
}

// ask has one question answered, within the limits.
func (c *Client) ask(
	ctx context.Context, registry name.Registry, img Image, question func(context.Context, *remote.Puller) error,
) error {
	host := hostOf(registry)
	if until, why := c.limits.closed(host); why != "" {
		return &Error{Registry: host, Message: why, Wait: until}
	}
	if registry.Scheme() == "http" && !c.plain(host) {
		return &Error{
			Registry: host, Message: "registry " + host + " would be asked without encryption; the setting updates.insecure_registries allows that",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	puller, known, err := c.puller(ctx, registry, img.Account)
	if err != nil {
		return err
	}
	return explain(ctx, host, known, question(ctx, puller))
}

// plain reports whether a registry may be asked without encryption.
func (c *Client) plain(host string) bool {
	if slices.Contains(c.cfg.Insecure(), host) {
		return true
	}
	domain := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		domain = h
	}
	ip := net.ParseIP(strings.Trim(domain, "[]"))
	return domain == "localhost" || strings.HasSuffix(domain, ".localhost") || ip != nil && ip.IsLoopback()
}

// puller is logged in, or to be, with the account; known says that there is one.
func (c *Client) puller(ctx context.Context, registry name.Registry, account fleet.RegistryAccount) (p *remote.Puller, known bool, err error) {
	host := hostOf(registry)
	user := ""
	if normal(account.Registry) == host {
		user = account.Account
	}
	key, now := host+" "+user, c.cfg.Now()
	c.mu.Lock()
	have, ok := c.pullers[key]
	c.mu.Unlock()
	if ok && now.Sub(have.at) < rememberFor {
		return have.value, true, nil
	}
	auth := authn.Anonymous
	if c.cfg.Credentials != nil {
		found, ok, err := c.cfg.Credentials(ctx, host, user)
		if err != nil {
			return nil, false, err
		}
		if ok {
			auth = authn.FromConfig(authn.AuthConfig{Username: found.Username, Password: found.Password.Reveal()})
			known = true
		}
	}
	p, err = remote.NewPuller(
		remote.WithAuth(auth), remote.WithTransport(&limited{next: c.cfg.Transport, limits: c.limits, host: host}),
		remote.WithUserAgent("varan"), remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Steps: 1}),
		remote.WithRetryStatusCodes(),
	)
	if err != nil {
		return nil, known, fmt.Errorf("ask %s: %w", host, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pullers) >= maxKept {
		clear(c.pullers)
	}
	c.pullers[key] = kept[*remote.Puller]{p, now}
	return p, known, nil
}

// hostOf is a registry as people write it.
func hostOf(r name.Registry) string { return normal(r.RegistryStr()) }

// normal gives Docker Hub the one of its names that accounts are kept under.
func normal(host string) string {
	switch host {
	case "", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return host
}

// explain says what an error means. What a registry wrote is left out: anything could be in
// it, and its answer to a HEAD is nothing anyway.
func explain(ctx context.Context, host string, known bool, err error) error {
	if err == nil {
		return nil
	}
	out := &Error{Registry: host}
	limit, isLimit := errors.AsType[*limitError](err)
	answer, answered := errors.AsType[*transport.Error](err)
	_, away := errors.AsType[*net.OpError](err)
	switch {
	case isLimit:
		out.Message, out.Wait = limit.Error(), limit.until
	case answered && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		out.Message = host + " wants an account to say: `varan account set registry " + host + " NAME` gives core one"
		if known {
			out.Message = host + " refuses the account that core has there, or it may not see the image"
		}
	case answered && answer.StatusCode == http.StatusNotFound:
		out.Message = host + " has no such image or tag"
	case answered:
		out.Message = fmt.Sprintf("%s answered %d %s", host, answer.StatusCode, http.StatusText(answer.StatusCode))
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		out.Message = fmt.Sprintf("%s did not answer within %s", host, requestTimeout)
	case ctx.Err() != nil:
		return ctx.Err()
	case away:
		out.Message = host + " cannot be reached from core"
	default:
		out.Message = "asking " + host + " failed: " + err.Error()
	}
	return out
}
