package core_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/wire/noise"
)

// host is an agent that can be stopped and started again.
type host struct {
	r     *rig
	name  string
	dir   string
	token api.WriteOnly
	files atomicfile.FS // optional
	stop  func()
}

// host makes an agent that has not started yet, and the key that it will join with.
func (r *rig) host(name string) *host {
	r.t.Helper()
	created, err := r.CreateOnboardingKey(r.t.Context(), api.OnboardingSpec{ServerGlob: name})
	must(r.t, err)
	return &host{r: r, name: name, dir: filepath.Join(r.t.TempDir(), name), token: created.Token}
}

func (h *host) start() *host {
	h.r.t.Helper()
	a, err := agent.New(agent.Config{
		Dir: h.dir, Server: h.name, Cores: []string{"http://" + h.r.addr}, Engine: fakeengine.New(h.name),
		OnboardingToken: fleet.NewSecret(string(h.token)), Logger: slog.New(slog.DiscardHandler), KeyFiles: h.files,
	})
	must(h.r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.r.t.Errorf("agent of %s ended with %v", h.name, err)
		}
	})
	h.r.t.Cleanup(h.stop)
	return h
}

func (h *host) online(want bool) {
	h.r.t.Helper()
	h.r.eventually(h.name+" is as it should be", func() bool {
		server, err := h.r.Server(h.r.t.Context(), h.name)
		return err == nil && server.Online == want
	})
}

// key is the one on the agent's disk.
func (h *host) key() string {
	h.r.t.Helper()
	key, err := keyfile.Load(filepath.Join(h.dir, "keys", "agent.key"))
	must(h.r.t, err)
	return key.Public().String()
}

func (h *host) pin() string {
	h.r.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "keys", "core.pub"))
	if errors.Is(err, fs.ErrNotExist) {
		return "" // core knows of the agent a moment before that
	}
	must(h.r.t, err)
	key, err := noise.ParsePublicKey(string(text))
	must(h.r.t, err)
	return key.String()
}

func statuses(report api.KeyReport) map[string]api.KeyStatus {
	out := map[string]api.KeyStatus{}
	for _, r := range report.Results {
		out[r.Server] = r.Status
	}
	return out
}

func TestAllKeysAreChangedAndWhoIsAwayIsListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	alpha, beta := r.host("alpha").start(), r.host("beta").start()
	alpha.online(true)
	beta.online(true)
	beta.stop()
	beta.online(false)
	before := alpha.key()
	report, err := r.RotateKeys(t.Context(), api.KeyRotation{All: true}, nil)
	must(t, err)
	want := map[string]api.KeyStatus{"alpha": api.KeyRotated, "beta": api.KeySkipped}
	if diff := cmp.Diff(want, statuses(report)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	r.eventually("alpha has the new key alone", func() bool {
		left, err := filepath.Glob(filepath.Join(alpha.dir, "keys", "*agent.key*"))
		return err == nil && len(left) == 1 && alpha.key() != before && alpha.key() == report.Results[0].PublicKey
	})
	if openssl, err := exec.LookPath("openssl"); err == nil {
		out, err := exec.CommandContext(t.Context(), openssl, "pkey", "-in", filepath.Join(alpha.dir, "keys", "agent.key"), "-pubout").Output()
		must(t, err)
		key, err := noise.ParsePublicKey(string(out))
		if err != nil || key.String() != alpha.key() {
			t.Errorf("openssl reads the key as %s, %v", out, err)
		}
		shell := exec.CommandContext(t.Context(), "sh", "-c", "openssl pkey -in agent.key -pubout -outform DER | "+
			"openssl dgst -sha256 -binary | head -c 16 | base32 | tr -d = | tr A-Z a-z")
		shell.Dir = filepath.Join(alpha.dir, "keys")
		out, err = shell.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != key.Fingerprint().String() {
			t.Errorf("openssl's fingerprint is %s, %v; want %s", got, err, key.Fingerprint())
		}
		made := filepath.Join(t.TempDir(), "keys", "made.key")
		must(t, os.Mkdir(filepath.Dir(made), 0o700))
		must(t, exec.CommandContext(t.Context(), openssl, "genpkey", "-algorithm", "X25519", "-out", made).Run())
		must(t, os.Chmod(made, 0o600))
		_, err = keyfile.Load(made)
		must(t, err)
	}
	r.stop()
	r.start()
	alpha.online(true)
	beta.start().online(true)
	events, err := r.Events(t.Context(), api.EventFilter{})
	must(t, err)
	n := 0
	for _, e := range events {
		if e.Kind == "key" && e.Server == "alpha" {
			n++
		}
	}
	if n == 0 {
		t.Error("the history does not tell of the new key")
	}
}

// slowFiles is a disk on which a file takes its place late.
type slowFiles struct{ atomicfile.OS }

func (f slowFiles) Rename(from, to string) error {
	time.Sleep(200 * time.Millisecond)
	return f.OS.Rename(from, to)
}

func TestTheAnswerToAChangeOfKeysComesWhenTheNewOneIsInItsPlace(t *testing.T) {
	t.Parallel()
	for _, emergency := range []bool{false, true} {
		t.Run(fmt.Sprintf("emergency=%v", emergency), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			alpha := r.host("alpha")
			alpha.files = slowFiles{}
			alpha.start().online(true)
			report, err := r.RotateKeys(t.Context(), api.KeyRotation{Server: "alpha", Emergency: emergency}, nil)
			must(t, err)
			if report.Count(api.KeyRotated) != 1 || report.Results[0].PublicKey != alpha.key() {
				t.Errorf("report %+v, the agent's key is %s", report, alpha.key())
			}
			keys, err := r.FleetKeys(t.Context())
			must(t, err)
			if len(keys.Servers) != 1 || keys.Servers[0].State != "current" || keys.Servers[0].PublicKey != alpha.key() {
				t.Errorf("core accepts %+v, the agent's key is %s", keys.Servers, alpha.key())
			}
		})
	}
}

func TestInAnEmergencyTheOldKeyIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	alpha := r.host("alpha").start()
	alpha.online(true)
	report, err := r.RotateKeys(t.Context(), api.KeyRotation{Server: "alpha", Emergency: true}, nil)
	must(t, err)
	if report.Count(api.KeyRotated) != 1 {
		t.Fatalf("report %+v", report)
	}
	keys, err := r.FleetKeys(t.Context())
	must(t, err)
	if len(keys.Servers) != 1 || keys.Servers[0].State != "current" || keys.Servers[0].PublicKey != report.Results[0].PublicKey {
		t.Errorf("core accepts %+v", keys.Servers)
	}
	alpha.stop()
	alpha.online(false)
	_, err = r.RotateKeys(t.Context(), api.KeyRotation{Server: "alpha", Emergency: true}, nil)
	if err == nil {
		t.Error("an agent that is away got another key")
	}
}

func TestCoreChangesItsKeyAndStrandsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	alpha, beta, late := r.host("alpha").start(), r.host("beta").start(), r.host("late")
	alpha.online(true)
	beta.online(true)
	beta.stop()
	beta.online(false)
	old := alpha.pin()
	report, err := r.RotateKeys(t.Context(), api.KeyRotation{Core: true}, nil)
	must(t, err)
	want := map[string]api.KeyStatus{"alpha": api.KeyRotated, "beta": api.KeySkipped}
	if diff := cmp.Diff(want, statuses(report)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	version, err := r.Version(t.Context())
	must(t, err)
	if version.PublicKey != report.PublicKey || version.PublicKey == old {
		t.Errorf("core says its key is %s, the report %s", version.PublicKey, report.PublicKey)
	}
	r.eventually("alpha pins the new key", func() bool { return alpha.pin() == report.PublicKey })
	if _, err := r.RotateKeys(t.Context(), api.KeyRotation{Core: true}, nil); err == nil {
		t.Error("the key was changed again while beta still needs the one before")
	}
	r.stop()
	r.start()
	alpha.online(true)
	beta.start().online(true)
	r.eventually("beta pins the new key", func() bool { return beta.pin() == report.PublicKey })
	keys, err := r.FleetKeys(t.Context())
	must(t, err)
	if len(keys.Core) != 2 {
		t.Errorf("core has %+v while an onboarding key still names the old one", keys.Core)
	}
	late.start().online(true)
	r.eventually("late pins the new key", func() bool { return late.pin() == report.PublicKey })
	r.eventually("core has one key again", func() bool {
		keys, err := r.FleetKeys(t.Context())
		return err == nil && len(keys.Core) == 1
	})
	if left, _ := filepath.Glob(filepath.Join(r.dir, "keys", "core.key*")); len(left) != 1 {
		t.Errorf("on disk there are %v", left)
	}
}

func TestADisabledServerIsRefusedUntilItIsEnabled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	alpha := r.host("alpha").start()
	alpha.online(true)
	begun := time.Now()
	must(t, r.DisableServer(t.Context(), "alpha"))
	alpha.online(false)
	if took := time.Since(begun); took > 5*time.Second { // a second, and a loaded machine
		t.Errorf("the session ended after %v", took)
	}
	r.stop()
	r.start()
	keys, err := r.FleetKeys(t.Context())
	must(t, err)
	if keys.Servers[0].Shown {
		t.Error("it was let in after a restart of core")
	}
	must(t, r.EnableServer(t.Context(), "alpha"))
	alpha.online(true)
}

func TestAServerThatACommitDisablesIsRefusedUntilOneEnablesIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	repo := gitserver.New(t)
	repo.Commit(map[string]string{"fleet.toml": server}, "in service")
	r.addSync("main", repo)
	r.run("main")
	alpha, beta := r.host("alpha").start(), r.host("beta").start()
	alpha.online(true)
	beta.online(true)
	declare := func(enabled string) {
		t.Helper()
		repo.Commit(map[string]string{"fleet.toml": "[[server]]\nname = \"alpha\"\nenabled = " + enabled + "\n"}, enabled)
		r.run("main")
	}
	declare("false")
	begun := time.Now()
	alpha.online(false)
	if took := time.Since(begun); took > 5*time.Second { // a second, and a loaded machine
		t.Errorf("the session ended after %v", took)
	}
	shown, err := r.Server(t.Context(), "alpha")
	must(t, err)
	if shown.Enabled || shown.Disabled || !strings.Contains(shown.Text, "disabled by its declaration") {
		t.Errorf("server %+v", shown)
	}
	r.eventually("the agent came back and was refused", func() bool {
		return strings.Contains(r.log.String(), "the server is disabled by its declaration")
	})
	alpha.online(false)
	beta.online(true)
	declare("true")
	alpha.online(true)
	events, err := r.Events(t.Context(), api.EventFilter{Page: api.Page{Limit: 100}})
	must(t, err)
	var told []string
	for _, e := range events {
		if e.Kind == "key" && strings.Contains(e.Text, "by its declaration") {
			told = append(told, e.Server+": "+e.Text)
		}
	}
	want := []string{
		"alpha: server not disabled by its declaration any more, its key is accepted again",
		"alpha: server disabled by its declaration, its key is refused",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("the history, newest first (-want +got):\n%s", diff)
	}
}
