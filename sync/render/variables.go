package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// variable is a value that [[NAME]] and ${NAME} stand for.
type variable struct {
	name, value string
	secret      bool
	// scopes say where it may be used; each must allow it.
	scopes []fleet.Scope
	// at is where it is declared; zero for one that only core has.
	at fleet.Position
}

// variables are all that can be referred to.
type variables struct {
	byName  map[string]variable
	names   []string
	offline bool
	// narrowed is set when what a variable may be used for depends on the stack.
	narrowed bool
	pools    map[string]*pool
}

// newVariables joins the tree's variables with core's. A variable declared without a
// value has its value in core.
func newVariables(declared []spec.Variable, in Input) *variables {
	v := &variables{byName: map[string]variable{}, offline: in.Offline, pools: map[string]*pool{}}
	for _, known := range in.Variables {
		v.byName[known.Name] = variable{
			name: known.Name, value: known.Value, secret: known.Secret, scopes: scopesOf(known.Scope),
		}
	}
	for i := range declared {
		d := &declared[i]
		own := variable{
			name: d.Name, value: d.Value.Reveal(), secret: d.IsSecret, at: d.At(""), scopes: scopesOf(scopeOf(d)),
		}
		stored, inCore := v.byName[d.Name]
		switch {
		case own.value == "" && inCore:
			own.value, own.secret = stored.value, own.secret || stored.secret
			own.scopes = append(own.scopes, stored.scopes...)
		case own.value == "" && own.secret && !inCore:
			continue // its value is nowhere yet
		}
		v.byName[d.Name] = own
	}
	for name, known := range v.byName {
		v.names = append(v.names, name)
		v.narrowed = v.narrowed || slices.ContainsFunc(known.scopes, func(s fleet.Scope) bool { return len(s.Stacks) > 0 })
	}
	slices.Sort(v.names)
	return v
}

// scopeOf is the scope that a table gives its variable.
func scopeOf(d *spec.Variable) fleet.Scope {
	return fleet.Scope{Tags: d.Tags, Servers: d.Servers, ServerTags: d.ServerTags, Stacks: d.Stacks}
}

// scopesOf leaves out a scope that says nothing.
func scopesOf(s fleet.Scope) []fleet.Scope {
	if tiersOf(s) == "" && len(s.Servers)+len(s.ServerTags)+len(s.Stacks) == 0 {
		return nil
	}
	return []fleet.Scope{s}
}

// The tags that say which servers may have a variable.
const (
	scopeTrusted   = "scope:trusted"
	scopeUntrusted = "scope:untrusted"
	scopeAll       = "scope:all"
)

// tiersOf is the widest scope tag; empty when there is none.
func tiersOf(s fleet.Scope) string {
	for _, tag := range []string{scopeAll, scopeUntrusted, scopeTrusted} {
		if slices.Contains(s.Tags, tag) {
			return tag
		}
	}
	return ""
}

// place is where variables are used: a stack, and its server if it has one.
type place struct {
	stack  string
	server fleet.Server
	// locals are the secrets of the server's agent.
	locals []fleet.LocalSecret
}

func (at place) tier() fleet.Tier {
	if at.server.Tier == fleet.TierUntrusted {
		return fleet.TierUntrusted
	}
	return fleet.TierTrusted
}

// who is the server with the place it is declared at.
func (at place) who() string { return "server " + located(at.server.Name, at.server.Origin) }

func located(name string, at fleet.Position) string {
	if at.IsZero() {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, at)
}

// refuse says why a variable is not for a place, and what to do; empty when it is.
func (v variable) refuse(at place) (message, hint string) {
	kind := "variable"
	if v.secret {
		kind = "secret"
	}
	who := kind + " " + located(v.name, v.at)
	tags := make([]string, len(v.scopes))
	for i, s := range v.scopes {
		tags[i] = tiersOf(s)
		switch name := at.server.Name; {
		case len(s.Stacks) > 0 && !slices.Contains(s.Stacks, at.stack):
			return fmt.Sprintf("%s is only for the stacks %s", who, strings.Join(s.Stacks, ", ")), "add the stack to its stacks"
		case name == "":
		case len(s.Servers) > 0 && !slices.Contains(s.Servers, name):
			return fmt.Sprintf("%s is only for the servers %s, and not for %s", who, strings.Join(s.Servers, ", "), at.who()),
				"add the server to its servers"
		case len(s.ServerTags) > 0 && !hasAll(at.server.Tags, s.ServerTags):
			return fmt.Sprintf("%s is only for servers tagged %s, and not for %s", who, strings.Join(s.ServerTags, ", "), at.who()),
				"use another variable, or tag the server"
		}
	}
	if at.tier() != fleet.TierUntrusted {
		return "", ""
	}
	widened := slices.Contains(tags, scopeAll) || slices.Contains(tags, scopeUntrusted)
	if slices.Contains(tags, scopeTrusted) || v.secret && !widened {
		return fmt.Sprintf("%s is for trusted servers, and %s is untrusted", who, at.who()),
			"use another variable, or tag it scope:untrusted or scope:all if that server may know it"
	}
	return "", ""
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(tag string) bool { return !slices.Contains(have, tag) })
}

// pool is what Compose files of one place may use by ${NAME}.
type pool struct {
	list   []compose.Variable
	locals []fleet.LocalSecret
	// full is the key of all of it, made when it is asked for.
	full string
}

// key tells pools with different content apart.
func (p *pool) key(hmacKey []byte) string {
	if p.full == "" {
		names := make([]string, 0, len(p.list)+len(p.locals))
		for _, v := range p.list {
			names = append(names, v.Name)
		}
		for _, s := range p.locals {
			names = append(names, s.Name)
		}
		req := compose.Request{Key: hmacKey, Variables: p.list, LocalSecrets: p.locals}
		p.full = req.VariablesKey(names)
	}
	return p.full
}

// pool is made once for all that share it.
func (v *variables) pool(at place) *pool {
	id := at.server.Name
	if v.narrowed {
		id += "\x00" + at.stack
	}
	if known := v.pools[id]; known != nil {
		return known
	}
	out := &pool{list: make([]compose.Variable, 0, len(v.names)), locals: at.locals}
	for _, name := range v.names {
		known := v.byName[name]
		entry := compose.Variable{Name: name, Secret: known.secret, Origin: known.at}
		if entry.Refused, _ = known.refuse(at); entry.Refused == "" {
			x := expander{vars: v, place: at}
			entry.Value = x.expand(known.value, []string{name})
			entry.Secret = entry.Secret || len(x.secrets) > 0
			entry.Refused = x.refusal()
		}
		out.list = append(out.list, entry)
	}
	v.pools[id] = out
	return out
}

// check reports the variables of the tree that are made of what does not exist.
func (v *variables) check() fleet.Diagnostics {
	var out fleet.Diagnostics
	for _, name := range v.names {
		known := v.byName[name]
		if known.at.IsZero() || !strings.Contains(known.value, "[[") {
			continue
		}
		x := expander{vars: v, place: place{}, at: known.at}
		x.expand(known.value, []string{name})
		for _, d := range x.findings {
			if d.Rule != ruleScope {
				out = append(out, d)
			}
		}
	}
	return out
}
