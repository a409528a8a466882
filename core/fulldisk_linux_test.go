package core_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/internal/testutil/smalldisk"
)

// fill writes until the disk has no byte left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
	must(t, f.Close())
}

// TestADiskWithoutAByteLeft is the whole of a full disk: the kernel refuses the writes.
func TestADiskWithoutAByteLeft(t *testing.T) {
	t.Parallel()
	disk := smalldisk.Mount(t)
	r := newRigIn(t, filepath.Join(disk, "data"), func(cfg *core.Config) { cfg.Settings.Alerts.Every = time.Second })
	repo := gitserver.New(t)
	commit := repo.Commit(repository("registry.example/app:1"), "First")
	r.join("alpha")
	_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "x"})
	must(t, err)
	key, err := r.CreateKey(t.Context(), api.KeySpec{Name: "spare"})
	must(t, err)
	_, err = r.AddSync(t.Context(), api.SyncSpec{Name: "main", URL: repo.URL(), AutoApply: true, IntervalSeconds: 3600})
	must(t, err)
	r.settled("web", fleet.Synced, commit)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	_, err = r.SetVariable(t.Context(), "MORE", api.VariableSpec{Value: "x"})
	refused(t, "a variable", err)
	_, err = r.Status(t.Context())
	must(t, err)
	_, err = r.Suspend(t.Context(), api.SuspendRequest{Resource: "stack/web"})
	must(t, err)
	must(t, r.DeleteKey(t.Context(), key.Key.ID))
	must(t, r.DeleteVariable(t.Context(), "WEB_TOKEN"))

	must(t, os.Remove(ballast))
	r.eventually("new work begins again", func() bool {
		_, err := r.SetVariable(t.Context(), "WEB_TOKEN", api.VariableSpec{Value: "y"})
		return err == nil
	})
	_, err = r.Resume(t.Context(), "stack/web")
	must(t, err)
	second := repo.Commit(repository("registry.example/app:2"), "Second")
	_, err = r.RunSync(t.Context(), "main")
	must(t, err)
	r.settled("web", fleet.Synced, second)
	r.stop()
	db, err := sql.Open("sqlite", filepath.Join(r.dir, "varan.db"))
	must(t, err)
	defer func() { _ = db.Close() }()
	var sound string
	must(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound))
	if sound != "ok" {
		t.Errorf("the database: %s", sound)
	}
}
