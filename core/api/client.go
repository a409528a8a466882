package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// ErrUnreachable says that no core answered.
var ErrUnreachable = errors.New("core is unreachable")

// maxAnswer bounds an answer that is read whole; plans of large fleets are the biggest.
const maxAnswer = 256 << 20

// Client talks to a core. Its methods return an *Error for every refusal of core's and
// wrap ErrUnreachable when none answered.
type Client struct {
	// BaseURL is like "http://127.0.0.1:9120"; required.
	BaseURL string
	// Key is an API key; optional for Ready only.
	Key fleet.Secret
	// HTTP is the transport; optional, default http.DefaultClient. Its Timeout must be
	// zero: streams last as long as their context.
	HTTP *http.Client
}

// Ready reports whether core serves; it needs no key.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/readyz", nil, nil)
}

// Version describes the core.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return get[Version](ctx, c, "/version")
}

// Status is the whole fleet on the two axes.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/status")
}

// Servers lists the servers by name.
func (c *Client) Servers(ctx context.Context) ([]Server, error) {
	return get[[]Server](ctx, c, "/servers")
}

// Server describes one server.
func (c *Client) Server(ctx context.Context, name string) (Server, error) {
	return get[Server](ctx, c, "/servers/"+url.PathEscape(name))
}

// ApproveServer lets a pending server join.
func (c *Client) ApproveServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/servers/"+url.PathEscape(name)+"/approve", nil, nil)
}

// RejectServer turns a pending server away for good.
func (c *Client) RejectServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, Prefix+"/servers/"+url.PathEscape(name)+"/reject", nil, nil)
}

// RemoveServer revokes a server's key and forgets the server. Its containers stay.
func (c *Client) RemoveServer(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, Prefix+"/servers/"+url.PathEscape(name), nil, nil)
}

// Stacks lists the stacks by server and name.
func (c *Client) Stacks(ctx context.Context) ([]Stack, error) {
	return get[[]Stack](ctx, c, "/stacks")
}

// Why explains a resource: "web", "web@alpha", "server/alpha", "sync/home", "procedure/nightly". It
// answers for an unknown one too.
func (c *Client) Why(ctx context.Context, resource string) (Why, error) {
	return get[Why](ctx, c, "/why?"+url.Values{"of": {resource}}.Encode())
}

// Diff says what applying would change in a stack.
func (c *Client) Diff(ctx context.Context, stack string) (Diff, error) {
	return get[Diff](ctx, c, stackPath(stack, "diff"))
}

// History lists what was done to a stack, newest first.
func (c *Client) History(ctx context.Context, stack string, page Page) ([]Op, error) {
	return get[[]Op](ctx, c, stackPath(stack, "history")+page.query())
}

// Syncs lists the syncs by name.
func (c *Client) Syncs(ctx context.Context) ([]Sync, error) {
	return get[[]Sync](ctx, c, "/syncs")
}

// Sync describes one sync.
func (c *Client) Sync(ctx context.Context, name string) (Sync, error) {
	return get[Sync](ctx, c, syncPath(name, ""))
}

// AddSync creates a sync.
func (c *Client) AddSync(ctx context.Context, spec SyncSpec) (SyncCreated, error) {
	return send[SyncCreated](ctx, c, http.MethodPost, "/syncs", spec)
}

// RemoveSync forgets a sync. What it deployed stays.
func (c *Client) RemoveSync(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, Prefix+syncPath(name, ""), nil, nil)
}

// RunSync wakes a sync now, as a webhook would.
func (c *Client) RunSync(ctx context.Context, name string) (SyncRun, error) {
	return send[SyncRun](ctx, c, http.MethodPost, syncPath(name, "run"), nil)
}

// Plan says what applying a sync would do.
func (c *Client) Plan(ctx context.Context, sync string, req PlanRequest) (PlanResult, error) {
	return send[PlanResult](ctx, c, http.MethodPost, syncPath(sync, "plan"), req)
}

// PlanUpload plans for a directory that is not in Git; Pack fills the request's Files.
func (c *Client) PlanUpload(ctx context.Context, req UploadRequest) (PlanResult, error) {
	return send[PlanResult](ctx, c, http.MethodPost, "/plans", req)
}

// Keys lists the API keys.
func (c *Client) Keys(ctx context.Context) ([]Key, error) { return get[[]Key](ctx, c, "/keys") }

// CreateKey makes an API key.
func (c *Client) CreateKey(ctx context.Context, spec KeySpec) (KeyCreated, error) {
	return send[KeyCreated](ctx, c, http.MethodPost, "/keys", spec)
}

// DeleteKey revokes an API key.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, Prefix+"/keys/"+url.PathEscape(id), nil, nil)
}

// OnboardingKeys lists the onboarding keys, spent and expired ones included.
func (c *Client) OnboardingKeys(ctx context.Context) ([]OnboardingKey, error) {
	return get[[]OnboardingKey](ctx, c, "/onboarding-keys")
}

// CreateOnboardingKey makes a key that lets agents join.
func (c *Client) CreateOnboardingKey(ctx context.Context, spec OnboardingSpec) (OnboardingCreated, error) {
	return send[OnboardingCreated](ctx, c, http.MethodPost, "/onboarding-keys", spec)
}

// RevokeOnboardingKey ends an onboarding key. Servers that joined with it stay.
func (c *Client) RevokeOnboardingKey(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, Prefix+"/onboarding-keys/"+url.PathEscape(id), nil, nil)
}

// Variables lists the variables by name, secrets without their values.
func (c *Client) Variables(ctx context.Context) ([]Variable, error) {
	return get[[]Variable](ctx, c, "/variables")
}

// SetVariable creates or replaces a variable.
func (c *Client) SetVariable(ctx context.Context, name string, spec VariableSpec) (Variable, error) {
	return send[Variable](ctx, c, http.MethodPut, "/variables/"+url.PathEscape(name), spec)
}

// DeleteVariable removes a variable.
func (c *Client) DeleteVariable(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, Prefix+"/variables/"+url.PathEscape(name), nil, nil)
}

func stackPath(stack, what string) string { return "/stacks/" + url.PathEscape(stack) + "/" + what }

func syncPath(sync, what string) string {
	return strings.TrimSuffix("/syncs/"+url.PathEscape(sync)+"/"+what, "/")
}

func (p Page) query() string {
	q := url.Values{}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Before > 0 {
		q.Set("before", strconv.FormatInt(p.Before, 10))
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return send[T](ctx, c, http.MethodGet, path, nil)
}

func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var answer T
	err := c.do(ctx, method, Prefix+path, body, &answer)
	return answer, err
}

// do sends one request and reads the whole answer into answer, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read core's answer to %s %s: %w", method, path, err)
	}
	return nil
}

// open sends one request and returns the successful response with its body open.
func (c *Client) open(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.BaseURL, "/")+path, content)
	if err != nil {
		return nil, fmt.Errorf("make a request to %q: %w", c.BaseURL, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.Key.IsEmpty() {
		req.Header.Set("Authorization", "Bearer "+c.Key.Reveal())
	}
	resp, err := cmp.Or(c.HTTP, http.DefaultClient).Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, readError(resp)
}

// readError makes an Error of a refusal, also of one that a proxy on the way wrote.
func readError(resp *http.Response) error {
	answer := &Error{}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil || json.Unmarshal(raw, answer) != nil || answer.Message == "" {
		answer = &Error{
			Code:    CodeInternal,
			Message: "core answered " + resp.Status,
			Hint:    "is the URL that of a core, and not of something in front of it?",
		}
	}
	answer.Status = resp.StatusCode
	return answer
}
