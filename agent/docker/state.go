package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// maxBad is how many failed releases of a stack are remembered.
const maxBad = 10

// state is what is known of a stack beyond what Docker knows. Values are never changed:
// a change is a new value, put in place at once.
type state struct {
	Stack   string `json:"stack"`
	Project string `json:"project"`
	// Good is the last release that passed its verdict.
	Good       *fleet.Release `json:"good,omitempty"`
	DeployedAt time.Time      `json:"deployed_at,omitzero"`
	// Images are what Good's services ran, so that they can be put back under their names.
	Images []image `json:"images,omitempty"`
	// Placed are the files of ours in the run directory. Nothing else is ever removed there.
	Placed []string `json:"placed,omitempty"`
	// PlacedIn are those in directories of the host, with what was placed.
	PlacedIn map[string]map[string]fleet.Digest `json:"placed_in,omitempty"`
	// InRAM are the files that are links to files in memory.
	InRAM   []string           `json:"in_ram,omitempty"`
	Bad     []fleet.BadRelease `json:"bad,omitempty"`
	Stopped bool               `json:"stopped,omitempty"`
	// Held are services that were stopped, paused or taken down by an order of core.
	Held []string `json:"held,omitempty"`
	// SelfHeal says that the stack is put back while core is away.
	SelfHeal bool `json:"self_heal,omitempty"`
	// Adopted are containers that somebody else made, by id.
	Adopted map[string]adopted `json:"adopted,omitempty"`
	// Baseline is the live configuration of each container right after the deploy.
	Baseline map[string]baseline `json:"baseline,omitempty"`
}

// image is what a service's reference stood for.
type image struct {
	Service string `json:"service"`
	Ref     string `json:"ref"`
	ID      string `json:"id"`
}

// baseline is one container as it was deployed.
type baseline struct {
	Service string   `json:"service"`
	Number  string   `json:"number"`
	Config  settings `json:"config"`
}

// named gives a state that has none the name of its project. One that has keeps it until
// another project runs.
func (s *state) named(project string) *state {
	if s.Project == "" {
		s.Project = project
	}
	return s
}

// placedAt lists the files of ours in a run directory.
func (s *state) placedAt(at site) []string {
	if at.host {
		return slices.Sorted(maps.Keys(s.PlacedIn[at.dir]))
	}
	return s.Placed
}

// bad returns the remembered failure of a release.
func (s *state) bad(release fleet.Digest) (fleet.BadRelease, bool) {
	i := slices.IndexFunc(s.Bad, func(b fleet.BadRelease) bool { return b.Release == release })
	if i < 0 {
		return fleet.BadRelease{}, false
	}
	return s.Bad[i], true
}

// withBad adds a failure, replacing an older one of the same release.
func (s *state) withBad(b fleet.BadRelease) []fleet.BadRelease {
	out := append(s.withoutBad(b.Release), b)
	return out[max(0, len(out)-maxBad):]
}

// withoutBad forgets a release's failure.
func (s *state) withoutBad(release fleet.Digest) []fleet.BadRelease {
	return slices.DeleteFunc(slices.Clone(s.Bad), func(b fleet.BadRelease) bool { return b.Release == release })
}

// states keeps one file per stack.
type states struct {
	dir string

	mu  sync.Mutex
	all map[string]*state
}

// openStates reads every state. An unreadable one is an error: going on without it
// would forget what to roll back to.
func openStates(dir string) (*states, error) {
	s := &states{dir: dir, all: map[string]*state{}}
	err := eachJSON(dir, func(path string, b []byte) error {
		var st state
		if err := json.Unmarshal(b, &st); err != nil {
			return fmt.Errorf("read state %s: %w", path, err)
		}
		s.all[st.Stack] = &st
		return nil
	})
	return s, err
}

// get returns the state of a stack; an empty one when there is none.
func (s *states) get(stack string) *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, ok := s.all[stack]; ok {
		return st
	}
	return &state{Stack: stack}
}

// known returns every state, in no order.
func (s *states) known() []*state {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*state, 0, len(s.all))
	for _, st := range s.all {
		out = append(out, st)
	}
	return out
}

// update writes a changed copy. Only the holder of the stack's lock calls it.
func (s *states) update(stack string, change func(*state)) error {
	next := *s.get(stack)
	change(&next)
	b, err := json.Marshal(next)
	if err == nil {
		err = atomicfile.Write(s.path(stack), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record state of %s: %w", stack, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[stack] = &next
	return nil
}

// drop forgets a stack.
func (s *states) drop(stack string) error {
	if err := os.Remove(s.path(stack)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget state of %s: %w", stack, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, stack)
	return nil
}

func (s *states) path(stack string) string { return filepath.Join(s.dir, fileName(stack)+".json") }

// eachJSON calls use with every JSON file of a directory.
func eachJSON(dir string, use func(path string, b []byte) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := use(path, b); err != nil {
			return err
		}
	}
	return nil
}

// fileName makes a name safe as one path element and as part of a bind mount, different
// for different names. Ordinary names stay as they are.
func fileName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > 180 {
		return fleet.SumDigest([]byte(name)).Short() + "%" + b.String()[:100]
	}
	return b.String()
}
