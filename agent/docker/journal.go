package docker

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// keepOutcomes is how many finished orders are remembered, so that one that is sent
// again is answered and not done twice.
const keepOutcomes = 512

// record is one order in the journal. It is changed by the one who carries the order
// out and by nobody else.
type record struct {
	Order fleet.Order `json:"order"`
	At    time.Time   `json:"at"`
	// Touched is set once files or containers may have changed.
	Touched bool `json:"touched,omitempty"`
	// Failure is set once the release was found to be bad: whoever resumes the order goes
	// on with putting the last good one back.
	Failure *failure `json:"failure,omitempty"`
	// Pre and Post say how far the release's commands are.
	Pre  runs `json:"pre,omitempty"`
	Post runs `json:"post,omitempty"`
	// First is how far the command is that only a first deploy runs.
	First runs `json:"first,omitempty"`
	// Run says how far the container of an OrderRun is, and Exit how it ended.
	Run  runs `json:"run,omitempty"`
	Exit *int `json:"exit,omitempty"`
	// Worker is the process that was last started for the order.
	Worker  *process       `json:"worker,omitempty"`
	Outcome *fleet.Outcome `json:"outcome,omitempty"`
}

// process identifies a process over the life of the machine.
type process struct {
	PID int `json:"pid"`
	// Start is when it started, in the system's own ticks: process ids are used again.
	Start uint64 `json:"start"`
}

// journal keeps one file per order.
type journal struct {
	dir string

	mu    sync.Mutex
	index map[string]entry
}

// entry is what is held in memory of a record.
type entry struct {
	at    time.Time
	stack string
	done  bool
}

func openJournal(dir string) (*journal, error) {
	j := &journal{dir: dir, index: map[string]entry{}}
	err := eachJSON(dir, func(path string, b []byte) error {
		var r record
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("read journal %s: %w", path, err)
		}
		j.index[r.Order.ID] = entry{at: r.At, stack: r.Order.Stack, done: r.Outcome != nil}
		return nil
	})
	return j, err
}

// begin returns the record of an order, making one that is on disk when it returns.
func (j *journal) begin(order fleet.Order, now time.Time) (*record, error) {
	if r, err := j.find(order.ID); err != nil || r != nil {
		return r, err
	}
	r := &record{Order: order, At: now}
	return r, j.save(r)
}

// find returns the record of an order; nil when there is none.
func (j *journal) find(id string) (*record, error) {
	b, err := os.ReadFile(j.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no record is an answer, not an error
	}
	var r record
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read journal of order %s: %w", id, err)
	}
	return &r, nil
}

// save writes a record durably.
func (j *journal) save(r *record) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = atomicfile.Write(j.path(r.Order.ID), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write journal of order %s: %w", r.Order.ID, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.index[r.Order.ID] = entry{at: r.At, stack: r.Order.Stack, done: r.Outcome != nil}
	return nil
}

// finish records an outcome. The release is dropped: its blobs may go now.
func (j *journal) finish(r *record, out fleet.Outcome) error {
	r.Outcome, r.Failure, r.Worker = &out, nil, nil
	r.Order.Release = fleet.Release{}
	if err := j.save(r); err != nil {
		return err
	}
	return j.prune()
}

// pending returns the unfinished orders, of one stack or of all, oldest first.
func (j *journal) pending(stack string) ([]*record, error) {
	j.mu.Lock()
	var ids []string
	for id, e := range j.index {
		if !e.done && (stack == "" || e.stack == stack) {
			ids = append(ids, id)
		}
	}
	j.mu.Unlock()
	var out []*record
	for _, id := range ids {
		r, err := j.find(id)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Outcome == nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *record) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Order.ID, b.Order.ID))
	})
	return out, nil
}

// prune forgets the oldest finished orders.
func (j *journal) prune() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var done []string
	for id, e := range j.index {
		if e.done {
			done = append(done, id)
		}
	}
	if len(done) <= keepOutcomes {
		return nil
	}
	slices.SortFunc(done, func(a, b string) int { return j.index[a].at.Compare(j.index[b].at) })
	for _, id := range done[:len(done)-keepOutcomes] {
		if err := os.Remove(j.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune journal: %w", err)
		}
		delete(j.index, id)
	}
	return nil
}

func (j *journal) path(id string) string { return filepath.Join(j.dir, fileName(id)+".json") }
