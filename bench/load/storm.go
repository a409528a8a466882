package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/bench/internal/process"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/ws"
)

const (
	// steady is how long sessions last before core is killed: an agent whose session ended
	// earlier than 30 s does not start its backoff over.
	steady = 35 * time.Second
	// backGoal is how soon all must be back; attemptsGoal how often one may try within
	// attemptsIn.
	backGoal     = 60 * time.Second
	attemptsGoal = 3
	attemptsIn   = 10 * time.Second
)

// member is one agent: the real one, over an engine in memory.
type member struct {
	name   string
	source net.IP

	mu        sync.Mutex
	dials     []time.Time // since core was killed last
	connected time.Time   // the last session
}

// Enabled, Handle, WithAttrs and WithGroup make a member the log of its agent, which says when
// a session is open.
func (*member) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle looks for the one message.
func (m *member) Handle(_ context.Context, record slog.Record) error {
	if record.Message == "connected to core" {
		m.mu.Lock()
		m.connected = record.Time
		m.mu.Unlock()
	}
	return nil
}

// WithAttrs changes nothing.
func (m *member) WithAttrs([]slog.Attr) slog.Handler { return m }

// WithGroup changes nothing.
func (m *member) WithGroup(string) slog.Handler { return m }

// since is when the member's session was opened, if it was after then.
func (m *member) since(then time.Time) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.connected, m.connected.After(then)
}

// dial opens connections from the member's own address, and counts them.
func (m *member) dial(ctx context.Context, address string) (wire.MessageConn, error) {
	m.mu.Lock()
	m.dials = append(m.dials, time.Now())
	m.mu.Unlock()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: m.source}}
	conn, err := ws.Dial(ctx, address, ws.DialConfig{NetDial: dialer.DialContext})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// most is how many attempts lie within any attemptsIn.
func (m *member) most() (most int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, first := range m.dials {
		n := i
		for n < len(m.dials) && m.dials[n].Sub(first) < attemptsIn {
			n++
		}
		most = max(most, n-i)
	}
	return most
}

// measureStorms kills a core with all agents connected: once when they come from networks all
// over, as over the internet, and once when they share one, as behind one router.
func measureStorms(ctx context.Context, bin string, n int) error {
	for _, s := range []struct {
		what   string
		source func(i int) net.IP
		down   time.Duration
	}{
		{"from a network each, core back at once", func(i int) net.IP { return net.IPv4(127, byte((1+i>>8)&0xff), byte(i&0xff), 1) }, 0},
		{"all from one network, core back at once", func(int) net.IP { return net.IPv4(127, 0, 0, 1) }, 0},
		{"all from one network, core away for 20 s", func(int) net.IP { return net.IPv4(127, 0, 0, 1) }, 20 * time.Second},
	} {
		if err := measureStorm(ctx, bin, n, s.what, s.source, s.down); err != nil {
			return err
		}
	}
	return nil
}

func measureStorm(ctx context.Context, bin string, n int, what string, source func(int) net.IP, down time.Duration) error {
	c, err := newInstance(ctx, bin)
	if err != nil {
		return err
	}
	defer c.close()
	if err := backoff.Pause(ctx, 2*time.Second); err != nil { // core gives back what its start took
		return err
	}
	empty, _ := c.proc.Memory()
	members := make([]*member, n)
	for i := range members {
		members[i] = &member{name: fmt.Sprintf("server-%04d", i), source: source(i)}
	}
	agentsCtx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	joining := time.Now()
	if err := c.join(agentsCtx, members, &running); err != nil {
		return err
	}
	joined := time.Since(joining)
	if err := backoff.Pause(ctx, steady); err != nil {
		return err
	}
	full, _ := c.proc.Memory()
	back, wall, err := c.restart(ctx, members, down)
	if err != nil {
		return err
	}
	cpu := c.proc.CPU()
	rss, peak := c.proc.Memory()
	most := 0
	for _, m := range members {
		most = max(most, m.most())
	}
	slices.Sort(back)
	fmt.Printf("\n%d agents, %s (they had joined within %v)\n", n, what, joined.Round(100*time.Millisecond))
	fmt.Printf("  back after core serves: p50 %v  p99 %v  all %v  goal %v: %s\n", quantile(back, 0.5), quantile(back, 0.99),
		quantile(back, 1), backGoal, verdict(slices.Max(back) <= backGoal))
	fmt.Printf("  most attempts of one agent within %v: %d  goal %d: %s\n", attemptsIn, most, attemptsGoal, verdict(most <= attemptsGoal))
	fmt.Printf("  core's CPU until all are back, its start included: %.2f s, %.0f %% of one core, %.2f ms an agent\n",
		cpu.Seconds(), 100*cpu.Seconds()/wall.Seconds(), 1000*cpu.Seconds()/float64(n))
	fmt.Printf("  core's RSS: empty %s, with all connected %s (%.1f KiB an agent), after the storm %s (peak %s)\n",
		mib(empty), mib(full), float64(full-empty)/1024/float64(n), mib(rss), mib(peak))
	return nil
}

// restart kills core and starts it again after a while. It returns how long after core served
// each agent was back, and how long after the start all were.
func (c *instance) restart(ctx context.Context, members []*member, down time.Duration) (back []time.Duration, wall time.Duration, err error) {
	for _, m := range members {
		m.mu.Lock()
		m.dials = nil
		m.mu.Unlock()
	}
	killed := time.Now()
	c.proc.Kill()
	if err := backoff.Pause(ctx, down); err != nil {
		return nil, 0, err
	}
	started := time.Now()
	if err := c.start(ctx); err != nil {
		return nil, 0, err
	}
	up := time.Now()
	err = process.Until(ctx, 5*time.Minute, "all agents to be back", func() bool {
		return !slices.ContainsFunc(members, func(m *member) bool { _, ok := m.since(killed); return !ok })
	})
	for _, m := range members {
		at, _ := m.since(killed)
		back = append(back, max(0, at.Sub(up)))
	}
	return back, time.Since(started), err
}

// join starts the agents, each with an onboarding key of its own, and waits until core has all.
func (c *instance) join(ctx context.Context, members []*member, running *sync.WaitGroup) error {
	dir := filepath.Join(c.dir, "agents")
	if shm, err := os.MkdirTemp("/dev/shm", "varan-load-"); err == nil {
		dir = shm // their disks are not what is measured
		running.Go(func() { <-ctx.Done(); _ = os.RemoveAll(shm) })
	}
	slots := make(chan struct{}, 8) // a person starts them, one after the other
	errs := make(chan error, len(members))
	for _, m := range members {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			errs <- c.joinOne(ctx, m, filepath.Join(dir, m.name), running)
		}()
	}
	for range members {
		if err := <-errs; err != nil {
			return err
		}
	}
	return process.Until(ctx, 2*time.Minute, "all agents to join", func() bool { return c.online(ctx) == len(members) })
}

func (c *instance) joinOne(ctx context.Context, m *member, dir string, running *sync.WaitGroup) error {
	created, err := c.api.CreateOnboardingKey(ctx, api.OnboardingSpec{ServerGlob: m.name})
	if err != nil {
		return fmt.Errorf("create an onboarding key: %w", err)
	}
	a, err := agent.New(agent.Config{
		Dir: dir, Server: m.name, Cores: []string{"ws://" + c.addr}, OnboardingToken: created.Token.Secret(),
		Engine: fakeengine.New(m.name), Logger: slog.New(m), Version: "1.0.0", Dial: m.dial,
	})
	if err != nil {
		return err
	}
	running.Go(func() { _ = a.Run(ctx) })
	return process.Until(ctx, time.Minute, m.name+" to dial", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.dials) > 0
	})
}

func (c *instance) online(ctx context.Context) (n int) {
	servers, err := c.api.Servers(ctx)
	if err != nil {
		return 0
	}
	for i := range servers {
		if servers[i].Online {
			n++
		}
	}
	return n
}
