package agent_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// noToken is a configuration without an onboarding token.
func noToken() fleet.Secret { return fleet.Secret{} }

// onboarding makes the agent one that has a token of its core and nothing else.
func (r *rig) onboarding() wire.OnboardingToken {
	token := wire.NewOnboardingToken(r.core.key.Public().Fingerprint())
	r.cfg.CorePublicKeys = nil
	r.cfg.OnboardingToken = fleet.NewSecret(token.Reveal() + "\n")
	return token
}

func config(t *testing.T) agent.Config {
	t.Helper()
	return agent.Config{
		Dir: t.TempDir(), Server: "alpha", Cores: []string{"ws://core.example"},
		Engine: fakeengine.New("alpha"), Logger: slog.New(slog.DiscardHandler),
	}
}

func publicKey(t *testing.T) noise.PublicKey {
	t.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func TestConfigurationFaultsSayWhatToDo(t *testing.T) {
	cases := map[string]struct {
		change func(t *testing.T, c *agent.Config)
		// message and hint must be found in the error.
		message, hint string
	}{
		"N03 neither pin nor token": {
			func(*testing.T, *agent.Config) {},
			"nothing says which core to trust", "onboarding",
		},
		"N03 the other option is named too": {
			func(*testing.T, *agent.Config) {},
			"nothing says which core to trust", "--core-public-key",
		},
		"no core": {
			func(_ *testing.T, c *agent.Config) { c.Cores = nil }, "no address of core", "--core",
		},
		"an address that is none": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				c.CorePublicKeys = []string{publicKey(t).String()}
				c.Cores = []string{"ftp://core"}
			}, "ftp", "wss://",
		},
		"a proxy that is none": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				c.CorePublicKeys = []string{publicKey(t).String()}
				c.Proxy = fleet.NewSecret("user:canary")
			}, "proxy", "http://",
		},
		"no directory": {
			func(_ *testing.T, c *agent.Config) { c.Dir = "" }, "no state directory", "--dir",
		},
		"a name that is none": {
			func(_ *testing.T, c *agent.Config) { c.Server = "a b" }, "not a server name", "--connect-as",
		},
		"a token that is none": {
			func(_ *testing.T, c *agent.Config) { c.OnboardingToken = fleet.NewSecret("O_canary_O") }, "onboarding token", "varan onboarding-key",
		},
		"a token of another core": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				c.OnboardingToken = fleet.NewSecret(wire.NewOnboardingToken(publicKey(t).Fingerprint()).Reveal())
				c.CorePublicKeys = []string{publicKey(t).String()}
			}, "not the pinned one", "pin",
		},
		"a public key that is none": {
			func(_ *testing.T, c *agent.Config) { c.CorePublicKeys = []string{"hello"} }, "core public key", "file:",
		},
		"a public key file that is not there": {
			func(_ *testing.T, c *agent.Config) { c.CorePublicKeys = []string{"file:/does/not/exist"} }, "/does/not/exist", "file:",
		},
		"three public keys": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				for range 3 {
					c.CorePublicKeys = append(c.CorePublicKeys, publicKey(t).String())
				}
			}, "3 core public keys", "second",
		},
		"a key that others may read": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				c.CorePublicKeys = []string{publicKey(t).String()}
				mustNew(t, *c).Close()
				if err := os.Chmod(filepath.Join(c.Dir, "keys", "agent.key"), 0o644); err != nil {
					t.Fatal(err)
				}
			}, "agent key", "agent alone",
		},
		"a CA file without certificates": {
			func(t *testing.T, c *agent.Config) {
				t.Helper()
				c.CorePublicKeys = []string{publicKey(t).String()}
				c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
				if err := os.WriteFile(c.CAFile, []byte("nothing"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, "no certificate", "PEM",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			tc.change(t, &c)
			_, err := agent.New(c)
			fault, ok := errors.AsType[*agent.ConfigError](err)
			if !ok {
				t.Fatalf("New = %v, want a ConfigError", err)
			}
			if !strings.Contains(err.Error(), tc.message) || !strings.Contains(fault.Hint, tc.hint) {
				t.Errorf("message %q, hint %q; want %q and %q in them", err, fault.Hint, tc.message, tc.hint)
			}
			if strings.Contains(err.Error()+fault.Hint, "canary") {
				t.Error("the token is quoted")
			}
		})
	}
}

func mustNew(t *testing.T, c agent.Config) *agent.Agent {
	t.Helper()
	a, err := agent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestKeysAreKeptAndPrivate(t *testing.T) {
	c := config(t)
	c.CorePublicKeys = []string{string(publicKey(t).PEM())}
	mustNew(t, c).Close()
	path := filepath.Join(c.Dir, "keys", "agent.key")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustNew(t, c).Close()
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the key changed: %v", err)
	}
	for path, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestPinMayBeAFile(t *testing.T) {
	c := config(t)
	path := filepath.Join(t.TempDir(), "core.pub")
	if err := os.WriteFile(path, publicKey(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	c.CorePublicKeys = []string{"file:" + path}
	mustNew(t, c).Close()
}

func TestTwoAgentsCannotShareADirectory(t *testing.T) {
	c := config(t)
	c.CorePublicKeys = []string{publicKey(t).String()}
	first := mustNew(t, c)
	if _, err := agent.New(c); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	first.Close()
	mustNew(t, c).Close()
}

func TestServerName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for connectAs, want := range map[string]string{
		"":                host,
		"$(hostname)":     host,
		"dc1-$(hostname)": "dc1-" + host,
		"web-1":           "web-1",
		"Web.Server_1":    "Web.Server_1",
	} {
		if got, err := agent.ServerName(t.TempDir(), connectAs); err != nil || got != want {
			t.Errorf("ServerName(%q) = %q, %v; want %q", connectAs, got, err, want)
		}
	}
	for _, connectAs := range []string{"$(whoami)", "`hostname`x y", "a/b", "../x", "a\x1b[31m", "\u202e", strings.Repeat("x", 64)} {
		if got, err := agent.ServerName(t.TempDir(), connectAs); err == nil {
			t.Errorf("ServerName(%q) = %q, want an error", connectAs, got)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "registration.json"), []byte(`{"server":"alpha"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := agent.ServerName(dir, ""); err != nil || got != "alpha" {
		t.Errorf("name of a registered agent: %q, %v; want the one it registered with", got, err)
	}
}
