package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// pinPath is where the key of core is kept. Beside it are NAME.next, that will take its place,
// and NAME.replaced, a list of those whose place was taken: by it a configuration that names
// an old key is recognised as one for this core.
func pinPath(dir string) string { return filepath.Join(dir, "keys", "core.pub") }

func nextPinPath(dir string) string { return pinPath(dir) + ".next" }

func replacedPinsPath(dir string) string { return pinPath(dir) + ".replaced" }

// storedPins are the pins on disk.
type storedPins struct {
	current, next noise.PublicKey // zero when there is no file
	replaced      []noise.PublicKey
}

func (p storedPins) list() []noise.PublicKey {
	var pins []noise.PublicKey
	for _, pin := range []noise.PublicKey{p.current, p.next} {
		if !pin.IsZero() && !slices.Contains(pins, pin) {
			pins = append(pins, pin)
		}
	}
	return pins
}

// loadPins gives the keys from the configuration, or else those on disk. Where the
// configuration names a key that core had before, those on disk are newer.
func loadPins(cfg Config) ([]noise.PublicKey, error) {
	configured, err := configuredPins(cfg)
	if err != nil {
		return nil, err
	}
	stored, err := readPins(cfg.Dir)
	if err != nil {
		return nil, &ConfigError{
			Err:  fmt.Errorf("pinned core key: %w", err),
			Hint: "restore the files in " + filepath.Dir(pinPath(cfg.Dir)) + ", or remove them and give --core-public-key",
		}
	}
	if len(configured) == 0 || stored.current.IsZero() {
		return slices.Concat(configured, stored.list()), nil
	}
	known := slices.Concat(stored.list(), stored.replaced)
	if !slices.ContainsFunc(configured, func(pin noise.PublicKey) bool { return slices.Contains(known, pin) }) {
		return configured, nil // another core
	}
	pins := stored.list()
	for _, pin := range configured {
		switch {
		case slices.Contains(stored.replaced, pin):
			cfg.Logger.Warn("core replaced the key that the configuration names; the new one is pinned on disk, put it into the configuration too",
				slog.String("configured", pin.String()), slog.String("pinned", stored.current.String()))
		case !slices.Contains(pins, pin) && len(pins) < 2:
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

func configuredPins(cfg Config) ([]noise.PublicKey, error) {
	var pins []noise.PublicKey
	for _, text := range cfg.CorePublicKeys {
		pin, err := parsePin(text)
		if err != nil {
			return nil, &ConfigError{
				Err:  fmt.Errorf("core public key: %w", err),
				Hint: "give base64 SPKI (MCowBQYDK2VuAyEA...), PEM, or file:/path to either",
			}
		}
		pins = append(pins, pin)
	}
	if len(pins) > 2 {
		return nil, &ConfigError{
			Err:  fmt.Errorf("%d core public keys given", len(pins)),
			Hint: "a core has one key, and a second one only while it changes",
		}
	}
	return pins, nil
}

func readPins(dir string) (p storedPins, err error) {
	for path, pin := range map[string]*noise.PublicKey{pinPath(dir): &p.current, nextPinPath(dir): &p.next} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return p, err
		}
		if *pin, err = noise.ParsePublicKey(string(text)); err != nil {
			return p, fmt.Errorf("%s: %w", path, err)
		}
	}
	text, err := os.ReadFile(replacedPinsPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	for line := range strings.Lines(string(text)) {
		pin, err := noise.ParsePublicKey(strings.TrimSpace(line))
		if err != nil {
			return p, fmt.Errorf("%s: %w", replacedPinsPath(dir), err)
		}
		p.replaced = append(p.replaced, pin)
	}
	return p, err
}

// learn pins what an authenticated core says its keys are. At every moment one of the pins on
// disk is a key that core answers with.
func (id *identity) learn(keys wire.CoreKeys) error {
	current, err := noise.ParsePublicKey(keys.Current)
	if err != nil {
		return wire.Errorf(wire.CodeBadRequest, "core's key is no key")
	}
	var next noise.PublicKey
	if keys.Next != "" {
		if next, err = noise.ParsePublicKey(keys.Next); err != nil {
			return wire.Errorf(wire.CodeBadRequest, "core's next key is no key")
		}
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	stored, err := readPins(id.dir)
	if err != nil {
		return fmt.Errorf("read the pinned core keys: %w", err)
	}
	if err := id.pin(stored, current, next); err != nil {
		return fmt.Errorf("pin core's key: %w", err)
	}
	id.pins = storedPins{current: current, next: next}.list()
	return nil
}

// pin writes what has to change. The caller holds the lock.
func (id *identity) pin(stored storedPins, current, next noise.PublicKey) error {
	write := func(path string, pin noise.PublicKey) error { return id.on.Write(path, pin.PEM(), 0o644) }
	if stored.current.IsZero() && len(id.pins) > 0 { // so far the configuration alone said it
		stored.current = id.pins[0]
		if err := write(pinPath(id.dir), stored.current); err != nil {
			return err
		}
	}
	newest := next
	if newest.IsZero() {
		newest = current
	}
	if newest != stored.current && newest != stored.next {
		if err := write(nextPinPath(id.dir), newest); err != nil {
			return err
		}
		stored.next = newest
	}
	if current != stored.current {
		if err := id.retirePin(stored, current); err != nil {
			return err
		}
		if err := write(pinPath(id.dir), current); err != nil {
			return err
		}
	}
	if next.IsZero() && !stored.next.IsZero() {
		return id.on.Remove(nextPinPath(id.dir))
	}
	return nil
}

// retirePin adds the key whose place current takes to the list of replaced ones.
func (id *identity) retirePin(stored storedPins, current noise.PublicKey) error {
	replaced := slices.DeleteFunc(append(stored.replaced, stored.current), func(pin noise.PublicKey) bool {
		return pin == current || pin.IsZero()
	})
	var text strings.Builder
	for i, pin := range replaced {
		if !slices.Contains(replaced[:i], pin) {
			text.WriteString(pin.String() + "\n")
		}
	}
	return id.on.Write(replacedPinsPath(id.dir), []byte(text.String()), 0o644)
}

// changedCore pins the next key alone once core shows it to an agent whose hint was the old
// one: it does not have that any more.
func (id *identity) changedCore(shown noise.PublicKey) error {
	stored, err := readPins(id.dir)
	if err != nil || stored.next.IsZero() || shown != stored.next || shown == stored.current {
		return err
	}
	return id.learn(wire.CoreKeys{Current: shown.String()})
}
