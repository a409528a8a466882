package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

func (s *server) registerFleet(a huma.API) {
	handle(s, a, route(http.MethodGet, "/version", "getVersion", "Which core this is"),
		func(context.Context, *none) (api.Version, error) {
			version := s.Version
			key, fingerprint := s.Keys.Core()
			version.PublicKey, version.Fingerprint = key, fingerprint.String()
			return version, nil
		})
	handle(s, a, route(http.MethodGet, "/status", "getStatus", "The whole fleet on the two axes"), s.status)
	handle(s, a, route(http.MethodGet, "/servers", "listServers", "Servers by name"),
		func(ctx context.Context, _ *none) ([]api.Server, error) {
			view, err := s.look(ctx)
			return view.servers(view.stacks()), err
		})
	handle(s, a, route(http.MethodGet, "/servers/{name}", "getServer", "One server"), s.serverByName)
	act(s, a, route(http.MethodPost, "/servers/{name}/approve", "approveServer", "Let a pending server join"), s.approveServer)
	act(s, a, route(http.MethodPost, "/servers/{name}/reject", "rejectServer", "Turn a pending server away"), s.rejectServer)
	act(s, a, route(http.MethodDelete, "/servers/{name}", "removeServer", "Revoke a server's key and forget it"), s.removeServer)
	handle(s, a, route(http.MethodGet, "/stacks", "listStacks", "Stacks by server and name"),
		func(ctx context.Context, _ *none) ([]api.Stack, error) {
			view, err := s.look(ctx)
			return view.stacks(), err
		})
	s.registerStacks(a)
}

func (s *server) status(ctx context.Context, _ *none) (api.Status, error) {
	view, err := s.look(ctx)
	if err != nil {
		return api.Status{}, err
	}
	status := api.Status{Stacks: view.stacks(), Syncs: []api.Sync{}, Warnings: s.Warnings()}
	if status.Suspensions, err = s.Store.Suspensions(ctx); err != nil {
		return status, err
	}
	if status.Rollouts, err = s.Store.Rollouts(ctx, ""); err != nil {
		return status, err
	}
	status.Rollouts = slices.DeleteFunc(status.Rollouts, func(r plan.Rollout) bool { return !r.Open() })
	status.Servers = view.servers(status.Stacks)
	for _, source := range view.sources {
		status.Syncs = append(status.Syncs, source.sync)
	}
	return status, nil
}

func (s *server) serverByName(ctx context.Context, in *named) (api.Server, error) {
	view, err := s.look(ctx)
	if err != nil {
		return api.Server{}, err
	}
	var names []string
	for _, server := range view.servers(view.stacks()) {
		if server.Name == in.Name {
			return server, nil
		}
		names = append(names, server.Name)
	}
	return api.Server{}, notFound(fmt.Sprintf("there is no server %q", in.Name), didYouMean(in.Name, names))
}

func (s *server) approveServer(ctx context.Context, in *named) error {
	if err := s.Store.ApproveServer(ctx, in.Name); err != nil {
		return err
	}
	s.record(ctx, api.Event{Kind: "server", Server: in.Name, Text: "server approved"})
	s.wakeAll(ctx)
	return nil
}

func (s *server) rejectServer(ctx context.Context, in *named) error {
	if err := s.Store.RejectServer(ctx, in.Name); err != nil {
		return err
	}
	s.record(ctx, api.Event{Kind: "server", Server: in.Name, Text: "server rejected; its agent cannot join with this key again"})
	return nil
}

func (s *server) removeServer(ctx context.Context, in *named) error {
	if err := s.Store.RemoveServer(ctx, in.Name); err != nil {
		return err
	}
	s.Agents.Drop(ctx, in.Name)
	s.record(ctx, api.Event{Kind: "server", Server: in.Name, Text: "server removed, its key revoked"})
	s.wakeAll(ctx)
	return nil
}

// source is a sync with what is known of it.
type source struct {
	sync    api.Sync
	status  reconciler.SyncStatus
	desired fleet.Desired
	// declared are the stacks of desired by name.
	declared map[string]*fleet.Stack
}

// view is everything that an answer about the fleet is made from.
type view struct {
	sources  []source
	joined   []store.Server
	observed fleet.Observed
	dials    Dials
	// running are the stacks of observed by place.
	running map[place]*fleet.StackReport
}

// place is a stack on a server.
type place struct{ server, stack string }

// look reads the view.
func (s *server) look(ctx context.Context) (view, error) {
	v := view{observed: s.Agents.Observed(), dials: s.Dials}
	syncs, err := s.Store.Syncs(ctx)
	if err != nil {
		return v, err
	}
	if v.joined, err = s.Store.Servers(ctx); err != nil {
		return v, err
	}
	for _, sync := range syncs {
		v.sources = append(v.sources, s.source(sync))
	}
	v.running = map[place]*fleet.StackReport{}
	for server, report := range v.observed {
		for i := range report.Stacks {
			v.running[place{server, report.Stacks[i].Stack}] = &report.Stacks[i]
		}
	}
	return v, nil
}

func (s *server) source(sync api.Sync) source {
	one := source{sync: sync, declared: map[string]*fleet.Stack{}}
	one.status, _ = s.Reconciler.Status(sync.Name)
	one.desired, _ = s.Sources.Desired(sync.Name)
	for i := range one.desired.Stacks {
		one.declared[one.desired.Stacks[i].Name] = &one.desired.Stacks[i]
	}
	one.sync.State = syncState(one.status)
	return one
}

func syncState(status reconciler.SyncStatus) api.SyncState {
	state := api.SyncState{
		Phase: string(cmp.Or(status.Phase, reconciler.PhaseIdle)), Commit: status.Head, Good: status.Good,
		Error: status.Error, Diagnostics: status.Diagnostics, Checked: status.LastPass, NextPoll: status.NextPoll,
		Pending: len(status.Plan.Ops), Blocked: len(status.Plan.Blocked), Unrecorded: len(status.Plan.Resources),
	}
	if status.Run != nil {
		state.LastRun = status.Run.ID
	}
	return state
}

// stacks lists every stack that a sync declares or a server runs, by server and name.
func (v view) stacks() []api.Stack {
	list := []api.Stack{}
	known := map[place]bool{}
	for _, source := range v.sources {
		for _, state := range source.status.Plan.Stacks {
			known[place{state.Server, state.Stack}] = true
			list = append(list, v.stack(source, state))
		}
		for i := range source.desired.Stacks {
			// Declared, and no plan was made yet.
			stack := &source.desired.Stacks[i]
			if key := (place{stack.Server, stack.Name}); !known[key] {
				known[key] = true
				list = append(list, v.stack(source, plan.StackState{
					Stack: stack.Name, Server: stack.Server, Sync: fleet.SyncUnknown, Health: fleet.HealthUnknown,
					Text: "not planned yet",
				}))
			}
		}
	}
	for at := range v.running {
		if !known[at] {
			list = append(list, v.stack(source{}, plan.StackState{
				Stack: at.stack, Server: at.server, Sync: fleet.SyncUnknown, Health: fleet.HealthUnknown,
				Text: "no sync declares it",
			}))
		}
	}
	slices.SortFunc(list, func(a, b api.Stack) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func (v view) stack(source source, state plan.StackState) api.Stack {
	stack := api.Stack{
		Name: state.Stack, Server: state.Server, Source: source.sync.Name,
		Sync: state.Sync, Health: state.Health, Text: state.Text,
	}
	if declared := source.declared[state.Stack]; declared != nil && declared.Server == state.Server {
		stack.Origin = declared.Origin
	}
	if report := v.running[place{state.Server, state.Stack}]; report != nil {
		stack.Commit, stack.DeployedAt, stack.Containers = report.Release.Commit, report.DeployedAt, report.Containers
	}
	return stack
}

// servers lists every server that joined, is declared, or was heard of, by name, with the
// sum of its stacks.
func (v view) servers(stacks []api.Stack) []api.Server {
	byName := map[string]*api.Server{}
	at := func(name string) *api.Server {
		if byName[name] == nil {
			byName[name] = &api.Server{
				Name: name, Tier: fleet.TierTrusted, Enabled: true, Sync: fleet.Synced, Health: fleet.Healthy,
			}
		}
		return byName[name]
	}
	for _, joined := range v.joined {
		server := at(joined.Name)
		server.Tags, server.Tier, server.Pending = joined.Tags, joined.Tier, joined.Pending
		server.Disabled = joined.Disabled
		server.PublicKey, server.OnboardedAt = joined.PublicKey, joined.OnboardedAt
		server.OnboardingKey, server.RemoteAddr = joined.OnboardingKey, joined.RemoteAddr
	}
	for _, source := range v.sources {
		for _, declared := range source.desired.Servers {
			if declared.Origin.IsZero() {
				continue // it only joined
			}
			server := at(declared.Name)
			server.Declared, server.Enabled = true, declared.Enabled
			server.Tags, server.Tier = declared.Tags, declared.Tier
		}
	}
	for name, report := range v.observed {
		server := at(name)
		server.Online, server.Agent, server.LastSeen = report.Online, report.Agent, report.Received
		server.ClockSkewMS = report.Skew.Milliseconds()
	}
	for _, stack := range stacks {
		server := at(stack.Server)
		server.Stacks++
		server.Sync = worst(syncOrder(), server.Sync, stack.Sync)
		server.Health = worst(healthOrder(), server.Health, stack.Health)
	}
	list := make([]api.Server, 0, len(byName))
	for _, server := range byName {
		if dial, ok := v.dials.State(server.Name); ok {
			server.Dial = &dial
		}
		list = append(list, summed(*server))
	}
	slices.SortFunc(list, func(a, b api.Server) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// PendingText says for what a server waits that joined with a reusable key.
func PendingText(s store.Server) string {
	if s.RemoteAddr == "" {
		return "waits for approval"
	}
	return fmt.Sprintf("waits for approval: it came from %s with onboarding key %s", s.RemoteAddr, s.OnboardingKey)
}

// summed adds what the server itself has to say to the sum of its stacks.
func summed(server api.Server) api.Server {
	switch {
	case server.Pending:
		server.Text = PendingText(store.Server{RemoteAddr: server.RemoteAddr, OnboardingKey: server.OnboardingKey})
	case server.Disabled:
		server.Text = "disabled, its key is refused: varan server enable " + server.Name
	case !server.Enabled:
		server.Text = "disabled by its declaration, its agent is refused: set enabled = true"
	case server.PublicKey == "" && !server.Online:
		server.Text = "no agent ever joined under that name"
	case !server.Online:
		server.Text = "its agent is not connected"
	case server.Agent.EngineError != "":
		server.Text = "Docker does not answer: " + server.Agent.EngineError
	case server.Agent.LowDisk != "":
		server.Text = "its disk is nearly full, it takes no new orders: " + server.Agent.LowDisk
	case skewed(server.ClockSkewMS) != "":
		server.Text = skewed(server.ClockSkewMS)
	default:
		return server
	}
	if !server.Online || server.Agent.EngineError != "" {
		server.Sync = worst(syncOrder(), server.Sync, fleet.SyncBlocked)
		server.Health = fleet.HealthUnknown
	}
	return server
}

// maxSkew is from where on two clocks are told to differ. Nothing depends on it.
const maxSkew = time.Minute

// skewed says how far a server's clock is off, if it is.
func skewed(ms int64) string {
	skew := time.Duration(ms) * time.Millisecond
	switch {
	case skew > maxSkew:
		return "its clock is " + skew.Round(time.Second).String() + " ahead of core's"
	case skew < -maxSkew:
		return "its clock is " + (-skew).Round(time.Second).String() + " behind core's"
	}
	return ""
}

// syncOrder and healthOrder rank the states, best first.
func syncOrder() []fleet.SyncState {
	return []fleet.SyncState{fleet.Synced, fleet.SyncUnknown, fleet.OutOfSync, fleet.SyncBlocked}
}

func healthOrder() []fleet.HealthState {
	return []fleet.HealthState{
		fleet.Healthy, fleet.Suspended, fleet.Progressing, fleet.HealthUnknown, fleet.Missing, fleet.Degraded,
	}
}

func worst[T comparable](order []T, a, b T) T {
	if slices.Index(order, a) > slices.Index(order, b) {
		return a
	}
	return b
}
