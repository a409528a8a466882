package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core"
	"github.com/varanhq/varan/internal/settings"
	"github.com/varanhq/varan/sync/sops"
)

// tierKeyFiles are the key files that the environment names for a core.
func tierKeyFiles() (core.KeyFiles, error) {
	var table struct {
		SOPS core.SOPSSettings `key:"sops"`
	}
	if _, err := settings.Load(&table, settings.Source{Env: os.Getenv}); err != nil {
		return core.KeyFiles{}, err
	}
	return table.SOPS.KeyFiles(), nil
}

// userIdentities are the private keys of whoever runs the command, from the places where
// SOPS looks for them. The variables that name a command to run have no effect.
func userIdentities(ageFiles, pgpFiles []string) (*sops.Identities, error) {
	ids := &sops.Identities{}
	if name := os.Getenv("SOPS_AGE_KEY_FILE"); name != "" {
		ageFiles = append(ageFiles, name)
	}
	if name := os.Getenv("SOPS_AGE_SSH_PRIVATE_KEY_FILE"); name != "" {
		ageFiles = append(ageFiles, name)
	}
	if dir, err := os.UserConfigDir(); err == nil && os.Getenv("SOPS_AGE_KEY_FILE") == "" {
		name := filepath.Join(dir, "sops", "age", "keys.txt")
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			ageFiles = append(ageFiles, name)
		}
	}
	for _, name := range ageFiles {
		if err := addKeyFile(name, ids.AddAge); err != nil {
			return nil, err
		}
	}
	for _, name := range pgpFiles {
		if err := addKeyFile(name, func(data []byte) error { return addPrivate(ids, data) }); err != nil {
			return nil, err
		}
	}
	if text := os.Getenv("SOPS_AGE_KEY"); text != "" {
		if err := ids.AddAge([]byte(strings.Join(strings.Fields(text), "\n"))); err != nil {
			return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("SOPS_AGE_KEY: %w", err)}
		}
	}
	return ids, nil
}

func addKeyFile(name string, add func([]byte) error) error {
	data, err := os.ReadFile(name) //nolint:gosec // the file that this very user names
	if err == nil {
		err = add(data)
	}
	if err != nil {
		return &exit.Error{Code: exit.Config, Err: fmt.Errorf("key file %s: %w", name, err)}
	}
	return nil
}

// addPrivate adds a PGP key that may be a public one, which opens nothing.
func addPrivate(ids *sops.Identities, data []byte) error {
	if strings.Contains(string(data), "BEGIN PGP PUBLIC KEY") {
		return nil
	}
	return ids.AddPGP(data)
}

// localKeyring opens what can be opened here, for validate and plan without core. Without
// key files for tiers, the user's own identities stand for both.
func localKeyring(files core.KeyFiles) (*sops.Keyring, error) {
	if len(files.Age)+len(files.PGP) > 0 {
		ring, err := core.Keyring(files)
		if err != nil {
			return nil, &exit.Error{Code: exit.Config, Err: err}
		}
		ring.Offline = true
		return ring, nil
	}
	ids, err := userIdentities(nil, nil)
	if err != nil {
		return nil, err
	}
	return &sops.Keyring{Trusted: ids, Untrusted: ids, Offline: true}, nil
}
