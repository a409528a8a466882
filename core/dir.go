package core

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/internal/keyfile"
)

// secretSize is the length of the sealing and the digest key.
const secretSize = store.SealKeySize

// dataDir is where a core keeps everything:
//
//	lock              held while a core runs
//	varan.db          the store
//	mirrors/          clones; may be deleted while no core runs
//	acme/             account and certificates of listeners with acme
//	backups/          encrypted backups, unless settings say elsewhere
//	.backup/          what a backup is made from, while it is made
//	.restoring/       what a restore did not finish
//	keys/core.key     identity towards agents; core.key.next and core.key.prev while it changes
//	keys/seal.key     opens the secrets in the store
//	keys/digest.key   keeps digests over secrets from being guessed at
//	keys/age-TIER.key, keys/pgp-TIER.asc
//	                  open encrypted files for the servers of a tier; optional
type dataDir string

func (d dataDir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// clean removes what a core that died left of files that it was writing, and of a restore whose
// last step was to remove its place.
func (d dataDir) clean() error {
	dirs := []string{string(d), d.path("keys")}
	err := filepath.WalkDir(d.path("acme"), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	return errors.Join(err, atomicfile.Clean(dirs...), os.RemoveAll(d.path(restoringDir)))
}

// keys are the files of keys/.
type keys struct {
	core         keyfile.Keys
	coreFiles    *keyfile.Set
	seal, digest []byte
}

// Init makes a data directory with its keys and database, and an administrator's API key,
// which is returned this one time. It is an *api.Error when that was done before; one that
// was cut off is finished.
func Init(ctx context.Context, dir string) (key fleet.Secret, err error) {
	d := dataDir(dir)
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fleet.Secret{}, fmt.Errorf("create the data directory: %w", err)
	}
	unlock, err := d.lock()
	if err != nil {
		return fleet.Secret{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := d.whole(); err != nil {
		return fleet.Secret{}, err
	}
	if err := os.MkdirAll(d.path("mirrors"), 0o700); err != nil {
		return fleet.Secret{}, fmt.Errorf("create the data directory: %w", err)
	}
	keys, err := d.createKeys()
	if err != nil {
		return fleet.Secret{}, err
	}
	s, err := store.Open(ctx, store.Config{Path: d.path("varan.db"), SealKey: keys.seal})
	if err != nil {
		return fleet.Secret{}, err
	}
	key, err = firstKey(ctx, s, dir)
	return key, errors.Join(err, s.Close())
}

func firstKey(ctx context.Context, s *store.Store, dir string) (fleet.Secret, error) {
	have, err := s.Keys(ctx)
	if err != nil {
		return fleet.Secret{}, err
	}
	if len(have) > 0 {
		return fleet.Secret{}, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: dir + " is already initialised",
			Hint: "varan api-key create makes another API key, on a core that runs",
		}
	}
	id, key, hash := auth.NewKey()
	if _, err := s.AddKey(ctx, id, "admin", hash); err != nil {
		return fleet.Secret{}, err
	}
	return key, nil
}

func (d dataDir) createKeys() (keys, error) {
	if _, _, err := keyfile.LoadOrCreate(d.path("keys", "core.key")); err != nil {
		return keys{}, err
	}
	for _, name := range []string{"seal.key", "digest.key"} {
		secret := make([]byte, secretSize)
		_, _ = rand.Read(secret) // never fails: it crashes the program instead
		err := atomicfile.Create(d.path("keys", name), []byte(hex.EncodeToString(secret)+"\n"), 0o600)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return keys{}, fmt.Errorf("create %s: %w", name, err)
		}
	}
	return d.loadKeys()
}

func (d dataDir) loadKeys() (k keys, err error) {
	if k.coreFiles, k.core, err = d.loadCoreKey(); err != nil {
		return k, err
	}
	if k.seal, err = d.loadSecret("seal.key"); err != nil {
		return k, err
	}
	k.digest, err = d.loadSecret("digest.key")
	return k, err
}

func (d dataDir) loadSecret(name string) ([]byte, error) {
	path := d.path("keys", name)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("key file %s is not a plain file that only its owner can read: chmod 600 it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != secretSize {
		return nil, fmt.Errorf("key file %s does not hold %d bytes in hex", path, secretSize)
	}
	return secret, nil
}

// lock keeps a second core out of the directory until unlock is called.
func (d dataDir) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(d.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := d.loadKeys()
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: "another core runs in " + string(d),
			Hint: "stop it, or give this one a directory of its own",
		}
	}
	return func() error { return errors.Join(unlockFile(f), f.Close()) }, nil
}
