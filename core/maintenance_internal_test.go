package core

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func TestClearingTheRepositoriesClonesWhatIsUsedAndRemovesTheRest(t *testing.T) {
	t.Parallel()
	server := gitserver.New(t)
	server.Commit(map[string]string{"a": "1"}, "first")
	dir := t.TempDir()
	m := newMirrors(git.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(m.closeAll)
	one, err := m.get("fleet", where{url: server.URL(), branch: "main"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := one.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "left-behind")
	if err := os.MkdirAll(filepath.Join(left, "store-000001"), 0o700); err != nil {
		t.Fatal(err)
	}
	renewed, removed, err := m.renew(t.Context())
	if renewed != 1 || removed != 1 || err != nil {
		t.Errorf("renewed %d, removed %d, %v; want one each", renewed, removed, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what nothing follows is still there: %v", err)
	}
	if _, changed, err := one.Fetch(t.Context()); err != nil || !changed {
		t.Errorf("the one in use was not cloned anew: %t, %v", changed, err)
	}
}
