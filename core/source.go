package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/sync/git"
	"github.com/varanhq/varan/sync/render"
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
	git      git.Config
	logger   *slog.Logger

	mu sync.Mutex
	// mirrors are shared by the syncs that follow the same branch of the same repository
	// with the same credentials.
	mirrors map[string]*mirror
	// opened maps a sync to its key in mirrors; desired to what its last good commit says.
	opened  map[string]string
	desired map[string]fleet.Desired
}

// mirror is a git.Mirror with the syncs that use it.
type mirror struct {
	*git.Mirror
	users map[string]bool
}

func newSource(s *store.Store, cfg git.Config, digestKey []byte) *source {
	return &source{
		store: s, renderer: render.New(render.Config{Key: digestKey}), git: cfg, logger: cfg.Logger,
		mirrors: map[string]*mirror{}, opened: map[string]string{}, desired: map[string]fleet.Desired{},
	}
}

// Load implements reconciler.Source. Until a sync was read once, the last commit that an
// earlier core read stands in for a repository that does not answer: what it says can be
// kept up without Git.
func (s *source) Load(ctx context.Context, name string) (reconciler.Loaded, error) {
	settings, err := s.store.Sync(ctx, name)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	m, err := s.open(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, unreadable(name, err)
	}
	tree, _, err := m.Fetch(ctx)
	var stale fleet.Diagnostics
	if err != nil {
		last, ok := m.Current()
		if _, loaded := s.Desired(name); loaded || !ok || ctx.Err() != nil {
			return reconciler.Loaded{}, unreadable(name, err)
		}
		s.logger.LogAttrs(ctx, slog.LevelWarn, "repository does not answer, using its last commit",
			slog.String("sync", name), slog.String("commit", last.Commit().Short()), slog.Any("err", err))
		tree = last
		stale = fleet.Diagnostics{{
			Rule: "source-stale", Severity: fleet.SeverityWarning, Hint: hintFor(err),
			Message: fmt.Sprintf("commit %s is the last that was read: %v", last.Commit().Short(), err),
		}}
	}
	input, err := s.input(ctx, settings)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	input.Commit, input.Tree, input.Repository = tree.Commit(), tree, m.Location().String()
	loaded, err := s.render(ctx, settings, input)
	if err != nil {
		return reconciler.Loaded{}, err
	}
	loaded.Diagnostics = append(stale, loaded.Diagnostics...)
	if !loaded.Diagnostics.HasErrors() {
		s.mu.Lock()
		s.desired[name] = loaded.Desired
		s.mu.Unlock()
	}
	return loaded, nil
}

// input is what a render needs besides the tree.
func (s *source) input(ctx context.Context, settings api.Sync) (render.Input, error) {
	input := render.Input{Sync: settings.Name, ResourcePaths: settings.Paths, MatchTags: settings.MatchTags}
	variables, err := s.store.RevealVariables(ctx)
	if err != nil {
		return input, err
	}
	for _, v := range variables {
		input.Variables = append(input.Variables, variableOf(v.Name, v.Value, v.Secret, v.Scope))
	}
	servers, err := s.store.Servers(ctx)
	if err != nil {
		return input, err
	}
	for _, v := range servers {
		if !v.Pending {
			input.KnownServers = append(input.KnownServers, fleet.Server{Name: v.Name, Tags: v.Tags, Tier: v.Tier, Enabled: true})
		}
	}
	return input, nil
}

func variableOf(name string, value fleet.Secret, secret bool, scope fleet.Scope) render.Variable {
	return render.Variable{
		Name: name, Value: value.Reveal(), Secret: secret,
		Tags: scope.Tags, Servers: scope.Servers, ServerTags: scope.ServerTags, Stacks: scope.Stacks,
	}
}

func (s *source) render(ctx context.Context, settings api.Sync, input render.Input) (reconciler.Loaded, error) {
	output, err := s.renderer.Render(ctx, input)
	if err != nil {
		return reconciler.Loaded{}, fmt.Errorf("render sync %q: %w", settings.Name, err)
	}
	return reconciler.Loaded{
		Desired: output.Desired, Diagnostics: output.Diagnostics, Content: output.Content, AutoApply: settings.AutoApply,
		Policy: plan.Policy{Delete: settings.Delete, SelfHeal: settings.SelfHeal, MaxRemovals: settings.MaxRemovals},
	}, nil
}

// Desired implements web.Sources.
func (s *source) Desired(name string) (fleet.Desired, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	desired, ok := s.desired[name]
	return desired, ok
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
	input.Tree = tree
	if name != "" {
		if loc, err := git.ParseURL(settings.URL, s.git.LocalRoots); err == nil {
			input.Repository = loc.String()
		}
	}
	return s.render(ctx, settings, input)
}

// Check implements web.Sources.
func (s *source) Check(spec api.SyncSpec) error {
	_, err := git.ParseURL(spec.URL, s.git.LocalRoots)
	if bad, ok := errors.AsType[*git.URLError](err); ok {
		return &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: bad.Error(), Hint: bad.Hint}
	}
	if err != nil {
		return fmt.Errorf("check the URL of sync %q: %w", spec.Name, err)
	}
	return nil
}

// Forget implements web.Sources.
func (s *source) Forget(name string) {
	s.renderer.Forget(name)
	s.mu.Lock()
	delete(s.desired, name)
	last := s.release(name)
	s.mu.Unlock()
	s.close(last)
}

// Close lets go of all repositories.
func (s *source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mirrors {
		s.close(m)
	}
	clear(s.mirrors)
}

// open returns the mirror of a sync.
func (s *source) open(ctx context.Context, settings api.Sync) (*mirror, error) {
	credentials, err := s.store.Credentials(ctx, settings.Name)
	if err != nil {
		return nil, err
	}
	loc, err := git.ParseURL(settings.URL, s.git.LocalRoots)
	if err != nil {
		return nil, err
	}
	access, err := accessOf(credentials)
	if err != nil {
		return nil, err
	}
	key := strings.Join([]string{loc.URL(), settings.Branch, access}, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened[settings.Name] == key {
		return s.mirrors[key], nil
	}
	if last := s.release(settings.Name); last != nil {
		defer s.close(last) // its URL or credentials changed
	}
	m, ok := s.mirrors[key]
	if !ok {
		opened, err := git.Open(s.git, git.Source{
			Name: access, URL: settings.URL, Branch: settings.Branch,
			Username: credentials.Username, Password: credentials.Password.Secret(),
			SSHKey: credentials.SSHKey.Secret(), SSHPassphrase: credentials.SSHPassphrase.Secret(),
			KnownHosts: []byte(credentials.KnownHosts), CA: []byte(credentials.CA), Proxy: credentials.Proxy,
		})
		if err != nil {
			return nil, err
		}
		m = &mirror{Mirror: opened, users: map[string]bool{}}
		s.mirrors[key] = m
	}
	m.users[settings.Name] = true
	s.opened[settings.Name] = key
	return m, nil
}

// accessOf names credentials without telling them.
func accessOf(credentials api.GitCredentials) (string, error) {
	raw, err := json.Marshal(credentials) //nolint:gosec // only hashed
	if err != nil {
		return "", fmt.Errorf("encode credentials: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// release takes a sync off its mirror and returns that if nobody else uses it. The caller
// holds the mutex.
func (s *source) release(name string) *mirror {
	key, ok := s.opened[name]
	if !ok {
		return nil
	}
	delete(s.opened, name)
	m := s.mirrors[key]
	delete(m.users, name)
	if len(m.users) > 0 {
		return nil
	}
	delete(s.mirrors, key)
	return m
}

func (s *source) close(m *mirror) {
	if m == nil {
		return
	}
	if err := m.Close(); err != nil {
		s.logger.Warn("mirror not closed", slog.Any("err", err))
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
