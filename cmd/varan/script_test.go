package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/varanhq/varan/sync/git"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"varan": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		// The same program under the name that hosts know it by.
		agentName: func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"proxy":   proxyMain,
	})
}

// TestScripts runs the program as a user does. Each script is one command's contract:
// what it prints where, and its exit code.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "home", "config"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command sleeps a second at its end
			addr := freeAddress(t)
			env.Setenv("FREE_ADDR", addr)
			env.Setenv("FREE_PORT", addr[strings.LastIndex(addr, ":")+1:])
			env.Setenv("DOCKER_HOST", "unix://"+filepath.Join(env.WorkDir, "no-docker.sock"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"await":  await,
			"commit": commit,
			"export": export,
			"signal": hangup,
			"until":  until,

			"certify":  certify,
			"profiles": profilesFile,
		},
		Condition: func(name string) (bool, error) {
			if name == "ipv6" {
				return hasIPv6(t), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	})
}

// freeAddress is one that nobody listened at a moment ago, for an agent that core dials.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// exits runs a command and checks its exit code: exits 4 varan validate .
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG ...]")
	}
	want := args[0]
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		text := err.Error()
		got = strings.TrimPrefix(text, "exit status ")
	}
	if got != want {
		ts.Fatalf("%s exits with %s, not %s", strings.Join(args[1:], " "), got, want)
	}
}

// await waits for a file that a command in the background writes.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("%s did not appear", args[0])
		case <-ticker.C:
		}
	}
}

// commit makes a repository of a directory's files: commit REPOSITORY DIRECTORY MESSAGE.
func commit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: commit REPOSITORY DIRECTORY MESSAGE")
	}
	repo, dir := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	files := map[string]string{}
	ts.Check(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(raw)
		if err != nil {
			return err
		}
		return relErr
	}))
	write := git.CommitFiles
	if _, err := os.Stat(repo); err != nil {
		write = git.Init
	}
	id, err := write(repo, files, args[2], time.Unix(1_700_000_000, 0))
	ts.Check(err)
	if !strings.Contains(args[2], " ") {
		ts.Setenv(strings.ToUpper(args[2]), id.ID) // $FIRST is the commit "first"
	}
}

// export sets a variable to a file's content: export NAME FILE [PREFIX].
func export(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: export NAME FILE [PREFIX]")
	}
	ts.Setenv(args[0], strings.Join(args[2:], "")+strings.TrimSpace(ts.ReadFile(args[1])))
}

// hangup sends SIGHUP to the commands in the background: signal HUP.
func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || args[0] != "HUP" {
		ts.Fatalf("usage: signal HUP")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

// until repeats a command until its output has a text: until TEXT COMMAND [ARG ...].
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND [ARG ...]")
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...)
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
	}
	ts.Fatalf("%s never printed %q", strings.Join(args[1:], " "), args[0])
}

// profilesFile writes two profiles: one of the core at $ADDR with the key beside the file,
// and one of no core: profiles FILE.
func profilesFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: profiles FILE")
	}
	file := ts.MkAbs(args[0])
	text := "[profiles.one]\nurl = \"" + ts.Getenv("ADDR") + "\"\nkey_file = \"" + filepath.Join(filepath.Dir(file), "one.key") +
		"\"\n[profiles.two]\nurl = \"http://127.0.0.1:1\"\n"
	ts.Check(os.WriteFile(file, []byte(text), 0o600))
}
