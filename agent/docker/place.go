package docker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// place makes the run directory hold a release's files and none of the files that an
// earlier release left there. What we did not put there is left alone.
//
// Everything goes through an os.Root: a symbolic link in the run directory leads
// nowhere outside it.
func place(dir string, release *fleet.Release, placed []string, content func(fleet.Digest) ([]byte, error)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // containers run as other users and may mount it
		return fmt.Errorf("make run directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open run directory: %w", err)
	}
	defer func() { _ = root.Close() }()
	want := map[string]bool{}
	for _, f := range release.Files {
		want[f.Path] = true
	}
	// Removal first: a file may have to make way for a directory of the same name.
	if err := unplace(root, slices.DeleteFunc(slices.Clone(placed), func(p string) bool { return want[p] })); err != nil {
		return err
	}
	for _, f := range release.Files {
		if err := placeFile(root, f, content); err != nil {
			return fmt.Errorf("place %s: %w", f.Path, err)
		}
	}
	return nil
}

// placeFile writes one file by renaming, unless it is there already.
func placeFile(root *os.Root, f fleet.File, content func(fleet.Digest) ([]byte, error)) error {
	if !fs.ValidPath(f.Path) || f.Path == "." || !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return errors.New("the path does not stay inside the run directory")
	}
	mode := fs.FileMode(f.Mode).Perm()
	if f.Secret {
		mode = 0o600
	}
	info, err := root.Lstat(f.Path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm() == mode && info.Size() == f.Size {
		have, err := root.ReadFile(f.Path)
		if err == nil && fleet.SumDigest(have) == f.Digest {
			return nil
		}
	}
	if err == nil && info.IsDir() {
		// Docker makes an empty directory where the source of a bind mount was missing.
		if err := root.Remove(f.Path); err != nil {
			return fmt.Errorf("a directory is in the way: %w", err)
		}
	}
	b, err := content(f.Digest)
	if err != nil {
		return err
	}
	if parent := path.Dir(f.Path); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	return replace(root, f.Path, b, mode)
}

// replace is atomicfile.Write inside a root.
func replace(root *os.Root, name string, b []byte, mode fs.FileMode) error {
	temp := path.Join(path.Dir(name), ".varan-"+rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return nil
}

// unplace removes files of ours, and the directories that are empty then.
func unplace(root *os.Root, files []string) error {
	for _, name := range files {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s of an earlier release: %w", name, err)
		}
		for dir := path.Dir(name); dir != "." && root.Remove(dir) == nil; dir = path.Dir(dir) {
		}
	}
	return nil
}

// paths lists where a release's files go.
func paths(r *fleet.Release) []string {
	out := make([]string, len(r.Files))
	for i, f := range r.Files {
		out[i] = f.Path
	}
	return out
}

// union merges two lists of paths, sorted.
func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
