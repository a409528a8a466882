package render

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/rules"
	"github.com/varanhq/varan/sync/spec"
)

// Config configures a Renderer.
type Config struct {
	// Key is the HMAC key for content that may hold secrets. Required. Releases made
	// with different keys cannot be compared.
	Key []byte
	// Parallel is how many stacks are loaded at once. Optional, default GOMAXPROCS.
	Parallel int
}

// Input is one tree to render and what is known beside it.
type Input struct {
	// Sync names the source; caches belong to it.
	Sync string
	// Commit is what Tree was read from; zero for a local directory, which is not cached.
	Commit fleet.Commit
	Tree   compose.Tree
	// ResourcePaths and MatchTags narrow which resources are read.
	ResourcePaths []string
	MatchTags     []string
	// Variables are core's own; a [[variable]] of the tree with a value comes first.
	Variables []Variable
	// KnownServers exist without being declared.
	KnownServers []fleet.Server
	// Repository is the identity of the repository the tree is from; empty when unknown.
	Repository string
	// Offline says that Variables and KnownServers are not known: what may live in core
	// is then a note instead of an error.
	Offline bool
	// Lenient makes unknown keys and undefined Compose variables warnings.
	Lenient bool
	// Sources opens what is not in Tree. Nil when offline: then what lies there is a note.
	Sources Sources
	// KnownStacks are the stacks of other syncs, which after may name.
	KnownStacks []string
	// KnownRepositories are the [[repo]]s of other syncs, which linked_repo may name.
	KnownRepositories []fleet.Repository
	// Revisions name what Sources would give, by repository. They decide nothing, but what is
	// kept of an earlier render counts only while they are the same.
	Revisions map[string]string
	// SkipResources, SkipVariables and SkipUserGroups leave declarations of these out.
	SkipResources, SkipVariables, SkipUserGroups bool
	// LocalSecrets are those that each server's agent has, by server.
	LocalSecrets map[string][]fleet.LocalSecret
	// Decrypter opens SOPS files for a tier; nil when there are no identities.
	Decrypter func(fleet.Tier) compose.Decrypter
	// Identities names the keys that Decrypter has: when it changes, files are opened again.
	Identities string
}

// Variable is a variable or secret that core keeps.
type Variable struct {
	Name, Value string
	Secret      bool
	Scope       fleet.Scope
}

// RepositoryRef names a repository as a resource does: by parts, without credentials.
type RepositoryRef struct {
	// Provider is a host such as "github.com"; Repo is "owner/name" on it.
	Provider, Repo string
	HTTPS          bool
	// Branch and Commit say which state; an empty Commit is the head of Branch.
	Branch, Commit string
	// Account chooses the credentials that core keeps; empty is none.
	Account string
}

// Checkout is one commit of a repository.
type Checkout struct {
	Tree   compose.Tree
	Commit fleet.Commit
}

// Sources opens repositories and directories besides the sync's own tree. Methods are safe
// for concurrent use; the same thing opened twice in one render is read once. Their errors
// are for people and hold no secret.
type Sources interface {
	// Repository opens a repository, fetched once a render at most.
	Repository(ctx context.Context, ref RepositoryRef) (Checkout, error)
	// HostDirectory reads files of a directory on a server's host, through its agent.
	HostDirectory(ctx context.Context, server, dir string, files []string) (compose.Tree, error)
}

// Output is what a tree desires.
type Output struct {
	// Desired lacks the stacks that have errors.
	Desired     fleet.Desired
	Diagnostics fleet.Diagnostics
	// Content serves the blobs of Desired's releases.
	Content *Content
	// Declarations are what the tree declares, for export.
	Declarations spec.Declarations
	// Loads is how many stacks had to be loaded afresh.
	Loads int
}

// Renderer renders trees. It is safe for concurrent use; renders of one sync wait for
// each other.
type Renderer struct {
	key      []byte
	parallel int

	mu    sync.Mutex
	syncs map[string]*state
}

// New makes a Renderer.
func New(cfg Config) *Renderer {
	if cfg.Parallel <= 0 {
		cfg.Parallel = runtime.GOMAXPROCS(0)
	}
	return &Renderer{key: cfg.Key, parallel: cfg.Parallel, syncs: map[string]*state{}}
}

// Forget drops what is kept for a sync that is gone.
func (r *Renderer) Forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.syncs, name)
}

func (r *Renderer) state(name string) *state {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.syncs[name]
	if s == nil {
		s = &state{stacks: map[string][]*entry{}}
		r.syncs[name] = s
	}
	return s
}

// Render computes what a tree desires. Faults of the tree are diagnostics; the error is
// for a canceled context only.
func (r *Renderer) Render(ctx context.Context, in Input) (Output, error) {
	if len(r.key) == 0 || in.Tree == nil {
		return Output{}, errors.New("render: a key and a tree are required")
	}
	kept := r.state(in.Sync)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	input := inputKey(in)
	memo := input + "@" + in.Commit.ID
	if in.Commit.ID != "" && memo == kept.memo {
		out := kept.last
		out.Loads = 0
		return out, nil
	}
	p := &pass{renderer: r, in: in, kept: kept, input: input, fingerprints: map[string]string{}}
	out, err := p.run(ctx)
	if err != nil {
		return Output{}, err
	}
	if in.Commit.ID != "" {
		kept.memo, kept.last = memo, out
	}
	return out, nil
}

// pass is one render.
type pass struct {
	renderer *Renderer
	in       Input
	kept     *state
	decls    spec.Declarations
	servers  map[string]fleet.Server
	vars     *variables
	judge    *rules.Judge
	// names are what deployments and repos are called in the fleet.
	names     names
	checkouts checkouts
	findings  fleet.Diagnostics
	// input names all of in but the tree and the commit. unchanged says that it and the
	// declarations are those of the last render.
	input        string
	unchanged    bool
	fingerprints map[string]string
}

func (p *pass) run(ctx context.Context) (Output, error) {
	options := spec.Options{
		ResourcePaths: p.in.ResourcePaths, MatchTags: p.in.MatchTags,
		Offline: p.in.Offline, Lenient: p.in.Lenient, KnownServers: p.in.KnownServers, KnownStacks: p.in.KnownStacks,
		SkipResources: p.in.SkipResources, SkipVariables: p.in.SkipVariables, SkipUserGroups: p.in.SkipUserGroups,
	}
	if p.in.Commit.ID != "" {
		options.Cache, options.ObjectID = &p.kept.files, p.in.Tree.ObjectID
	}
	decls, findings := spec.Load(p.in.Tree, options)
	settings, faults := rules.Read(p.in.Tree)
	p.judge = rules.NewJudge(settings)
	p.findings = append(p.judge.Judge("", findings), faults...)
	p.collectServers(decls)
	p.vars = newVariables(decls.Variables, p.in)
	p.decls = decls
	base := p.input + "@" + decls.ID
	p.unchanged = decls.ID != "" && base == p.kept.base
	p.findings = append(p.findings, p.vars.check()...)
	jobs, err := p.jobs(ctx)
	if err != nil {
		return Output{}, err
	}
	loads, err := p.loadAll(ctx, jobs)
	if err != nil {
		return Output{}, err
	}
	out := p.output(jobs)
	out.Loads = loads
	if p.in.Commit.ID != "" {
		p.kept.base, p.kept.fingerprints = base, p.fingerprints
		p.kept.stacks = map[string][]*entry{}
		for _, j := range jobs {
			if kept := p.kept.stacks[j.key()]; !slices.Contains(kept, j.entry) {
				p.kept.stacks[j.key()] = append(kept, j.entry)
			}
		}
	}
	return out, nil
}

// output joins what the jobs came to.
func (p *pass) output(jobs []*job) Output {
	findings := 0
	for _, j := range jobs {
		findings += len(j.own) + len(j.entry.findings) + len(j.entry.result.Advice)
	}
	p.findings = slices.Grow(p.findings, findings)
	out := Output{Content: &Content{parts: make([]part, 0, len(jobs))}, Declarations: p.decls}
	out.Desired = fleet.Desired{Sync: p.in.Sync, Commit: p.in.Commit}
	servers := map[string]bool{}
	var standing []*job
	out.Desired.Stacks = make([]fleet.Stack, 0, len(jobs))
	jobs = slices.Clone(jobs)
	slices.SortFunc(jobs, func(a, b *job) int {
		return cmp.Or(strings.Compare(a.about.Name, b.about.Name), strings.Compare(a.about.Server, b.about.Server))
	})
	for _, j := range jobs {
		found := p.judge.Judge(j.request.Tier, j.findings())
		p.findings = append(p.findings, found...)
		if !j.idle && j.source.lost != "" && !slices.ContainsFunc(found, spoils) {
			lost := j.about
			lost.Unreadable = j.source.lost
			servers[lost.Server] = true
			out.Desired.Stacks = append(out.Desired.Stacks, lost)
			continue
		}
		if j.idle || !j.entry.ok || found.HasErrors() {
			continue
		}
		standing = append(standing, j)
		servers[j.about.Server] = true
		out.Desired.Stacks = append(out.Desired.Stacks, j.desired(p.in.Commit))
		out.Content.add(j.request.Tree, j.entry.result.Content)
	}
	p.findings = append(p.findings, p.across(standing)...)
	p.findings = append(p.findings, p.leftOver(p.decls, jobs)...)
	out.Desired.Servers = p.desiredServers(p.decls, servers)
	p.share(p.decls, &out.Desired)
	out.Diagnostics = p.findings.Sort()
	return out
}

// spoils reports a fault of what is declared, which no waiting mends.
func spoils(d fleet.Diagnostic) bool {
	return d.Severity == fleet.SeverityError && d.Rule != RuleUnavailable
}

// collectServers joins what the tree declares with what core knows. Of two tiers the
// narrower counts: a commit cannot make a server trusted that core does not trust.
func (p *pass) collectServers(decls spec.Declarations) {
	p.servers = make(map[string]fleet.Server, len(decls.Servers)+len(p.in.KnownServers))
	for _, known := range p.in.KnownServers {
		known.Tier = cmp.Or(known.Tier, fleet.TierTrusted)
		p.servers[known.Name] = known
	}
	for i := range decls.Servers {
		s := &decls.Servers[i]
		if s.Template {
			continue
		}
		server, faults := Server(s)
		p.findings = append(p.findings, faults...)
		if p.servers[s.Name].Tier == fleet.TierUntrusted {
			server.Tier = fleet.TierUntrusted
		}
		p.servers[s.Name] = server
	}
}

// Server is a declared server as the domain has it, and what is wrong with it.
func Server(s *spec.Server) (fleet.Server, fleet.Diagnostics) {
	windows, faults := windowsOf(s.Config.MaintenanceWindows, s.At("config.maintenance_windows"))
	return fleet.Server{
		Name: s.Name, Description: s.Description, Tags: s.Tags, Enabled: s.Config.Enabled,
		Tier: cmp.Or(s.Config.Tier, fleet.TierTrusted), ExternalAddress: s.Config.ExternalAddress,
		Links: s.Config.Links, Origin: s.At(""), Quiet: !s.Config.SendUnreachableAlerts, KeepKey: !s.Config.AutoRotateKeys, Maintenance: windows,
		Address: s.Config.Address, VerifyTLS: s.Config.Address != "" && !s.Config.InsecureTLS,
	}, faults
}

// desiredServers are the servers the tree declares and those its stacks are for.
func (p *pass) desiredServers(decls spec.Declarations, used map[string]bool) []fleet.Server {
	for i := range decls.Servers {
		used[decls.Servers[i].Name] = true
	}
	var out []fleet.Server
	for name := range used {
		if server, ok := p.servers[name]; ok {
			out = append(out, server)
		}
	}
	slices.SortFunc(out, func(a, b fleet.Server) int { return strings.Compare(a.Name, b.Name) })
	return out
}
