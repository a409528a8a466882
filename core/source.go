package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/rules"
	"github.com/varanhq/varan/sync/sops"
	"github.com/varanhq/varan/sync/spec"
	"github.com/varanhq/varan/wire"
)

var (
	_ reconciler.Source = (*source)(nil)
	_ web.Sources       = (*source)(nil)
)

// source loads syncs: from Git, through the renderer, with the store's variables. It is
// the only place where Git credentials and secret variables are unsealed.
type source struct {
	store    *store.Store
	renderer *render.Renderer
	mirrors  *mirrors
	git      git.Config
	logger   *slog.Logger
	// keyring opens encrypted files; set before the first load.
	keyring *sops.Keyring
	// agents is the way to the servers' hosts; nil before there is one.
	agents agents
	// lowDisk says that nothing more should be fetched, and why; set before the first load.
	lowDisk func() (text string, low bool)
	// own are the procedures of core itself; nil before there are any.
	own func(ctx context.Context) ([]spec.Procedure, error)
	// changed is called when a sync says something else than before; nil before anybody listens.
	changed func()

	templates templates

	mu sync.Mutex
	// states is what is kept of each sync.
	states map[string]*syncState
}

// agents are what a render asks of servers' hosts.
type agents interface {
	Observed() fleet.Observed
	Files(ctx context.Context, server string, req wire.FilesRequest) ([]wire.HostFile, error)
}

// syncState is what is kept of a sync between loads.
type syncState struct {
	// desired and declarations are what its last good commit says.
	desired      fleet.Desired
	declarations spec.Declarations
	good         bool
	// content is that of the last render: another one means that it was rendered afresh.
	content reconciler.Content
	// known is what the last render opened besides the sync's own tree.
	known known
}

func newSource(s *store.Store, cfg git.Config, digestKey []byte) *source {
	return &source{
		store: s, renderer: render.New(render.Config{Key: digestKey}), mirrors: newMirrors(cfg), git: cfg, logger: cfg.Logger,
		states: map[string]*syncState{},
	}
}

// state is what is kept of a sync. The caller holds the lock.
func (s *source) state(name string) *syncState {
	if s.states[name] == nil {
		s.states[name] = &syncState{}
	}
	return s.states[name]
}

// Load implements reconciler.Source. Until a sync was read once, the last commit that an
// earlier core read stands in for a repository that does not answer: what it says can be
// kept up without Git.
func (s *source) Load(ctx context.Context, name string) (reconciler.Loaded, error) {
	settings, err := s.store.Sync(ctx, name)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	own, err := s.open(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	if len(own.unsigned) > 0 {
		return reconciler.Loaded{Desired: fleet.Desired{Sync: name, Commit: own.commit}, Diagnostics: own.unsigned}, nil
	}
	input, err := s.input(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	s.mu.Lock()
	last := s.state(name).known
	s.mu.Unlock()
	opened := s.checkouts(name)
	input.Commit, input.Tree, input.Repository = own.commit, own.tree, own.repository
	input.Sources, input.Revisions = opened, opened.look(ctx, last)
	loaded, declarations, err := s.render(ctx, settings, input)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	loaded.Diagnostics = append(bearable(loaded.Diagnostics), s.circles(name, loaded.Desired)...)
	s.keep(name, own, opened, loaded, declarations)
	// Advice would be repeated at each pass; validate and plans of a directory tell it.
	kept, _ := rules.Brief(loaded.Diagnostics)
	loaded.Diagnostics = slices.Concat(own.stale, opened.stale, kept)
	return loaded, nil
}

// bearable makes warnings of files that cannot be had: the stack is blocked by it, and the
// rest of the commit has nothing to do with it.
func bearable(ds fleet.Diagnostics) fleet.Diagnostics {
	out := slices.Clone(ds)
	for i := range out {
		if out[i].Rule == render.RuleUnavailable {
			out[i].Severity = fleet.SeverityWarning
		}
	}
	return out
}

// keep remembers a load, and lets go of repositories that it did not use.
func (s *source) keep(name string, own ownTree, opened *checkouts, loaded reconciler.Loaded, declarations spec.Declarations) {
	s.mu.Lock()
	state := s.state(name)
	if !loaded.Diagnostics.HasErrors() {
		state.desired, state.declarations, state.good = loaded.Desired, declarations, true
	}
	if loaded.Content == state.content {
		s.mu.Unlock()
		return // nothing was rendered, so nothing was asked for
	}
	last, used := opened.asked()
	state.content, state.known = loaded.Content, last
	s.mu.Unlock()
	s.tell()
	if own.key != "" {
		used[own.key] = true
	}
	s.mirrors.settle(name, used)
}

func (s *source) tell() {
	if s.changed != nil {
		s.changed()
	}
}

func (s *source) render(
	ctx context.Context, settings api.Sync, input render.Input,
) (reconciler.Loaded, spec.Declarations, error) {
	output, err := s.renderer.Render(ctx, input)
	if err != nil {
		return reconciler.Loaded{}, spec.Declarations{}, fmt.Errorf("render sync %q: %w", settings.Name, err)
	}
	return reconciler.Loaded{
		Desired: output.Desired, Diagnostics: output.Diagnostics, Content: output.Content, AutoApply: settings.AutoApply,
		Policy: plan.Policy{
			Delete: settings.Delete, SelfHeal: settings.SelfHeal, MaxRemovals: settings.MaxRemovals,
			Windows: windowsOf(settings.Declared), Limits: settings.Declared.Limits,
		},
	}, output.Declarations, nil
}

// Desired implements web.Sources.
func (s *source) Desired(name string) (fleet.Desired, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.states[name]
	if !ok {
		return fleet.Desired{}, false
	}
	return state.desired, state.good
}

// Upload implements web.Sources.
func (s *source) Upload(ctx context.Context, name string, files map[string]api.UploadFile) (reconciler.Loaded, error) {
	contents, modes := make(map[string][]byte, len(files)), make(map[string]fs.FileMode, len(files))
	for path, file := range files {
		contents[path] = file.Data
		if file.Executable {
			modes[path] = 0o755
		}
	}
	tree, err := render.MemTree(contents, modes)
	if err != nil {
		return reconciler.Loaded{}, &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: err.Error()}
	}
	var settings api.Sync
	if name != "" {
		if settings, err = s.store.Sync(ctx, name); err != nil {
			return reconciler.Loaded{}, err
		}
	}
	input, err := s.input(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	input.Tree, input.Sources = tree, s.checkouts(name)
	if name != "" {
		if loc, err := git.ParseURL(settings.URL, s.git.LocalRoots); err == nil {
			input.Repository = loc.String()
		}
	}
	loaded, _, err := s.render(ctx, settings, input)
	return loaded, err
}

// Check implements web.Sources.
func (s *source) Check(wanted api.SyncSpec) error {
	if err := checkSigners(wanted.Signatures); err != nil {
		return err
	}
	_, err := git.ParseURL(wanted.URL, s.git.LocalRoots)
	if bad, ok := errors.AsType[*git.URLError](err); ok {
		return &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: bad.Error(), Hint: bad.Hint}
	}
	if err != nil {
		return fmt.Errorf("check the URL of sync %q: %w", wanted.Name, err)
	}
	return nil
}

// Forget implements web.Sources.
func (s *source) Forget(name string) {
	s.renderer.Forget(name)
	s.mu.Lock()
	delete(s.states, name)
	s.mu.Unlock()
	s.tell()
	s.mirrors.settle(name, nil)
}

// Close lets go of all repositories.
func (s *source) Close() { s.mirrors.closeAll() }

// ownTree is the tree that a sync's resource files are in.
type ownTree struct {
	tree       compose.Tree
	commit     fleet.Commit
	repository string
	// key is that of the mirror; empty when there is none.
	key   string
	stale fleet.Diagnostics
	// unsigned says why the commit is not believed; empty when it is.
	unsigned fleet.Diagnostics
}

// open reads the head of a sync: of its repository, a directory of this host, or what the
// sync that declares it holds.
func (s *source) open(ctx context.Context, settings api.Sync) (ownTree, error) {
	declared := settings.Declared
	switch {
	case settings.DeclaredBy == "":
	case declared.HostDir:
		return s.hostTree(settings.Name)
	case declared.Repository.Repo == "":
		return memoryTree(map[string][]byte{"sync.toml": []byte(declared.FileContents)}, nil)
	}
	at, err := s.place(ctx, settings)
	if err != nil {
		return ownTree{}, unreadable(settings.Name, err)
	}
	at.history = settings.Signatures.Require == fleet.SignaturesAll
	m, err := s.mirrors.get(settings.Name, at)
	if err != nil {
		return ownTree{}, unreadable(settings.Name, err)
	}
	own := ownTree{repository: m.Location().String(), key: m.key}
	tree, err := s.fetch(ctx, m)
	if err != nil {
		last, ok := m.Current()
		if _, loaded := s.Desired(settings.Name); loaded && !errors.Is(err, errLowDisk) || !ok || ctx.Err() != nil {
			return own, unreadable(settings.Name, err)
		}
		s.logger.LogAttrs(ctx, slog.LevelWarn, "repository does not answer, using its last commit",
			slog.String("sync", settings.Name), slog.String("commit", last.Commit().Short()), slog.Any("err", err))
		tree, own.stale = last, fleet.Diagnostics{staleness(last.Commit(), err)}
	}
	own.tree, own.commit = tree, tree.Commit()
	own.unsigned, err = s.believe(ctx, settings, m, tree)
	return own, err
}

// errLowDisk keeps repositories from growing on a disk that is nearly full.
var errLowDisk = errors.New("core's disk is nearly full")

// fetch gets the head of a repository, if there is room for it.
func (s *source) fetch(ctx context.Context, m *mirror) (*git.Tree, error) {
	if s.lowDisk != nil {
		if _, low := s.lowDisk(); low {
			return nil, errLowDisk
		}
	}
	tree, _, err := m.Fetch(ctx)
	return tree, err
}

// place is where a sync's repository is. A declared one names an account of core's, and one
// added by hand brought its credentials.
func (s *source) place(ctx context.Context, settings api.Sync) (where, error) {
	if settings.DeclaredBy != "" {
		return s.locate(ctx, refOf(settings.Declared.Repository))
	}
	credentials, err := s.store.Credentials(ctx, settings.Name)
	return where{url: settings.URL, branch: settings.Branch, credentials: credentials}, err
}

// memoryTree is a tree of a few files. Its content is its commit.
func memoryTree(files map[string][]byte, modes map[string]fs.FileMode) (ownTree, error) {
	tree, err := render.MemTree(files, modes)
	if err != nil {
		return ownTree{}, err
	}
	id, err := tree.ObjectID(".")
	if err != nil {
		return ownTree{}, err
	}
	return ownTree{tree: tree, commit: fleet.Commit{ID: id}}, nil
}

// hostTree copies the directory of a sync on this host: the one of its name below a folder
// that the administrator allowed. A copy does not change while it is used.
func (s *source) hostTree(name string) (ownTree, error) {
	if !filepath.IsLocal(name) {
		return ownTree{}, unreadable(name, errors.New("its name is not that of a directory"))
	}
	for _, root := range s.git.LocalRoots {
		dir := filepath.Join(root, name)
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		files, modes, err := snapshot(dir)
		if err != nil {
			return ownTree{}, unreadable(name, err)
		}
		return memoryTree(files, modes)
	}
	return ownTree{}, &api.Error{
		Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable,
		Message: fmt.Sprintf("sync %s cannot be read: there is no directory of that name on core's host", name),
		Hint:    "start core with --local-root, and make the directory below that",
	}
}

// unreadable says why a repository cannot be read. sync/git keeps secrets out of its
// errors, so that they may be shown.
func unreadable(name string, err error) error {
	return &api.Error{
		Status: http.StatusServiceUnavailable, Code: api.CodeUnavailable, Hint: hintFor(err),
		Message: fmt.Sprintf("sync %s cannot be read: %v", name, err),
	}
}

// hintFor says what helps against each kind of failure.
func hintFor(err error) string {
	switch {
	case errors.Is(err, errLowDisk):
		return "make room on core's host: nothing is fetched until then"
	case errors.Is(err, git.ErrAuth):
		return "check the sync's user name, token or key"
	case errors.Is(err, git.ErrHostKey):
		return "compare the server's key with the sync's known hosts; a changed key is never accepted by itself"
	case errors.Is(err, git.ErrTLS):
		return "give the sync the certificate of the authority that signed the server's"
	case errors.Is(err, git.ErrNotFound):
		return "check the sync's URL, and whether its credentials may see the repository"
	case errors.Is(err, git.ErrRef):
		return "check the sync's branch"
	case errors.Is(err, git.ErrLimit), errors.Is(err, git.ErrTree):
		return "the repository holds more, or other things, than is accepted; the message says which"
	}
	return "it is tried again at the next poll"
}
