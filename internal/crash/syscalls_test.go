//go:build linux

package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scenario is some work of a real process that dies in the middle of it.
type scenario struct {
	name   string
	victim victim
	// prepare makes what every try starts from; optional.
	prepare func(l *lab)
	// work has the process do it. It returns when that is done, or when ctx ends because the
	// process has; what it is told was done it adds to try.promised.
	work func(ctx context.Context, try *try)
	// check looks at what is left, with the process running again.
	check func(try *try)
}

// victim is the process that is killed.
type victim int

const (
	ofCore victim = iota
	ofAgent
	ofRestore // varan restore, into the place of a core that is gone
)

// number is what a variable of the environment says, or what holds without it.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, not a number from 1", name, text)
	}
	return n
}

// plan is which moments are tried: all with CRASH=all, or only $CRASH_AT, again and again, or
// otherwise any, as many as fit into $CRASH_BUDGET for each scenario.
type plan struct {
	all    bool
	at     int
	budget time.Duration
}

func planned(t *testing.T) plan {
	t.Helper()
	text := os.Getenv("CRASH_BUDGET")
	p := plan{all: os.Getenv("CRASH") == "all", at: number(t, "CRASH_AT", 0)}
	if text == "" && !p.all {
		t.Skip("kills processes for minutes; make crash, or CRASH_BUDGET=60s, runs it")
	}
	var err error
	if p.budget, err = time.ParseDuration(text); err != nil && !p.all {
		t.Fatalf("CRASH_BUDGET is %q, not a time like 60s", text)
	}
	return p
}

// TestKilledAtEverySystemCall runs each scenario again and again, kills the process before
// another system call each time, starts it normally, and looks at what is left. CRASH_WORKERS
// do so at once, each with a directory, an address and a repository of its own.
func TestKilledAtEverySystemCall(t *testing.T) {
	p := planned(t)
	bin := program(t)
	needTracer(t, bin)
	workers := number(t, "CRASH_WORKERS", 2)
	only := os.Getenv("CRASH_ONLY")
	for _, s := range scenarios() {
		if only != "" && s.name != only {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			m := &moments{plan: p}
			t.Run("workers", func(t *testing.T) {
				for i := range workers {
					t.Run(strconv.Itoa(i), func(t *testing.T) {
						t.Parallel()
						m.work(newLab(t, bin, s))
					})
				}
			})
			known := max(m.counted, m.highest)
			t.Logf("CRASH %s: killed before %d of %d calls in %v, %d tries in all, %d violations",
				s.name, len(m.died), known, time.Since(m.started).Round(time.Second), m.tried, m.violations)
			if len(m.died) == 0 || p.all && p.at == 0 && len(m.died) < known*19/20 {
				t.Errorf("too few of the calls were met for that to say anything")
			}
		})
	}
}

const (
	// settledAfter is how many tries in a row must live through more calls than were counted, for
	// the calls to be all there are: one run makes a few more than another.
	settledAfter = 4
	// passes is how often a call is tried that no process got to, because it made fewer that time.
	passes = 4
)

// moments gives out the calls to die before.
type moments struct {
	plan  plan
	first sync.Once

	mu       sync.Mutex
	started  time.Time
	counted  int   // calls of a run that nobody killed
	order    []int // what is tried in this pass; with all, more than were counted are in the first
	next     int
	pass     int
	survived int          // tries in a row beyond the counted ones that lived
	died     map[int]bool // the calls before which a process died
	highest  int
	tried    int
	// violations are over all workers.
	violations int
}

func (m *moments) work(l *lab) {
	m.first.Do(func() {
		counted := l.count()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.counted, m.started, m.died = counted, time.Now(), map[int]bool{}
		seed := uint64(time.Now().UnixNano())
		m.order = rand.New(rand.NewPCG(seed, 2)).Perm(m.counted)
	})
	for {
		at, ok := m.take()
		if !ok {
			break
		}
		killed := l.run(at).last != ""
		m.mu.Lock()
		m.tried++
		if killed {
			m.died[at] = true
			m.highest = max(m.highest, at)
		}
		switch {
		case killed:
			m.survived = 0
		case at > m.counted:
			m.survived++
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violations += l.violations
}

func (m *moments) take() (at int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	switch {
	case m.plan.at > 0:
		return m.plan.at, m.next <= 20
	case m.plan.all:
		return m.takeAll()
	case m.next > m.counted || time.Since(m.started) > m.plan.budget:
		return 0, false
	}
	return m.order[m.next-1] + 1, true
}

// takeAll gives out one call after the other, until there are no more, and then those again that
// nobody died before.
func (m *moments) takeAll() (at int, ok bool) {
	if m.pass == 0 && m.survived < settledAfter {
		return m.next, true
	}
	for m.pass == 0 || m.next > len(m.order) {
		m.pass++
		if m.pass >= passes {
			return 0, false
		}
		m.next, m.order = 1, nil
		for n := 1; n <= max(m.counted, m.highest); n++ {
			if !m.died[n] {
				m.order = append(m.order, n)
			}
		}
	}
	return m.order[m.next-1], true
}

// lab is what the tries of one worker share.
type lab struct {
	t          *testing.T
	scenario   scenario
	bin        string
	template   string // the directory that every try starts with a copy of
	addr       string
	key        string
	secret     string   // of the sync's webhook
	identity   string   // the file that opens backups
	env        []string // of core
	repo       *repo
	schedules  []string
	violations int
}

// labs counts the addresses that were given out.
var labs atomic.Int32

// freeAddr is one that core can have again after each start: not of 127.0.0.1, of which the
// system would give the port to somebody else while core is dead.
func freeAddr(t *testing.T) string {
	t.Helper()
	pid := os.Getpid()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+labs.Add(1)%254, 1+pid/254%254, 1+pid%254))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// count runs the scenario once without a kill and returns how many calls it makes.
func (l *lab) count() int {
	l.t.Helper()
	p := l.run(0)
	if p.made == 0 || p.status.Signaled() {
		l.t.Fatalf("the tracer saw %d calls, and the process ended as %v", p.made, p.status)
	}
	return p.made
}

// run does the work once, kills before one call, and checks what is left.
func (l *lab) run(at int) *traced {
	l.t.Helper()
	try := &try{lab: l, at: at, dir: filepath.Join(l.t.TempDir(), "try"), names: map[string]func(){}}
	must(l.t, os.CopyFS(try.dir, os.DirFS(l.template)))
	private(l.t, try.dir)
	defer func() { _ = os.RemoveAll(try.dir) }()
	defer try.close()
	victim := try.begin()
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*back)
	defer cancel()
	go func() {
		select {
		case <-victim.dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	if l.scenario.victim == ofCore && try.ready(ctx) {
		try.join("alpha", "")
	}
	l.scenario.work(ctx, try)
	if ctx.Err() == context.DeadlineExceeded {
		try.violated("the work did not end: %s", victim.log.String())
	}
	cancel()
	victim.stop()
	try.last = victim.last
	if victim.last == "" && (!victim.status.Exited() || victim.status.ExitStatus() != 0) {
		try.violated("nobody killed it, and it ended as %#x: %s", victim.status, victim.log.String())
	}
	try.again()
	try.checkAll()
	return victim
}

// begin starts the processes, one of them under the tracer.
func (y *try) begin() *traced {
	y.t.Helper()
	switch y.scenario.victim {
	case ofCore:
		y.core = y.start(y.at, y.coreArgs(), y.lab.env)
		return y.core
	case ofAgent:
		y.core = y.start(untraced, y.coreArgs(), y.lab.env)
		if !y.ready(y.t.Context()) {
			y.t.Fatalf("core does not serve: %s", y.core.log.String())
		}
		y.setUp()
		y.agent = y.start(y.at, y.agentArgs(), y.env)
		return y.agent
	case ofRestore:
	}
	return y.start(y.at, y.restoreArgs(), nil)
}

// again starts what was killed, as its operator would.
func (y *try) again() {
	y.t.Helper()
	switch y.scenario.victim {
	case ofAgent:
		y.agent = y.start(untraced, y.agentArgs(), y.env)
	case ofRestore:
		y.finishRestore()
		y.core = y.start(untraced, y.coreArgs(), y.lab.env)
	case ofCore:
		y.core = y.start(untraced, y.coreArgs(), y.lab.env)
	}
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
		t.Fatal(fmt.Errorf("make the copy private: %w", err))
	}
}
