package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/varanhq/varan/fleet"
)

// The limits of one source.
const (
	maxSourceSize       = 16 << 20
	defaultMaxResources = 10_000
)

// Options narrows and relaxes a Load.
type Options struct {
	// ResourcePaths are files and directories to read, in this order. Empty is the
	// whole tree.
	ResourcePaths []string
	// Cache keeps parsed files between loads; optional.
	Cache *Cache
	// ObjectID gives the id of a file's content without reading it, as Git does.
	// Optional: without it, files are read and known by their digest.
	ObjectID func(path string) (string, error)
	// KnownServers are servers that exist without being declared: they onboarded.
	KnownServers []fleet.Server
	// KnownStacks are the stacks and deployments of other syncs.
	KnownStacks []string
	// Offline says that what core has is not known, so that naming what is not declared
	// is only a note.
	Offline bool
	// SkipResources, SkipVariables and SkipUserGroups leave declarations of these out.
	SkipResources, SkipVariables, SkipUserGroups bool
	// Lenient makes unknown keys warnings, as files written for Komodo may have them.
	Lenient bool
	// MatchTags leaves out resources that lack one of these tags. Variables and user groups
	// stay.
	MatchTags []string
	// MaxResources is how many resources may be declared; default 10,000.
	MaxResources int
}

// Load reads the resource files of a tree and checks them together. With errors among
// the diagnostics the declarations are incomplete and only good for being looked at.
func Load(fsys fs.FS, opts Options) (Declarations, fleet.Diagnostics) {
	if opts.MaxResources == 0 {
		opts.MaxResources = defaultMaxResources
	}
	l := loader{fsys: fsys, opts: opts, seen: map[string]bool{}}
	if opts.Cache != nil {
		opts.Cache.mu.Lock()
		defer opts.Cache.mu.Unlock()
		l.kept = make(map[cacheKey]parsed, len(opts.Cache.files))
	}
	l.discover()
	if last := opts.Cache; last != nil && l.identify() && l.decls.ID == last.decls.ID {
		return last.decls, last.diags
	}
	l.read()
	if opts.Cache != nil {
		opts.Cache.files = l.kept
	}
	l.leaveOut()
	l.callByName()
	l.diags = append(l.diags, crossCheck(l.decls, opts, l.unreadable)...)
	l.matchTags()
	diags := l.relax().Sort()
	if opts.Cache != nil {
		opts.Cache.decls, opts.Cache.diags = l.decls, diags
	}
	return l.decls, diags
}

// candidate is a resource file that was found.
type candidate struct {
	path string
	size int64
}

type loader struct {
	fsys  fs.FS
	opts  Options
	files []candidate
	seen  map[string]bool
	kept  map[cacheKey]parsed
	total int
	decls Declarations
	diags fleet.Diagnostics
	// unreadable is set when a file could not be read to its end: what it declares is
	// then not known, and missing references mean nothing.
	unreadable bool
}

// identify names what is about to be read. ok is false when that takes reading.
func (l *loader) identify() (ok bool) {
	if l.opts.ObjectID == nil || len(l.diags) > 0 {
		return false
	}
	opts := l.opts
	opts.Cache, opts.ObjectID = nil, nil
	hash := sha256.New()
	fmt.Fprintf(hash, "%+v\n", opts)
	for _, f := range l.files {
		id, err := l.opts.ObjectID(f.path)
		if err != nil || id == "" {
			return false
		}
		_, _ = io.WriteString(hash, f.path+"\x00"+id+"\n")
	}
	l.decls.ID = hex.EncodeToString(hash.Sum(nil))
	return true
}

// Cache keeps parsed files by path and content. It belongs to one source: it forgets
// what the last Load did not use. Its zero value is empty and ready; Loads that share
// it wait for each other.
type Cache struct {
	mu    sync.Mutex
	files map[cacheKey]parsed
	// decls and diags are what the last Load came to.
	decls Declarations
	diags fleet.Diagnostics
}

type cacheKey struct{ path, id string }

type parsed struct {
	file  File
	diags fleet.Diagnostics
}

// Len is how many files the cache holds.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.files)
}

// discover lists the files to read.
func (l *loader) discover() {
	if len(l.opts.ResourcePaths) == 0 {
		l.walk(".", ".")
		return
	}
	for _, p := range l.opts.ResourcePaths {
		clean := path.Clean(p)
		if p == "" || !fs.ValidPath(clean) || strings.Contains(p, `\`) {
			l.fail(fleet.Position{File: p}, "resource-path", "write it relative to the repository, with / between names",
				"the resource path %s does not lie in the repository", quoted(p))
			continue
		}
		l.walk(clean, p)
	}
}

// walk adds a file, or the resource files below a directory, in sorted order.
func (l *loader) walk(root, written string) {
	err := fs.WalkDir(l.fsys, root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p == root && errors.Is(err, fs.ErrNotExist):
			l.fail(fleet.Position{File: written}, "resource-path", "check its spelling",
				"the resource path %s does not exist", quoted(written))
			return fs.SkipAll
		case err != nil:
			return err
		case p != root && strings.HasPrefix(path.Base(p), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		return l.add(p, p == root, d)
	})
	if err != nil {
		l.unreadable = true
		l.fail(fleet.Position{File: written}, "unreadable", "", "cannot read %s: %s", quoted(written), plainError(err))
	}
}

func (l *loader) add(p string, explicit bool, d fs.DirEntry) error {
	switch {
	case path.Ext(p) != ".toml":
		if explicit {
			l.fail(fleet.Position{File: p}, "resource-path", "resource files end in .toml",
				"the resource path %s is not a TOML file", quoted(p))
		}
		return nil
	case l.seen[p]:
		return nil
	case !d.Type().IsRegular():
		l.diags = append(l.diags, fleet.Diagnostic{
			Rule: "not-a-regular-file", Severity: fleet.SeverityWarning, Position: fleet.Position{File: p},
			Message: "skipped: links and special files are not followed", Hint: "put the file itself here",
		})
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return fmt.Errorf("stat %s: %w", p, err)
	}
	l.seen[p] = true
	l.files = append(l.files, candidate{path: p, size: info.Size()})
	return nil
}

// read parses the files and joins what they declare.
func (l *loader) read() {
	all := make([]parsed, 0, len(l.files))
	for _, c := range l.files {
		f, ok := l.parse(c)
		if !ok {
			continue
		}
		all = append(all, f)
		l.decls.Files = append(l.decls.Files, c.path)
		l.diags = append(l.diags, f.diags...)
		l.unreadable = l.unreadable || slices.ContainsFunc(f.diags, hidesNames)
	}
	files := make([]*Resources, len(all))
	names := map[string]bool{}
	for i := range all {
		files[i] = &all[i].file.Resources
		for _, name := range all[i].file.References {
			names[name] = true
		}
	}
	l.decls.References = slices.Sorted(maps.Keys(names))
	l.decls.Resources = join(files)
}

// join copies what files declare into one, in order.
func join(files []*Resources) Resources {
	return Resources{
		Servers:     concat(files, func(r *Resources) []Server { return r.Servers }),
		Stacks:      concat(files, func(r *Resources) []Stack { return r.Stacks }),
		Deployments: concat(files, func(r *Resources) []Deployment { return r.Deployments }),
		Repos:       concat(files, func(r *Resources) []Repo { return r.Repos }),
		Builds:      concat(files, func(r *Resources) []Build { return r.Builds }),
		Builders:    concat(files, func(r *Resources) []Builder { return r.Builders }),
		Procedures:  concat(files, func(r *Resources) []Procedure { return r.Procedures }),
		Actions:     concat(files, func(r *Resources) []Action { return r.Actions }),
		Alerters:    concat(files, func(r *Resources) []Alerter { return r.Alerters }),
		Swarms:      concat(files, func(r *Resources) []Swarm { return r.Swarms }),
		Syncs:       concat(files, func(r *Resources) []ResourceSync { return r.Syncs }),
		Variables:   concat(files, func(r *Resources) []Variable { return r.Variables }),
		UserGroups:  concat(files, func(r *Resources) []UserGroup { return r.UserGroups }),
	}
}

func concat[T any](files []*Resources, of func(*Resources) []T) []T {
	n := 0
	for _, f := range files {
		n += len(of(f))
	}
	if n == 0 {
		return nil
	}
	out := make([]T, 0, n)
	for _, f := range files {
		out = append(out, of(f)...)
	}
	return out
}

// Len is how many resources there are.
func (r *Resources) Len() int {
	return len(r.Servers) + len(r.Stacks) + len(r.Deployments) + len(r.Repos) + len(r.Builds) + len(r.Builders) +
		len(r.Procedures) + len(r.Actions) + len(r.Alerters) + len(r.Swarms) + len(r.Syncs) + len(r.Variables) +
		len(r.UserGroups)
}

// hidesNames reports an error after which a file may declare more than was read.
func hidesNames(d fleet.Diagnostic) bool {
	return slices.Contains([]string{
		"control-character", "duplicate-key", "file-too-large", "invalid-utf8", "line-endings", "merge-conflict-marker",
		"missing-name", "table-conflict", "too-deep", "too-many-errors", "toml-syntax", "unterminated",
	}, d.Rule)
}

// parse returns a file from the cache, or reads and parses it. Nothing is read that is
// larger than the limits allow.
func (l *loader) parse(c candidate) (parsed, bool) {
	if c.size > maxFileSize {
		l.unreadable = true
		l.fail(fleet.Position{File: c.path, Line: 1, Col: 1}, "file-too-large", "split it into several files",
			"the file has %d bytes; the most is %d", c.size, maxFileSize)
		return parsed{}, false
	}
	before := l.total
	l.total += int(c.size)
	if l.total > maxSourceSize {
		l.unreadable = true
		if before > maxSourceSize {
			return parsed{}, false // said before
		}
		l.fail(fleet.Position{File: c.path, Line: 1, Col: 1}, "source-too-large", "name fewer resource paths",
			"the resource files have more than %d bytes together", maxSourceSize)
		return parsed{}, false
	}
	key := cacheKey{path: c.path}
	var content []byte
	var err error
	if l.opts.Cache != nil && l.opts.ObjectID != nil {
		key.id, err = l.opts.ObjectID(c.path)
	} else {
		content, err = fs.ReadFile(l.fsys, c.path)
	}
	if err != nil {
		return l.cannotRead(c.path, err)
	}
	if l.opts.Cache == nil {
		return parseContent(c.path, content), true
	}
	if key.id == "" {
		key.id = string(fleet.SumDigest(content))
	}
	f, ok := l.opts.Cache.files[key]
	if !ok {
		if content == nil {
			if content, err = fs.ReadFile(l.fsys, c.path); err != nil {
				return l.cannotRead(c.path, err)
			}
		}
		f = parseContent(c.path, content)
	}
	l.kept[key] = f
	return f, true
}

func parseContent(p string, content []byte) parsed {
	file, diags := ParseFile(p, content)
	return parsed{file: file, diags: diags}
}

func (l *loader) cannotRead(p string, err error) (parsed, bool) {
	l.unreadable = true
	l.fail(fleet.Position{File: p, Line: 1, Col: 1}, "unreadable", "", "cannot read the file: %s", plainError(err))
	return parsed{}, false
}

func (l *loader) fail(at fleet.Position, rule, hint, format string, args ...any) {
	l.diags = append(l.diags, fleet.Diagnostic{
		Rule: rule, Severity: fleet.SeverityError, Position: at, Message: fmt.Sprintf(format, args...), Hint: hint,
	})
}

// plainError is an error without the path that the position has already.
func plainError(err error) string {
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		err = perr.Err
	}
	return err.Error()
}

// relax returns the diagnostics with the severities that the options ask for.
func (l *loader) relax() fleet.Diagnostics {
	out := slices.Clone(l.diags)
	if !l.opts.Lenient {
		return out
	}
	for i := range out {
		if slices.Contains([]string{"unknown-key", "key-case", "too-many-unknown-keys"}, out[i].Rule) {
			out[i].Severity = fleet.SeverityWarning
		}
	}
	return out
}

// leaveOut drops what the options do not include.
func (l *loader) leaveOut() {
	r := &l.decls.Resources
	if l.opts.SkipVariables {
		r.Variables = nil
	}
	if l.opts.SkipUserGroups {
		r.UserGroups = nil
	}
	if l.opts.SkipResources {
		*r = Resources{Variables: r.Variables, UserGroups: r.UserGroups}
	}
}

// callByName gives what stacks come after the names that those have: stacks are called
// in the letters that Compose allows.
func (l *loader) callByName() {
	stacks := make(map[string]bool, len(l.decls.Stacks))
	for i := range l.decls.Stacks {
		stacks[l.decls.Stacks[i].Name] = true
	}
	deployments := make(map[string]bool, len(l.decls.Deployments))
	for i := range l.decls.Deployments {
		deployments[l.decls.Deployments[i].Name] = true
	}
	called := func(after []string) []string {
		for n, name := range after {
			if stacks[name] || deployments[name] || !stacks[fleet.ProjectName(name)] {
				continue
			}
			after = slices.Clone(after) // it may be in a cache
			after[n] = fleet.ProjectName(name)
		}
		return after
	}
	for i := range l.decls.Stacks {
		l.decls.Stacks[i].After = called(l.decls.Stacks[i].After)
	}
	for i := range l.decls.Deployments {
		l.decls.Deployments[i].After = called(l.decls.Deployments[i].After)
	}
}
