package git

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// localRepo is a repository on this machine, read in place: nothing is copied, nothing
// is written, and no git binary is needed. Others change it while we read.
type localRepo struct {
	dir    string
	limits Limits

	mu      sync.Mutex // guards storage, which is not safe for concurrent use
	storage *filesystem.Storage
}

// openLocal opens a bare repository, or the one inside a work tree.
func openLocal(path string, limits Limits) (*localRepo, error) {
	dir := path
	if info, err := os.Lstat(filepath.Join(path, ".git")); err == nil {
		if !info.IsDir() {
			return nil, fmt.Errorf("%w: linked work tree or submodule; use the repository it belongs to", ErrUnsupported)
		}
		dir = filepath.Join(path, ".git")
	}
	for _, part := range []string{"HEAD", "objects", "refs"} {
		if _, err := os.Stat(filepath.Join(dir, part)); err != nil {
			return nil, fmt.Errorf("%w: the folder holds no Git repository", ErrNotFound)
		}
	}
	r := &localRepo{dir: dir, limits: limits}
	r.reopen()
	return r, nil
}

// reopen forgets everything known about packs. The caller holds the lock, or is alone.
func (r *localRepo) reopen() {
	if r.storage != nil {
		_ = r.storage.Close()
	}
	r.storage = filesystem.NewStorageWithOptions(
		osfs.New(r.dir, osfs.WithBoundOS()),
		cache.NewObjectLRU(cacheBytes),
		filesystem.Options{KeepDescriptors: true},
	)
}

// head is the tip of branch; an empty branch means the one that HEAD names.
func (r *localRepo) head(branch string) (plumbing.Hash, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := plumbing.NewBranchReferenceName(branch)
	if branch == "" {
		head, err := r.storage.Reference(plumbing.HEAD)
		if err != nil {
			return plumbing.ZeroHash, "", fmt.Errorf("%w: read HEAD: %w", ErrRef, err)
		}
		if name = head.Target(); head.Type() != plumbing.SymbolicReference || !name.IsBranch() {
			return plumbing.ZeroHash, "", fmt.Errorf("%w: HEAD is not on a branch; name one", ErrRef)
		}
	}
	ref, err := storer.ResolveReference(r.storage, name)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return plumbing.ZeroHash, "", fmt.Errorf("%w: no branch %s", ErrRef, shown(name.Short()))
	}
	if err != nil {
		return plumbing.ZeroHash, "", fmt.Errorf("read branch: %w", err)
	}
	return ref.Hash(), strings.TrimPrefix(name.String(), "refs/heads/"), nil
}

func (r *localRepo) has(id plumbing.Hash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retry(func() error { return r.storage.HasEncodedObject(id) }) == nil
}

func (r *localRepo) size(id plumbing.Hash) (size int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.retry(func() error {
		size, err = r.storage.EncodedObjectSize(id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%w: object %s: %w", ErrCorrupt, id, err)
	}
	return size, nil
}

func (r *localRepo) read(typ plumbing.ObjectType, id plumbing.Hash) (content []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.retry(func() error {
		o, getErr := r.storage.EncodedObject(typ, id)
		if getErr == nil {
			content, getErr = contentOf(o, typ, id)
		}
		return getErr
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return content, nil
}

// contentOf copies an object's content, if it is the object that was asked for.
func contentOf(o plumbing.EncodedObject, typ plumbing.ObjectType, id plumbing.Hash) ([]byte, error) {
	if o.Type() != typ {
		return nil, fmt.Errorf("%s is a %s, not a %s", id, o.Type(), typ)
	}
	if o.Hash() != id {
		return nil, fmt.Errorf("%s %s holds the content of %s", typ, id, o.Hash())
	}
	r, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", typ, id, err)
	}
	content := make([]byte, o.Size())
	_, err = io.ReadFull(r, content)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", typ, id, err)
	}
	return content, nil
}

// retry opens the storage anew when something is not where it was: a repack moves
// objects to other packs.
func (r *localRepo) retry(read func() error) error {
	err := read()
	if err == nil {
		return nil
	}
	r.reopen()
	return read()
}
