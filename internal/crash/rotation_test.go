//go:build unix

// Package crash_test kills real processes, again and again, and looks at what they leave.
package crash_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// back is how soon an agent must be connected again without help.
const back = 30 * time.Second

// rounds is how often something is killed: $VARAN_CRASH_ROUNDS.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("VARAN_CRASH_ROUNDS")
	if text == "" {
		t.Skip("kills processes for minutes; make crash, or VARAN_CRASH_ROUNDS=8, runs it")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("VARAN_CRASH_ROUNDS is %q, not a number from 1", text)
	}
	return n
}

// program is the real binary: $VARAN_BIN, or one that is built now.
func program(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("VARAN_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "varan")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/varanhq/varan/cmd/varan").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// process is one that is started again after it was killed.
type process struct {
	t    *testing.T
	bin  string
	args []string
	env  []string
	log  bytes.Buffer

	mu  sync.Mutex
	cmd *exec.Cmd
}

func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(p.bin, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process as a power cut would, as far as a process can tell.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// world is a core and an agent without Docker: it connects, and says that Docker is not there.
type world struct {
	t           *testing.T
	dir         string
	core, agent *process
	client      *api.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	bin := program(t)
	data := filepath.Join(w.dir, "core")
	key, err := exec.CommandContext(t.Context(), bin, "core", "init", "--dir", data).Output()
	if err != nil {
		t.Fatal(err)
	}
	addr := filepath.Join(w.dir, "addr")
	listen := "127.0.0.1:0"
	w.core = &process{t: t, bin: bin, args: []string{"core", "--dir", data, "--listen", listen, "--addr-file", addr, "--log-level", "warn"}}
	w.core.start()
	t.Cleanup(w.core.kill)
	w.await("core serves", func() bool {
		text, err := os.ReadFile(addr)
		listen = strings.TrimSpace(string(text))
		return err == nil
	})
	w.core.args[4] = listen // the same address after every start
	w.client = &api.Client{BaseURL: "http://" + listen, Key: fleet.NewSecret(strings.TrimSpace(string(key)))}
	created, err := w.client.CreateOnboardingKey(t.Context(), api.OnboardingSpec{ServerGlob: "alpha"})
	if err != nil {
		t.Fatal(err)
	}
	w.agent = &process{
		t: t, bin: bin, env: []string{"VARAN_ONBOARDING_KEY=" + string(created.Token), "DOCKER_HOST=unix://" + filepath.Join(w.dir, "none.sock")},
		args: []string{"agent", "--core", w.client.BaseURL, "--connect-as", "alpha", "--dir", filepath.Join(w.dir, "agent"), "--log-level", "warn"},
	}
	w.agent.start()
	t.Cleanup(w.agent.kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("core:\n%s\nagent:\n%s", w.core.log.String(), w.agent.log.String())
		}
	})
	w.await("the agent joins", w.connected)
	return w
}

// await polls what other processes do; there is nothing to wait on.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), back)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.t.Fatalf("not within %v: %s", back, what)
		}
	}
}

// connected reports whether the agent is let in with the current key of its server.
func (w *world) connected() bool {
	keys, err := w.client.FleetKeys(w.t.Context())
	if err != nil {
		return false
	}
	for _, key := range keys.Servers {
		if key.State == "current" && key.Shown {
			return true
		}
	}
	return false
}

// settled reports whether one key is left on both sides.
func (w *world) settled() bool {
	keys, err := w.client.FleetKeys(w.t.Context())
	files, globErr := filepath.Glob(filepath.Join(w.dir, "agent", "keys", "*agent.key*"))
	return err == nil && globErr == nil && len(keys.Servers) == 1 && keys.Servers[0].Shown && len(files) == 1
}

// TestKilledWhileKeysChange kills core, the agent or both at any moment of a change of the
// agent's key or of core's, and wants the agent back each time.
func TestKilledWhileKeysChange(t *testing.T) {
	n := rounds(t)
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	victims := [][]*process{{w.agent}, {w.core}, {w.agent, w.core}, {w.core, w.agent}}
	for round := range n {
		request := api.KeyRotation{Server: "alpha"}
		if random.IntN(4) == 0 {
			request = api.KeyRotation{Core: true, Force: true}
		}
		var asking sync.WaitGroup
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), back)
			defer cancel()
			_, _ = w.client.RotateKeys(ctx, request, nil) // it is cut off
		})
		moment := time.NewTimer(time.Duration(random.IntN(120_000)) * time.Microsecond)
		<-moment.C
		dead := victims[random.IntN(len(victims))]
		for _, p := range dead {
			p.kill()
		}
		for _, p := range dead {
			p.start()
		}
		asking.Wait()
		w.await(fmt.Sprintf("round %d: the agent is back", round), w.connected)
	}
	if _, err := w.client.RotateKeys(t.Context(), api.KeyRotation{Server: "alpha"}, nil); err != nil {
		t.Errorf("the last change: %v", err)
	}
	w.await("one key is left", w.settled)
}
