package git

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"golang.org/x/text/unicode/norm"
)

const (
	maxNameBytes = 255
	maxPathBytes = 4096
	// gitlink is the mode of a submodule: a commit of another repository.
	gitlink = fs.ModeIrregular
)

// dir is one folder of a commit, checked and complete with all below it. It is immutable,
// and commits share the folders that did not change between them.
type dir struct {
	id      plumbing.Hash
	entries []entry // sorted by name
	paths   int
	bytes   int64
	height  int
}

// entry is one name in a folder.
type entry struct {
	name string
	id   plumbing.Hash
	mode fs.FileMode
	size int64
	dir  *dir // folders only
}

func (d *dir) find(name string) *entry {
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e entry, name string) int {
		return cmp.Compare(e.name, name)
	})
	if !ok {
		return nil
	}
	return &d.entries[i]
}

// checker walks the trees of a commit and holds them against the rules before anything
// of them is used. No file is read for it.
type checker struct {
	objects objects
	limits  Limits
	stop    func() error
	// seen are the folders met so far, so that one which appears a million times is
	// looked at once.
	seen  map[plumbing.Hash]*dir
	names map[string]string
	paths int
}

func newChecker(o objects, limits Limits, stop func() error) *checker {
	return &checker{
		objects: o, limits: limits, stop: stop,
		seen: map[plumbing.Hash]*dir{}, names: map[string]string{},
	}
}

// root checks a whole commit. Folders that are the same as in old are taken from there.
func (c *checker) root(id plumbing.Hash, old *dir) (*dir, error) {
	d, err := c.load(id, old, ".", 0)
	if err != nil {
		return nil, err
	}
	return d, c.within(d, ".")
}

// within holds the totals of a folder against the limits. It is asked for every folder,
// so that a walk ends as soon as a limit is passed.
func (c *checker) within(d *dir, path string) error {
	switch {
	case d.paths > c.limits.Paths:
		return fmt.Errorf("%w: %s (tree %s) holds more than %d paths", ErrLimit, shown(path), d.id, c.limits.Paths)
	case d.bytes > c.limits.TotalBytes:
		return fmt.Errorf("%w: the files below %s (tree %s) hold more than %d bytes",
			ErrLimit, shown(path), d.id, c.limits.TotalBytes)
	}
	return nil
}

func (c *checker) load(id plumbing.Hash, old *dir, path string, depth int) (*dir, error) {
	if old != nil && old.id == id {
		c.seen[id] = old
		return c.deepEnough(old, path, depth)
	}
	if d, ok := c.seen[id]; ok {
		if d == nil {
			return nil, refused(path, id, "contains itself")
		}
		return c.deepEnough(d, path, depth)
	}
	if depth > c.limits.Depth || len(path) > maxPathBytes {
		return nil, c.tooDeep(path, id)
	}
	if err := c.stop(); err != nil {
		return nil, fmt.Errorf("check trees: %w", err)
	}
	c.seen[id] = nil
	size, err := c.objects.size(id)
	if err != nil {
		return nil, err
	}
	if size > c.limits.objectBytes() {
		return nil, fmt.Errorf("%w: %s (tree %s) is a listing of %d bytes", ErrLimit, shown(path), id, size)
	}
	data, err := c.objects.read(plumbing.TreeObject, id)
	if err != nil {
		return nil, err
	}
	d := &dir{id: id}
	if err := c.parse(d, data, path); err != nil {
		return nil, err
	}
	for i := range d.entries {
		if err := c.descend(d, &d.entries[i], old, path, depth); err != nil {
			return nil, err
		}
	}
	c.seen[id] = d
	return d, nil
}

// deepEnough checks a folder that is known already at the place where it is met again.
func (c *checker) deepEnough(d *dir, path string, depth int) (*dir, error) {
	if depth+d.height > c.limits.Depth {
		return nil, c.tooDeep(path, d.id)
	}
	return d, nil
}

func (c *checker) tooDeep(path string, id plumbing.Hash) error {
	return fmt.Errorf("%w: %s (tree %s) is nested more than %d deep", ErrLimit, shown(path), id, c.limits.Depth)
}

// descend completes one entry of d and adds it to d's totals.
func (c *checker) descend(d *dir, e *entry, old *dir, path string, depth int) error {
	d.paths++
	switch {
	case e.mode.IsDir():
		var before *dir
		if old != nil {
			if was := old.find(e.name); was != nil {
				before = was.dir
			}
		}
		below := join(path, e.name)
		sub, err := c.load(e.id, before, below, depth+1)
		if err != nil {
			return err
		}
		e.dir = sub
		d.paths = int(satAdd(int64(d.paths), int64(sub.paths)))
		d.bytes = satAdd(d.bytes, sub.bytes)
		d.height = max(d.height, sub.height+1)
	case e.mode.IsRegular():
		size, err := c.objects.size(e.id)
		if err != nil {
			return err
		}
		if size > c.limits.BlobBytes {
			return fmt.Errorf("%w: %s (blob %s) has %d bytes, more than %d",
				ErrLimit, shown(join(path, e.name)), e.id, size, c.limits.BlobBytes)
		}
		e.size = size
		d.bytes = satAdd(d.bytes, size)
	}
	return c.within(d, path)
}

func satAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// parse reads the raw form of a tree: "mode name\0id", again and again.
func (c *checker) parse(d *dir, data []byte, path string) error {
	d.entries = make([]entry, 0, bytes.Count(data, []byte{0})/2+1)
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte{' '})
		name, rest, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 || len(rest) < len(plumbing.ZeroHash) {
			return refused(path, d.id, "is malformed")
		}
		e := entry{name: c.intern(name)}
		copy(e.id[:], rest)
		data = rest[len(e.id):]
		if e.mode, ok = modes(string(mode)); !ok {
			return refused(path, d.id, fmt.Sprintf("has mode %s for %s", shown(string(mode)), shown(e.name)))
		}
		if fault := nameFault(e.name); fault != "" {
			return refused(path, d.id, fmt.Sprintf("holds the name %s, which %s", shown(e.name), fault))
		}
		d.entries = append(d.entries, e)
		c.paths++
		if c.paths > c.limits.Paths {
			return fmt.Errorf("%w: %s (tree %s): more than %d paths", ErrLimit, shown(path), d.id, c.limits.Paths)
		}
	}
	slices.SortFunc(d.entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return collisions(d, path)
}

// intern keeps one copy of a name: a fleet has a thousand files called compose.yaml.
func (c *checker) intern(name []byte) string {
	if s, ok := c.names[string(name)]; ok {
		return s
	}
	s := string(name)
	c.names[s] = s
	return s
}

// modes are the modes Git writes, and 100664, which it once did.
func modes(octal string) (fs.FileMode, bool) {
	switch strings.TrimLeft(octal, "0") {
	case "40000":
		return fs.ModeDir | 0o755, true
	case "100644", "100664":
		return 0o644, true
	case "100755":
		return 0o755, true
	case "120000":
		return fs.ModeSymlink | 0o777, true
	case "160000":
		return gitlink, true
	}
	return 0, false
}

// nameFault completes the sentence "the name X, which ..."; it is empty for good names.
func nameFault(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "is not a file's name"
	case strings.Contains(name, "/"):
		return "holds a slash"
	case len(name) > maxNameBytes:
		return fmt.Sprintf("is longer than %d bytes", maxNameBytes)
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "holds control characters"
	case dotGit(name):
		return "some file system takes for .git"
	}
	return ""
}

// dotGit knows the spellings of .git: any case, NTFS's short name, its trailing dots,
// spaces and streams, and characters that HFS+ does not see.
func dotGit(name string) bool {
	if len(name) < 4 || (name[0] != '.' && name[0]|0x20 != 'g' && name[0] < utf8.RuneSelf) {
		return false
	}
	name, _, _ = strings.Cut(name, ":")
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, name)
	name = strings.TrimRight(name, ". ")
	return strings.EqualFold(name, ".git") || strings.EqualFold(name, "git~1")
}

// collisions refuses names that are equal, or that a file system could take for equal.
func collisions(d *dir, path string) error {
	if len(d.entries) < 2 {
		return nil
	}
	seen := make(map[string]string, len(d.entries))
	for i := range d.entries {
		name := d.entries[i].name
		key := fold(name)
		if other, ok := seen[key]; ok {
			return refused(path, d.id, fmt.Sprintf("holds both %s and %s, which some file systems take for one",
				shown(other), shown(name)))
		}
		seen[key] = name
	}
	return nil
}

// fold maps names that differ only in case or in the form of their accents to one.
func fold(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(strings.ToLower(strings.ToUpper(norm.NFC.String(name))))
		}
	}
	return strings.ToLower(name)
}

func refused(path string, id plumbing.Hash, what string) error {
	return fmt.Errorf("%w: %s (tree %s) %s", ErrTree, shown(path), id, what)
}

// shown quotes a name from a repository for people.
func shown(name string) string { return fmt.Sprintf("%q", clip(name, 200)) }

func join(path, name string) string {
	if path == "." {
		return name
	}
	return path + "/" + name
}
