package render

import (
	"fmt"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// records fills in what core keeps, acts on and shows to other syncs.
func (p *pass) records(decls spec.Declarations, desired *fleet.Desired) {
	desired.Resources = records(decls, p.renderer.key)
	p.operations(decls, desired)
	for i := range decls.Variables {
		v := &decls.Variables[i]
		if v.Value.IsEmpty() {
			continue // its value is in core
		}
		desired.Variables = append(desired.Variables, fleet.Variable{
			Name: v.Name, Value: v.Value, Secret: v.IsSecret, Scope: scopeOf(v),
		})
	}
	for i := range decls.Stacks {
		s := &decls.Stacks[i]
		if s.Template || !s.Config.WebhookEnabled {
			continue
		}
		hook := fleet.Hook{Kind: string(fleet.KindStack), Name: s.Name, Secret: p.secret(s.Config.WebhookSecret, s.At("config.webhook_secret"))}
		if s.Config.Repo != "" && !p.isOwn(namedBy(s.Config.GitSource, s.At)) {
			hook.Branch = s.Config.Branch
		}
		desired.Hooks = append(desired.Hooks, hook)
	}
	for i := range decls.Repos {
		if r := &decls.Repos[i]; !r.Template && r.Config.Repo != "" {
			repository := namedBy(r.Config.GitSource, r.At).Repository
			repository.Name = r.Name
			desired.Repositories = append(desired.Repositories, repository)
		}
	}
	for i := range decls.Syncs {
		if s := &decls.Syncs[i]; !s.Template {
			desired.Syncs = append(desired.Syncs, p.sync(s))
		}
	}
}

// secret fills in the references of a webhook's secret.
func (p *pass) secret(written fleet.Secret, at fleet.Position) fleet.Secret {
	if written.IsEmpty() {
		return written
	}
	x := expander{vars: p.vars, at: at}
	value := x.expand(written.Reveal(), nil)
	p.findings = append(p.findings, x.findings...)
	return fleet.NewSecret(value)
}

// sync is a declared sync as core runs it.
func (p *pass) sync(s *spec.ResourceSync) fleet.SyncSpec {
	c := &s.Config
	out := fleet.SyncSpec{
		Name: s.Name, Description: s.Description, Tags: s.Tags, Origin: s.At(""),
		HostDir: c.FilesOnHost, ResourcePaths: c.ResourcePath, MatchTags: c.MatchTags,
		SkipResources: !c.IncludeResources, SkipVariables: !c.IncludeVariables, SkipUserGroups: !c.IncludeUserGroups,
		NoWebhook: !c.WebhookEnabled, QuietPending: !c.PendingAlert, Delete: declared(s, "delete", c.Delete),
		WebhookSecret: p.secret(c.WebhookSecret, s.At("config.webhook_secret")),
	}
	if c.Managed {
		out.Delete = &c.Managed
	}
	switch {
	case c.FilesOnHost:
	case c.LinkedRepo != "":
		repo, ok := p.repository(c.LinkedRepo)
		if !ok {
			p.fault(s, "linked_repo", "unknown-repo", fmt.Sprintf("no [[repo]] is called %s", c.LinkedRepo),
				"declare it, or name the repository with repo = \"owner/name\"")
		}
		out.Repository = repo
	case c.Repo != "":
		out.Repository = fleet.Repository{
			Provider: c.GitProvider, Repo: c.Repo, HTTPS: c.GitHTTPS, Branch: c.Branch, Commit: c.Commit, Account: c.GitAccount,
		}
	default:
		out.FileContents = c.FileContents
	}
	return out
}

func (p *pass) fault(s *spec.ResourceSync, field, rule, message, hint string) {
	p.findings = append(p.findings, fleet.Diagnostic{
		Rule: rule, Severity: fleet.SeverityError, Position: s.At("config." + field), Message: message, Hint: hint,
	})
}

// declared is nil for a field that is not in the file: it has the place of its table.
func declared(s *spec.ResourceSync, field string, value bool) *bool {
	if s.At("config."+field) == s.At("") {
		return nil
	}
	return &value
}
