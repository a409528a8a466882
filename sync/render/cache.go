package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"sync"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// state is what is kept of one sync between renders.
type state struct {
	mu     sync.Mutex
	files  spec.Cache
	stacks map[string]*entry
	// last is the output of the last render, whose input had the key memo.
	memo string
	last Output
}

// entry is a loaded stack.
type entry struct {
	fingerprint string
	result      compose.Result
	findings    fleet.Diagnostics
	// ok says that there is a release.
	ok bool
	// dir and dirID are the run directory and its content: when that is the same, so is
	// everything. deps are looked at when it is not, for directories are shared.
	dir, dirID string
	deps       []dependency
	// variables are a keyed hash of the pool's variables that decided the result.
	variables string
	// places are where the request came from.
	places []fleet.Position
}

// dependency is a path that decided a result. id is empty when nothing is there.
type dependency struct{ path, id string }

func newEntry(fingerprint string, req compose.Request, result compose.Result, findings fleet.Diagnostics) *entry {
	return &entry{
		fingerprint: fingerprint, result: result, findings: findings, ok: !findings.HasErrors() && result.Release.Digest != "",
		dir: path.Clean(req.RunDirectory), variables: req.VariablesKey(result.Variables), places: placesOf(req),
	}
}

// remember records what the result depends on.
func (e *entry) remember(tree compose.Tree) {
	if e.dir != "." {
		e.dirID = identify(tree, e.dir)
	}
	e.deps = make([]dependency, len(e.result.Dependencies))
	for i, name := range e.result.Dependencies {
		e.deps[i] = dependency{name, identify(tree, name)}
	}
	e.result.Dependencies = nil
}

// fits reports whether a load now would give the same result.
func (e *entry) fits(fingerprint string, req *compose.Request) bool {
	tree := req.Tree
	if e.fingerprint != fingerprint || len(e.deps) == 0 || e.variables != req.VariablesKey(e.result.Variables) {
		return false
	}
	if e.dirID != "" && identify(tree, e.dir) == e.dirID {
		return true
	}
	for _, d := range e.deps {
		if identify(tree, d.path) != d.id {
			return false
		}
	}
	return true
}

// identify names what is at a path: its content and, for a file has no id for that, its
// mode.
func identify(tree compose.Tree, name string) string {
	info, err := tree.Stat(name)
	if err != nil {
		return ""
	}
	id, err := tree.ObjectID(name)
	if err != nil {
		return ""
	}
	return info.Mode().String() + " " + id
}

// moves compares where the request came from with where it comes from now. A line added
// above a stack moves it, but loads nothing.
func (e *entry) moves(req compose.Request) map[fleet.Position]fleet.Position {
	var out map[fleet.Position]fleet.Position
	for i, now := range placesOf(req) {
		if i < len(e.places) && e.places[i] != now {
			if out == nil {
				out = map[fleet.Position]fleet.Position{}
			}
			out[e.places[i]] = now
		}
	}
	return out
}

func placesOf(req compose.Request) []fleet.Position {
	places := make([]fleet.Position, 0, 5+len(req.Environment))
	places = append(places, req.Origin)
	places = append(places, req.Settings.RunDirectory, req.Settings.FilePaths, req.Settings.EnvFilePath, req.Settings.ProjectName)
	for _, v := range req.Environment {
		places = append(places, v.Origin)
	}
	return places
}

// fingerprintOf covers everything in a request but the tree, the commit and the places.
func fingerprintOf(req compose.Request) string {
	req.Tree, req.Commit, req.Origin, req.Settings = nil, fleet.Commit{}, fleet.Position{}, compose.Settings{}
	req.Variables, req.LocalSecrets, req.Decrypter = nil, nil, nil
	env := make([]compose.Variable, len(req.Environment))
	for i, v := range req.Environment {
		v.Origin = fleet.Position{}
		env[i] = v
	}
	req.Environment = env
	return hashJSON(req)
}

// inputKey covers everything in an input but what it reads through: the commit names the
// tree, and Identities the decrypter.
func inputKey(in Input) string {
	return hashJSON([]any{
		in.Sync, in.Commit, in.ResourcePaths, in.MatchTags, in.Variables, in.KnownServers, in.Repository,
		in.Offline, in.Lenient, in.Sources == nil, in.KnownStacks, in.LocalSecrets, in.Identities,
		in.KnownRepositories, in.Revisions, in.SkipResources, in.SkipVariables, in.SkipUserGroups,
	})
}

func hashJSON(value any) string {
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode(value); err != nil {
		panic(fmt.Sprintf("render: hash: %v", err)) // plain structs always encode
	}
	return hex.EncodeToString(hash.Sum(nil))
}
