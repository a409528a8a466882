package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// targets are the servers that a stack is for, sorted by name. A server that is disabled
// is one of them: the plan says that nothing happens there.
func (p *pass) targets(s *spec.Stack) ([]fleet.Server, fleet.Diagnostics) {
	c := &s.Config
	names := slices.Clone(c.Servers)
	if c.Server != "" {
		names = append(names, c.Server)
	}
	var findings fleet.Diagnostics
	if len(c.ServerTags) > 0 {
		tagged := p.tagged(c.ServerTags)
		if len(tagged) == 0 {
			findings = append(findings, fleet.Diagnostic{
				Rule: "no-server-matches", Severity: fleet.SeverityWarning, Position: s.At("config.server_tags"),
				Message: fmt.Sprintf("no server is tagged %s, so stack %s runs nowhere by it",
					strings.Join(c.ServerTags, " and "), s.Name),
				Hint: "tag a server, or name servers with servers = [...]",
			})
		}
		names = append(names, tagged...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	servers := make([]fleet.Server, len(names))
	for i, name := range names {
		servers[i] = p.server(name)
	}
	return servers, findings
}

// server is what is known of a server by its name.
func (p *pass) server(name string) fleet.Server {
	if server, ok := p.servers[name]; ok {
		return server
	}
	return fleet.Server{Name: name, Tier: fleet.TierTrusted}
}

// tagged are the names of the servers that carry all tags.
func (p *pass) tagged(tags []string) []string {
	var names []string
	for name, server := range p.servers {
		if hasAll(server.Tags, tags) {
			names = append(names, name)
		}
	}
	return names
}

// The tags of a stack that say on which servers it may run.
const (
	tierTrusted   = "tier:trusted"
	tierUntrusted = "tier:untrusted"
	tierAny       = "tier:any"
)

// checkTier refuses what is not meant for the tier of its server.
func checkTier(who string, tags []string, at fleet.Position, server fleet.Server) fleet.Diagnostics {
	trusted, untrusted := slices.Contains(tags, tierTrusted), slices.Contains(tags, tierUntrusted)
	anywhere := slices.Contains(tags, tierAny) || trusted && untrusted
	where := "server " + located(server.Name, server.Origin)
	var message, hint string
	switch {
	case server.Name == "" || anywhere:
		return nil
	case server.Tier == fleet.TierUntrusted && trusted:
		message, hint = fmt.Sprintf("%s is tagged %s, and %s is untrusted", who, tierTrusted, where), "choose a trusted server"
	case server.Tier == fleet.TierUntrusted && !untrusted:
		message = fmt.Sprintf("%s has no tier: tag, and %s is untrusted", who, where)
		hint = fmt.Sprintf("tag it %s or %s to let it run there", tierUntrusted, tierAny)
	case server.Tier != fleet.TierUntrusted && untrusted:
		message, hint = fmt.Sprintf("%s is tagged %s, and %s is trusted", who, tierUntrusted, where),
			fmt.Sprintf("choose an untrusted server, or tag it %s", tierAny)
	default:
		return nil
	}
	return fleet.Diagnostics{{
		Rule: "stack-tier", Severity: fleet.SeverityError, Position: at, Message: message, Hint: hint,
	}}
}

// overlaid is the configuration of a stack on one server. more are the Compose files that
// overlays add.
func overlaid(s *spec.Stack, server fleet.Server) (config spec.StackConfig, more []string) {
	config = s.Config
	for i := range s.Config.Overlays {
		o := &s.Config.Overlays[i]
		if !applies(o, server) {
			continue
		}
		more = append(more, o.FilePaths...)
		config.Environment = mergeEnv(config.Environment, o.Environment)
		config.Profiles = append(slices.Clip(config.Profiles), o.Profiles...)
		if o.ProjectName != "" {
			config.ProjectName = o.ProjectName
		}
	}
	return config, more
}

// applies reports whether an overlay is for a server: it is named, or carries all tags.
func applies(o *spec.Overlay, server fleet.Server) bool {
	return slices.Contains(o.Servers, server.Name) || len(o.ServerTags) > 0 && hasAll(server.Tags, o.ServerTags)
}

// mergeEnv puts variables over others; one that is there keeps its place.
func mergeEnv(base, over []spec.EnvVar) []spec.EnvVar {
	if len(over) == 0 {
		return base
	}
	out := slices.Clone(base)
	for _, v := range over {
		i := slices.IndexFunc(out, func(e spec.EnvVar) bool { return e.Name == v.Name })
		if i < 0 {
			out = append(out, v)
			continue
		}
		out[i] = v
	}
	return out
}

// checkOverlays reports overlays that are for no server of the stack.
func checkOverlays(s *spec.Stack, servers []fleet.Server) fleet.Diagnostics {
	var out fleet.Diagnostics
	for i := range s.Config.Overlays {
		o := &s.Config.Overlays[i]
		selects := len(o.Servers)+len(o.ServerTags) > 0 // else spec says that it does not
		if selects && !slices.ContainsFunc(servers, func(server fleet.Server) bool { return applies(o, server) }) {
			out = append(out, fleet.Diagnostic{
				Rule: "overlay-unused", Severity: fleet.SeverityWarning, Position: o.Pos,
				Message: fmt.Sprintf("an overlay of stack %s is for no server that the stack is on", s.Name),
			})
		}
	}
	return out
}
