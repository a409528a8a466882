package render

import (
	"errors"
	"fmt"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/commitsig"
	"github.com/varanhq/varan/sync/spec"
)

// shared is what a render comes to beside its stacks: what core keeps, acts on and shows to
// other syncs.
type shared struct {
	desired  fleet.Desired
	findings fleet.Diagnostics
}

// share fills in what is the same as last time without a look at it: a commit that changes
// a stack's files changes none of it.
func (p *pass) share(decls spec.Declarations, desired *fleet.Desired) {
	kept := p.kept.shared
	if !p.unchanged || kept == nil {
		before := p.findings
		p.findings = nil
		kept = &shared{}
		p.records(decls, &kept.desired)
		kept.findings, p.findings = p.findings, before
	}
	if p.in.Commit.ID != "" { // a directory that is only looked at is no state to go on from
		p.kept.shared = kept
	}
	p.findings = append(p.findings, kept.findings...)
	desired.Resources, desired.Procedures, desired.Alerters = kept.desired.Resources, kept.desired.Procedures, kept.desired.Alerters
	desired.Variables, desired.Hooks = kept.desired.Variables, kept.desired.Hooks
	desired.Repositories, desired.Syncs = kept.desired.Repositories, kept.desired.Syncs
}

func (p *pass) records(decls spec.Declarations, desired *fleet.Desired) {
	desired.Resources, p.kept.records = records(decls, p.renderer.key, p.kept.records)
	if len(p.in.MatchTags) > 0 || p.in.Commit.ID == "" {
		p.kept.records = nil // what tags leave out changes declarations that were parsed before
	}
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
		if s := &decls.Stacks[i]; !s.Template && s.Config.WebhookEnabled {
			p.hook(desired, fleet.KindStack, s.Name, s.Config.Webhook, s.Config.GitSource, s.Config.LinkedRepo, s.At)
			desired.Hooks[len(desired.Hooks)-1].Force = s.Config.WebhookForceDeploy
		}
	}
	for i := range decls.Repos {
		r := &decls.Repos[i]
		if r.Template {
			continue
		}
		if r.Config.Repo != "" {
			repository := namedBy(r.Config.GitSource, r.At).Repository
			repository.Name = r.Name
			desired.Repositories = append(desired.Repositories, repository)
		}
		if r.Config.WebhookEnabled {
			p.hook(desired, fleet.KindRepo, r.Name, r.Config.Webhook, r.Config.GitSource, "", r.At)
		}
	}
	for i := range decls.Syncs {
		if s := &decls.Syncs[i]; !s.Template {
			desired.Syncs = append(desired.Syncs, p.sync(s))
		}
	}
}

// hook says what a webhook to a resource must prove and be about.
func (p *pass) hook(
	desired *fleet.Desired, kind fleet.Kind, name string, w spec.Webhook, git spec.GitSource, linked string,
	at func(field string) fleet.Position,
) {
	hook := fleet.Hook{Kind: string(kind), Name: name, Secret: p.secret(w.WebhookSecret, at("config.webhook_secret"))}
	switch {
	case linked != "":
		repository, _ := p.repository(linked)
		hook.Branch = repository.Branch
	case git.Repo != "" && !p.isOwn(namedBy(git, at)):
		hook.Branch = git.Branch
	}
	desired.Hooks = append(desired.Hooks, hook)
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
		AutoApply: declared(s, "auto_apply", c.AutoApply), SelfHeal: declared(s, "self_heal", c.SelfHeal),
		WebhookSecret: p.secret(c.WebhookSecret, s.At("config.webhook_secret")),
	}
	out.Signatures = p.signatures(s)
	if declared(s, "max_removals", true) != nil {
		out.MaxRemovals = c.MaxRemovals
	}
	if declared(s, "interval", true) != nil {
		out.Interval = c.Interval
		if c.Interval < minInterval || c.Interval > maxInterval {
			p.fault(s, fleet.SeverityError, "interval", "invalid-interval",
				fmt.Sprintf("%s is not an interval from %s to %s", c.Interval, minInterval, maxInterval), "write it like 30s, 5m or 1h")
		}
	}
	if c.Managed {
		out.Delete = &c.Managed
	}
	for i := range c.Windows {
		out.Windows = append(out.Windows, windowOf(&c.Windows[i]))
	}
	out.Limits = fleet.Limits(c.Limits)
	switch {
	case c.FilesOnHost:
	case c.LinkedRepo != "":
		repo, ok := p.repository(c.LinkedRepo)
		switch {
		case ok:
		case p.in.Offline:
			p.fault(s, fleet.SeverityNote, "linked_repo", "unknown-repo",
				fmt.Sprintf("no [[repo]] here is called %s; it may be in another sync", c.LinkedRepo), "")
		default:
			p.fault(s, fleet.SeverityError, "linked_repo", "unknown-repo", fmt.Sprintf("no [[repo]] is called %s", c.LinkedRepo),
				"declare it, or name the repository with repo = \"owner/name\"")
		}
		out.Repository = repo
	case c.Repo != "":
		out.Repository = namedBy(c.GitSource, s.At).Repository
	default:
		out.FileContents = c.FileContents
	}
	return out
}

// The shortest and the longest time between two polls.
const (
	minInterval = 5 * time.Second
	maxInterval = 7 * 24 * time.Hour
)

func (p *pass) fault(s *spec.ResourceSync, severity fleet.Severity, field, rule, message, hint string) {
	p.findings = append(p.findings, fleet.Diagnostic{
		Rule: rule, Severity: severity, Position: s.At("config." + field), Message: message, Hint: hint,
	})
}

// declared is nil for a field that is not in the file: it has the place of its table.
func declared(s *spec.ResourceSync, field string, value bool) *bool {
	if s.At("config."+field) == s.At("") {
		return nil
	}
	return &value
}

// SameRepository reports whether two addresses are of one repository, whatever the protocol.
func SameRepository(a, b string) bool { return plainRepository(a) == plainRepository(b) }

// signatures checks the keys that a sync believes, so that a typo is found before it locks
// everybody out.
func (p *pass) signatures(s *spec.ResourceSync) fleet.SignaturePolicy {
	c := &s.Config
	out := fleet.SignaturePolicy{Require: c.Signatures, AllowedSigners: c.AllowedSigners, PGPKeys: c.PGPKeys}
	signers, err := commitsig.Parse(c.AllowedSigners, c.PGPKeys)
	field := "pgp_keys"
	if bad, ok := errors.AsType[*commitsig.KeysError](err); ok && bad.Line > 0 {
		field = "allowed_signers"
	}
	switch {
	case err != nil:
		p.fault(s, fleet.SeverityError, field, "commit-signers", err.Error(),
			"allowed_signers takes lines like: ada@example.com ssh-ed25519 AAAA..., and pgp_keys the output of gpg --export --armor")
	case c.Signatures != "" && signers.Empty():
		p.fault(s, fleet.SeverityError, "signatures", "commit-signers", "signatures are required and no key is accepted",
			"list the keys in allowed_signers or pgp_keys")
	case c.Signatures != "" && c.Repo == "" && c.LinkedRepo == "":
		p.fault(s, fleet.SeverityError, "signatures", "commit-signers", "what is not read from a repository has no commits to sign", "")
	}
	return out
}
