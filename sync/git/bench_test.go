package git_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

// The benchmarks do the same work with this package and with the git program, over the
// same server in a process of its own, and report the ratio of processor time as
// x-git-cpu. Children are counted by what the kernel says of them.

const (
	benchStacks = 1000
	serveEnv    = "VARAN_TEST_GIT_ROOT"
)

// TestMain is also the server of the benchmarks.
func TestMain(m *testing.M) {
	root := os.Getenv(serveEnv)
	if root == "" {
		os.Exit(m.Run())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	backend, err := gitserver.Backend(context.Background(), root)
	if err != nil {
		panic(err)
	}
	panic(http.Serve(listener, backend))
}

// fleetRepo is a repository with a thousand stacks, served by another process.
func fleetRepo(b *testing.B) (srv *gitserver.Server, url string) {
	b.Helper()
	srv = gitserver.New(b)
	files := map[string]string{}
	for i := range benchStacks {
		dir := fmt.Sprintf("stacks/s%04d/", i)
		files[dir+"compose.yaml"] = composeFile(i)
		files[dir+".env.example"] = fmt.Sprintf("TAG=1.%d\nDOMAIN=s%d.example.org\n", i%40, i)
		files[dir+"config/app.toml"] = fmt.Sprintf("name = \"s%d\"\nworkers = %d\n%s", i, i%16, strings.Repeat("# note\n", 20))
		files[dir+"config/log.toml"] = fmt.Sprintf("level = \"info\"\nstack = %d\n", i)
	}
	for i := range 20 {
		files[fmt.Sprintf("resources/%02d.toml", i)] = strings.Repeat(fmt.Sprintf("[[stack]]\nname = \"s%d\"\n", i), 50)
	}
	srv.Commit(files, "a fleet")
	for i := range 50 {
		srv.Commit(map[string]string{fmt.Sprintf("stacks/s%04d/compose.yaml", i): composeFile(i + 7)}, "older")
	}
	srv.Git("", "gc", "--quiet")

	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+filepath.Dir(srv.Dir()))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := make([]byte, 64)
	n, err := out.Read(address)
	if err != nil {
		b.Fatal(err)
	}
	return srv, "http://" + strings.TrimSpace(string(address[:n])) + "/" + filepath.Base(srv.Dir())
}

func composeFile(i int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "name: s%04d\nservices:\n", i)
	for _, service := range []string{"web", "worker", "db"} {
		fmt.Fprintf(&s, "  %s:\n    image: registry.example.org/%s:%d.%d\n    restart: unless-stopped\n", service, service, i%9, i%31)
		fmt.Fprintf(&s, "    environment:\n      STACK: s%04d\n      PORT: \"%d\"\n      TZ: Europe/Berlin\n", i, 8000+i)
		fmt.Fprintf(&s, "    volumes:\n      - ./config:/etc/%s:ro\n      - data-%s:/var/lib/%s\n", service, service, service)
		s.WriteString("    healthcheck:\n      test: [\"CMD\", \"true\"]\n      interval: 30s\n")
	}
	s.WriteString("volumes:\n  data-web: {}\n  data-worker: {}\n  data-db: {}\n")
	return s.String()
}

// ownCPU is the processor time of this process, without its children.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// gitCPU runs the git program and returns the processor time it and its children took.
func gitCPU(b *testing.B, stdin string, args ...string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "git", args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
	}
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		b.Fatalf("git %v: %v\n%s", args, err, said.String())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// ratio collects the processor time of both sides.
type ratio struct{ ours, theirs time.Duration }

func (r *ratio) measure(b *testing.B, f func()) {
	b.Helper()
	before := ownCPU(b)
	f()
	r.ours += ownCPU(b) - before
}

func (r *ratio) report(b *testing.B) {
	b.Helper()
	n := float64(b.N)
	b.ReportMetric(float64(r.ours)/float64(r.theirs), "x-git-cpu")
	b.ReportMetric(float64(r.ours.Microseconds())/n/1000, "cpu-ms/op")
	b.ReportMetric(float64(r.theirs.Microseconds())/n/1000, "git-cpu-ms/op")
}

func BenchmarkPoll(b *testing.B) {
	_, url := fleetRepo(b)
	m := openWith(b, git.Config{Dir: b.TempDir()}, git.Source{URL: url})
	fetch(b, m)
	var r ratio
	for b.Loop() {
		r.measure(b, func() { fetch(b, m) })
		r.theirs += gitCPU(b, "", "ls-remote", "--quiet", url, "refs/heads/main")
	}
	r.report(b)
}

func BenchmarkClone(b *testing.B) {
	_, url := fleetRepo(b)
	dir := b.TempDir()
	var r ratio
	for i := 0; b.Loop(); i++ {
		r.measure(b, func() {
			m := openWith(b, git.Config{Dir: filepath.Join(dir, fmt.Sprintf("ours%d", i))}, git.Source{URL: url})
			fetch(b, m)
		})
		r.theirs += gitCPU(b, "", "clone", "--quiet", "--bare", "--depth=1", url, filepath.Join(dir, fmt.Sprintf("git%d", i)))
	}
	r.report(b)
}

func BenchmarkFetch(b *testing.B) {
	srv, url := fleetRepo(b)
	dir := b.TempDir()
	m := openWith(b, git.Config{Dir: dir}, git.Source{URL: url})
	fetch(b, m)
	bare := filepath.Join(dir, "git")
	gitCPU(b, "", "clone", "--quiet", "--bare", "--depth=1", url, bare)
	var r ratio
	for i := 0; b.Loop(); i++ {
		srv.Commit(map[string]string{fmt.Sprintf("stacks/s%04d/compose.yaml", i%benchStacks): composeFile(i + 5000)}, "change")
		r.measure(b, func() { fetch(b, m) })
		r.theirs += gitCPU(b, "", "-C", bare, "fetch", "--quiet", "--no-tags", url, "+refs/heads/main:refs/heads/main")
	}
	r.report(b)
}

// BenchmarkReadThousandFiles reads from a running mirror, whose last fetch has walked the
// trees.
func BenchmarkReadThousandFiles(b *testing.B) {
	m, _, r := readers(b)
	tree, _ := m.Current()
	for b.Loop() {
		r.measure(b, func() { readThousand(b, tree) })
		r.git(b)
	}
	r.report(b)
}

// BenchmarkReadThousandFilesAfterStart opens the mirror anew, which checks all trees and
// the size of every file first.
func BenchmarkReadThousandFilesAfterStart(b *testing.B) {
	m, reopen, r := readers(b)
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r.measure(b, func() {
			again := reopen()
			tree, _ := again.Current()
			readThousand(b, tree)
			if err := again.Close(); err != nil {
				b.Fatal(err)
			}
		})
		r.git(b)
	}
	r.report(b)
}

// readRatio compares with ls-tree and cat-file --batch.
type readRatio struct {
	ratio
	bare, ids string
}

func (r *readRatio) git(b *testing.B) {
	b.Helper()
	r.theirs += gitCPU(b, "", "-C", r.bare, "ls-tree", "-r", "-l", "HEAD")
	r.theirs += gitCPU(b, r.ids, "-C", r.bare, "cat-file", "--batch")
}

func readers(b *testing.B) (*git.Mirror, func() *git.Mirror, *readRatio) {
	b.Helper()
	_, url := fleetRepo(b)
	dir := b.TempDir()
	r := &readRatio{bare: filepath.Join(dir, "git")}
	gitCPU(b, "", "clone", "--quiet", "--bare", "--depth=1", url, r.bare)
	reopen := func() *git.Mirror {
		m, err := git.Open(git.Config{Dir: dir}, git.Source{URL: url})
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	m := reopen()
	tree := fetch(b, m)
	for i := range benchStacks {
		id, err := tree.ObjectID(fmt.Sprintf("stacks/s%04d/compose.yaml", i))
		if err != nil {
			b.Fatal(err)
		}
		r.ids += id + "\n"
	}
	return m, reopen, r
}

func readThousand(b *testing.B, tree *git.Tree) {
	b.Helper()
	for i := range benchStacks {
		read(b, tree, fmt.Sprintf("stacks/s%04d/compose.yaml", i))
	}
}

func BenchmarkReadOneChangedStack(b *testing.B) {
	srv, url := fleetRepo(b)
	m := openWith(b, git.Config{Dir: b.TempDir()}, git.Source{URL: url})
	old := fetch(b, m)
	srv.Commit(map[string]string{"stacks/s0500/compose.yaml": composeFile(9999)}, "change")
	tree := fetch(b, m)
	for b.Loop() {
		stacks, err := tree.ReadDir("stacks")
		if err != nil {
			b.Fatal(err)
		}
		for _, stack := range stacks {
			dir := "stacks/" + stack.Name()
			was, _ := old.ObjectID(dir)
			if is, _ := tree.ObjectID(dir); is != was {
				read(b, tree, dir+"/compose.yaml")
			}
		}
	}
}
