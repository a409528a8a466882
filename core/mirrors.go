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
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/sync/git"
)

// mirrors are shared by all who follow the same branch, or stay at the same commit, of the
// same repository with the same credentials.
type mirrors struct {
	cfg    git.Config
	logger *slog.Logger

	mu sync.Mutex
	// open maps a key to its mirror; held a sync to the keys it uses.
	open map[string]*mirror
	held map[string]map[string]bool
}

// mirror is a git.Mirror with the syncs that use it.
type mirror struct {
	*git.Mirror
	key   string
	users map[string]bool
}

func newMirrors(cfg git.Config) *mirrors {
	return &mirrors{cfg: cfg, logger: cfg.Logger, open: map[string]*mirror{}, held: map[string]map[string]bool{}}
}

// where is a repository and what opens it.
type where struct {
	url, branch, commit string
	credentials         api.GitCredentials
	// history has all commits cloned and not the last alone.
	history bool
}

// get opens a mirror for a sync, which holds it until it settles without it.
func (m *mirrors) get(user string, at where) (*mirror, error) {
	loc, err := git.ParseURL(at.url, m.cfg.LocalRoots)
	if err != nil {
		return nil, err
	}
	access, err := accessOf(at.credentials)
	if err != nil {
		return nil, err
	}
	key := strings.Join([]string{loc.String(), at.branch, at.commit, access, strconv.FormatBool(at.history)}, "\x00")
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.open[key]
	if !ok {
		c := at.credentials
		opened, err := git.Open(m.cfg, git.Source{
			Name: access, URL: at.url, Branch: at.branch, Commit: at.commit, History: at.history,
			Username: c.Username, Password: c.Password.Secret(),
			SSHKey: c.SSHKey.Secret(), SSHPassphrase: c.SSHPassphrase.Secret(),
			KnownHosts: []byte(c.KnownHosts), CA: []byte(c.CA), Proxy: c.Proxy,
		})
		if err != nil {
			return nil, err
		}
		one = &mirror{Mirror: opened, key: key, users: map[string]bool{}}
		m.open[key] = one
	}
	one.users[user] = true
	if m.held[user] == nil {
		m.held[user] = map[string]bool{}
	}
	m.held[user][key] = true
	return one, nil
}

// settle lets go of what a sync holds and does not use any more.
func (m *mirrors) settle(user string, used map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.held[user] {
		if used[key] {
			continue
		}
		delete(m.held[user], key)
		one := m.open[key]
		delete(one.users, user)
		if len(one.users) == 0 {
			delete(m.open, key)
			m.close(one)
		}
	}
	if len(m.held[user]) == 0 {
		delete(m.held, user)
	}
}

// all are those that are open.
func (m *mirrors) all() []*mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.open))
}

// closeAll lets go of everything.
func (m *mirrors) closeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.open {
		m.close(one)
	}
	clear(m.open)
	clear(m.held)
}

// renew has every repository that is followed cloned afresh at its next fetch, and removes the
// folders of those that no sync follows any more.
func (m *mirrors) renew(ctx context.Context) (renewed, removed int, err error) {
	m.mu.Lock()
	open := slices.Collect(maps.Values(m.open))
	removed, err = m.removeUnused()
	m.mu.Unlock()
	for _, one := range open {
		had, renewErr := one.Renew(ctx)
		switch {
		case errors.Is(renewErr, git.ErrClosed):
		case renewErr != nil:
			err = errors.Join(err, renewErr)
		case had:
			renewed++
		}
	}
	return renewed, removed, err
}

// removeUnused removes the folders that no mirror uses. The caller holds the lock, without
// which none is opened.
func (m *mirrors) removeUnused() (removed int, err error) {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("list mirrors: %w", err)
	}
	used := map[string]bool{}
	for _, one := range m.open {
		used[one.Dir()] = true
	}
	err = nil
	for _, e := range entries {
		dir := filepath.Join(m.cfg.Dir, e.Name())
		if !e.IsDir() || used[dir] {
			continue
		}
		if removeErr := os.RemoveAll(dir); removeErr != nil {
			err = errors.Join(err, fmt.Errorf("remove mirror: %w", removeErr))
			continue
		}
		removed++
	}
	return removed, err
}

func (m *mirrors) close(one *mirror) {
	if err := one.Close(); err != nil {
		m.logger.Warn("mirror not closed", slog.Any("err", err))
	}
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
