package git_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func pin(t *testing.T, srv *gitserver.Server, dir, commit string) *git.Mirror {
	t.Helper()
	m, err := git.Open(git.Config{Dir: dir}, git.Source{URL: srv.URL(), Branch: "main", Commit: commit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestAPinnedCommitIsFetchedOnceAndForEver(t *testing.T) {
	srv := gitserver.New(t)
	old := srv.Commit(map[string]string{"a": "old"}, "one")
	srv.Commit(map[string]string{"a": "new"}, "two")
	dir := t.TempDir()
	m := pin(t, srv, dir, old)
	if tree := fetch(t, m); read(t, tree, "a") != "old" || tree.Commit().ID != old {
		t.Errorf("a is %q at %s", read(t, tree, "a"), tree.Commit().ID)
	}
	srv.Requests()
	if _, changed, err := m.Fetch(t.Context()); changed || err != nil {
		t.Errorf("changed %t, %v", changed, err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	srv.DeleteBranch("main")
	if tree := fetch(t, pin(t, srv, dir, old)); read(t, tree, "a") != "old" {
		t.Error("the commit did not survive a restart")
	}
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("what is here already cost %d requests", n)
	}
}

func TestAServerThatGivesNoSingleCommitGivesItsBranch(t *testing.T) {
	srv := gitserver.New(t)
	old := srv.Commit(map[string]string{"a": "old"}, "one")
	srv.Commit(map[string]string{"a": "new"}, "two")
	refused := 0
	srv.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if refused > 0 || r.Method != http.MethodPost {
			return false
		}
		refused++
		_, _ = io.WriteString(w, "003dERR upload-pack: not our ref "+old[:28])
		return true
	})
	if tree := fetch(t, pin(t, srv, t.TempDir(), old)); read(t, tree, "a") != "old" || refused != 1 {
		t.Errorf("a is %q after %d refusals", read(t, tree, "a"), refused)
	}
}

func TestACommitThatIsNowhereIsSaidSo(t *testing.T) {
	srv := gitserver.New(t)
	srv.Commit(map[string]string{"a": "x"}, "one")
	_, _, err := pin(t, srv, t.TempDir(), strings.Repeat("ab", 20)).Fetch(t.Context())
	if !errors.Is(err, git.ErrRef) {
		t.Errorf("got %v", err)
	}
	if _, err := git.Open(git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Commit: "abc1234"}); !errors.Is(err, git.ErrRef) {
		t.Errorf("a short id gives %v", err)
	}
}

func TestALocalRepositoryCanBePinned(t *testing.T) {
	srv := gitserver.New(t)
	old := srv.Commit(map[string]string{"a": "old"}, "one")
	srv.Commit(map[string]string{"a": "new"}, "two")
	m, err := git.Open(git.Config{LocalRoots: []string{srv.Dir()}}, git.Source{URL: srv.Dir(), Commit: old})
	if err != nil {
		t.Fatal(err)
	}
	if tree := fetch(t, m); read(t, tree, "a") != "old" {
		t.Errorf("a is %q", read(t, tree, "a"))
	}
}
