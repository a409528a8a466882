package docker

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// placer makes a directory hold the files of a release. What is not ours is left alone.
//
// Everything goes through an os.Root: a symbolic link in the directory leads nowhere
// outside it.
type placer struct {
	root *os.Root
	// content is what a file holds, and whether it may be in memory only.
	content func(fleet.File) (b []byte, secret bool, err error)
	// ram opens the stack's directory in memory, and tells where it is.
	ram func() (*os.Root, string, error)
	// inRAM collects the files that were placed there.
	inRAM []string
}

// place writes the files of a release and removes those of before that it does not have.
func (p *placer) place(release *fleet.Release, before []string) error {
	want := map[string]bool{}
	for _, f := range release.Files {
		want[f.Path] = true
	}
	// Removal first: a file may have to make way for a directory of the same name.
	gone := slices.DeleteFunc(slices.Clone(before), func(p string) bool { return want[p] })
	if err := unplace(p.root, gone); err != nil {
		return err
	}
	tidied := map[string]bool{}
	for _, f := range release.Files {
		if dir := path.Dir(f.Path); !tidied[dir] {
			tidied[dir] = true
			tidy(p.root, dir)
		}
		if err := p.file(f); err != nil {
			return fmt.Errorf("place %s: %w", f.Path, err)
		}
	}
	return nil
}

// file places one file by renaming, unless it is there already.
func (p *placer) file(f fleet.File) error {
	if !fs.ValidPath(f.Path) || f.Path == "." || !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return errors.New("the path does not stay inside the run directory")
	}
	b, secret, err := p.content(f)
	if err != nil {
		return err
	}
	if secret {
		return p.secret(f, b)
	}
	mode := fs.FileMode(f.Mode).Perm()
	if f.Secret {
		mode = 0o600
	}
	if holds(p.root, f.Path, b, mode) {
		return nil
	}
	if err := clearWay(p.root, f.Path); err != nil {
		return err
	}
	return replace(p.root, f.Path, b, mode)
}

// secret places a file in memory and a link to it where the file should be.
func (p *placer) secret(f fleet.File, b []byte) error {
	ram, dir, err := p.ram()
	if err != nil {
		return err
	}
	defer func() { _ = ram.Close() }()
	p.inRAM = append(p.inRAM, f.Path)
	if !holds(ram, f.Path, b, 0o600) {
		if err := makeParent(ram, f.Path, 0o700); err != nil {
			return err
		}
		if err := replace(ram, f.Path, b, 0o600); err != nil {
			return err
		}
	}
	target := filepath.Join(dir, filepath.FromSlash(f.Path))
	if have, err := p.root.Readlink(f.Path); err == nil && have == target {
		return nil
	}
	if err := clearWay(p.root, f.Path); err != nil {
		return err
	}
	temp := tempName(f.Path)
	if err := p.root.Symlink(target, temp); err != nil {
		return err
	}
	if err := p.root.Rename(temp, f.Path); err != nil {
		return errors.Join(err, p.root.Remove(temp))
	}
	return nil
}

// holds reports whether a regular file is there with that content and mode.
func holds(root *os.Root, name string, b []byte, mode fs.FileMode) bool {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != mode || info.Size() != int64(len(b)) {
		return false
	}
	have, err := root.ReadFile(name)
	return err == nil && bytes.Equal(have, b)
}

// clearWay makes the parent of a file, and removes the empty directory that Docker makes
// where the source of a bind mount was missing.
func clearWay(root *os.Root, name string) error {
	if info, err := root.Lstat(name); err == nil && info.IsDir() {
		if err := root.Remove(name); err != nil {
			return fmt.Errorf("a directory is in the way: %w", err)
		}
	}
	return makeParent(root, name, 0o755)
}

func makeParent(root *os.Root, name string, mode fs.FileMode) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	return root.MkdirAll(parent, mode)
}

const tempPrefix = ".varan-"

func tempName(name string) string { return path.Join(path.Dir(name), tempPrefix+rand.Text()) }

// tempAge is when a file with the name of a temporary one was left by an agent that died:
// writing one takes a moment, and several stacks may place files in a directory of the host.
const tempAge = time.Hour

// tidy removes from a directory what agents that died left there. What it cannot do, or see, the
// next deployment tries again.
func tidy(root *os.Root, dir string) {
	entries, _ := fs.ReadDir(root.FS(), dir)
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), tempPrefix)
		if !ok || len(random) != len(rand.Text()) || !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > tempAge {
			_ = root.Remove(path.Join(dir, e.Name()))
		}
	}
}

// replace is atomicfile.Write inside a root.
func replace(root *os.Root, name string, b []byte, mode fs.FileMode) error {
	temp := tempName(name)
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
