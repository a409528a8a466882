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
	"sync"
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
	dir   string
	files *keyfile.Set
	on    atomicfile.On

	mu         sync.Mutex // is held while files change, so that sessions do so in turn
	keys       keyfile.Keys
	registered bool
	// pins are the keys core may show, the one in use first. There is no trust on first use:
	// without a pin only a core that matches the token's fingerprint is believed.
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
	keyPath := filepath.Join(cfg.Dir, "keys", "agent.key")
	id := &identity{
		dir: cfg.Dir, registered: registered, files: keyfile.NewSet(keyPath, cfg.KeyFiles), on: atomicfile.On{FS: cfg.KeyFiles},
	}
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
	// Before a key is made: an earlier start may have been cut off while it changed keys.
	if id.keys, err = id.files.Load(); err == nil && id.keys.IsZero() {
		var created bool
		if id.keys.Current, created, err = keyfile.LoadOrCreate(keyPath); created {
			cfg.Logger.Info("created the agent's key", slog.String("public_key", id.keys.Current.Public().String()))
		}
	}
	if err != nil {
		return nil, &ConfigError{Err: fmt.Errorf("agent key: %w", err), Hint: "the key must be readable by the agent alone"}
	}
	return id, nil
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

// maxLeftover is how long a spent token may lie about in a file (rule O10).
const maxLeftover = 24 * time.Hour

// leftover removes a token that is spent. In a file that the agent cannot change it is borne
// with for a day; one in the environment or in the arguments is not the agent's to remove.
func leftover(cfg Config) error {
	if cfg.ForgetToken == nil {
		cfg.Logger.Warn("ignoring the onboarding token: this agent is registered; remove the token from its configuration")
		return nil
	}
	err := cfg.ForgetToken()
	if err == nil {
		cfg.Logger.Info("removed the onboarding token: this agent is registered")
		return nil
	}
	reg, _, regErr := loadRegistration(cfg.Dir)
	if age := time.Since(reg.At); regErr == nil && age > maxLeftover {
		return &ConfigError{
			Err:  fmt.Errorf("an onboarding token that was spent %s ago is still in the configuration: %w", age.Round(time.Hour), err),
			Hint: "remove it from there: it is of no use, and a key in a file gets copied",
		}
	}
	cfg.Logger.Warn("ignoring the onboarding token: this agent is registered, and the token could not be removed", slog.Any("err", err))
	return nil
}

// Registered reports whether the agent in a state directory has joined.
func Registered(dir string) bool {
	_, ok, err := loadRegistration(dir)
	return ok && err == nil
}

// useToken decides whether the configured token still has a purpose.
func (id *identity) useToken(cfg Config) error {
	if cfg.OnboardingToken.IsEmpty() {
		return nil
	}
	if id.registered {
		return leftover(cfg)
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
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := id.on.Write(pinPath(id.dir), core.PEM(), 0o644); err != nil {
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
