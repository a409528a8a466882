package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
)

// ledger keeps on disk what the agent owes core: every accepted order until its outcome
// was delivered. One file per order; a file is replaced whole, so it never holds half
// of anything.
type ledger struct {
	dir string
}

// entry is an accepted order, or the outcome of one. The order itself is dropped with
// its outcome: the outcome is all that core still waits for.
type entry struct {
	Accepted time.Time      `json:"accepted"`
	Order    *fleet.Order   `json:"order,omitempty"`
	Outcome  *fleet.Outcome `json:"outcome,omitempty"`
}

func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create order ledger: %w", err)
	}
	return &ledger{dir: dir}, nil
}

// path hashes the id, because core chooses it.
func (l *ledger) path(order string) string {
	name := strings.TrimPrefix(string(fleet.SumDigest([]byte(order))), "sha256:")
	return filepath.Join(l.dir, name+".json")
}

// accept makes an order durable.
func (l *ledger) accept(order fleet.Order, now time.Time) error {
	return l.write(order.ID, entry{Accepted: now, Order: &order})
}

// settle replaces an order by its outcome.
func (l *ledger) settle(outcome fleet.Outcome, now time.Time) error {
	return l.write(outcome.Order, entry{Accepted: now, Outcome: &outcome})
}

func (l *ledger) write(order string, e entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode order %s: %w", order, err)
	}
	if err := atomicfile.Write(l.path(order), text, 0o600); err != nil {
		return fmt.Errorf("record order %s: %w", order, err)
	}
	return nil
}

// forget drops an order whose outcome core has. It need not be durable: delivering an
// outcome twice is harmless.
func (l *ledger) forget(order string) error {
	err := os.Remove(l.path(order))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load returns what is owed, oldest first. A file that cannot be read is put aside,
// since one bad sector must not keep the agent from serving its host.
func (l *ledger) load(log *slog.Logger) ([]entry, error) {
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("read order ledger: %w", err)
	}
	var entries []entry
	for _, file := range files {
		if filepath.Ext(file.Name()) != ".json" {
			continue
		}
		path := filepath.Join(l.dir, file.Name())
		e, err := readEntry(path)
		if err != nil {
			log.Error("putting an unreadable order record aside", slog.String("path", path), slog.Any("err", err))
			if err := os.Rename(path, path+".bad"); err != nil {
				return nil, fmt.Errorf("put order record aside: %w", err)
			}
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.Accepted.Compare(b.Accepted) })
	return entries, nil
}

func readEntry(path string) (entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(text, &e); err != nil {
		return entry{}, err
	}
	if (e.Order == nil) == (e.Outcome == nil) {
		return entry{}, errors.New("want an order or an outcome")
	}
	return e, nil
}
