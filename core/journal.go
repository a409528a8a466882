package core

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
)

var _ reconciler.Journal = (*journal)(nil)

// journal is the store as the reconciler needs it, and carries out what is recorded: declared
// syncs come and go with their records.
type journal struct {
	*store.Store

	core *core
}

// The limits and defaults of declared syncs are those of syncs added by hand.
const (
	defaultInterval    = 60
	defaultMaxRemovals = 3
)

// Record implements reconciler.Journal. Syncs are changed first: doing so twice changes
// nothing, so that a failure in between is made good by the next try.
func (j *journal) Record(ctx context.Context, run reconciler.Run, desired fleet.Desired, changes []plan.ResourceChange) error {
	for i := range changes {
		if changes[i].Kind != "resource_sync" {
			continue
		}
		if err := j.changeSync(ctx, run.Sync, desired, &changes[i]); err != nil {
			return err
		}
	}
	if err := j.Store.Record(ctx, run, desired, changes); err != nil {
		return err
	}
	if slices.ContainsFunc(changes, concernsOthers) {
		j.core.wakeOthers(run.Sync)
	}
	return nil
}

// concernsOthers reports changes of what other syncs may refer to.
func concernsOthers(c plan.ResourceChange) bool {
	switch c.Kind {
	case "server", "variable", "repo":
		return true
	case "stack", "deployment":
		return c.Action != plan.ResourceUpdate
	}
	return false
}

// wakeOthers has all other syncs look again.
func (c *core) wakeOthers(sync string) {
	for _, status := range c.reconciler.Statuses() {
		if status.Sync != sync {
			c.reconciler.Poke(status.Sync, reconciler.TriggerResult, sync)
		}
	}
}

func (j *journal) changeSync(ctx context.Context, by string, desired fleet.Desired, change *plan.ResourceChange) error {
	at := slices.IndexFunc(desired.Syncs, func(s fleet.SyncSpec) bool { return s.Name == change.Name })
	if change.Action == plan.ResourceDelete || at < 0 { // a template is declared and does not run
		gone, err := j.UndeclareSync(ctx, by, change.Name)
		if gone {
			j.core.reconciler.Remove(change.Name)
			j.core.source.Forget(change.Name)
		}
		return err
	}
	declared := desired.Syncs[at]
	settings, err := j.settings(ctx, by, declared)
	if err != nil {
		return err
	}
	if err := j.DeclareSync(ctx, by, settings, declared); err != nil {
		return err
	}
	j.core.reconciler.Add(reconciler.SyncSettings{
		Name: settings.Name, Interval: time.Duration(settings.IntervalSeconds) * time.Second,
	})
	return nil
}

// settings are those of a declared sync. One that declares itself keeps what it does not
// mention, and where it is read from: that is the administrator's to change.
func (j *journal) settings(ctx context.Context, by string, d fleet.SyncSpec) (api.SyncSpec, error) {
	out := api.SyncSpec{
		Name: d.Name, Branch: d.Repository.Branch, Paths: d.ResourcePaths, MatchTags: d.MatchTags,
		IntervalSeconds: defaultInterval, MaxRemovals: defaultMaxRemovals, WebhookSecret: api.WriteOnly(d.WebhookSecret.Reveal()),
	}
	out.Signatures = d.Signatures
	if d.Name == by {
		if err := j.ownSettings(ctx, d, &out); err != nil {
			return out, err
		}
	}
	if d.Interval > 0 {
		out.IntervalSeconds = int(d.Interval / time.Second)
	}
	out.MaxRemovals = cmp.Or(d.MaxRemovals, out.MaxRemovals)
	for _, flag := range []struct {
		declared *bool
		to       *bool
	}{{d.AutoApply, &out.AutoApply}, {d.Delete, &out.Delete}, {d.SelfHeal, &out.SelfHeal}} {
		if flag.declared != nil {
			*flag.to = *flag.declared
		}
	}
	if d.Repository.Repo == "" || out.URL != "" {
		return out, nil
	}
	at, err := j.core.source.locate(ctx, refOf(d.Repository))
	if err == nil {
		_, err = git.ParseURL(at.url, j.core.source.git.LocalRoots)
	}
	if err != nil {
		return out, refused(d, err.Error(), "check its repo, git_provider and git_account")
	}
	out.URL = at.url
	return out, nil
}

// ownSettings are those that a sync which declares itself has already.
func (j *journal) ownSettings(ctx context.Context, d fleet.SyncSpec, out *api.SyncSpec) error {
	self, err := j.Sync(ctx, d.Name)
	if err != nil || self.DeclaredBy != "" {
		return err
	}
	if !j.core.source.declaresItself(ctx, self, d) {
		return refused(d, "it is read from another repository than it declares for itself",
			"give both the same repository and branch, or declare it under another name")
	}
	out.URL, out.Branch = self.URL, self.Branch
	out.IntervalSeconds, out.MaxRemovals = self.IntervalSeconds, self.MaxRemovals
	out.AutoApply, out.Delete, out.SelfHeal = self.AutoApply, self.Delete, self.SelfHeal
	if out.Signatures == (fleet.SignaturePolicy{}) {
		out.Signatures = self.Signatures
	}
	if len(out.Paths) == 0 {
		out.Paths = self.Paths
	}
	if len(out.MatchTags) == 0 {
		out.MatchTags = self.MatchTags
	}
	return nil
}

func refused(d fleet.SyncSpec, why, hint string) error {
	return &api.Error{
		Status: http.StatusConflict, Code: api.CodeConflict, Hint: hint,
		Message: fmt.Sprintf("sync %s (%s) cannot be declared: %s", d.Name, d.Origin, why),
	}
}

func refOf(r fleet.Repository) render.RepositoryRef {
	return render.RepositoryRef{
		Provider: r.Provider, Repo: r.Repo, HTTPS: r.HTTPS, Branch: r.Branch, Commit: r.Commit, Account: r.Account,
	}
}

// declaresItself reports whether a sync declares the repository that it is read from.
func (s *source) declaresItself(ctx context.Context, self api.Sync, d fleet.SyncSpec) bool {
	if d.HostDir || d.FileContents != "" || d.Repository.Repo == "" || d.Repository.Commit != "" {
		return false
	}
	at, err := s.locate(ctx, refOf(d.Repository))
	if err != nil {
		return false
	}
	same, err := git.ParseURL(at.url, s.git.LocalRoots)
	if err != nil {
		return false
	}
	own, err := git.ParseURL(self.URL, s.git.LocalRoots)
	if err != nil {
		return false
	}
	return cmp.Or(d.Repository.Branch, "main") == self.Branch && render.SameRepository(own.String(), same.String())
}
