//go:build unix

package keyfile_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire/noise"
)

var errCrash = errors.New("the process is dead")

// mortal is a file system whose process dies after so many steps; from then on nothing is done.
type mortal struct {
	atomicfile.OS
	left int
	// refuse makes the last step fail instead of being done.
	refuse bool
	// over is set once the previous key was removed.
	over bool
}

func (m *mortal) step(do func() error) error {
	m.left--
	if m.left < 0 || m.left == 0 && m.refuse {
		return errCrash
	}
	return do()
}

func (m *mortal) Temp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	err = m.step(func() (err error) {
		name, err = m.OS.Temp(path, data, perm)
		return err
	})
	return name, err
}

func (m *mortal) Rename(from, to string) error {
	return m.step(func() error { return m.OS.Rename(from, to) })
}

func (m *mortal) Link(from, to string) error {
	return m.step(func() error { return m.OS.Link(from, to) })
}

func (m *mortal) Remove(path string) error {
	return m.step(func() error {
		m.over = m.over || filepath.Ext(path) == ".prev"
		return m.OS.Remove(path)
	})
}

func (m *mortal) SyncDir(dir string) error {
	return m.step(func() error { return m.OS.SyncDir(dir) })
}

// change is a whole change of keys, as core does it.
func change(s *keyfile.Set) error {
	if _, err := s.Propose(); err != nil {
		return err
	}
	if err := s.Advance(); err != nil {
		return err
	}
	return s.DropPrev()
}

func TestACrashAtAnyStepOfAChangeOfKeysHeals(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		done := false
		for steps := 0; !done; steps++ {
			path := filepath.Join(t.TempDir(), "keys", "core.key")
			first, _, err := keyfile.LoadOrCreate(path)
			must(t, err)
			files := &mortal{left: steps, refuse: refuse}
			err = change(keyfile.NewSet(path, files))
			done = err == nil
			set := keyfile.NewSet(path, nil)
			keys, err := set.Load()
			must(t, err)
			if keys.Current.IsZero() {
				t.Fatalf("after %d steps no key is in use", steps)
			}
			// Whoever knew the first key can be answered until the change is over.
			known := []noise.PublicKey{keys.Current.Public(), keys.Prev.Public()}
			if !files.over && known[0] != first.Public() && known[1] != first.Public() {
				t.Errorf("after %d steps the first key is gone", steps)
			}
			must(t, change(set))
			keys, err = set.Load()
			must(t, err)
			if keys.Current.Public() == first.Public() || !keys.Next.IsZero() || !keys.Prev.IsZero() {
				t.Errorf("after %d steps the next change leaves %+v", steps, keys)
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
			must(t, err)
			hidden, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
			must(t, err)
			if len(left) != 1 || len(hidden) != 0 {
				t.Errorf("after %d steps there are %v %v", steps, left, hidden)
			}
			if steps > 100 {
				t.Fatal("the change never ends")
			}
		}
	}
}
