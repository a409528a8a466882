package core

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/backup"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/sync/sops"
)

var errKilled = errors.New("killed")

// aBackup is a backup of a core with one secret, and the file of the identity that opens it.
func aBackup(t *testing.T, change func(*backup.Manifest)) (data, identity []byte) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := dataDir(filepath.Join(t.TempDir(), "data"))
	_, err := Init(t.Context(), string(d))
	must(err)
	keys, err := d.loadKeys()
	must(err)
	s, err := store.Open(t.Context(), store.Config{Path: d.path("varan.db"), SealKey: keys.seal})
	must(err)
	_, err = s.SetVariable(t.Context(), "TOKEN", api.VariableSpec{Value: "canary", Secret: true})
	must(err)
	snapshot, err := s.Snapshot(t.Context(), d.path("copy.db"))
	must(err)
	must(s.Close())
	files, err := d.keyFiles()
	must(err)
	identity, recipient, err := sops.GenerateAge(time.Unix(0, 0))
	must(err)
	m := backup.Manifest{Program: "v1", Schema: snapshot.Schema, Created: time.Unix(1_700_000_000, 0).UTC(), Rows: snapshot.Rows}
	change(&m)
	var out bytes.Buffer
	must(backup.Write(t.Context(), &out, []string{recipient}, m,
		append([]backup.Source{{Name: backup.Database, Path: d.path("copy.db")}}, files...), nil))
	return out.Bytes(), identity
}

func restoring(dir string, data, identity []byte) RestoreConfig {
	return RestoreConfig{From: bytes.NewReader(data), Identity: identity, Dir: dir, Confirm: func(api.BackupContents) error { return nil }}
}

// opens reports whether a core would start in a directory: it has its keys and its secrets.
func opens(t *testing.T, d dataDir) bool {
	t.Helper()
	if d.whole() != nil {
		return false
	}
	keys, err := d.loadKeys()
	if err != nil {
		return false
	}
	s, err := store.Open(t.Context(), store.Config{Path: d.path("varan.db"), SealKey: keys.seal})
	if err != nil {
		t.Fatal(err)
	}
	variables, err := s.RevealVariables(t.Context())
	if err != nil || len(variables) != 1 || variables[0].Value.Reveal() != "canary" {
		t.Errorf("a core starts without what was backed up: %v, %v", variables, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestARestoreThatDiesLeavesNothingThatACoreStartsWith(t *testing.T) {
	t.Parallel()
	data, identity := aBackup(t, func(*backup.Manifest) {})
	ids, err := identitiesOf(identity)
	if err != nil {
		t.Fatal(err)
	}
	for last := 1; ; last++ {
		d := dataDir(filepath.Join(t.TempDir(), "restored"))
		if err := os.MkdirAll(string(d), 0o700); err != nil {
			t.Fatal(err)
		}
		done, at := 0, ""
		r := &restore{dir: d, ids: ids, confirm: func(api.BackupContents) error { return nil }, step: func(name string) error {
			done++
			if done == last {
				at = name
				return errKilled
			}
			return nil
		}}
		err := r.run(t.Context(), bytes.NewReader(data))
		if err == nil {
			if done != 8 || !opens(t, d) {
				t.Errorf("after %d steps nothing starts", done)
			}
			return
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		whole := at == "keys" || at == "end"
		if started := opens(t, d); started != whole {
			t.Errorf("killed after %q: a core starts: %t", at, started)
		}
		_, err = Init(t.Context(), string(d))
		if err == nil {
			t.Errorf("killed after %q: another core is made in the directory", at)
		}
		_, err = Restore(t.Context(), restoring(string(d), data, identity))
		if (err != nil) != whole {
			t.Errorf("killed after %q: restoring again: %v", at, err)
		}
		if !opens(t, d) {
			t.Errorf("killed after %q: nothing starts after all", at)
		}
	}
}

// A process may also die while the place of a restore is made, or removed.
func TestARestoreThatDiesWithHalfAPlaceIsBegunAnew(t *testing.T) {
	t.Parallel()
	data, identity := aBackup(t, func(*backup.Manifest) {})
	for name, files := range map[string][]string{"nothing in it": nil, "no keys any more": {"varan.db"}} {
		d := dataDir(filepath.Join(t.TempDir(), "restored"))
		if err := os.MkdirAll(d.path(restoringDir), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(d.path(restoringDir, f), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Init(t.Context(), string(d)); err == nil {
			t.Errorf("%s: another core is made in the directory", name)
		}
		if _, err := Restore(t.Context(), restoring(string(d), data, identity)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !opens(t, d) {
			t.Errorf("%s: nothing starts", name)
		}
	}
}

func TestARestoreThatIsRefusedLeavesAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	good, identity := aBackup(t, func(*backup.Manifest) {})
	newer, newerIdentity := aBackup(t, func(m *backup.Manifest) { m.Schema++ })
	rows, rowsIdentity := aBackup(t, func(m *backup.Manifest) { m.Rows = map[string]int64{"variables": 2} })
	damaged := bytes.Clone(good)
	damaged[len(damaged)/2] ^= 1
	for name, cfg := range map[string]RestoreConfig{
		"newer schema": restoring("", newer, newerIdentity), "other rows": restoring("", rows, rowsIdentity),
		"a byte": restoring("", damaged, identity), "cut off": restoring("", good[:len(good)-1], identity),
		"another identity": restoring("", good, newerIdentity),
		"not confirmed": {
			From: bytes.NewReader(good), Identity: identity, Confirm: func(api.BackupContents) error { return errKilled },
		},
	} {
		cfg.Dir = filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), cfg); err == nil {
			t.Errorf("%s: restored", name)
		}
		left, err := os.ReadDir(cfg.Dir)
		if err != nil || len(left) != 1 || left[0].Name() != "lock" {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

func TestARestoreIsNotOverAnything(t *testing.T) {
	t.Parallel()
	data, identity := aBackup(t, func(*backup.Manifest) {})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "varan.db"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), restoring(dir, data, identity)); err == nil {
		t.Error("restored over a database")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "varan.db")); string(text) != "mine" {
		t.Errorf("what was there is %q, %v", text, err)
	}
}
