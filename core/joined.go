package core

import (
	"context"
	"slices"
	"sync"

	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// joined are the servers that joined and take part, as they would be declared: the tags and
// the tier of their onboarding key, and the configuration of its template. A commit that
// declares one of them comes before that.
func (s *source) joined(ctx context.Context) ([]spec.Server, error) {
	all, err := s.store.Servers(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]spec.Server, 0, len(all))
	for _, v := range all {
		if !v.Pending {
			out = append(out, s.declarationOf(v))
		}
	}
	return out, nil
}

func (s *source) declarationOf(v store.Server) spec.Server {
	text := v.Template
	if text == "" {
		text = bareServer
	}
	out := s.templates.get(text)
	out.Name, out.Tags = v.Name, slices.Clone(v.Tags)
	if v.Tier == fleet.TierUntrusted {
		out.Config.Tier = fleet.TierUntrusted
	}
	return out
}

// bareServer is a server without a template: all of it has its default.
const bareServer = "[[server]]\nname = \"template\"\nenabled = true\n"

// templateOf makes a resource file of a server that others can start from: without what is
// that one server's own.
func templateOf(server spec.Server) string {
	server.Name, server.Tags, server.Template = "template", nil, false
	server.Config.Address, server.Config.Passkey, server.Config.Enabled = "", fleet.Secret{}, true
	return string(spec.Export(spec.Declarations{Resources: spec.Resources{Servers: []spec.Server{server}}}))
}

// ServerTemplate implements web.Sources. Servers that are templates only are among those
// that can be copied.
func (s *source) ServerTemplate(ctx context.Context, name string) (toml string, tier fleet.Tier, names []string, err error) {
	known, err := s.joined(ctx)
	if err != nil {
		return "", "", nil, err
	}
	s.mu.Lock()
	for _, state := range s.states {
		if state.good {
			known = append(known, state.declarations.Servers...)
		}
	}
	s.mu.Unlock()
	slices.Reverse(known) // a declaration comes before what joined
	for i := range known {
		if known[i].Name == name {
			return templateOf(known[i]), known[i].Config.Tier, nil, nil
		}
		names = append(names, known[i].Name)
	}
	return "", "", names, nil
}

// templates are the parsed templates of joined servers, by their text: each pass of each
// sync asks for all of them.
type templates struct {
	mu     sync.Mutex
	parsed map[string]spec.Server
}

// get returns the one server of a template. What is not one is as if it said nothing.
func (t *templates) get(text string) spec.Server {
	t.mu.Lock()
	defer t.mu.Unlock()
	if server, ok := t.parsed[text]; ok {
		return server
	}
	file, _ := spec.ParseFile("template.toml", []byte(text))
	server := spec.Server{Config: spec.ServerConfig{Enabled: true}}
	if len(file.Servers) == 1 {
		server = file.Servers[0]
	}
	if t.parsed == nil || len(t.parsed) >= maxTemplates {
		t.parsed = map[string]spec.Server{}
	}
	t.parsed[text] = server
	return server
}

// maxTemplates is far above the number of templates that are in use at a time.
const maxTemplates = 1_000
