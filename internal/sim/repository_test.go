package sim_test

import (
	"maps"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// repository is a bare one on disk. It is written without a git process, of which a
// simulated month would start thousands.
type repository struct {
	t    testing.TB
	dir  string
	repo *git.Repository
	head plumbing.Hash
	// blobs are those that were written; most of a commit's files are as they were.
	blobs map[string]plumbing.Hash
}

func newRepository(tb testing.TB, dir string) *repository {
	tb.Helper()
	repo, err := git.PlainInit(dir, true)
	must(tb, err)
	must(tb, repo.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, plumbing.Main)))
	return &repository{t: tb, dir: dir, repo: repo, blobs: map[string]plumbing.Hash{}}
}

// commit makes these files, by path, the whole of the branch main.
func (r *repository) commit(message string, files map[string]string) string {
	r.t.Helper()
	who := object.Signature{Name: "someone", Email: "someone@example.com", When: time.Now()}
	commit := &object.Commit{Author: who, Committer: who, Message: message, TreeHash: r.tree(files)}
	if r.head != plumbing.ZeroHash {
		commit.ParentHashes = []plumbing.Hash{r.head}
	}
	r.head = r.store(commit)
	must(r.t, r.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.Main, r.head)))
	return r.head.String()
}

// rewind makes an older commit the head, as a push by force does.
func (r *repository) rewind(commit string) {
	r.t.Helper()
	r.head = plumbing.NewHash(commit)
	must(r.t, r.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.Main, r.head)))
}

func (r *repository) tree(files map[string]string) plumbing.Hash {
	tree := &object.Tree{}
	below := map[string]map[string]string{}
	for name, content := range files {
		if dir, rest := path.Split(name); dir != "" {
			dir = path.Clean(dir)
			if below[dir] == nil {
				below[dir] = map[string]string{}
			}
			below[dir][rest] = content
			continue
		}
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: r.blob(content)})
	}
	for _, dir := range slices.Sorted(maps.Keys(below)) {
		tree.Entries = append(tree.Entries, object.TreeEntry{Name: dir, Mode: filemode.Dir, Hash: r.tree(below[dir])})
	}
	slices.SortFunc(tree.Entries, byName)
	return r.store(tree)
}

func (r *repository) blob(content string) plumbing.Hash {
	hash, ok := r.blobs[content]
	if ok {
		return hash
	}
	blob := r.repo.Storer.NewEncodedObject()
	blob.SetType(plumbing.BlobObject)
	w, err := blob.Writer()
	must(r.t, err)
	_, err = w.Write([]byte(content))
	must(r.t, err)
	must(r.t, w.Close())
	hash, err = r.repo.Storer.SetEncodedObject(blob)
	must(r.t, err)
	r.blobs[content] = hash
	return hash
}

// byName is the order of a tree: a folder sorts as if its name ended with a slash.
func byName(a, b object.TreeEntry) int {
	key := func(e object.TreeEntry) string {
		if e.Mode == filemode.Dir {
			return e.Name + "/"
		}
		return e.Name
	}
	switch x, y := key(a), key(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func (r *repository) store(o interface {
	Encode(plumbing.EncodedObject) error
},
) plumbing.Hash {
	encoded := r.repo.Storer.NewEncodedObject()
	must(r.t, o.Encode(encoded))
	hash, err := r.repo.Storer.SetEncodedObject(encoded)
	must(r.t, err)
	return hash
}
