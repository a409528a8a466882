package web

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// minPrefix is how many digits of a commit's id have to be given at least.
const minPrefix = 4

// comparison is what to compare.
type comparison struct {
	Name  string `path:"name" maxLength:"128"`
	From  string `query:"from" required:"true" maxLength:"64"`
	To    string `query:"to" maxLength:"64"`
	Stack string `query:"stack" maxLength:"128"`
}

func (s *server) registerCompare(a huma.API) {
	handle(s, a, route(http.MethodGet, "/syncs/{name}/diff", "compareCommits", "How what two commits of a sync say differs"), s.compare)
}

// compare plans from a fleet that runs what one commit says to what another says. Agents
// have no part in it.
func (s *server) compare(ctx context.Context, in *comparison) (api.Comparison, error) {
	sync, err := s.syncNamed(ctx, in.Name)
	if err != nil {
		return api.Comparison{}, err
	}
	from, err := s.at(ctx, sync.Name, in.From)
	if err != nil {
		return api.Comparison{}, err
	}
	to, err := s.at(ctx, sync.Name, in.To)
	if err != nil {
		return api.Comparison{}, err
	}
	result := api.Comparison{Sync: sync.Name, From: from.Desired.Commit, To: to.Desired.Commit, Diagnostics: to.Diagnostics}
	result.Plan = between(from.Desired, to.Desired, in.Stack, s.Now())
	if in.Stack != "" {
		_, before := from.Desired.Stack(in.Stack)
		_, after := to.Desired.Stack(in.Stack)
		if !before && !after {
			return result, notFound(fmt.Sprintf("neither commit declares a stack %q", in.Stack), "varan diff --from COMMIT compares all of them")
		}
	}
	return result, nil
}

// at is what a commit says, which may be named by the beginning of its id; empty is the one
// in force.
func (s *server) at(ctx context.Context, sync, commit string) (reconciler.Loaded, error) {
	commit = strings.ToLower(commit)
	if commit == "" || commit == "head" {
		desired, ok := s.Sources.Desired(sync)
		if !ok {
			return reconciler.Loaded{}, badRequest(fmt.Sprintf("sync %s has no good commit yet", sync), "varan sync show "+sync)
		}
		return reconciler.Loaded{Desired: desired}, nil
	}
	if _, err := hex.DecodeString(commit[:len(commit)/2*2]); err != nil || len(commit) < minPrefix {
		return reconciler.Loaded{}, badRequest(fmt.Sprintf("%q is no commit", commit), "give at least four digits of its id")
	}
	if len(commit) < 40 {
		id, err := s.Store.CommitNamed(ctx, sync, commit)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return reconciler.Loaded{}, notFound(fmt.Sprintf("sync %s has read no commit %s", sync, commit), "varan history --kind sync --sync "+sync)
		case errors.Is(err, store.ErrExists):
			return reconciler.Loaded{}, badRequest(fmt.Sprintf("%s stands for several commits", commit), "give more digits of its id")
		case err != nil:
			return reconciler.Loaded{}, err
		}
		commit = id
	}
	loaded, err := s.Sources.At(ctx, sync, commit, nil)
	if err == nil && loaded.Diagnostics.HasErrors() {
		return loaded, &api.Error{
			Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Diagnostics: loaded.Diagnostics,
			Message: fmt.Sprintf("commit %s is invalid", fleet.Commit{ID: commit}.Short()), Hint: "compare with another",
		}
	}
	return loaded, err
}

// between is the plan from one desired state to another, as if all of the first ran and every
// server were there.
func between(from, to fleet.Desired, stack string, now time.Time) plan.Plan {
	in := plan.Input{Desired: to, Observed: fleet.Observed{}, Now: now, Policy: plan.Policy{Delete: true, MaxRemovals: -1}}
	if stack != "" {
		in.Policy.Only = []string{stack}
	}
	for _, desired := range []fleet.Desired{from, to} {
		for i := range desired.Stacks {
			name := desired.Stacks[i].Server
			in.Observed[name] = fleet.ServerReport{Server: name, Online: true, Received: now}
		}
	}
	for i := range from.Stacks {
		s := &from.Stacks[i]
		report := in.Observed[s.Server]
		report.Stacks = append(report.Stacks, running(s, now))
		in.Observed[s.Server] = report
		in.Inventory = append(in.Inventory, plan.Owned{Stack: s.Name, Server: s.Server, Project: s.Release.Project, Kind: s.Kind})
	}
	in.Records = from.Resources
	return plan.Compute(in)
}

// running is a stack as it runs when it is as declared.
func running(s *fleet.Stack, now time.Time) fleet.StackReport {
	report := fleet.StackReport{Stack: s.Name, Project: s.Release.Project, Release: s.Release, DeployedAt: now}
	for i := range s.Release.Services {
		service := &s.Release.Services[i]
		for n := range service.Replicas {
			report.Containers = append(report.Containers, fleet.Container{
				ID: fmt.Sprintf("%s-%s-%d", s.Name, service.Name, n), Name: fmt.Sprintf("%s-%d", service.Name, n), Service: service.Name,
				Image: service.Image, State: fleet.StateRunning, Health: fleet.HealthNone, Digest: service.Digest, StartedAt: now,
			})
		}
	}
	return report
}
