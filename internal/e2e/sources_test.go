//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/githook"
	"github.com/varanhq/varan/internal/testutil/gitserver"
)

// hookSecret is of one stack's or repo's own webhook.
const hookSecret = "of-this-resource-alone"

// elsewhere is the lines by which a resource takes its files from another Git server, and
// wants pushes there to be told with hookSecret.
func elsewhere(git *gitserver.Server) string {
	host := strings.TrimSuffix(strings.TrimPrefix(git.URL(), "http://"), "/repo.git")
	return fmt.Sprintf("git_provider = %q\ngit_https = false\nrepo = \"repo\"\nwebhook_secret = %q\n", host, hookSecret)
}

// pushElsewhere calls the webhook of one resource, as the Git host of its files does.
func (w *world) pushElsewhere(kind, name, action, commit string) {
	w.t.Helper()
	status, answer := w.send(githook.Push{
		Core: w.api.BaseURL, Kind: kind, Name: w.name(name), Action: action,
		Secret: fleet.NewSecret(hookSecret), Branch: "main", ID: commit,
	})
	if status != http.StatusAccepted || !answer.Accepted {
		w.t.Fatalf("the webhook answered %d %+v", status, answer)
	}
}

// waitReplaced waits until a stack of one service is well with another container than the
// one it had, and returns that.
func (w *world) waitReplaced(stack, before string) (now string) {
	w.t.Helper()
	w.eventually(stack+" to run another container", func() bool {
		s, ok := w.stack(stack)
		now = w.running(stack)["app"]
		return ok && s.Sync == fleet.Synced && s.Health == fleet.Healthy && now != "" && now != before
	})
	return now
}

func followsAnotherRepository(w *world) {
	far := gitserver.New(w.t)
	far.Commit(with(file("compose.yaml", tokenApp()), file(".env", "TOKEN=one\n")), "far")
	w.waitCommit("far", w.push("far", file("far.toml", fmt.Sprintf(
		"[[stack]]\nname = %q\nserver = %q\nauto_pull = false\n", w.name("far"), w.name("beta"))+elsewhere(far))))
	before := w.running("far")["app"]
	w.expectToken(before, "one")

	w.pushElsewhere("stack", "far", "deploy", far.Commit(file(".env", "TOKEN=two\n"), "far again"))
	w.expectToken(w.waitReplaced("far", before), "two")
}

func readsFilesOfTheHost(w *world) {
	dir := w.path("srv", "site")
	put := func(name, content string) {
		w.t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	put("compose.yaml", tokenApp())
	put(".env", "TOKEN=one\n")
	w.waitCommit("site", w.push("site", file("site.toml", fmt.Sprintf(
		"[[stack]]\nname = %q\nserver = %q\nauto_pull = false\nfiles_on_host = true\nrun_directory = %q\n",
		w.name("site"), w.name("alpha"), dir))))
	before := w.running("site")["app"]
	w.expectToken(before, "one")

	put(".env", "TOKEN=two\n")
	if _, err := w.api.RunSync(w.t.Context(), "fleet"); err != nil {
		w.t.Fatal(err)
	}
	w.expectToken(w.waitReplaced("site", before), "two")
}

func placesRepository(w *world) {
	dots, dir := gitserver.New(w.t), w.path("srv", "dots")
	dots.Commit(file("motd", "one\n"), "dots")
	w.push("dots", file("dots.toml", fmt.Sprintf(
		"[[repo]]\nname = %q\nserver = %q\npath = %q\non_pull.command = \"cat motd >> pulled\"\n",
		w.name("dots"), w.name("alpha"), dir)+elsewhere(dots)))
	expect := func(motd, pulled string) {
		w.t.Helper()
		w.eventually("the host to have "+strings.TrimSpace(motd), func() bool {
			got, err := os.ReadFile(filepath.Join(dir, "motd"))
			trace, _ := os.ReadFile(filepath.Join(dir, "pulled"))
			return err == nil && string(got) == motd && string(trace) == pulled
		})
	}
	expect("one\n", "one\n")
	w.pushElsewhere("repo", "dots", "pull", dots.Commit(file("motd", "two\n"), "dots again"))
	expect("two\n", "one\ntwo\n")
}
