package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/varanhq/varan/fleet"
)

// ram is a directory in memory: what is in it never reaches a disk, and is gone when the
// host restarts. It is made when it is first needed.
type ram struct {
	dir string
	// onDisk is set when the policy accepts that it is no memory.
	onDisk bool
	// err says why there is none.
	err error
}

// chooseRAM finds the place: the configured directory, or one below /run or /dev/shm. Each
// agent of a host has its own, named after its state directory.
func chooseRAM(cfg *Config) ram {
	id := fleet.SumDigest([]byte(cfg.Dir)).Short()
	candidates := []string{
		"/run/varan-agent/" + id,
		"/dev/shm/varan-agent-" + strconv.Itoa(os.Geteuid()) + "/" + id,
	}
	if cfg.SecretsDir != "" {
		candidates = []string{cfg.SecretsDir}
	}
	for _, dir := range candidates {
		above := existing(dir)
		if inMemory(above) && writable(above) {
			return ram{dir: dir}
		}
	}
	if cfg.Policy.SecretsOnDisk {
		return ram{dir: filepath.Join(cfg.Dir, "secrets"), onDisk: true}
	}
	return ram{err: errors.New("the host has no file system in memory for secret files: neither /run nor /dev/shm is a tmpfs that the agent may write")}
}

// none reports whether there is no such place.
func (r ram) none() bool { return r.err != nil || r.dir == "" }

// existing is the nearest directory above, or at, a path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// ensure makes a directory below and checks that it is ours alone, and in memory: /dev/shm
// belongs to everybody.
func (r ram) ensure(elem string) (string, error) {
	if r.err != nil {
		return "", r.err
	}
	path := filepath.Join(r.dir, elem)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for secrets: %w", err)
	}
	for dir := path; len(dir) >= len(r.dir); dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		switch {
		case err != nil:
			return "", fmt.Errorf("look at the directory for secrets: %w", err)
		case !info.IsDir() || !ownedByUs(info) || info.Mode().Perm()&0o077 != 0:
			return "", fmt.Errorf("%s is not a directory of this agent alone", dir)
		}
	}
	if !r.onDisk && !inMemory(path) {
		return "", fmt.Errorf("%s is not in memory", path)
	}
	return path, nil
}

// has reports whether a file is there.
func (r ram) has(elem string) bool {
	if r.none() {
		return false
	}
	_, err := os.Lstat(filepath.Join(r.dir, elem))
	return err == nil
}

// remove drops a file or a whole directory.
func (r ram) remove(elem string) error {
	if r.none() {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(r.dir, elem)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove secrets: %w", err)
	}
	return nil
}

// ramStack is where the secret files of a stack are, below ram.dir.
func ramStack(stack string) string { return filepath.Join("stacks", fileName(stack)) }

// ramModel is where a model is that holds values which must not be on a disk.
func ramModel(stack string) string { return filepath.Join("models", fileName(stack)) }
