package render

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// state is what is kept of one sync between renders.
type state struct {
	mu    sync.Mutex
	files spec.Cache
	// stacks are what was loaded, by job.key: one entry for all servers on which a stack is
	// made of the same things.
	stacks map[string][]*entry
	// records are those of the last render, by what they were made from.
	records map[any]fleet.Resource
	// base names all that the last render was made from but the tree's files. While it stays
	// the same, so do shared and the fingerprints of jobs.
	base         string
	shared       *shared
	fingerprints map[string]string
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
	// digests are those of the release on other servers than the one it was loaded for.
	digests map[string]fleet.Digest
}

// dependency is a path that decided a result. id is empty when nothing is there.
type dependency struct{ path, id string }

// fill is the end of a load.
func (e *entry) fill(fingerprint string, req compose.Request, result compose.Result, findings fleet.Diagnostics) {
	e.fingerprint, e.result, e.findings = fingerprint, result, findings
	e.ok = !findings.HasErrors() && result.Release.Digest != ""
	e.dir, e.variables, e.places = path.Clean(req.RunDirectory), req.VariablesKey(result.Variables), placesOf(req)
}

// remember records what the result depends on.
func (e *entry) remember(tree compose.Tree) {
	inside := e.dir != "."
	e.deps = make([]dependency, len(e.result.Dependencies))
	for i, name := range e.result.Dependencies {
		e.deps[i] = dependency{name, identify(tree, name)}
		inside = inside && (name == e.dir || strings.HasPrefix(name, e.dir+"/"))
	}
	if inside {
		e.dirID = identify(tree, e.dir)
	}
	e.result.Dependencies = nil
}

// fits reports whether a load now would give the same result.
func (e *entry) fits(fingerprint string, req *compose.Request) bool {
	tree := req.Tree
	if e.fingerprint != fingerprint || e.deps == nil || e.variables != req.VariablesKey(e.result.Variables) {
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

// release is the result for one server. Nothing in it depends on the server but its name.
func (e *entry) release(server string) fleet.Release {
	out := e.result.Release
	if out.Server == server {
		return out
	}
	out.Server = server
	if e.digests == nil {
		e.digests = map[string]fleet.Digest{}
	}
	if e.digests[server] == "" {
		e.digests[server] = compose.ReleaseDigest(out)
	}
	out.Digest = e.digests[server]
	return out
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
	places := make([]fleet.Position, 0, 12+len(req.Environment))
	s := req.Settings
	places = append(places, req.Origin, s.RunDirectory, s.FilePaths, s.EnvFilePath, s.ProjectName,
		s.ExtraArgs, s.BuildExtraArgs, s.PreDeploy, s.PostDeploy, s.FirstDeploy)
	for _, v := range req.Environment {
		places = append(places, v.Origin)
	}
	for _, f := range req.AdditionalEnvFiles {
		places = append(places, f.Origin)
	}
	for _, f := range req.ConfigFiles {
		places = append(places, f.Origin)
	}
	return places
}

// fingerprintOf covers everything in a request but the tree, the server, the commit, the
// places, and what of the variables counts only when it is used.
func fingerprintOf(req compose.Request, identities string) string {
	filled := req.InterpolateFiles != nil
	req.Tree, req.Server, req.Commit, req.Origin = nil, "", fleet.Commit{}, fleet.Position{}
	req.Settings = compose.Settings{}
	req.Variables, req.LocalSecrets, req.Decrypter, req.InterpolateFiles = nil, nil, nil, nil
	req.Environment = slices.Clone(req.Environment)
	for i := range req.Environment {
		req.Environment[i].Origin = fleet.Position{}
	}
	req.AdditionalEnvFiles = slices.Clone(req.AdditionalEnvFiles)
	for i := range req.AdditionalEnvFiles {
		req.AdditionalEnvFiles[i].Origin = fleet.Position{}
	}
	req.ConfigFiles = slices.Clone(req.ConfigFiles)
	for i := range req.ConfigFiles {
		req.ConfigFiles[i].Origin = fleet.Position{}
	}
	return hashJSON([]any{req, filled, identities})
}

// inputKey covers everything in an input but the commit and what it reads through:
// Identities names the decrypter.
func inputKey(in Input) string {
	return hashJSON([]any{
		in.Sync, in.ResourcePaths, in.MatchTags, in.Variables, in.KnownServers, in.Repository,
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
