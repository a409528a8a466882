package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/render"
)

// input is what a render needs besides the tree: what core keeps, and what other syncs
// declare.
func (s *source) input(ctx context.Context, settings api.Sync) (render.Input, error) {
	input := render.Input{Sync: settings.Name, ResourcePaths: settings.Paths, MatchTags: settings.MatchTags}
	if settings.DeclaredBy != "" {
		d := settings.Declared
		input.SkipResources, input.SkipVariables, input.SkipUserGroups = d.SkipResources, d.SkipVariables, d.SkipUserGroups
	}
	if s.keyring != nil {
		input.Decrypter, input.Identities = s.keyring.For, s.keyring.Identities()
	}
	others, err := s.store.Shared(ctx, settings.Name)
	if err != nil {
		return input, err
	}
	if input.Variables, err = s.variables(ctx, others); err != nil {
		return input, err
	}
	if input.KnownServers, err = s.servers(ctx, others); err != nil {
		return input, err
	}
	if s.agents != nil {
		input.KnownServers = hostTiers(input.KnownServers, s.agents.Observed())
	}
	names := s.stacksOfOthers(settings.Name)
	for _, other := range others {
		if other.Repository != nil {
			input.KnownRepositories = append(input.KnownRepositories, *other.Repository)
		}
		if other.Stack != "" {
			names[other.Stack] = true
		}
	}
	input.KnownStacks = slices.Sorted(maps.Keys(names))
	if s.agents != nil {
		for server, report := range s.agents.Observed() {
			if len(report.Agent.LocalSecrets) == 0 {
				continue
			}
			if input.LocalSecrets == nil {
				input.LocalSecrets = map[string][]fleet.LocalSecret{}
			}
			input.LocalSecrets[server] = report.Agent.LocalSecrets
		}
	}
	return input, nil
}

// variables are core's own and those that other syncs declared. As inside one sync, one that
// is declared with a value comes before the one that was set in core.
func (s *source) variables(ctx context.Context, others []store.Shared) ([]render.Variable, error) {
	stored, err := s.store.RevealVariables(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]render.Variable{}
	for _, v := range stored {
		byName[v.Name] = variableOf(v.Name, v.Value, v.Secret, v.Scope)
	}
	for _, other := range others {
		if v := other.Variable; v != nil && !v.Value.IsEmpty() {
			byName[v.Name] = variableOf(v.Name, v.Value, v.Secret, v.Scope)
		}
	}
	list := slices.Collect(maps.Values(byName))
	slices.SortFunc(list, func(a, b render.Variable) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func variableOf(name string, value fleet.Secret, secret bool, scope fleet.Scope) render.Variable {
	return render.Variable{Name: name, Value: value.Reveal(), Secret: secret, Scope: scope}
}

// servers are those that joined and those that other syncs declared. Of two tiers the
// narrower counts.
func (s *source) servers(ctx context.Context, others []store.Shared) ([]fleet.Server, error) {
	joined, err := s.joined(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]fleet.Server{}
	for i := range joined {
		server, _ := render.Server(&joined[i]) // what is wrong with a template was said where it is
		server.Origin = fleet.Position{}
		byName[server.Name] = server
	}
	for _, other := range others {
		if other.Server == nil {
			continue
		}
		server := *other.Server
		server.Origin = fleet.Position{} // it is in another repository
		if byName[server.Name].Tier == fleet.TierUntrusted {
			server.Tier = fleet.TierUntrusted
		}
		byName[server.Name] = server
	}
	list := slices.Collect(maps.Values(byName))
	slices.SortFunc(list, func(a, b fleet.Server) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// hostTiers takes the servers whose hosts say that they are untrusted for no more.
func hostTiers(servers []fleet.Server, observed fleet.Observed) []fleet.Server {
	for i := range servers {
		if observed[servers[i].Name].Agent.Tier == fleet.TierUntrusted {
			servers[i].Tier = fleet.TierUntrusted
		}
	}
	return servers
}

// stacksOfOthers are the names of the stacks that other syncs desire, applied or not.
func (s *source) stacksOfOthers(sync string) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]bool{}
	for other, state := range s.states {
		if other == sync || !state.good {
			continue
		}
		for i := range state.desired.Stacks {
			names[state.desired.Stacks[i].Name] = true
		}
	}
	return names
}

// The limits of a directory that is read as a sync.
const (
	maxDirFiles = 20_000
	maxDirBytes = 100 << 20
)

// snapshot reads the regular files of a directory. Links are not followed, and what begins
// with .git is left out.
func snapshot(dir string) (files map[string][]byte, modes map[string]fs.FileMode, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open the directory: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	files, modes = map[string][]byte{}, map[string]fs.FileMode{}
	total := int64(0)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && filepath.Base(name) == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if total += info.Size(); len(files) >= maxDirFiles || total > maxDirBytes {
			return fmt.Errorf("the directory holds more than %d files or %d MiB", maxDirFiles, maxDirBytes>>20)
		}
		content, err := root.ReadFile(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		files[name] = content
		if info.Mode()&0o111 != 0 {
			modes[name] = 0o755
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the directory: %w", err)
	}
	return files, modes, nil
}
