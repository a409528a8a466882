package backup_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/backup"
)

func TestBackupsOfOneSecondAreTwo(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 1, 1, 1, 0, 59, 0, time.UTC)
	for _, sha := range []string{"first", "second"} {
		f, err := backup.Temp(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(sha); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Keep(f.Name(), at, false, sha); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := backup.List(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("there are %+v, %v", entries, err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name))
		if string(content) != e.SHA256 || err != nil {
			t.Errorf("%s is %q with the sum %q, %v", e.Name, content, e.SHA256, err)
		}
	}
}

func TestCleanRemovesHalvesOfBackups(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[backups]")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	keep := []string{
		".varan-notes", "notes.sha256", "varan-20260101-000000.tar.gz.age", "varan-20260101-000000.tar.gz.age.sha256",
		"varan-20260102-000000-keys.tar.gz.age",
	}
	left := []string{
		".varan-12.partial", "varan-20260103-000000.tar.gz.age.sha256", "varan-20260104-000000-keys.tar.gz.age.sha256",
		".varan-20260105-000000.tar.gz.age.sha256.77.tmp",
	}
	for _, name := range append(left, keep...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := backup.Clean(dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(keep, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if err := backup.Clean(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
