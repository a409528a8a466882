package core

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// A rotation has these points after which something may die. Those of the agent's disk are seen
// by its file system, those of core by its registry, and the second connection by the dial.
var rotationPoints = []string{
	"R1 started", "R2 next key written", "R2 next key in its place", "R3 next key accepted", "R4 second connection", "R5 next key promoted",
	"R6 old key aside", "R6 new key in place", "R7 confirmed", "R8 old key removed by core", "R8 old key removed by the agent",
}

var errDead = errors.New("the process is dead")

// life is one incarnation of a process. A dead one does nothing any more.
type life struct {
	mu   sync.Mutex
	dead bool
	kill []func()
}

func (l *life) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.dead
}

func (l *life) end() {
	l.mu.Lock()
	l.dead = true
	kill := l.kill
	l.kill = nil
	l.mu.Unlock()
	for _, f := range kill {
		f()
	}
}

func (l *life) onEnd(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		go f()
		return
	}
	l.kill = append(l.kill, f)
}

// faultFS is the agent's file system: it dies with the agent, and can refuse a step.
type faultFS struct {
	life  *life
	after func(point string)
	// refuse returns the error of a step, or nil.
	refuse func(step string) error
}

func (f *faultFS) step(step, point string, do func() error) error {
	if !f.life.alive() {
		return errDead
	}
	if err := f.refuse(step); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if point != "" {
		f.after(point)
	}
	if !f.life.alive() {
		return errDead
	}
	return nil
}

func (f *faultFS) Temp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	point := ""
	if strings.HasSuffix(path, "agent.key.next") {
		point = "R2 next key written"
	}
	err = f.step("write", point, func() (err error) {
		name, err = atomicfile.OS{}.Temp(path, data, perm)
		return err
	})
	return name, err
}

func (f *faultFS) Rename(from, to string) error {
	point := ""
	switch {
	case strings.HasSuffix(to, "agent.key.prev"):
		point = "R6 old key aside"
	case strings.HasSuffix(from, "agent.key.next"):
		point = "R6 new key in place"
	}
	return f.step("rename", point, func() error { return os.Rename(from, to) })
}

func (f *faultFS) Link(from, to string) error {
	return f.step("link", "R2 next key in its place", func() error { return os.Link(from, to) })
}

func (f *faultFS) Remove(path string) error {
	point := ""
	if strings.HasSuffix(path, "agent.key.prev") {
		point = "R8 old key removed by the agent"
	}
	return f.step("remove", point, func() error { return os.Remove(path) })
}

func (f *faultFS) SyncDir(dir string) error {
	return f.step("fsync", "", func() error { return atomicfile.SyncDir(dir) })
}

// mortalRegistry is core's registry; it dies with core.
type mortalRegistry struct {
	*registry
	life  *life
	after func(point string)
}

func (r *mortalRegistry) did(point string, err error) error {
	if err == nil && r.life.alive() {
		r.after(point)
	}
	if !r.life.alive() {
		return errDead
	}
	return err
}

func (r *mortalRegistry) ServerByKey(ctx context.Context, key noise.PublicKey) (hub.Admitted, error) {
	if !r.life.alive() {
		return hub.Admitted{}, errDead
	}
	next := false
	keys, err := r.store.ServerKeys(ctx)
	for _, k := range keys {
		next = next || k.PublicKey == key.String() && k.State == store.KeyNext
	}
	if err != nil {
		return hub.Admitted{}, err
	}
	a, err := r.registry.ServerByKey(ctx, key)
	if next {
		err = r.did("R5 next key promoted", err)
	}
	return a, err
}

func (r *mortalRegistry) NextEpoch(ctx context.Context, server string) (uint64, error) {
	if !r.life.alive() {
		return 0, errDead
	}
	return r.registry.NextEpoch(ctx, server)
}

func (r *mortalRegistry) Open(ctx context.Context, server string) (string, error) {
	if !r.life.alive() {
		return "", errDead
	}
	return r.registry.Open(ctx, server)
}

func (r *mortalRegistry) Propose(ctx context.Context, server, id string, key noise.PublicKey) error {
	if !r.life.alive() {
		return errDead
	}
	return r.did("R3 next key accepted", r.registry.Propose(ctx, server, id, key))
}

func (r *mortalRegistry) Confirm(ctx context.Context, server string) error {
	if !r.life.alive() {
		return errDead
	}
	if err := r.did("R7 confirmed", nil); err != nil {
		return err
	}
	return r.did("R8 old key removed by core", r.registry.Confirm(ctx, server))
}

// crashRig is a core and an agent on a wire in memory, which die and are started again. All
// rounds share a database; each has a server and a directory of its own.
type crashRig struct {
	t      *testing.T
	store  *store.Store
	key    noise.PrivateKey
	server string
	dir    string
	// at is what happens at a point, once; done is closed when it has.
	point   string
	crash   func()
	crashed sync.Once
	fault   error

	mu    sync.Mutex
	core  *life
	hub   *hub.Hub
	agent *life
	wires map[wire.MessageConn]bool
	dials int
	ended sync.WaitGroup
}

// after is called after each point, in the process that got there.
func (r *crashRig) after(point string) {
	r.mu.Lock()
	reached, crash := point == r.point, r.crash
	r.mu.Unlock()
	if reached {
		r.crashed.Do(crash)
	}
}

func (r *crashRig) currentHub() *hub.Hub {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hub
}

func (r *crashRig) startCore() {
	l := &life{}
	reg := &mortalRegistry{
		registry: &registry{store: r.store, joined: func(string) {}}, life: l, after: r.after,
	}
	h, err := hub.New(hub.Config{Key: r.key, CoreID: "core", Registry: reg, Rotations: reg})
	if err != nil {
		r.t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.onEnd(cancel)
	r.ended.Go(func() {
		if err := h.Run(ctx); err != nil && l.alive() {
			r.t.Error(err)
		}
	})
	time.Sleep(time.Millisecond) // it begins
	r.mu.Lock()
	r.core, r.hub = l, h
	r.mu.Unlock()
}

func (r *crashRig) startAgent() {
	l := &life{}
	var token fleet.Secret
	if _, err := os.Stat(filepath.Join(r.dir, "registration.json")); err != nil {
		token = r.token()
	}
	a, err := agent.New(agent.Config{
		Dir: r.dir, Server: r.server, Cores: []string{"memory"}, Engine: fakeengine.New(r.server),
		Logger: slog.New(slog.DiscardHandler), OnboardingToken: token, Drain: time.Second,
		KeyFiles: &faultFS{life: l, after: r.after, refuse: r.refuse},
		Dial: func(context.Context, string) (wire.MessageConn, error) {
			if !l.alive() {
				return nil, errDead
			}
			return r.dial(l)
		},
	})
	if err != nil {
		r.t.Fatalf("%s: the agent does not start: %v", r.server, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.onEnd(cancel)
	r.ended.Go(func() {
		if err := a.Run(ctx); err != nil && l.alive() {
			r.t.Error(err)
		}
	})
	r.mu.Lock()
	r.agent = l
	r.mu.Unlock()
}

// refuse lets the first steps on the agent's disk fail once a rotation is under way.
func (r *crashRig) refuse(step string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(r.fault, syscall.ENOSPC) && step == "write", errors.Is(r.fault, syscall.EIO) && step == "fsync":
		return r.fault
	}
	return nil
}

func (r *crashRig) dial(from *life) (wire.MessageConn, error) {
	r.mu.Lock()
	h, core := r.hub, r.core
	r.dials++
	r.mu.Unlock()
	if !core.alive() {
		return nil, errors.New("connection refused")
	}
	ours, theirs := wire.Pipe()
	r.mu.Lock()
	r.wires[ours] = true
	r.mu.Unlock()
	from.onEnd(func() { _ = ours.Close() })
	core.onEnd(func() { _ = ours.Close() })
	h.Accept(ours, netip.MustParseAddr("192.0.2.1"))
	if keys, err := r.store.ServerKeys(context.Background()); err == nil {
		for _, k := range keys {
			if k.Server == r.server && k.State == store.KeyNext {
				r.after("R4 second connection")
			}
		}
	}
	return theirs, nil
}

func (r *crashRig) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.wires {
		_ = conn.Close()
	}
	clear(r.wires)
}

func (r *crashRig) token() fleet.Secret {
	token := wire.NewOnboardingToken(r.key.Public().Fingerprint())
	err := r.store.AddOnboardingKey(context.Background(), api.OnboardingKey{
		ID: token.ID(), Name: r.server, ServerGlob: "*", Tier: fleet.TierTrusted, MaxUses: 1,
		Created: time.Now(), Expires: time.Now().Add(time.Hour),
	}, token.SecretHash())
	if err != nil {
		r.t.Fatal(err)
	}
	return fleet.NewSecret(token.Reveal())
}

// connected reports whether the agent is let in, and whether the change of keys is settled: one
// key, and nothing else on either side.
func (r *crashRig) connected() (online, settled bool) {
	r.mu.Lock()
	h := r.hub
	r.mu.Unlock()
	keys, err := r.store.ServerKeys(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	n, shown := 0, false
	for _, k := range keys {
		if k.Server != r.server {
			continue
		}
		n++
		shown = shown || k.State == store.KeyCurrent && h.KeyOf(r.server).String() == k.PublicKey
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "keys", "*agent.key*"))
	if err != nil {
		r.t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(r.dir, "keys", ".*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return h.Online(r.server), shown && n == 1 && len(files) == 1 && len(hidden) == 0
}

// within waits until ok, and reports how long that took.
func within(limit time.Duration, ok func() bool) (time.Duration, bool) {
	begun := time.Now()
	for time.Since(begun) < limit {
		synctest.Wait()
		if ok() {
			return time.Since(begun), true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return limit, false
}

// who are those that die at a point.
var who = []string{"nobody", "agent", "core", "both", "link"}

func (r *crashRig) crashOf(victim string) func() {
	restart := make(chan struct{})
	r.ended.Go(func() { // the next process starts a moment later
		<-restart
		if victim == "nobody" || victim == "link" {
			return
		}
		time.Sleep(time.Second)
		if victim != "agent" {
			r.startCore()
		}
		if victim != "core" {
			r.waitUnlocked()
			r.startAgent()
		}
	})
	return func() {
		defer close(restart)
		r.mu.Lock()
		a, c := r.agent, r.core
		r.mu.Unlock()
		switch victim {
		case "agent":
			a.end()
		case "core":
			c.end()
		case "both":
			c.end()
			a.end()
		case "link":
			r.cut()
		}
	}
}

// waitUnlocked waits until the dead agent has let go of its directory, which the kernel does at
// once with a process.
func (r *crashRig) waitUnlocked() {
	for {
		f, err := os.OpenFile(filepath.Join(r.dir, "agent.lock"), os.O_RDWR, 0o600)
		if err != nil {
			return
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		_ = f.Close()
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// round rotates once with one crash and one fault, and checks the invariants.
func (r *crashRig) round(point, victim string, fault error) {
	t := r.t
	r.server = fmt.Sprintf("s%d", r.dials)
	r.dir = filepath.Join(t.TempDir(), "agent")
	r.crashed, r.wires = sync.Once{}, map[wire.MessageConn]bool{}
	r.point, r.fault = "", nil
	name := fmt.Sprintf("crash of %s after %q with %v", victim, point, fault)
	r.startCore()
	r.startAgent()
	if _, ok := within(30*time.Second, func() bool { on, settled := r.connected(); return on && settled }); !ok {
		t.Fatalf("%s: no connection to begin with", name)
	}
	before := r.currentHub().KeyOf(r.server)
	var hit atomic.Bool
	crash := r.crashOf(victim)
	r.mu.Lock()
	r.crash = func() {
		hit.Store(true)
		crash()
	}
	r.point, r.fault = point, fault
	r.mu.Unlock()

	id, err := r.store.StartRotation(context.Background(), r.server, "id-"+r.server, "test", false)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if point == rotationPoints[0] {
		r.crashed.Do(r.crash)
	}
	_ = r.currentHub().StartRotation(context.Background(), r.server, id)
	// The disk works again after a while; until then somebody is let in all the same.
	time.Sleep(5 * time.Second)
	r.mu.Lock()
	r.fault = nil
	r.mu.Unlock()
	if took, ok := within(25*time.Second, func() bool { on, _ := r.connected(); return on }); !ok {
		t.Errorf("%s: locked out: not connected again after %v", name, 5*time.Second+took)
	}
	if _, ok := within(store.RotationTime+time.Minute, func() bool { on, settled := r.connected(); return on && settled }); !ok {
		keys, _ := r.store.ServerKeys(context.Background())
		files, _ := os.ReadDir(filepath.Join(r.dir, "keys"))
		t.Errorf("%s: not one key in the end: core has %v, the agent %v", name, keys[max(0, len(keys)-3):], files)
	}
	if after := r.currentHub().KeyOf(r.server); fault == nil && (victim == "nobody" || victim == "link") && after == before {
		t.Errorf("%s: the key was not changed", name)
	}
	if !hit.Load() {
		r.crashed.Do(r.crash)
		time.Sleep(2 * time.Second)
		if fault == nil && point != "" {
			t.Errorf("%s: the point was never reached", name)
		}
	}
	r.mu.Lock()
	r.point = ""
	lives := []*life{r.agent, r.core}
	r.mu.Unlock()
	for _, l := range lives {
		l.end()
	}
	r.ended.Wait()
	r.onlyPrivateKeysIn(name)
	if err := r.store.RemoveServer(context.Background(), r.server); err != nil {
		t.Error(err)
	}
}

// onlyPrivateKeysIn fails when a private key of the agent is anywhere but in its file.
func (r *crashRig) onlyPrivateKeysIn(name string) {
	err := filepath.WalkDir(filepath.Dir(r.dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "agent.key") {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "PRIVATE KEY") {
			r.t.Errorf("%s: a private key is in %s", name, d.Name())
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

func TestNobodyIsLockedOutByACrashWhileKeysChange(t *testing.T) {
	for _, fault := range []error{nil, syscall.ENOSPC, syscall.EIO} {
		t.Run(fmt.Sprintf("disk %v", fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key, err := noise.GenerateKey()
				if err != nil {
					t.Fatal(err)
				}
				s, err := store.Open(context.Background(), store.Config{
					Path: filepath.Join(t.TempDir(), "varan.db"), SealKey: make([]byte, store.SealKeySize),
				})
				if err != nil {
					t.Fatal(err)
				}
				r := &crashRig{t: t, store: s, key: key}
				for _, point := range rotationPoints {
					for _, victim := range who {
						r.round(point, victim, fault)
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
