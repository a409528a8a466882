package render

import (
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// named is a repository as a resource names it, with what it leaves open.
type named struct {
	fleet.Repository
	// anyHost and anyBranch are set when the host or the branch is not written: then the
	// sync's own repository fits whatever its host and branch are.
	anyHost, anyBranch bool
}

// namedBy reads the fields of a resource; at tells which are written.
func namedBy(g spec.GitSource, at func(field string) fleet.Position) named {
	unset := func(field string) bool { return at("config."+field) == at("") }
	n := named{
		Repository: fleet.Repository{
			Provider: strings.ToLower(g.GitProvider), Repo: g.Repo, HTTPS: g.GitHTTPS,
			Branch: g.Branch, Commit: g.Commit, Account: g.GitAccount,
		},
		anyHost: unset("git_provider"), anyBranch: unset("branch"),
	}
	if host, repo, ok := splitURL(g.Repo); ok {
		n.Provider, n.Repo, n.anyHost = host, repo, false
		return n
	}
	n.Repo = trimRepo(g.Repo)
	return n
}

// splitURL takes a repository apart that is written as an address.
func splitURL(written string) (host, repo string, ok bool) {
	if !strings.Contains(written, "://") && !strings.Contains(written, "@") {
		return "", "", false
	}
	host, repo, ok = strings.Cut(plainRepository(written), "/")
	if !ok {
		return "", "", false
	}
	// The host does not care for case; the name keeps the one it was written in.
	if i := strings.Index(strings.ToLower(written), repo); i >= 0 {
		repo = written[i : i+len(repo)]
	}
	return host, repo, true
}

// trimRepo takes off what people add to "owner/name".
func trimRepo(repo string) string {
	return strings.Trim(strings.TrimSuffix(strings.Trim(strings.TrimSpace(repo), "/"), ".git"), "/")
}

// ref is what Sources opens.
func (n named) ref() RepositoryRef {
	return RepositoryRef{
		Provider: n.Provider, Repo: n.Repo, HTTPS: n.HTTPS, Branch: n.Branch, Commit: n.Commit, Account: n.Account,
	}
}

// shown is "github.com/me/other".
func (n named) shown() string { return n.Provider + "/" + n.Repo }

// sameRepository reports whether a repository is the sync's own, at whatever commit.
func (p *pass) sameRepository(n named) bool {
	own, other := plainRepository(p.in.Repository), plainRepository(n.shown())
	if own == "" || n.Repo == "" {
		return false
	}
	return own == other || n.anyHost && strings.HasSuffix(own, "/"+plainRepository(n.Repo))
}

// settle gives a repository that is the sync's own at another state the host of that.
func (p *pass) settle(n named) named {
	if !n.anyHost || !p.sameRepository(n) {
		return n
	}
	host, _, ok := strings.Cut(plainRepository(p.in.Repository), "/")
	if ok {
		n.Provider, n.HTTPS = host, !strings.HasPrefix(p.in.Repository, "http://")
	}
	return n
}

// isOwn reports whether a repository is the sync's own at the commit being rendered.
func (p *pass) isOwn(n named) bool {
	if !p.sameRepository(n) {
		return false
	}
	commit := p.in.Commit
	if n.Commit != "" {
		return commit.ID != "" && strings.HasPrefix(commit.ID, strings.ToLower(n.Commit))
	}
	return n.anyBranch || commit.Branch == "" || commit.Branch == n.Branch
}

// plainRepository is a repository without what its spellings differ in.
func plainRepository(name string) string {
	address := false
	if _, after, ok := strings.Cut(name, "://"); ok {
		name, address = after, true
	}
	if before, after, ok := strings.Cut(name, "@"); ok && !strings.Contains(before, "/") {
		name = after
		if !address {
			name = strings.Replace(name, ":", "/", 1) // git@host:owner/name
		}
	}
	return strings.ToLower(trimRepo(name))
}

// repositoryNamed finds a [[repo]] of this tree or of another sync.
func (p *pass) repositoryNamed(name string) (named, bool) {
	for i := range p.decls.Repos {
		if r := &p.decls.Repos[i]; r.Name == name {
			return namedBy(r.Config.GitSource, r.At), true
		}
	}
	for _, r := range p.in.KnownRepositories {
		if r.Name == name {
			return named{Repository: r}, true
		}
	}
	return named{}, false
}

// repository is a [[repo]] for core.
func (p *pass) repository(name string) (fleet.Repository, bool) {
	n, ok := p.repositoryNamed(name)
	return n.Repository, ok
}
