package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// reference is a place where a resource names another.
type reference struct {
	// kind is the type of what is named, as its table is called.
	kind, name string
	// by says who names it, such as "stack `web`".
	by string
	at fleet.Position
	// loose references may name what other syncs have: they are never errors.
	loose bool
}

// refer checks a reference. What is not declared may still exist in core; offline that
// is not known, unless the name is a slip away from one that is declared.
func (c *checker) refer(r reference) {
	known := c.of(r.kind)
	quiet := c.opts.Offline || r.loose
	if r.name == "" || known.names[r.name] || c.full() || quiet && c.remarks > maxCrossRemarks {
		return
	}
	rule := "unknown-" + strings.ReplaceAll(r.kind, "_", "-")
	kind := strings.ReplaceAll(r.kind, "_", " ")
	switch {
	case objectID(r.name) && c.opts.Offline:
		c.remark(fleet.SeverityNote, r.at, "reference-by-id", "write the name", "%s names a %s by its id, which cannot be checked", r.by, kind)
	case objectID(r.name) && !r.loose:
		c.fail(r.at, rule, "this looks like an id: write the name", "%s names the %s %s, which does not exist", r.by, kind, quoted(r.name))
	case quiet:
		severity, hint := fleet.SeverityNote, c.hint(r.kind, r.name)
		if hint != "" {
			severity = fleet.SeverityWarning
		}
		where := "it may be in core"
		if !c.opts.Offline {
			where = "no sync is known to have it"
		}
		c.remark(severity, r.at, rule, hint, "%s names the %s %s, which is not declared here; %s", r.by, kind, quoted(r.name), where)
	default:
		c.fail(r.at, rule, c.hint(r.kind, r.name), "%s names the %s %s, which does not exist", r.by, kind, quoted(r.name))
	}
}

// placements reports stacks and deployments that are for no server, or for one that does
// not exist.
func (c *checker) placements() {
	for i := range c.decls.Stacks {
		s := &c.decls.Stacks[i]
		if s.Template {
			continue
		}
		by := "stack " + quoted(s.Name)
		c.refer(reference{kind: "server", name: s.Config.Server, by: by, at: s.At("config.server")})
		c.referAll("server", s.Config.Servers, by, func(n int) fleet.Position { return s.At(fmt.Sprintf("config.servers[%d]", n)) })
		c.tagged(s.Config.ServerTags, by, s.At("config.server_tags"))
		for n := range s.Config.Overlays {
			o := &s.Config.Overlays[n]
			c.referAll("server", o.Servers, "an overlay of "+by, func(int) fleet.Position { return o.Pos })
			c.tagged(o.ServerTags, "an overlay of "+by, o.Pos)
			if len(o.Servers)+len(o.ServerTags) == 0 {
				c.fail(o.Pos, "overlay-selector", "add servers or server_tags", "an overlay of %s is for no server", by)
			}
		}
		if !s.Config.Placed() {
			c.unplaced(by, s.Config.Swarm, s.Deploy, s.At)
		}
	}
	for i := range c.decls.Deployments {
		d := &c.decls.Deployments[i]
		if d.Template {
			continue
		}
		by := "deployment " + quoted(d.Name)
		c.refer(reference{kind: "server", name: d.Config.Server, by: by, at: d.At("config.server")})
		if d.Config.Server == "" {
			c.unplaced(by, d.Config.Swarm, d.Deploy, d.At)
		}
	}
}

// unplaced reports what has no server. Swarms are kept and not acted on; without either
// there is nothing to do, which is a mistake where it should be deployed.
func (c *checker) unplaced(by, swarm string, deploy bool, at func(string) fleet.Position) {
	switch {
	case swarm != "":
		c.remark(fleet.SeverityNote, at("config.swarm"), "not-acted-on", "add server = \"...\" to run it on one",
			"%s is for a swarm, which is not acted on yet: it is left out", by)
	case deploy:
		c.fail(at(""), "missing-server", "add server = \"...\"", "%s has no server", by)
	default:
		c.remark(fleet.SeverityWarning, at(""), "missing-server", "add server = \"...\"", "%s has no server: it is left out", by)
	}
}

func (c *checker) referAll(kind string, names []string, by string, at func(int) fleet.Position) {
	for n, name := range names {
		c.refer(reference{kind: kind, name: name, by: by, at: at(n), loose: kind != "server"})
	}
}

// tagged reports server tags that no server carries together.
func (c *checker) tagged(tags []string, by string, at fleet.Position) {
	if len(tags) == 0 {
		return
	}
	key := strings.Join(tags, "\x00")
	carried, known := c.carried[key]
	if !known {
		carried = c.someServerCarries(tags)
		c.carried[key] = carried
	}
	if carried {
		return
	}
	severity, where := fleet.SeverityWarning, ""
	if c.opts.Offline {
		severity, where = fleet.SeverityNote, " declared here"
	}
	c.remark(severity, at, "unmatched-server-tags", "", "%s is for servers tagged %s, and no server%s has that",
		by, quoted(strings.Join(tags, ", ")), where)
}

func (c *checker) someServerCarries(tags []string) bool {
	carries := func(has []string) bool {
		return !slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(has, tag) })
	}
	for i := range c.decls.Servers {
		if s := &c.decls.Servers[i]; !s.Template && carries(s.Tags) {
			return true
		}
	}
	return slices.ContainsFunc(c.opts.KnownServers, func(s fleet.Server) bool { return carries(s.Tags) })
}

// references checks what the other fields name.
func (c *checker) references() {
	d := &c.decls
	for i := range d.Stacks {
		s := &d.Stacks[i]
		c.offlineOnly(reference{kind: "repo", name: s.Config.LinkedRepo, by: "stack " + quoted(s.Name), at: s.At("config.linked_repo")})
		c.optional("swarm", s.Config.Swarm, "stack "+quoted(s.Name), s.At("config.swarm"))
	}
	for i := range d.Syncs {
		s := &d.Syncs[i]
		c.offlineOnly(reference{kind: "repo", name: s.Config.LinkedRepo, by: "resource sync " + quoted(s.Name), at: s.At("config.linked_repo")})
	}
	for i := range d.Deployments {
		s := &d.Deployments[i]
		c.optional("build", s.Config.Image.Build, "deployment "+quoted(s.Name), s.Config.Image.Pos)
		c.optional("swarm", s.Config.Swarm, "deployment "+quoted(s.Name), s.At("config.swarm"))
	}
	for i := range d.Repos {
		r := &d.Repos[i]
		c.refer(reference{kind: "server", name: r.Config.Server, by: "repo " + quoted(r.Name), at: r.At("config.server")})
		c.optional("builder", r.Config.Builder, "repo "+quoted(r.Name), r.At("config.builder"))
	}
	for i := range d.Builds {
		b := &d.Builds[i]
		c.optional("builder", b.Config.Builder, "build "+quoted(b.Name), b.At("config.builder"))
		c.optional("repo", b.Config.LinkedRepo, "build "+quoted(b.Name), b.At("config.linked_repo"))
	}
	for i := range d.Builders {
		b := &d.Builders[i]
		for _, name := range b.Config.Servers {
			c.optional("server", name, "builder "+quoted(b.Name), b.Config.Pos)
		}
	}
	for i := range d.Swarms {
		s := &d.Swarms[i]
		for n, name := range s.Config.Servers {
			c.optional("server", name, "swarm "+quoted(s.Name), s.At(fmt.Sprintf("config.servers[%d]", n)))
		}
	}
	for i := range d.Alerters {
		a := &d.Alerters[i]
		for _, t := range slices.Concat(a.Config.Resources, a.Config.ExceptResources) {
			c.target(t, "alerter "+quoted(a.Name), false)
		}
	}
	for i := range d.UserGroups {
		g := &d.UserGroups[i]
		for _, p := range g.Permissions {
			c.target(p.Target, "user group "+quoted(g.Name), true)
		}
	}
	c.variables()
}

// variables checks what narrows a variable.
func (c *checker) variables() {
	for i := range c.decls.Variables {
		v := &c.decls.Variables[i]
		by := "variable " + quoted(v.Name)
		c.referAll("server", v.Servers, by, func(n int) fleet.Position { return v.At(fmt.Sprintf("servers[%d]", n)) })
		c.tagged(v.ServerTags, by, v.At("server_tags"))
		for n, name := range v.Stacks {
			c.optional("stack", name, by, v.At(fmt.Sprintf("stacks[%d]", n)))
		}
	}
}

// optional checks a reference to what other syncs may have.
func (c *checker) optional(kind, name, by string, at fleet.Position) {
	c.refer(reference{kind: kind, name: name, by: by, at: at, loose: true})
}

// offlineOnly checks a reference that is followed, and so checked, where the rest is known.
func (c *checker) offlineOnly(r reference) {
	if c.opts.Offline {
		c.refer(r)
	}
}

// target checks a resource that is named by type. Where patterns are allowed, one that
// matches nothing is fine: it is for what comes.
func (c *checker) target(t Target, by string, patterns bool) {
	kind := tableOf(t.Type)
	if kind == "" || t.ID == "" {
		return
	}
	if patterns && isPattern(t.ID) {
		if _, _, err := c.pattern(t.ID, kind); err != nil {
			c.fail(t.Pos, "invalid-pattern", "", "%s names %s by a pattern that is wrong: %v", by, t.Type, err)
		}
		return
	}
	c.optional(kind, t.ID, by, t.Pos)
}

// tableOf is the table of a resource type: "resource_sync" for "ResourceSync". It is
// empty for what has no table.
func tableOf(typ string) string {
	for _, s := range schemas {
		if strings.ReplaceAll(s.name, "_", "") == strings.ToLower(typ) {
			return s.name
		}
	}
	return ""
}
