package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/varanhq/varan/agent/docker/job"
)

// Limits on what a worker says.
const (
	maxLine       = 256 << 10
	maxSaid       = 16 << 10
	deadlineGrace = 15 * time.Second
)

// run starts a worker for one request and waits for its result. started is called with
// the process before the worker is told what to do, so that no work is ever done by a
// process that nobody knows of. said is the tail of what it had to say.
func (e *Engine) run(
	ctx context.Context, req job.Request, started func(process) error, each func(job.Line),
) (res job.Result, said string, err error) {
	req.Host = e.conn.host
	// The worker stops by itself at the deadline; this is for one that cannot.
	ctx, cancel := context.WithDeadline(ctx, req.Deadline.Add(deadlineGrace))
	defer cancel()
	input, err := json.Marshal(req)
	if err != nil {
		return res, "", fmt.Errorf("write request: %w", err)
	}
	cmd := exec.CommandContext(ctx, e.cfg.Worker[0], e.cfg.Worker[1:]...) //nolint:gosec // the agent's own program, from its configuration
	cmd.Env = workerEnv(os.Environ())
	cmd.Dir = string(os.PathSeparator)
	ownSession(cmd)
	cmd.WaitDelay = deadlineGrace
	stderr := &tail{max: maxSaid}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return res, "", fmt.Errorf("start worker: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return res, "", fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return res, "", fmt.Errorf("start worker: %w", err)
	}
	if err := started(process{PID: cmd.Process.Pid, Start: startOf(cmd.Process.Pid)}); err != nil {
		// Without a request the worker does nothing and ends.
		_ = stdin.Close()
		return res, "", errors.Join(err, cmd.Wait())
	}
	_, err = stdin.Write(input)
	err = errors.Join(err, stdin.Close())
	got, readErr := readLines(stdout, each)
	waitErr := cmd.Wait()
	if got != nil {
		return *got, stderr.String(), nil
	}
	if ctx.Err() != nil {
		return res, stderr.String(), fmt.Errorf("worker was ended: %w", context.Cause(ctx))
	}
	return res, stderr.String(), fmt.Errorf("worker ended without a result: %w: %s",
		errors.Join(waitErr, readErr, err), strings.TrimSpace(stderr.String()))
}

// readLines reads to the end and returns the result. What is not a line of ours came
// from some print in the SDK and means nothing.
func readLines(r io.Reader, each func(job.Line)) (*job.Result, error) {
	var result *job.Result
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var line job.Line
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Result != nil {
			result = line.Result
			continue
		}
		each(line)
	}
	err := lines.Err()
	if err != nil {
		// Keep the pipe flowing: a worker that blocks on it would not finish.
		_, _ = io.Copy(io.Discard, r)
	}
	return result, err
}

// workerEnv is the explicit environment of a worker: how to find programs, credentials
// and proxies. Nothing of Compose's own (COMPOSE_*) and no Docker context gets through,
// nor anything that a Compose file could ask for by name.
func workerEnv(environ []string) []string {
	pass := map[string]bool{
		"PATH": true, "HOME": true, "TMPDIR": true, "XDG_RUNTIME_DIR": true, "SystemRoot": true,
		"DOCKER_CONFIG": true, "DOCKER_CERT_PATH": true, "DOCKER_TLS_VERIFY": true,
		"HTTP_PROXY": true, "HTTPS_PROXY": true, "NO_PROXY": true,
		"http_proxy": true, "https_proxy": true, "no_proxy": true,
		"GOCOVERDIR": true,
	}
	out := []string{
		"COMPOSE_EXPERIMENTAL_GIT_REMOTE=false",
		"COMPOSE_EXPERIMENTAL_OCI_REMOTE=false",
		// One second of collection work in a process that lives for one is wasted.
		"GOGC=400",
	}
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); pass[name] {
			out = append(out, v)
		}
	}
	return out
}

// tail keeps the last bytes written to it.
type tail struct {
	max int
	buf bytes.Buffer
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if over := t.buf.Len() - 2*t.max; over > 0 {
		t.buf.Next(over + t.max)
	}
	return len(p), nil
}

// String is what was kept.
func (t *tail) String() string {
	b := t.buf.Bytes()
	return strings.ToValidUTF8(string(b[max(0, len(b)-t.max):]), "?")
}
