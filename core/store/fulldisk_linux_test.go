package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/testutil/smalldisk"
)

// TestATransactionThatFindsTheDiskFullIsUndone has the kernel refuse a write at every point of
// a transaction that is reached as the disk fills.
func TestATransactionThatFindsTheDiskFullIsUndone(t *testing.T) {
	t.Parallel()
	disk := smalldisk.Mount(t)
	cfg := config(t, newClock())
	cfg.Path = filepath.Join(disk, "varan.db")
	s := open(t, cfg)
	ballast, err := os.Create(filepath.Join(disk, "ballast"))
	must(t, err)
	defer func() { _ = ballast.Close() }()
	kept, refusals := 0, 0
	for round := range 40 {
		// Leave a little more each time: the write fails at another point.
		var stat syscall.Statfs_t
		must(t, syscall.Statfs(disk, &stat))
		taken, err := ballast.Seek(0, 2)
		must(t, err)
		must(t, ballast.Truncate(0))
		must(t, syscall.Fallocate(int(ballast.Fd()), 0, 0, max(taken+int64(stat.Bavail)*stat.Bsize-int64(round)<<12, 1)))
		_, err = s.SetVariable(t.Context(), fmt.Sprintf("V%d", kept), api.VariableSpec{Value: api.WriteOnly(strings.Repeat("x", 64<<10))})
		switch {
		case err == nil:
			kept++
		case strings.Contains(err.Error(), "full") || strings.Contains(err.Error(), "I/O"):
			refusals++
		default:
			t.Fatalf("round %d: %v", round, err)
		}
		variables, err := s.Variables(t.Context())
		must(t, err)
		if len(variables) != kept {
			t.Fatalf("round %d: %d variables can be read, %d were kept", round, len(variables), kept)
		}
	}
	if refusals < 10 || kept == 0 {
		t.Errorf("%d writes were refused and %d not: the disk was never full, or always", refusals, kept)
	}
	must(t, ballast.Truncate(0))
	_, err = s.SetVariable(t.Context(), "LAST", api.VariableSpec{Value: "x"})
	must(t, err)
	must(t, s.Close())
	again := open(t, cfg)
	variables, err := again.Variables(t.Context())
	must(t, err)
	if len(variables) != kept+1 {
		t.Errorf("%d variables after a restart, want %d", len(variables), kept+1)
	}
	db, err := sql.Open("sqlite", cfg.Path)
	must(t, err)
	defer func() { _ = db.Close() }()
	var sound string
	must(t, db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound))
	if sound != "ok" {
		t.Errorf("the database: %s", sound)
	}
}
