package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/keyfile"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// registration records that core knows this agent's key. An onboarding token is of no
// use from then on.
type registration struct {
	Server string    `json:"server"`
	Token  string    `json:"token,omitempty"` // the id of the token that was consumed
	At     time.Time `json:"at"`
}

func registrationPath(dir string) string { return filepath.Join(dir, "registration.json") }

func pinPath(dir string) string { return filepath.Join(dir, "keys", "core.pub") }

func loadRegistration(dir string) (reg registration, ok bool, err error) {
	text, err := os.ReadFile(registrationPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return registration{}, false, nil
	}
	if err != nil {
		return registration{}, false, fmt.Errorf("read registration: %w", err)
	}
	if err := json.Unmarshal(text, &reg); err != nil {
		return registration{}, false, &ConfigError{
			Err:  fmt.Errorf("read registration %s: %w", registrationPath(dir), err),
			Hint: "remove the file; the key decides who the agent is",
		}
	}
	return reg, true, nil
}

// identity is who the agent is and whom it believes.
type identity struct {
	dir        string
	key        noise.PrivateKey
	registered bool
	// pins are the keys core may show. There is no trust on first use: without a pin
	// only a core that matches the token's fingerprint is believed.
	pins []noise.PublicKey
	// token is set while the agent still has to onboard.
	token *wire.OnboardingToken
}

// loadIdentity reads, or at the first start makes, everything in dir/keys.
func loadIdentity(cfg Config) (*identity, error) {
	_, registered, err := loadRegistration(cfg.Dir)
	if err != nil {
		return nil, err
	}
	id := &identity{dir: cfg.Dir, registered: registered}
	if id.pins, err = loadPins(cfg); err != nil {
		return nil, err
	}
	if err := id.useToken(cfg); err != nil {
		return nil, err
	}
	if len(id.pins) == 0 && id.token == nil {
		return nil, &ConfigError{
			Err: errors.New("nothing says which core to trust"),
			Hint: "give an onboarding token (--onboarding-key-file; `varan onboarding-key create` on core makes one), " +
				"or core's public key (--core-public-key)",
		}
	}
	key, created, err := keyfile.LoadOrCreate(filepath.Join(cfg.Dir, "keys", "agent.key"))
	if err != nil {
		return nil, &ConfigError{Err: fmt.Errorf("agent key: %w", err), Hint: "the key must be readable by the agent alone"}
	}
	if created {
		cfg.Logger.Info("created the agent's key", slog.String("public_key", key.Public().String()))
	}
	id.key = key
	return id, nil
}

// loadPins gives the keys from the configuration, or else the one that onboarding left.
func loadPins(cfg Config) ([]noise.PublicKey, error) {
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
	if len(pins) > 0 {
		return pins, nil
	}
	text, err := os.ReadFile(pinPath(cfg.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pinned core key: %w", err)
	}
	pin, err := noise.ParsePublicKey(string(text))
	if err != nil {
		return nil, &ConfigError{
			Err:  fmt.Errorf("pinned core key %s: %w", pinPath(cfg.Dir), err),
			Hint: "restore the file, or give --core-public-key",
		}
	}
	return []noise.PublicKey{pin}, nil
}

func parsePin(text string) (noise.PublicKey, error) {
	path, isFile := strings.CutPrefix(text, "file:")
	if isFile {
		content, err := os.ReadFile(path)
		if err != nil {
			return noise.PublicKey{}, err
		}
		text = string(content)
	}
	return noise.ParsePublicKey(text)
}

// useToken decides whether the configured token still has a purpose.
func (id *identity) useToken(cfg Config) error {
	if cfg.OnboardingToken.IsEmpty() {
		return nil
	}
	if id.registered {
		cfg.Logger.Warn("ignoring the onboarding token: this agent is registered; remove the token from its configuration")
		return nil
	}
	token, err := wire.ParseOnboardingToken(strings.TrimSpace(cfg.OnboardingToken.Reveal()))
	if err != nil {
		return &ConfigError{Err: err, Hint: "copy the token as `varan onboarding-key create` printed it"}
	}
	matches := func(pin noise.PublicKey) bool { return pin.Fingerprint() == token.Core() }
	if len(id.pins) > 0 && !slices.ContainsFunc(id.pins, matches) {
		return &ConfigError{
			Err:  fmt.Errorf("the onboarding token is for the core with fingerprint %s, which is not the pinned one", token.Core()),
			Hint: "use a token of the pinned core, or remove the pin",
		}
	}
	id.token = &token
	return nil
}

// onboarded makes durable that core has our key: first whom we believe, then that the
// token is spent. After a crash before the end the next start joins again, which core
// grants to the same key.
func (id *identity) onboarded(core noise.PublicKey, server string, at time.Time) error {
	if err := atomicfile.Write(pinPath(id.dir), core.PEM(), 0o644); err != nil {
		return fmt.Errorf("store the pinned core key: %w", err)
	}
	text, err := json.Marshal(registration{Server: server, Token: id.token.ID(), At: at.UTC()})
	if err != nil {
		return fmt.Errorf("encode registration: %w", err)
	}
	if err := atomicfile.Write(registrationPath(id.dir), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("store registration: %w", err)
	}
	id.pins = []noise.PublicKey{core}
	id.token, id.registered = nil, true
	return nil
}
