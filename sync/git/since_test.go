package git_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

func TestSinceListsWhatLedToTheHead(t *testing.T) {
	srv := gitserver.New(t)
	var ids []string
	for _, text := range []string{"1", "2", "3", "4"} {
		ids = append(ids, srv.Commit(map[string]string{"a": text}, text))
	}
	cfg, src := git.Config{Dir: t.TempDir()}, git.Source{URL: srv.URL(), Branch: "main", History: true}
	m := openWith(t, cfg, src)
	tree := fetch(t, m)
	for known, want := range map[string][]string{
		ids[1]: {ids[3], ids[2]},
		ids[3]: nil,
		"":     {ids[3], ids[2], ids[1], ids[0]},
		"1111111111111111111111111111111111111111": {ids[3], ids[2], ids[1], ids[0]},
	} {
		if diff := cmp.Diff(want, commitsSince(t, m, tree, known)); diff != "" {
			t.Errorf("since %q (-want +got):\n%s", known, diff)
		}
	}
	// A branch that was put back and went on elsewhere.
	srv.ForcePush(ids[1])
	other := srv.Commit(map[string]string{"a": "other"}, "other")
	if diff := cmp.Diff([]string{other}, commitsSince(t, m, fetch(t, m), ids[3])); diff != "" {
		t.Errorf("after a push by force (-want +got):\n%s", diff)
	}
}

func commitsSince(t *testing.T, m *git.Mirror, tree *git.Tree, known string) []string {
	t.Helper()
	commits, err := m.Since(t.Context(), tree, known)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, c := range commits {
		ids = append(ids, c.ID)
	}
	return ids
}

// A mirror that was made without history says so, and gets it at the next fetch.
func TestHistoryThatIsNotHereIsFetched(t *testing.T) {
	srv := gitserver.New(t)
	first := srv.Commit(map[string]string{"a": "1"}, "1")
	second := srv.Commit(map[string]string{"a": "2"}, "2")
	dir := t.TempDir()
	shallow, err := git.Open(git.Config{Dir: dir}, git.Source{URL: srv.URL(), Branch: "main"})
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, shallow)
	if err := shallow.Close(); err != nil {
		t.Fatal(err)
	}
	m := openWith(t, git.Config{Dir: dir}, git.Source{URL: srv.URL(), Branch: "main", History: true})
	tree, ok := m.Current()
	if !ok {
		t.Fatal("the mirror on disk was not read")
	}
	if _, err := m.Since(t.Context(), tree, ""); !errors.Is(err, git.ErrHistory) {
		t.Fatalf("Since gave %v, want ErrHistory", err)
	}
	if diff := cmp.Diff([]string{second, first}, commitsSince(t, m, fetch(t, m), "")); diff != "" {
		t.Errorf("after the next fetch (-want +got):\n%s", diff)
	}
}
