// Package keyfile keeps a private key in a file that only its owner can read.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/wire/noise"
)

// maxSize is far above any key in PEM.
const maxSize = 16 << 10

// Load reads a key. It refuses a symbolic link, a file that others may read, and a
// file or directory that others may change.
func Load(path string) (noise.PrivateKey, error) {
	text, err := read(path)
	if err != nil {
		return noise.PrivateKey{}, fmt.Errorf("read key file: %w", err)
	}
	key, err := noise.ParsePrivateKey(text)
	if err != nil {
		return noise.PrivateKey{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

// LoadOrCreate is Load, and when there is no file makes a key and writes it durably,
// mode 0600 in a directory of mode 0700. created says which of the two it was.
// Processes that race for a new key all end up with the same one.
func LoadOrCreate(path string) (key noise.PrivateKey, created bool, err error) {
	key, err = Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return noise.PrivateKey{}, false, fmt.Errorf("create key directory: %w", err)
	}
	key, err = noise.GenerateKey()
	if err != nil {
		return noise.PrivateKey{}, false, err
	}
	text, err := key.PEM()
	if err != nil {
		return noise.PrivateKey{}, false, err
	}
	err = atomicfile.Create(path, text, 0o600)
	if errors.Is(err, fs.ErrExist) {
		key, err = Load(path)
		return key, false, err
	}
	if err != nil {
		return noise.PrivateKey{}, false, fmt.Errorf("create key file: %w", err)
	}
	key, err = Load(path) // the directory may be one that Load refuses
	return key, err == nil, err
}

func read(path string) ([]byte, error) {
	f, err := openNoFollow(path)
	if err != nil {
		return nil, err
	}
	text, err := readOpen(f, path)
	return text, errors.Join(err, f.Close())
}

// readOpen looks at the open file, not at its path, so that what it judged is what it
// reads.
func readOpen(f *os.File, path string) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := checkPrivate(path, info, dir); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s is too large for a key", path)
	}
	return text, err
}
