package render

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// locateRepo says where the files of a [[repo]] are that is put on a server.
func (p *pass) locateRepo(r *spec.Repo) where {
	if r.Config.Server == "" || r.Config.Repo == "" {
		return where{}
	}
	w := where{named: p.settle(namedBy(r.Config.GitSource, r.At)), field: "config.repo"}
	w.own = p.isOwn(w.named)
	return w
}

// repoJob prepares a repository that is put on a server as it is.
func (p *pass) repoJob(r *spec.Repo) *job {
	c := &r.Config
	server := p.server(c.Server)
	name := p.names.repos[r.Name]
	at := p.place(name, server)
	f := &filler{vars: p.vars, place: at, skip: c.SkipSecretInterp}
	j := &job{
		about: fleet.Stack{
			Name: name, Kind: fleet.KindRepo, Description: r.Description, Tags: r.Tags, Links: c.Links,
			Server: server.Name, Origin: r.At(""),
		},
		idle: r.Template, sourceAt: r.At("config.repo"), pool: p.vars.pool(at), load: compose.Checkout,
		source: p.repoSource(r),
	}
	if !r.Template {
		j.own = append(j.own, checkTier("repo "+r.Name, r.Tags, r.At("tags"), server)...)
	}
	dir := path.Clean(cmp.Or(c.Path, r.Name))
	if dir == ".." || strings.HasPrefix(dir, "../") {
		j.own = append(j.own, fleet.Diagnostic{
			Rule: "path-outside", Severity: fleet.SeverityError, Position: r.At("config.path"),
			Message: fmt.Sprintf("path %q of repo %s leaves the agent's directory for repositories", c.Path, r.Name),
			Hint:    "write an absolute path, or one below that directory",
		})
	}
	j.request = compose.Request{
		Stack: name, Server: server.Name, Project: projectName(name), Origin: r.At(""), Tier: at.tier(),
		Environment: f.environment(c.Environment), EnvFilePath: c.EnvFilePath,
		FirstDeploy: f.hook(c.OnClone, r.At("config.on_clone")),
		PostDeploy:  f.hook(c.OnPull, r.At("config.on_pull")),
		Key:         p.renderer.key, Lenient: p.in.Lenient, Offline: p.in.Offline,
		Settings: compose.Settings{
			RunDirectory: r.At("config.repo"), EnvFilePath: r.At("config.env_file_path"),
			FirstDeploy: r.At("config.on_clone"), PostDeploy: r.At("config.on_pull"),
		},
		// A relative directory is one below the agent's directory for repositories.
		Options: fleet.ReleaseOptions{Dir: dir},
	}
	p.finish(j, f)
	return j
}

// repoSource opens the repository of a [[repo]].
func (p *pass) repoSource(r *spec.Repo) source {
	w := p.locateRepo(r)
	switch {
	case r.Config.Repo == "":
		return source{findings: fleet.Diagnostics{{
			Rule: "missing-repo", Severity: fleet.SeverityError, Position: r.At(""),
			Message: "repo " + r.Name + " is for a server, and does not say which repository it is",
			Hint:    `add repo = "owner/name"`,
		}}}
	case w.own:
		return source{checkout: &Checkout{Tree: p.in.Tree, Commit: p.in.Commit}}
	}
	return p.remote(w.named, r.At("config.repo"), "repo "+r.Name)
}
