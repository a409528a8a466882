package core

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/sync/sops"
)

// KeyFiles are files with the private keys that open encrypted files, beside those of the
// data directory.
type KeyFiles struct {
	// Age files hold age identities or an SSH key, PGP files an armoured private key; by
	// the tier they are for.
	Age, PGP map[fleet.Tier][]string
}

// AgeKeyFile is where a core in dir has the age identities of a tier.
func AgeKeyFile(dir string, tier fleet.Tier) string {
	return dataDir(dir).path("keys", "age-"+string(tier)+".key")
}

// Keyring reads key files without a data directory.
func Keyring(files KeyFiles) (*sops.Keyring, error) { return dataDir("").loadKeyring(files) }

// loadKeyring reads the identities of the data directory, where they may be missing, and
// those that were named, which may not.
func (d dataDir) loadKeyring(files KeyFiles) (*sops.Keyring, error) {
	ring := &sops.Keyring{Trusted: &sops.Identities{}, Untrusted: &sops.Identities{}}
	for _, tier := range []fleet.Tier{fleet.TierTrusted, fleet.TierUntrusted} {
		ids := ring.Trusted
		if tier == fleet.TierUntrusted {
			ids = ring.Untrusted
		}
		if err := d.loadIdentities(AgeKeyFile(string(d), tier), files.Age[tier], ids.AddAge); err != nil {
			return nil, err
		}
		if err := d.loadIdentities(d.path("keys", "pgp-"+string(tier)+".asc"), files.PGP[tier], ids.AddPGP); err != nil {
			return nil, err
		}
	}
	return ring, nil
}

// loadIdentities reads one kind of identities of a tier.
func (d dataDir) loadIdentities(own string, named []string, add func([]byte) error) error {
	if d != "" {
		if err := addIdentities(own, add); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range named {
		if err := addIdentities(name, add); err != nil {
			return err
		}
	}
	return nil
}

func addIdentities(name string, add func([]byte) error) error {
	data, err := readPrivate(name)
	if err != nil {
		return err
	}
	if err := add(data); err != nil {
		return &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: fmt.Sprintf("key file %s: %v", name, err), Hint: "varan key age generate makes a file as it has to be",
		}
	}
	return nil
}

// readPrivate reads a key file that only its owner can read.
func readPrivate(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict,
			Message: fmt.Sprintf("key file %s is not a plain file that only its owner can read", name), Hint: "chmod 600 " + name,
		}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return data, nil
}

// GenerateAge makes an age identity in a file and returns its recipient. A file that is
// there already is kept; with add the new identity comes after those in it, so that files
// encrypted for them are still opened.
func GenerateAge(file string, add bool, now time.Time) (string, error) {
	data, recipient, err := sops.GenerateAge(now)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(file); err == nil {
		if !add {
			return "", &api.Error{
				Status: http.StatusConflict, Code: api.CodeConflict, Message: "there are identities in " + file + " already",
				Hint: "--add puts another one beside them",
			}
		}
		have, err := readPrivate(file)
		if err != nil {
			return "", err
		}
		return recipient, atomicfile.Write(file, append(have, data...), 0o600)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", fmt.Errorf("make a directory for the key file: %w", err)
	}
	if err := atomicfile.Create(file, data, 0o600); err != nil {
		return "", fmt.Errorf("create %s: %w", file, err)
	}
	return recipient, nil
}
