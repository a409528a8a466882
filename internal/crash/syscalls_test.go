//go:build linux

package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// syscalls are those after which something else is on disk, or is promised to be.
var syscalls = []string{
	"write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "ftruncate",
}

// spot is a moment to die at: before the process's nth call. The tracer counts for each thread,
// so it is the first thread to make that many which dies, and the rest with it.
type spot struct {
	call string
	n    int
}

// scenario is some work of a real process that dies in the middle of it.
type scenario struct {
	name string
	// agent says that the agent is killed, not core.
	agent bool
	// prepare makes what every try starts from; optional.
	prepare func(l *lab)
	// work has the process do it. It returns when that is done, or when ctx ends because the
	// process has; what it is told was done it adds to try.promised.
	work func(ctx context.Context, try *try)
	// check looks at what is left, with the process running again.
	check func(try *try)
}

// plan is how many spots are tried: all with CRASH=all, otherwise what fits into $CRASH_BUDGET
// for each scenario.
func plan(t *testing.T) (all bool, budget time.Duration) {
	t.Helper()
	text := os.Getenv("CRASH_BUDGET")
	if os.Getenv("CRASH") == "all" {
		return true, 0
	}
	if text == "" {
		t.Skip("kills processes for minutes; make crash, or CRASH_BUDGET=60s, runs it")
	}
	budget, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("CRASH_BUDGET is %q, not a time like 60s", text)
	}
	return false, budget
}

// needTracer skips where processes may not be traced.
func needTracer(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	out, err := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", os.DevNull, "true").CombinedOutput()
	if err != nil {
		t.Skipf("tracing is not permitted here: %v %s", err, out)
	}
}

// TestKilledAtEverySystemCall runs each scenario again and again, kills the process before
// another system call each time, starts it normally, and looks at what is left.
func TestKilledAtEverySystemCall(t *testing.T) {
	all, budget := plan(t)
	needTracer(t)
	bin := program(t)
	only := os.Getenv("CRASH_ONLY")
	for _, s := range scenarios() {
		if only != "" && s.name != only {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			l := newLab(t, bin, s)
			spots := l.count()
			if at := os.Getenv("CRASH_AT"); at != "" { // to look at one again, like "fsync 3"
				var one spot
				if _, err := fmt.Sscanf(at, "%s %d", &one.call, &one.n); err != nil {
					t.Fatalf("CRASH_AT: %v", err)
				}
				spots = slices.Repeat([]spot{one}, 20)
			}
			known := len(spots)
			if !all {
				seed := uint64(time.Now().UnixNano())
				random := rand.New(rand.NewPCG(seed, 2))
				random.Shuffle(known, func(i, j int) { spots[i], spots[j] = spots[j], spots[i] })
			}
			tried, died, started := 0, 0, time.Now()
			for i := 0; i < len(spots) && (all || time.Since(started) < budget); i++ {
				killed := l.try(spots[i])
				tried++
				if !killed {
					continue
				}
				died++
				// Another run may make more calls than the one that was counted.
				if last := spots[i]; all && (i+1 == len(spots) || spots[i+1].call != last.call) {
					spots = slices.Insert(spots, i+1, spot{last.call, last.n + 1})
				}
			}
			t.Logf("CRASH %s: %d of %d spots tried in %v, the process died at %d, %d violations; files left behind: %v",
				s.name, tried, max(known, tried), time.Since(started).Round(time.Second), died, l.violations, l.left)
		})
	}
}

// lab is what the tries of one scenario share.
type lab struct {
	t          *testing.T
	scenario   scenario
	bin        string
	template   string // the directory that every try starts with a copy of
	addr       string
	key        string
	secret     string // of the sync's webhook
	repo       *repo
	schedules  []string
	violations int
	// left counts the temporary files that were found after a restart, by their kind.
	left map[string]int
}

// freeAddr is one that core can have again after each start.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// traced is a process under a tracer, or without one when args are empty.
type traced struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	dead chan struct{} // closed when it has ended
}

func (l *lab) start(tracer, args, env []string) *traced {
	l.t.Helper()
	argv := slices.Concat(tracer, []string{l.bin}, args)
	p := &traced{cmd: exec.Command(argv[0], argv[1:]...), dead: make(chan struct{})}
	p.cmd.Env = slices.Concat(os.Environ(), env)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.dead)
	}()
	return p
}

// stop asks it to end. It reports whether it was killed instead, now or before.
func (p *traced) stop() (killed bool) {
	select {
	case <-p.dead:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.AfterFunc(back, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.dead
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// tracerFor traces the one call, and kills before the nth; with n 0 it writes all calls to out.
// With -D it is the tracer that is the child: signals reach the process itself.
func tracerFor(s spot, out string) []string {
	tracer := []string{"strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", out}
	if s.n == 0 {
		return append(tracer, "-e", "trace="+strings.Join(syscalls, ","))
	}
	return append(tracer, "-e", "trace="+s.call, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", s.call, s.n))
}

// count runs the scenario once without a kill and returns every spot it has.
func (l *lab) count() (spots []spot) {
	l.t.Helper()
	out := filepath.Join(l.t.TempDir(), "calls")
	if l.run(spot{}, out) {
		l.t.Fatal("the process was killed without anybody killing it")
	}
	f, err := os.Open(out)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	perThread, most := map[string]int{}, map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		call, _, ok := strings.Cut(fields[1], "(")
		if !ok {
			continue // the end of a call that was begun before
		}
		perThread[fields[0]+call]++
		most[call] = max(most[call], perThread[fields[0]+call])
	}
	for _, call := range syscalls {
		for n := range most[call] {
			spots = append(spots, spot{call, n + 1})
		}
	}
	if len(spots) == 0 {
		l.t.Fatal("the tracer saw no call")
	}
	return spots
}

// try kills at one spot and checks. It reports whether the process got there.
func (l *lab) try(s spot) (killed bool) { return l.run(s, os.DevNull) }

func (l *lab) run(s spot, out string) (killed bool) {
	l.t.Helper()
	try := &try{lab: l, spot: s, dir: filepath.Join(l.t.TempDir(), "try"), names: map[string]func(){}}
	if err := os.CopyFS(try.dir, os.DirFS(l.template)); err != nil {
		l.t.Fatal(err)
	}
	private(l.t, try.dir)
	defer func() { _ = os.RemoveAll(try.dir) }()
	defer try.close()
	tracer := tracerFor(s, out)
	var victim *traced
	if l.scenario.agent {
		try.core = l.start(nil, try.coreArgs(), nil)
		if !try.ready(l.t.Context()) {
			try.violated("core does not serve: %s", try.core.log.String())
			return false
		}
		try.setUp()
		try.agent = l.start(tracer, try.agentArgs(), try.env)
		victim = try.agent
	} else {
		try.core = l.start(tracer, try.coreArgs(), nil)
		victim = try.core
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*back)
	go func() {
		select {
		case <-victim.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	if !l.scenario.agent && try.ready(ctx) {
		try.join("alpha", "")
	}
	l.scenario.work(ctx, try)
	if ctx.Err() == context.DeadlineExceeded {
		try.violated("the work did not end: %s", victim.log.String())
	}
	cancel()
	killed = victim.stop()
	if l.scenario.agent {
		try.agent = l.start(nil, try.agentArgs(), try.env)
	} else {
		try.core = l.start(nil, try.coreArgs(), nil)
	}
	try.checkAll()
	return killed
}

// private gives a copy the permissions that keys must have.
func private(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
