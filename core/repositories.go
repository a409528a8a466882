package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/wire"
)

// maxFetches is how many repositories of one sync are asked at once.
const maxFetches = 8

var _ render.Sources = (*checkouts)(nil)

// checkouts are the repositories and directories of one render: each is opened when it is
// first asked for, and once.
type checkouts struct {
	source *source
	sync   string

	mu    sync.Mutex
	repos map[render.RepositoryRef]*checkout
	dirs  map[hostDir]*checkout
	// pinned are states of repositories that are read in place of their heads.
	pinned []fleet.Source
	// stale tells of repositories that did not answer, and of which the last commit is used.
	stale fleet.Diagnostics
}

// checkout is opened once, by whoever comes first.
type checkout struct {
	once sync.Once
	out  render.Checkout
	key  string
	err  error
	// asked is set when the render itself wanted it.
	asked bool
}

// hostDir names files of a directory on a server's host.
type hostDir struct{ server, dir, files string }

func (s *source) checkouts(name string) *checkouts {
	return &checkouts{
		source: s, sync: name, repos: map[render.RepositoryRef]*checkout{}, dirs: map[hostDir]*checkout{},
	}
}

// Repository implements render.Sources.
func (c *checkouts) Repository(ctx context.Context, ref render.RepositoryRef) (render.Checkout, error) {
	one := c.repository(ctx, ref)
	c.mu.Lock()
	one.asked = true
	c.mu.Unlock()
	return one.out, one.err
}

func (c *checkouts) repository(ctx context.Context, ref render.RepositoryRef) *checkout {
	c.mu.Lock()
	one := c.repos[ref]
	if one == nil {
		one = &checkout{}
		c.repos[ref] = one
	}
	c.mu.Unlock()
	one.once.Do(func() { one.out, one.key, one.err = c.fetch(ctx, ref) })
	return one
}

// fetch asks for the state that ref names. A repository that was read before and does not
// answer now stands as it was read last.
func (c *checkouts) fetch(ctx context.Context, ref render.RepositoryRef) (render.Checkout, string, error) {
	at, err := c.source.locate(ctx, ref)
	if err != nil {
		return render.Checkout{}, "", err
	}
	at.commit = cmp.Or(c.pin(at), at.commit)
	m, err := c.source.mirrors.get(c.sync, at)
	if err != nil {
		return render.Checkout{}, "", err
	}
	tree, err := c.source.fetch(ctx, m)
	if err != nil {
		last, ok := m.Current()
		if !ok || ctx.Err() != nil {
			return render.Checkout{}, m.key, err
		}
		c.source.logger.LogAttrs(ctx, slog.LevelWarn, "repository does not answer, using its last commit",
			slog.String("sync", c.sync), slog.String("commit", last.Commit().Short()), slog.Any("err", err))
		c.mu.Lock()
		c.stale = append(c.stale, staleness(last.Commit(), err))
		c.mu.Unlock()
		tree = last
	}
	return render.Checkout{Tree: tree, Commit: tree.Commit()}, m.key, nil
}

// staleness tells that a repository does not answer.
func staleness(last fleet.Commit, err error) fleet.Diagnostic {
	return fleet.Diagnostic{
		Rule: "source-stale", Severity: fleet.SeverityWarning, Hint: hintFor(err),
		Message: fmt.Sprintf("commit %s is the last that was read: %v", last.Short(), err),
	}
}

// HostDirectory implements render.Sources.
func (c *checkouts) HostDirectory(ctx context.Context, server, dir string, files []string) (compose.Tree, error) {
	one := c.directory(ctx, hostDir{server, dir, strings.Join(files, "\x00")})
	c.mu.Lock()
	one.asked = true
	c.mu.Unlock()
	return one.out.Tree, one.err
}

func (c *checkouts) directory(ctx context.Context, at hostDir) *checkout {
	c.mu.Lock()
	one := c.dirs[at]
	if one == nil {
		one = &checkout{}
		c.dirs[at] = one
	}
	c.mu.Unlock()
	one.once.Do(func() {
		if c.source.agents == nil {
			one.err = errors.New("this core has no agents")
			return
		}
		var wanted []string
		if at.files != "" {
			wanted = strings.Split(at.files, "\x00")
		}
		files, err := c.source.agents.Files(ctx, at.server, wire.FilesRequest{Dir: at.dir, Files: wanted})
		if err != nil {
			one.err = err
			return
		}
		contents, modes := map[string][]byte{}, map[string]fs.FileMode{}
		for _, f := range files {
			if !f.Missing {
				contents[f.Path], modes[f.Path] = f.Content, fs.FileMode(f.Mode)
			}
		}
		tree, err := render.MemTree(contents, modes)
		if err != nil {
			one.err = err
			return
		}
		one.out.Tree = tree
		one.out.Commit.ID, one.err = tree.ObjectID(".")
	})
	return one
}

// known is what the last render of a sync opened.
type known struct {
	repos []render.RepositoryRef
	dirs  []hostDir
}

// look brings what the last render opened up to date, several at a time, and names what came
// of it: an unchanged repository costs one request.
func (c *checkouts) look(ctx context.Context, last known) map[string]string {
	group := errgroup.Group{}
	group.SetLimit(maxFetches)
	for _, ref := range last.repos {
		group.Go(func() error {
			c.repository(ctx, ref)
			return nil
		})
	}
	for _, at := range last.dirs {
		group.Go(func() error {
			c.directory(ctx, at)
			return nil
		})
	}
	_ = group.Wait() // none returns an error: each is kept for whoever asks
	return c.revisions()
}

// revisions name the state of everything opened.
func (c *checkouts) revisions() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.repos)+len(c.dirs) == 0 {
		return nil
	}
	names := map[string]string{}
	name := func(what string, one *checkout) {
		names[what] = one.out.Commit.ID
		if one.err != nil {
			names[what] = "error: " + one.err.Error()
		}
	}
	for ref, one := range c.repos {
		name(fmt.Sprintf("%+v", ref), one)
	}
	for at, one := range c.dirs {
		name(fmt.Sprintf("%+v", at), one)
	}
	return names
}

// asked is what the render wanted, and the mirrors behind it.
func (c *checkouts) asked() (last known, mirrors map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	mirrors = map[string]bool{}
	for ref, one := range c.repos {
		if one.asked {
			last.repos = append(last.repos, ref)
			mirrors[one.key] = true
		}
	}
	for at, one := range c.dirs {
		if one.asked {
			last.dirs = append(last.dirs, at)
		}
	}
	return last, mirrors
}

// locate is where a repository that a resource names by parts is, and what opens it. An
// account with an SSH key is used over SSH.
func (s *source) locate(ctx context.Context, ref render.RepositoryRef) (where, error) {
	at := where{branch: ref.Branch, commit: ref.Commit}
	if ref.Commit != "" {
		at.branch = cmp.Or(ref.Branch, "main")
	}
	provider := strings.ToLower(strings.Trim(cmp.Or(ref.Provider, "github.com"), "/"))
	var account api.AccountSpec
	if ref.Account != "" {
		var err error
		id := api.AccountID{Kind: api.AccountGit, Domain: provider, Username: ref.Account}
		account, err = s.store.RevealAccount(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return at, &api.Error{
				Status: 422, Code: api.CodeInvalid, Message: "core has no " + id.String(),
				Hint: fmt.Sprintf("varan account set git %s %s", provider, ref.Account),
			}
		}
		if err != nil {
			return at, err
		}
		at.credentials = api.GitCredentials{
			Username: ref.Account, Password: account.Token,
			SSHKey: account.SSHKey, SSHPassphrase: account.SSHPassphrase, KnownHosts: account.KnownHosts,
		}
	}
	path := strings.Trim(ref.Repo, "/")
	switch {
	case strings.HasPrefix(ref.Repo, "/"), strings.Contains(ref.Repo, "://"), strings.HasPrefix(ref.Repo, "git@"):
		at.url = ref.Repo // whole already
		return at, nil
	case account.SSHKey != "":
		at.url = "ssh://git@" + provider + "/" + path
		at.credentials.Username = ""
	case ref.HTTPS:
		at.url = "https://" + provider + "/" + path
	default:
		at.url = "http://" + provider + "/" + path
	}
	if !strings.HasSuffix(path, ".git") {
		at.url += ".git"
	}
	return at, nil
}
