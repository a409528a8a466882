package core

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire/noise"
)

const (
	// coreKeyGrace is how long core answers with the key that it had before to those who know
	// no other. It ends sooner when nobody is left who could.
	coreKeyGrace = 30 * 24 * time.Hour
	// graceCheck is how often that is looked at.
	graceCheck = 10 * time.Minute
)

// coreKey changes the key of core itself.
type coreKey struct {
	files  *keyfile.Set
	store  *store.Store
	hub    *hub.Hub
	log    *slog.Logger
	record func(ctx context.Context, event api.Event)
	// wake has capacity 1: it has Run look whether the grace is over.
	wake chan struct{}
	// turn has capacity 1: whoever changes keys puts a value in.
	turn chan struct{}

	mu   sync.Mutex
	keys keyfile.Keys
}

func (k *coreKey) have() keyfile.Keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// use has core answer with keys from now on.
func (k *coreKey) use(keys keyfile.Keys) {
	k.mu.Lock()
	k.keys = keys
	k.mu.Unlock()
	other, isNext := otherKey(keys)
	k.hub.SetKeys(keys.Current, other, isNext)
}

// pinned is called when an agent is known to pin a key of core.
func (k *coreKey) pinned(ctx context.Context, server, fingerprint string) {
	if err := k.store.PinnedCoreKey(ctx, server, fingerprint); err != nil {
		k.log.LogAttrs(ctx, slog.LevelError, "pinned core key not recorded", slog.String("host", server), slog.Any("err", err))
	}
	poke(k.wake)
}

// release ends a turn. What became of it meanwhile is looked at now: nobody could before.
func (k *coreKey) release() {
	<-k.turn
	poke(k.wake)
}

// Run ends graces when nobody needs them any more, until ctx ends.
func (k *coreKey) Run(ctx context.Context) error {
	ticker := time.NewTicker(graceCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-k.wake:
		}
		if err := k.endGrace(ctx); err != nil && ctx.Err() == nil {
			k.log.LogAttrs(ctx, slog.LevelError, "grace of core's old key not ended", slog.Any("err", err))
		}
	}
}

// endGrace refuses core's old key once every agent has the new one and no onboarding key names
// it any more, or after coreKeyGrace.
func (k *coreKey) endGrace(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	default:
		return nil // whoever has it has Run look again
	}
	keys := k.have()
	if keys.Prev.IsZero() || !keys.Next.IsZero() {
		return nil
	}
	changed, err := k.store.CoreKeyChanged(ctx)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("core's old key is refused from now on, after %v", coreKeyGrace)
	if time.Since(changed) < coreKeyGrace {
		left, err := k.store.WithoutCoreKey(ctx, keys.Current.Public().Fingerprint().String())
		if err != nil || len(left) > 0 {
			return err
		}
		open, err := k.store.OnboardingKeysBefore(ctx, changed)
		if err != nil || open > 0 {
			return err
		}
		text = "core's old key is refused from now on: every agent has the new one"
	}
	return k.dropPrev(ctx, keys, text)
}

func (k *coreKey) dropPrev(ctx context.Context, keys keyfile.Keys, text string) error {
	if err := k.files.DropPrev(); err != nil {
		return err
	}
	keys.Prev = noise.PrivateKey{}
	k.use(keys)
	k.record(ctx, api.Event{Kind: "key", Text: text})
	return nil
}

// change announces a new key to the connected agents, and uses it once all of them have it.
// Agents that are away are answered with the old key until they have the new one. With force
// agents that do not take the new key are left behind in the same way.
func (k *coreKey) change(ctx context.Context, actor string, force bool, each func(api.KeyResult)) (report api.KeyReport, err error) {
	select {
	case k.turn <- struct{}{}:
		defer k.release()
	case <-ctx.Done():
		return report, ctx.Err()
	}
	keys := k.have()
	if !keys.Prev.IsZero() {
		if err := k.finish(ctx, &keys); err != nil {
			return report, err
		}
	}
	if keys.Next, err = k.files.Propose(); err != nil {
		return report, err
	}
	k.use(keys)
	report = k.announce(ctx, keys, each)
	if n := report.Count(api.KeyFailed); n > 0 && !force {
		k.record(ctx, api.Event{Kind: "key", Actor: actor, Text: fmt.Sprintf(
			"core's key not changed: %d connected agents did not take the new one", n)})
		return report, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: fmt.Sprintf("core's key was not changed: %d connected agents did not take the new one", n),
			Hint:    "see why above, and try again; --force changes it all the same, and they get it when they can",
		}
	}
	err = k.cutOver(ctx, actor, keys, &report)
	return report, err
}

// finish ends the grace of the change before. Nothing ends it while somebody needs it: an agent
// that knows only the key before would be locked out.
func (k *coreKey) finish(ctx context.Context, keys *keyfile.Keys) error {
	left, err := k.store.WithoutCoreKey(ctx, keys.Current.Public().Fingerprint().String())
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: "the last change of core's key is not over: these do not have the new one yet: " + strings.Join(left, ", "),
			Hint:    "wait until they have connected; varan server disable leaves one out that will not",
		}
	}
	if err := k.dropPrev(ctx, *keys, "core's old key is refused from now on: it is changed again"); err != nil {
		return err
	}
	*keys = k.have()
	return nil
}

// announce tells the connected agents of the next key.
func (k *coreKey) announce(ctx context.Context, keys keyfile.Keys, each func(api.KeyResult)) api.KeyReport {
	report := api.KeyReport{Results: []api.KeyResult{}}
	add := func(server string, status api.KeyStatus, text string) {
		result := api.KeyResult{Server: server, Status: status, Text: text}
		report.Results = append(report.Results, result)
		each(result)
	}
	told, failed := k.hub.TellCoreKeys(ctx)
	for _, server := range told {
		add(server, api.KeyRotated, "pins core's new key")
	}
	for server, err := range failed {
		add(server, api.KeyFailed, err.Error())
	}
	left, err := k.store.WithoutCoreKey(ctx, keys.Next.Public().Fingerprint().String())
	if err != nil {
		k.log.LogAttrs(ctx, slog.LevelError, "servers without core's new key not read", slog.Any("err", err))
	}
	for _, server := range left {
		if failed[server] == nil && !slices.Contains(told, server) {
			add(server, api.KeySkipped, fmt.Sprintf("its agent is not connected; core answers it with the old key until it is, at most %d days",
				int(coreKeyGrace.Hours()/24)))
		}
	}
	slices.SortFunc(report.Results, func(a, b api.KeyResult) int { return strings.Compare(a.Server, b.Server) })
	return report
}

// cutOver makes the next key the one that core uses.
func (k *coreKey) cutOver(ctx context.Context, actor string, keys keyfile.Keys, report *api.KeyReport) error {
	// From here on it is done to its end: half of it is what a crash leaves.
	ctx = context.WithoutCancel(ctx)
	if err := k.store.SetCoreKeyChanged(ctx, time.Now()); err != nil {
		return err
	}
	if err := k.files.Advance(); err != nil {
		return err
	}
	keys = keyfile.Keys{Current: keys.Next, Prev: keys.Current}
	k.use(keys)
	public := keys.Current.Public()
	report.PublicKey, report.Fingerprint = public.String(), public.Fingerprint().String()
	text := fmt.Sprintf("core's key replaced; the new one is %s (%s)", public, public.Fingerprint())
	if left := report.Names(api.KeySkipped, api.KeyFailed); len(left) > 0 {
		text += "; answered with the old key until they have it: " + strings.Join(left, ", ")
	}
	k.record(ctx, api.Event{Kind: "key", Actor: actor, Text: text})
	// The agents drop the old pin. Those that do not hear it now do when they connect.
	if _, failed := k.hub.TellCoreKeys(ctx); len(failed) > 0 {
		for server, err := range failed {
			k.log.LogAttrs(ctx, slog.LevelWarn, "an agent was not told that core's key changed", slog.String("host", server), slog.Any("err", err))
		}
	}
	return nil
}

// hold keeps the key from changing until release is called.
func (k *coreKey) hold(ctx context.Context) (release func(), err error) {
	select {
	case k.turn <- struct{}{}:
		return k.release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// otherKey is the one beside the current key that core answers with.
func otherKey(keys keyfile.Keys) (key noise.PrivateKey, isNext bool) {
	if !keys.Next.IsZero() {
		return keys.Next, true
	}
	return keys.Prev, false
}

// loadCoreKey reads core's key, and finishes a change that was cut off.
func (d dataDir) loadCoreKey() (*keyfile.Set, keyfile.Keys, error) {
	set := keyfile.NewSet(d.path("keys", "core.key"), nil)
	keys, err := set.Load()
	if keys.Current.IsZero() { // a change was cut off, and the disk does not let it be finished yet
		keys.Current, keys.Next = keys.Next, noise.PrivateKey{}
	}
	if err == nil && keys.Current.IsZero() {
		err = errNotInitialised(d)
	}
	return set, keys, err
}

func errNotInitialised(d dataDir) error {
	return &api.Error{
		Status: http.StatusConflict, Code: api.CodeConflict, Message: string(d) + " is not a core's data directory",
		Hint: "varan core init --dir " + string(d),
	}
}
