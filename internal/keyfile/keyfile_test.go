//go:build unix

package keyfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire/noise"
)

func TestLoadOrCreateMakesOnePrivateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "core.key")
	var wg sync.WaitGroup
	keys := make([]noise.PublicKey, 8)
	made := make([]bool, len(keys))
	for i := range keys {
		wg.Go(func() {
			key, created, err := keyfile.LoadOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i], made[i] = key.Public(), created
		})
	}
	wg.Wait()
	creators := 0
	for i := range keys {
		if keys[i] != keys[0] || keys[i].IsZero() {
			t.Errorf("caller %d has the key %v, caller 0 %v", i, keys[i], keys[0])
		}
		if made[i] {
			creators++
		}
	}
	if creators != 1 {
		t.Errorf("%d callers say they made the key, want 1", creators)
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", p, got, want)
		}
	}
}

func TestLoadRefusesWhatOthersCanReadOrChange(t *testing.T) {
	setups := map[string]func(t *testing.T, path string){
		"group readable": func(t *testing.T, path string) { t.Helper(); chmod(t, path, 0o640) },
		"world readable": func(t *testing.T, path string) { t.Helper(); chmod(t, path, 0o604) },
		"directory others may write to": func(t *testing.T, path string) {
			t.Helper()
			chmod(t, filepath.Dir(path), 0o777)
		},
		"symbolic link": func(t *testing.T, path string) {
			t.Helper()
			must(t, os.Rename(path, path+".real"))
			must(t, os.Symlink(path+".real", path))
		},
		"named pipe": func(t *testing.T, path string) {
			t.Helper()
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o600))
		},
		"not a key":      func(t *testing.T, path string) { t.Helper(); must(t, os.WriteFile(path, []byte("x"), 0o600)) },
		"cut off":        func(t *testing.T, path string) { t.Helper(); must(t, os.Truncate(path, 60)) },
		"absurdly large": func(t *testing.T, path string) { t.Helper(); must(t, os.Truncate(path, 1<<20)) },
	}
	for name, spoil := range setups {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys", "agent.key")
			_, _, err := keyfile.LoadOrCreate(path)
			must(t, err)
			spoil(t, path)
			if _, err := keyfile.Load(path); err == nil {
				t.Error("Load accepted it")
			}
			if _, created, err := keyfile.LoadOrCreate(path); err == nil || created {
				t.Errorf("LoadOrCreate = created %v, error %v; want an error", created, err)
			}
		})
	}
}

func TestLoadSaysWhenThereIsNoFile(t *testing.T) {
	if _, err := keyfile.Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load = %v, want fs.ErrNotExist", err)
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	must(t, os.Chmod(path, mode))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
