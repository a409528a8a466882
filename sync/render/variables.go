package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

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
	// scoped are the variables that are for some servers or stacks; narrowed is set when there
	// is one for some stacks.
	scoped   []string
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
		if slices.ContainsFunc(known.scopes, func(s fleet.Scope) bool { return len(s.Servers)+len(s.ServerTags)+len(s.Stacks) > 0 }) {
			v.scoped = append(v.scoped, name)
		}
	}
	slices.Sort(v.names)
	slices.Sort(v.scoped)
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

// pool is what Compose files of one place may use by ${NAME}. A variable is looked at when
// it is asked for: there may be thousands of which a stack uses three.
type pool struct {
	vars  *variables
	place place

	mu    sync.Mutex // guards known
	known map[string]compose.Variable
}

var _ compose.Pool = (*pool)(nil)

// pool is the one of all places with the same answers, as far as that is seen at once.
func (v *variables) pool(at place) *pool {
	id := at.server.Name
	if v.narrowed {
		id += "\x00" + at.stack
	}
	if v.pools[id] == nil {
		v.pools[id] = &pool{vars: v, place: at, known: map[string]compose.Variable{}}
	}
	return v.pools[id]
}

// Names implements compose.Pool.
func (p *pool) Names() []string { return p.vars.names }

// Variable implements compose.Pool.
func (p *pool) Variable(name string) (compose.Variable, bool) {
	known, ok := p.vars.byName[name]
	if !ok {
		return compose.Variable{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, ok := p.known[name]
	if !ok {
		entry = p.vars.at(known, p.place)
		p.known[name] = entry
	}
	return entry, true
}

// at is a variable as a place may use it.
func (v *variables) at(known variable, at place) compose.Variable {
	out := compose.Variable{Name: known.name, Secret: known.secret, Origin: known.at}
	if out.Refused, _ = known.refuse(at); out.Refused != "" {
		return out
	}
	x := expander{vars: v, place: at}
	out.Value = x.expand(known.value, []string{known.name})
	out.Secret = out.Secret || len(x.secrets) > 0
	out.Refused = x.refusal()
	return out
}

// likeness is the same for places at which every variable has the same value, or none.
func (v *variables) likeness(at place) string {
	var b strings.Builder
	b.WriteString(string(at.tier()))
	for _, name := range v.scoped {
		message, _ := v.byName[name].refuse(at)
		b.WriteString(strconv.FormatBool(message == ""))
	}
	for _, secret := range at.locals {
		b.WriteString("\x00" + secret.Token())
	}
	return b.String()
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
