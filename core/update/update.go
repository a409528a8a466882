// Package update looks for newer images of what runs, tells of them, and has them deployed
// where the stack says so. It compares what a tag stands for at its registry with the digests
// that agents report; the deploy itself is a run of the reconciler, with its locks, its verdict
// and its way back. A newer image that failed is not tried again until there is another.
//
// It may import the domain, the reconciler, the API's values and core/alert.
package update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/update/registry"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
)

// Registry is asked what images there are. *registry.Client is one.
type Registry interface {
	Digest(ctx context.Context, img registry.Image) (string, error)
	Tags(ctx context.Context, img registry.Image) ([]string, error)
	Details(ctx context.Context, img registry.Image, digest, os, arch string) (registry.Details, error)
}

// Fleet is what runs, and how newer images get there.
type Fleet interface {
	// Desired is what the last good commits say, by sync.
	Desired() []fleet.Desired
	Observed() fleet.Observed
	// Refresh makes it fresh for the servers named, as far as they answer in time.
	Refresh(ctx context.Context, servers []string)
	// Update is that of the reconciler.
	Update(ctx context.Context, req reconciler.UpdateRequest) (reconciler.Run, reconciler.OpResult, error)
}

// Store keeps what was found.
type Store interface {
	Updates(ctx context.Context) ([]api.Update, error)
	// PutUpdates replaces what is known of a stack on a server.
	PutUpdates(ctx context.Context, stack, server string, updates []api.Update, events []api.Event) error
}

// Config wires a Service.
type Config struct {
	// Registry, Fleet, Store, Tell and Logger are required.
	Registry Registry
	Fleet    Fleet
	Store    Store
	// Tell passes an alert on; it must not block.
	Tell   func(alert.Alert)
	Logger *slog.Logger
	// Now is optional, default time.Now.
	Now func() time.Time
}

// Mode is what is done about newer images.
type Mode int

// The modes.
const (
	// Check only looks.
	Check Mode = iota + 1
	// Auto deploys where the stack says so, and what nothing speaks against.
	Auto
	// Apply deploys whatever is newer: a person asked for it.
	Apply
)

// Request is one look at the fleet.
type Request struct {
	Mode Mode
	// Stack narrows it to one stack or deployment, whether or not it polls for updates.
	Stack string
	// Actor and Parent are as in reconciler.UpdateRequest.
	Actor, Parent string
	// News are told a person who watches; optional.
	News func(text string)
}

// ErrUnknownStack: no sync declares a stack or deployment of that name.
var ErrUnknownStack = errors.New("no sync declares that stack or deployment")

// Service looks for newer images. Its methods are safe for concurrent use; one look is made
// at a time.
type Service struct {
	cfg Config
	// turn holds a token for whoever looks.
	turn chan struct{}
}

// New returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Registry == nil || cfg.Fleet == nil || cfg.Store == nil || cfg.Tell == nil || cfg.Logger == nil {
		return nil, errors.New("update: Registry, Fleet, Store, Tell and Logger are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// target is a stack on a server.
type target struct {
	sync  string
	stack *fleet.Stack
}

// look is one look at the fleet, under way.
type look struct {
	*Service
	req Request
	// known is what was found before or by this look, by stack, server and service.
	known  map[string]api.Update
	result api.UpdateResult
}

func key(stack, server, service string) string { return stack + "\x00" + server + "\x00" + service }

// Run looks at every stack that polls for updates, one after the other, or at the one that is
// named, and deploys what is newer as the mode says. What failed is in the result; an error
// says that the look itself came to an end early.
func (s *Service) Run(ctx context.Context, req Request) (api.UpdateResult, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return api.UpdateResult{}, ctx.Err()
	}
	if req.News == nil {
		req.News = func(string) {}
	}
	l := &look{Service: s, req: req, known: map[string]api.Update{}, result: api.UpdateResult{Updates: []api.Update{}}}
	before, err := s.cfg.Store.Updates(ctx)
	if err != nil {
		return l.result, err
	}
	for i := range before {
		u := &before[i]
		l.known[key(u.Stack, u.Server, u.Service)] = *u
	}
	targets, declared, err := l.targets()
	if err != nil {
		return l.result, err
	}
	if req.Stack == "" {
		if err := l.forget(ctx, before, declared); err != nil {
			return l.result, err
		}
	}
	s.cfg.Fleet.Refresh(ctx, serversOf(targets))
	for _, t := range targets {
		if err := ctx.Err(); err != nil {
			return l.result, fmt.Errorf("stopped before %s on %s: %w", t.stack.Name, t.stack.Server, err)
		}
		if err := l.one(ctx, t); err != nil {
			return l.result, err
		}
	}
	return l.result, nil
}

func serversOf(targets []target) (servers []string) {
	for _, t := range targets {
		servers = append(servers, t.stack.Server)
	}
	slices.Sort(servers)
	return slices.Compact(servers)
}

// targets are what to look at, by stack and server; declared is all that could be.
func (l *look) targets() (targets []target, declared map[string]bool, err error) {
	all := l.cfg.Fleet.Desired()
	declared = map[string]bool{}
	for i := range all {
		for k := range all[i].Stacks {
			stack := &all[i].Stacks[k]
			if stack.Kind == fleet.KindRepo || stack.Server == "" {
				continue
			}
			if stack.Updates.Watched() {
				declared[key(stack.Name, stack.Server, "")] = true
			}
			if l.req.Stack == stack.Name || l.req.Stack == "" && stack.Updates.Watched() {
				targets = append(targets, target{all[i].Sync, stack})
			}
		}
	}
	if len(targets) == 0 && l.req.Stack != "" {
		return nil, nil, fmt.Errorf("%w: %q", ErrUnknownStack, l.req.Stack)
	}
	slices.SortStableFunc(targets, func(a, b target) int {
		return strings.Compare(key(a.stack.Name, a.stack.Server, ""), key(b.stack.Name, b.stack.Server, ""))
	})
	return targets, declared, nil
}

// forget drops what is known of stacks that are not looked at any more.
func (l *look) forget(ctx context.Context, before []api.Update, declared map[string]bool) error {
	gone := map[string]bool{}
	for i := range before {
		u := &before[i]
		at := key(u.Stack, u.Server, "")
		if declared[at] || gone[at] {
			continue
		}
		gone[at] = true
		if err := l.cfg.Store.PutUpdates(ctx, u.Stack, u.Server, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// one looks at one stack on one server.
func (l *look) one(ctx context.Context, t target) error {
	found, blocked := l.compare(ctx, t, l.cfg.Fleet.Observed()[t.stack.Server])
	if err := ctx.Err(); err != nil {
		return err
	}
	due := l.due(t, found)
	if blocked != "" && len(due) > 0 {
		l.say("%s on %s waits: %s", t.stack.Name, t.stack.Server, blocked)
		due = nil
	}
	if err := l.keep(ctx, t, found, nil); err != nil || len(due) == 0 {
		l.result.Updates = append(l.result.Updates, found...)
		return err
	}
	found, err := l.deploy(ctx, t, found, due)
	l.result.Updates = append(l.result.Updates, found...)
	return err
}

// due are the services to update now.
func (l *look) due(t target, found []api.Update) (services []string) {
	for i := range found {
		u := &found[i]
		switch l.req.Mode {
		case Check:
		case Auto:
			if u.State == api.UpdateAvailable && t.stack.Updates.Auto {
				services = append(services, u.Service)
			}
		case Apply:
			if u.Newer() {
				services = append(services, u.Service)
			}
		}
	}
	return services
}

// keep records what was found, with what happened.
func (l *look) keep(ctx context.Context, t target, found []api.Update, events []api.Event) error {
	for i := range found {
		u := &found[i]
		before, ok := l.known[key(u.Stack, u.Server, u.Service)]
		if u.Newer() && (!ok || before.Newest != u.Newest) {
			text := fmt.Sprintf("service %s: %s stands for a newer image, %s", u.Service, u.Image, short(u.Newest))
			if u.Reason != "" {
				text += "; " + u.Reason
			}
			events = append(events, l.event(t, text))
		}
		if u.Tag != "" && (!ok || before.Tag != u.Tag) {
			events = append(events, l.event(t, fmt.Sprintf("service %s: %s could move to the tag %s, by the policy %s", u.Service, u.Image, u.Tag, u.Policy)))
		}
		l.known[key(u.Stack, u.Server, u.Service)] = *u
	}
	return l.cfg.Store.PutUpdates(context.WithoutCancel(ctx), t.stack.Name, t.stack.Server, found, events)
}

func (l *look) event(t target, text string) api.Event {
	return api.Event{
		At: l.cfg.Now(), Kind: "update", Sync: t.sync, Stack: t.stack.Name, Server: t.stack.Server, Actor: l.req.Actor, Text: text,
	}
}

func (l *look) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.result.Done = append(l.result.Done, text)
	l.req.News(text)
}

// short is a digest as people tell them apart.
func short(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(12, len(hex))]
}
