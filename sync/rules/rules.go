// Package rules knows every rule that a diagnostic can name, and decides how severe a
// finding is: the repository says so in .varan.toml, for all servers or for those of one
// tier, with exceptions that carry a reason.
//
// The checks themselves live where what they look at is known: in sync/spec, sync/compose
// and sync/render. This package must not read trees and must not know Compose files.
package rules

import (
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

//go:generate go run ./gen ../../docs/rules.md

// Group is what a rule is about.
type Group string

// The groups, in the order they are shown.
const (
	GroupFiles       Group = "files"
	GroupResources   Group = "resources"
	GroupVariables   Group = "variables"
	GroupSources     Group = "sources"
	GroupCompose     Group = "compose"
	GroupHost        Group = "host"
	GroupHardening   Group = "hardening"
	GroupPortability Group = "portability"
	GroupSecrets     Group = "secrets"
	GroupFleet       Group = "fleet"
	GroupSettings    Group = "settings"
)

// Groups are all groups, in order.
func Groups() []Group {
	return []Group{
		GroupFiles, GroupResources, GroupVariables, GroupSources, GroupCompose, GroupHost, GroupHardening,
		GroupPortability, GroupSecrets, GroupFleet, GroupSettings,
	}
}

// About is a sentence that says what the rules of a group have in common.
func (g Group) About() string {
	switch g {
	case GroupFiles:
		return "Whether a file can be read at all, and at what cost."
	case GroupResources:
		return "Resource files: tables, keys, values, names and references."
	case GroupVariables:
		return "Variables, environments and what they are filled in with."
	case GroupSources:
		return "Where the files of a stack come from: repositories, paths and hosts."
	case GroupCompose:
		return "Compose files that would not work, or not as they read."
	case GroupHost:
		return "What hands the host over to a container. An error on untrusted servers, and there nothing lowers it."
	case GroupHardening:
		return "What keeps a container that was broken into from doing more harm."
	case GroupPortability:
		return "Whether a stack works with plain `docker compose` too."
	case GroupSecrets:
		return "Secrets that are in Git for everyone to read. Values are never shown."
	case GroupFleet:
		return "Stacks, servers and variables taken together."
	case GroupSettings:
		return "The rules file itself, " + "`.varan.toml`."
	}
	return ""
}

// Entry describes one rule.
type Entry struct {
	// ID is stable: people write it into their rules file.
	ID    string
	Group Group
	// Severity is that of a finding when nobody says otherwise.
	Severity fleet.Severity
	// Title is one line that says what is found.
	Title string
	// Why says why it matters.
	Why string
	// Bad and Good are examples; either may be empty.
	Bad, Good string
}

// Configurable reports whether a repository may change the severity of the rule. What
// cannot work stays an error.
func (e Entry) Configurable() bool {
	return e.Severity != fleet.SeverityError && e.Group != GroupSettings
}

// Advisory rules are about what works and could be better. There are many findings of
// them, so people see a count first.
func (e Entry) Advisory() bool { return e.Group == GroupHardening || e.Group == GroupPortability }

// Origin is the package that reports the rules of a group.
func (g Group) Origin() string {
	switch g {
	case GroupFiles, GroupResources, GroupSettings:
		return "sync/spec"
	case GroupCompose, GroupHost, GroupHardening, GroupPortability, GroupSecrets:
		return "sync/compose"
	case GroupVariables, GroupFleet:
		return "sync/render"
	case GroupSources:
		return "sync/render, sync/git"
	}
	return ""
}

// tables are the entries of all files. A test sees to it that each rule has one.
var tables = [][]Entry{fileRules, resourceRules, referenceRules, variableRules, sourceRules, composeRules, hostRules, hardeningRules, sopsRules, fleetRules}

// registry is every entry by id.
var registry = index()

func index() map[string]Entry {
	out := map[string]Entry{}
	for _, table := range tables {
		for _, e := range table {
			out[e.ID] = e
		}
	}
	return out
}

// All are the entries by group, and in it by id.
func All() []Entry {
	out := make([]Entry, 0, len(registry))
	for _, e := range registry {
		out = append(out, e)
	}
	order := Groups()
	slices.SortFunc(out, func(a, b Entry) int {
		if d := slices.Index(order, a.Group) - slices.Index(order, b.Group); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Lookup returns the entry of a rule.
func Lookup(id string) (Entry, bool) {
	e, ok := registry[id]
	return e, ok
}

// Closest is the rule that a mistyped id was meant to be, or "".
func Closest(id string) string {
	ids := make([]string, 0, len(registry))
	for known := range registry {
		ids = append(ids, known)
	}
	return didyoumean.Word(id, ids)
}

// The severities, for the tables.
const (
	note    = fleet.SeverityNote
	warning = fleet.SeverityWarning
	fault   = fleet.SeverityError
)
