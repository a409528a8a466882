package compose

import (
	"encoding/json"

	"github.com/varanhq/varan/fleet"
)

// EnvFile is an environment file of the run directory.
type EnvFile struct {
	Path string
	// Track says that the file must be there.
	Track bool
	// Origin is where the stack names it.
	Origin fleet.Position
}

// Reaction is what a change of a config file asks for.
type Reaction string

// The reactions. Empty is ReactNone.
const (
	ReactNone     Reaction = "None"
	ReactRestart  Reaction = "Restart"
	ReactRedeploy Reaction = "Redeploy"
)

// ConfigFile is a file, or a directory of files, of the run directory.
type ConfigFile struct {
	Path string
	// Services react to a change; empty means all. Others do not, also when they mount it.
	Services []string
	Requires Reaction
	// Origin is where the stack names it.
	Origin fleet.Position
}

// Hook is a command that runs on the host.
type Hook struct {
	// Path is the directory it runs in, relative to the run directory.
	Path string
	// Command has one command a line, as Komodo's SystemCommand: "#" begins a comment, and
	// a line that ends in a backslash goes on.
	Command string
	// Shell hands the text to a shell as it is.
	Shell bool
}

// Interpolated is a text in which [[NAME]] was replaced.
type Interpolated struct {
	Text string
	// Secrets are the secret values that went into Text.
	Secrets []string
	// Variables are the names that were looked for, as in Result.Variables.
	Variables []string
	Findings  fleet.Diagnostics
}

// VariablesKey is a keyed hash of what the request has for some names in Variables and
// LocalSecrets: equal keys, equal values.
func (r *Request) VariablesKey(names []string) string {
	if len(names) == 0 {
		return ""
	}
	found := make(map[string]Variable, len(names))
	for _, name := range names {
		v, _ := r.pooled(name)
		v.Origin = fleet.Position{}
		found[name] = v
	}
	data, err := json.Marshal(found)
	if err != nil {
		panic("compose: hash variables: " + err.Error()) // a map of plain structs always encodes
	}
	return newSealer(r.Key).keyed("variables", string(data))
}
