package core

import (
	"context"
	"slices"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// Export implements web.Sources: what the applied commits declare, the servers that joined
// without being declared, and what was set in core, as one resource file. Values of secrets are left out.
func (s *source) Export(ctx context.Context) ([]byte, error) {
	all, taken, err := s.applied(ctx)
	if err != nil {
		return nil, err
	}
	joined, err := s.joined(ctx)
	if err != nil {
		return nil, err
	}
	for i := range joined {
		if !taken["server/"+joined[i].Name] {
			all.Servers = append(all.Servers, joined[i])
		}
	}
	if err := s.addOwn(ctx, &all, taken); err != nil {
		return nil, err
	}
	if err := s.addVariables(ctx, &all, taken); err != nil {
		return nil, err
	}
	return spec.Export(all), nil
}

// applied is what the applied commits declare, and the ids of it. What more than one declares
// is the first one's.
func (s *source) applied(ctx context.Context) (all spec.Declarations, taken map[string]bool, err error) {
	syncs, err := s.store.Syncs(ctx)
	if err != nil {
		return all, nil, err
	}
	taken = map[string]bool{}
	for i := range syncs {
		records, _, err := s.store.Records(ctx, syncs[i].Name)
		if err != nil {
			return all, nil, err
		}
		recorded := make(map[string]bool, len(records))
		for _, r := range records {
			recorded[r.ID()] = true
		}
		s.mu.Lock()
		declared := s.state(syncs[i].Name).declarations
		s.mu.Unlock()
		all.Resources = all.Join(declared.Select(func(kind, name string) bool {
			id := kind + "/" + name
			if !recorded[id] || taken[id] {
				return false
			}
			taken[id] = true
			return true
		}))
	}
	return all, taken, nil
}

// addOwn adds core's own procedures that are not taken.
func (s *source) addOwn(ctx context.Context, all *spec.Declarations, taken map[string]bool) error {
	if s.own == nil {
		return nil
	}
	own, err := s.own(ctx)
	if err != nil {
		return err
	}
	for i := range own {
		if !taken["procedure/"+own[i].Name] {
			all.Procedures = append(all.Procedures, own[i])
		}
	}
	return nil
}

// addVariables adds the variables set in core that are not taken.
func (s *source) addVariables(ctx context.Context, all *spec.Declarations, taken map[string]bool) error {
	stored, err := s.store.Variables(ctx)
	if err != nil {
		return err
	}
	for _, v := range stored {
		if taken["variable/"+v.Name] {
			continue
		}
		all.Variables = append(all.Variables, spec.Variable{
			Name: v.Name, Description: v.Description, Value: fleet.NewSecret(v.Value), IsSecret: v.Secret,
			Tags: slices.Clone(v.Tags), Servers: v.Servers, ServerTags: v.ServerTags, Stacks: v.Stacks,
		})
	}
	return nil
}
