package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// dyingFS does so many steps and no more.
type dyingFS struct {
	atomicfile.OS
	left int
}

var errDied = errors.New("the process is dead")

func (d *dyingFS) step() error {
	d.left--
	if d.left < 0 {
		return errDied
	}
	return nil
}

func (d *dyingFS) Temp(path string, data []byte, perm fs.FileMode) (string, error) {
	if err := d.step(); err != nil {
		return "", err
	}
	return d.OS.Temp(path, data, perm)
}

func (d *dyingFS) Rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.OS.Rename(from, to)
}

func (d *dyingFS) Remove(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	return d.OS.Remove(path)
}

func publicKeys(t *testing.T, n int) []noise.PublicKey {
	t.Helper()
	keys := make([]noise.PublicKey, n)
	for i := range keys {
		key, err := noise.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key.Public()
	}
	return keys
}

// pinning is an agent's directory, and its configuration when that names a key.
func pinning(t *testing.T, configured ...noise.PublicKey) Config {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	if err := os.Mkdir(filepath.Join(cfg.Dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, key := range configured {
		cfg.CorePublicKeys = append(cfg.CorePublicKeys, key.String())
	}
	return cfg
}

// believing makes what an agent that starts would believe.
func believing(t *testing.T, cfg Config, files atomicfile.FS) *identity {
	t.Helper()
	pins, err := loadPins(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{dir: cfg.Dir, on: atomicfile.On{FS: files}, pins: pins}
}

func TestACrashWhileCoresKeyIsPinnedLeavesOneThatCoreAnswersWith(t *testing.T) {
	t.Parallel()
	keys := publicKeys(t, 2)
	old, next := keys[0], keys[1]
	stages := map[string]struct {
		told wire.CoreKeys
		// answers are the keys that core has at that stage.
		answers []noise.PublicKey
	}{
		"announced": {wire.CoreKeys{Current: old.String(), Next: next.String()}, []noise.PublicKey{old, next}},
		"cut over":  {wire.CoreKeys{Current: next.String()}, []noise.PublicKey{next, old}},
	}
	for name, stage := range stages {
		for _, configured := range []bool{false, true} {
			for steps := 0; ; steps++ {
				cfg := pinning(t)
				if configured {
					cfg = pinning(t, old)
				} else if err := os.WriteFile(pinPath(cfg.Dir), old.PEM(), 0o644); err != nil {
					t.Fatal(err)
				}
				err := believing(t, cfg, &dyingFS{left: steps}).learn(stage.told)
				again := believing(t, cfg, atomicfile.OS{})
				if len(again.pins) == 0 || !slices.Contains(stage.answers, again.pins[0]) {
					t.Errorf("%s, dead after %d steps: the agent believes %v", name, steps, again.pins)
				}
				if err := again.learn(stage.told); err != nil {
					t.Fatal(err)
				}
				if got := believing(t, cfg, nil).pins; got[0].String() != stage.told.Current || len(got) > 2 {
					t.Errorf("%s, told again after %d steps: the agent believes %v", name, steps, got)
				}
				if err == nil {
					break
				}
			}
		}
	}
}

func TestAConfiguredKeyThatCoreReplacedStandsForTheNewOne(t *testing.T) {
	t.Parallel()
	keys := publicKeys(t, 4)
	cfg := pinning(t, keys[0])
	for i := range 2 {
		id := believing(t, cfg, atomicfile.OS{})
		for _, told := range []wire.CoreKeys{
			{Current: keys[i].String(), Next: keys[i+1].String()}, {Current: keys[i+1].String()},
		} {
			if err := id.learn(told); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := believing(t, cfg, nil).pins; !slices.Equal(got, keys[2:3]) {
		t.Errorf("after two changes the agent believes %v, want %v", got, keys[2])
	}
	cfg.CorePublicKeys = []string{keys[3].String()}
	if got := believing(t, cfg, nil).pins; !slices.Equal(got, keys[3:]) {
		t.Errorf("a configuration for another core: the agent believes %v, want %v", got, keys[3])
	}
}

func TestAnAgentDropsTheOldKeyThatCoreNoLongerShows(t *testing.T) {
	t.Parallel()
	keys := publicKeys(t, 2)
	cfg := pinning(t, keys[0])
	id := believing(t, cfg, atomicfile.OS{})
	if err := id.learn(wire.CoreKeys{Current: keys[0].String(), Next: keys[1].String()}); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]noise.PublicKey{keys, keys[1:]} {
		if err := id.changedCore(keys[i]); err != nil {
			t.Fatal(err)
		}
		if got := believing(t, cfg, nil).pins; !slices.Equal(got, want) {
			t.Errorf("shown key %d the agent believes %v, want %v", i, got, want)
		}
	}
}
