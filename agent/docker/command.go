package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// maxCommandLine bounds one line that a command says.
const maxCommandLine = 8 << 10

// runs is how far a command of an order is, for whoever resumes the order.
type runs string

// A command that was cut off is run again: nobody knows how much of it was done.
const (
	runsStarted runs = "started"
	runsDone    runs = "done"
)

// command runs one of a release's commands on the host, unless it was run before. The
// order's log says when it is run a second time.
func (t *task) command(ctx context.Context, name string, c fleet.Command, at *runs, s site) *failure {
	if c.Script == "" || *at == runsDone {
		return nil
	}
	if *at == runsStarted {
		t.note(name + " was cut off when the agent stopped, and is run again")
	}
	*at = runsStarted
	if err := t.e.journal.save(t.rec); err != nil {
		return &failure{Reason: err.Error(), Retryable: true}
	}
	t.tell(fleet.PhaseUp, "", "running "+name)
	if err := t.execute(ctx, name, c, s); err != nil {
		return &failure{
			Reason: fmt.Sprintf("%s failed: %v", name, err),
			Hint:   "to see what it says: varan run --execution DeployStack stack=" + t.order.Stack + ", then varan procedure show of that run",
		}
	}
	*at = runsDone
	if err := t.e.journal.save(t.rec); err != nil {
		return &failure{Reason: err.Error(), Retryable: true}
	}
	return nil
}

// execute runs a script as the agent's user, in a session of its own that is ended as a
// whole, with nothing of the agent's environment but how to find programs.
//
// The script is what the policy of the host lets core run; nothing is put together from
// anything else, and no part of it is in an argument, where every user could read it.
func (t *task) execute(ctx context.Context, name string, c fleet.Command, s site) error {
	script, err := t.script(c)
	if err != nil {
		return err
	}
	dir, err := commandDir(s, c.Path)
	if err != nil {
		return err
	}
	file, err := scriptFile(script)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	out := &lineWriter{each: func(line string) error {
		line = t.e.secrets.clean(line[:min(len(line), maxCommandLine)])
		t.note(name + " | " + line)
		t.tell(fleet.PhaseUp, "", line)
		return nil
	}}
	cmd := exec.CommandContext(ctx, shell(c.Shell), "/dev/fd/3") //nolint:gosec // one of two fixed shells; the script is what the host's policy lets core run
	cmd.ExtraFiles = []*os.File{file}
	cmd.Dir = dir
	cmd.Env = t.commandEnv()
	ownSession(cmd)
	cmd.WaitDelay = deadlineGrace
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	// Whoever resumes the order waits for it, as for a worker.
	t.rec.Worker = &process{PID: cmd.Process.Pid, Start: startOf(cmd.Process.Pid)}
	saved := t.e.journal.save(t.rec)
	_, copied := io.Copy(out, bufio.NewReader(stdout))
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return errors.New("it did not end before the order's timeout")
	case err != nil:
		return err
	}
	return errors.Join(saved, copied, out.flush())
}

// shell is what runs a script: the system's own, or for a whole script the one that
// people write scripts for, where it is there.
func shell(whole bool) string {
	const system, common = "/bin/sh", "/bin/bash"
	if whole {
		if _, err := os.Stat(common); err == nil {
			return common
		}
	}
	return system
}

// script is what is run: the salt dropped, local secrets in their places, and line by line
// up to the first that fails unless it is a whole script.
func (t *task) script(c fleet.Command) ([]byte, error) {
	raw, err := t.e.blobs.get(c.Script)
	if err != nil {
		return nil, err
	}
	if raw, err = unsalt(raw); err != nil {
		return nil, err
	}
	filled, unknown := t.e.secrets.fill(raw)
	if unknown != "" {
		return nil, fmt.Errorf("the secret %s is not on this host", unknown)
	}
	if c.Shell {
		return filled, nil
	}
	return []byte(chain(string(filled))), nil
}

// chain makes a script of which each line runs only after the one before succeeded.
// Empty lines and comments are left out, and a backslash continues a line.
func chain(text string) string {
	var b strings.Builder
	line := ""
	for part := range strings.Lines(text + "\n") {
		part = strings.TrimSpace(part)
		if line == "" && (part == "" || strings.HasPrefix(part, "#")) {
			continue
		}
		if more, found := strings.CutSuffix(part, "\\"); found {
			line += more
			continue
		}
		line += part
		if b.Len() > 0 {
			b.WriteString(" && ")
		}
		// On lines of their own, a comment at the end of a command ends with it.
		b.WriteString("{\n" + line + "\n}")
		line = ""
	}
	b.WriteString("\n")
	return b.String()
}

// commandDir is where a command runs: the run directory, or one below it.
func commandDir(s site, path string) (string, error) {
	if path == "" {
		path = "."
	}
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return "", fmt.Errorf("the path %q does not stay inside the run directory", path)
	}
	root, err := openDir(s.base, s.rel, true)
	if err != nil {
		return "", fmt.Errorf("open run directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(filepath.FromSlash(path))
	switch {
	case err != nil:
		return "", fmt.Errorf("the path %q: %w", path, err)
	case !info.IsDir():
		return "", fmt.Errorf("the path %q is not a directory", path)
	}
	return filepath.Join(s.dir, filepath.FromSlash(path)), nil
}

// commandEnv is all that a command is told.
func (t *task) commandEnv() []string {
	env := []string{
		"VARAN_SERVER=" + t.e.cfg.Server,
		"VARAN_STACK=" + t.order.Stack,
		"VARAN_PROJECT=" + t.order.Project,
		"VARAN_COMMIT=" + t.order.Release.Commit.ID,
		"DOCKER_HOST=" + t.e.conn.host,
	}
	for _, name := range []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// commandsDue reports whether a deploy is more than a restart: a changed file that asks
// for a restart is no reason to run commands.
func commandsDue(good, release *fleet.Release) bool {
	if good == nil || good.Digest == release.Digest || len(good.Services) != len(release.Services) {
		return true
	}
	restarts := false
	for i := range release.Services {
		a, b := &good.Services[i], &release.Services[i]
		if a.Name != b.Name || a.Digest != b.Digest || a.Replicas != b.Replicas {
			return true
		}
		restarts = restarts || a.Restart != b.Restart
	}
	return !restarts || good.Options.PreDeploy != release.Options.PreDeploy || good.Options.PostDeploy != release.Options.PostDeploy
}

// after runs what is to be done once a release runs. That it fails changes nothing of
// what runs: the release is good, the order is not.
func (t *task) after(ctx context.Context, deadline time.Time, s site, first bool) *failure {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var f *failure
	if first {
		f = t.command(ctx, "on_clone", t.order.Release.Options.FirstDeploy, &t.rec.First, s)
	}
	if f == nil {
		f = t.command(ctx, "post_deploy", t.order.Release.Options.PostDeploy, &t.rec.Post, s)
	}
	if f != nil {
		f.Log = t.said.String()
		f.Hint = "what was deployed runs and stays; mend the command, and deploy the stack by hand to run it again"
	}
	return f
}
