package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/wire"
)

// rests are the stacks that core wants left alone, on disk so that they are while core is
// away, whatever happens to the agent meanwhile.
type rests struct {
	path string

	mu   sync.Mutex
	list []wire.Rest
}

func loadRests(dir string) (*rests, error) {
	r := &rests{path: filepath.Join(dir, "rests.json")}
	text, err := os.ReadFile(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return nil, fmt.Errorf("read which stacks to leave alone: %w", err)
	}
	var stored wire.Rests
	if err := json.Unmarshal(text, &stored); err != nil {
		// Nothing is put back until core says again what may be.
		stored.List = []wire.Rest{{}}
	}
	r.list = stored.List
	return r, nil
}

// replace takes what core says in place of what it said before.
func (r *rests) replace(now wire.Rests) error {
	text, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode which stacks to leave alone: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := atomicfile.Write(r.path, text, 0o600); err != nil {
		return fmt.Errorf("write which stacks to leave alone: %w", err)
	}
	r.list = now.List
	return nil
}

// any reports whether core ever said that something is to be left alone and did not take it
// back.
func (r *rests) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list) > 0
}

// hold reports whether a stack is to be left alone at a time.
func (r *rests) hold(stack string, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rest := range r.list {
		if (rest.Stack == "" || rest.Stack == stack) && (rest.Until.IsZero() || at.Before(rest.Until)) {
			return true
		}
	}
	return false
}
