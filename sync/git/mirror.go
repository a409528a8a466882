package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/varanhq/varan/fleet"
)

// maxFetches is how many fetches a store takes before it is replaced by a fresh clone:
// each adds a pack, and nothing ever repacks them.
const maxFetches = 64

// Source says which branch of which repository, and how to get at it.
type Source struct {
	// Name tells sources of the same repository and branch apart; optional. Without it
	// they cannot be open at the same time.
	Name string
	// URL is required. See ParseURL.
	URL string
	// Branch is optional; default: the one that the repository's HEAD names.
	Branch string
	// Commit stays at one commit, by its full id, instead of following the branch: once it is
	// here, the server is never asked again. Optional.
	Commit string
	// History has all that led to the branch cloned, for Since, and not its tip alone. Optional.
	History bool
	// Username and Password are for HTTP, or for SSH without a key. Password may be a
	// token; most hosts then ignore Username, which may be empty.
	Username string
	Password fleet.Secret
	// Bearer sends Password as a bearer token instead.
	Bearer bool
	// SSHKey is a private key in PEM form, SSHPassphrase what unlocks it.
	SSHKey        fleet.Secret
	SSHPassphrase fleet.Secret
	// KnownHosts are the lines of a known_hosts file; required for SSH.
	KnownHosts []byte
	// CA holds PEM certificates that are trusted besides the system's.
	CA []byte
	// Proxy is a URL: http, https or socks5 for HTTP, socks5 for SSH. Default: for HTTP
	// what the environment says.
	Proxy string
}

// Config says where mirrors live and what they may cost.
type Config struct {
	// Dir is the folder for all mirrors; required unless all sources are local.
	Dir string
	// LocalRoots are the folders below which local repositories are accepted.
	LocalRoots []string
	// Limits are optional; zero fields take their default.
	Limits Limits
	// Logger is optional.
	Logger *slog.Logger
}

// Mirror follows one branch. Its methods may be called from many goroutines; those that
// go to the server or the disk wait for each other.
type Mirror struct {
	source Source
	loc    Location
	limits Limits
	log    *slog.Logger

	dir    string
	lock   *os.File
	remote remote     // nil for a local source
	local  *localRepo // nil for a remote one

	// current is the last commit that was believed.
	current atomic.Pointer[Tree]
	// turn has room for one: who put a token in owns what follows.
	turn     chan struct{}
	closed   bool
	store    *store // nil until the first clone
	number   int    // of the store's folder
	rejected rejection
}

// remote opens sessions with a server.
type remote interface {
	open(ctx context.Context) (session, error)
	close()
}

// rejection remembers a head that was fetched and not accepted, so that polls do not
// fetch it again and again.
type rejection struct {
	head plumbing.Hash
	err  error
}

// Open prepares a mirror and loads what an earlier one left on disk. It does not use the
// network.
func Open(cfg Config, source Source) (*Mirror, error) {
	loc, err := ParseURL(source.URL, cfg.LocalRoots)
	if err != nil {
		return nil, err
	}
	if source.Branch != "" {
		if err := checkBranch(source.Branch); err != nil {
			return nil, err
		}
	}
	if source.Commit != "" && !plumbing.IsHash(source.Commit) {
		return nil, fmt.Errorf("open %s: %w: %s is not a whole commit id; write all 40 digits",
			loc.URL(), ErrRef, shown(source.Commit))
	}
	m := &Mirror{
		source: source, loc: loc, limits: cfg.Limits.withDefaults(),
		log: cfg.Logger, turn: make(chan struct{}, 1),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.log = m.log.With(slog.String("repository", loc.URL()))
	if loc.Local() {
		if err := m.openLocal(cfg.LocalRoots); err != nil {
			return nil, err
		}
		return m, nil
	}
	if m.remote, err = newRemote(&m.source, loc); err != nil {
		return nil, m.failed("open", err)
	}
	if loc.scheme == schemeHTTP && !source.Password.IsEmpty() {
		m.log.Warn("credentials travel without encryption")
	}
	if err := m.openDir(cfg.Dir); err != nil {
		return nil, err
	}
	return m, nil
}

func newRemote(source *Source, loc Location) (remote, error) {
	if loc.scheme == schemeSSH {
		return newSSHRemote(source, loc)
	}
	return newHTTPRemote(source, loc)
}

func (m *Mirror) openLocal(roots []string) error {
	path, err := resolveLocal(m.loc.path, roots)
	if err != nil {
		return m.failed("open", err)
	}
	if m.local, err = openLocal(path, m.limits); err != nil {
		return m.failed("open", err)
	}
	return nil
}

// openDir takes the mirror's own folder and loads the newest store in it.
func (m *Mirror) openDir(root string) error {
	if root == "" {
		return errors.New("open mirror: no folder is configured")
	}
	identity := m.source.Name + "\x00" + m.loc.URL() + "\x00" + m.source.Branch
	if m.source.Commit != "" {
		identity += "\x00" + m.source.Commit
	}
	key := sha256.Sum256([]byte(identity))
	m.dir = filepath.Join(root, hex.EncodeToString(key[:8]))
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("open mirror: %w", err)
	}
	var err error
	if m.lock, err = lockFile(filepath.Join(m.dir, "lock")); err != nil {
		return m.failed("open", err)
	}
	if err := m.load(); err != nil {
		return m.failed("open", errors.Join(err, m.lock.Close()))
	}
	return nil
}

// Location is where the mirror's repository is.
func (m *Mirror) Location() Location { return m.loc }

// Current is the last commit that was believed, also of an earlier run. It never waits.
func (m *Mirror) Current() (*Tree, bool) {
	t := m.current.Load()
	return t, t != nil
}

// Head asks the server for the tip of the branch, with one request.
func (m *Mirror) Head(ctx context.Context) (string, error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return "", m.failed("poll", err)
	}
	defer done()
	if m.local != nil {
		id, _, headErr := m.local.head(m.source.Branch)
		if headErr != nil {
			return "", m.failed("poll", headErr)
		}
		return id.String(), nil
	}
	s, adv, err := m.ask(ctx)
	if err != nil {
		return "", m.failed("poll", m.cause(ctx, err))
	}
	_ = s.close()
	return adv.head.String(), nil
}

// Fetch brings the mirror to the tip of the branch and returns its tree. An unchanged tip
// costs one request and gives the tree that Current has, with changed false. On an error
// Current stays what it was.
func (m *Mirror) Fetch(ctx context.Context) (tree *Tree, changed bool, err error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return nil, false, m.failed("fetch", err)
	}
	defer done()
	switch {
	case m.source.Commit != "":
		tree, changed, err = m.fetchPinned(ctx)
	case m.local != nil:
		tree, changed, err = m.fetchLocal(ctx)
	default:
		tree, changed, err = m.fetchRemote(ctx)
	}
	if err != nil {
		return nil, false, m.failed("fetch", m.cause(ctx, err))
	}
	return tree, changed, nil
}

// Tree returns a commit that an earlier fetch brought, by its full id.
func (m *Mirror) Tree(ctx context.Context, commit string) (*Tree, error) {
	ctx, done, err := m.begin(ctx)
	if err != nil {
		return nil, m.failed("read commit", err)
	}
	defer done()
	current := m.current.Load()
	if current != nil && current.commit.ID == commit {
		return current, nil
	}
	id := plumbing.NewHash(commit)
	branch := m.source.Branch
	if current != nil {
		branch = current.commit.Branch
	}
	var from objects
	switch {
	case !plumbing.IsHash(commit):
	case m.local != nil && m.local.has(id):
		from = m.local
	case m.store != nil && m.store.has(id):
		from = m.store
	}
	if from == nil {
		return nil, m.failed("read commit", fmt.Errorf("%w: commit %s is not in the mirror", ErrRef, shown(commit)))
	}
	tree, err := readTree(from, id, branch, m.sharing(from), m.limits, stopper(ctx))
	if err != nil {
		return nil, m.failed("read commit", m.cause(ctx, err))
	}
	return tree, nil
}

// Renew has the next fetch clone afresh, and forget which commits were refused. Current and
// what is on disk stay until then. It reports whether there is anything to clone.
func (m *Mirror) Renew(ctx context.Context) (bool, error) {
	_, done, err := m.begin(ctx)
	if err != nil {
		return false, m.failed("renew", err)
	}
	defer done()
	m.rejected = rejection{}
	if m.store == nil {
		return false, nil
	}
	m.store.broken.Store(true)
	return true, nil
}

// Dir is the mirror's own folder; empty for a local source.
func (m *Mirror) Dir() string { return m.dir }

// Close lets go of the server and the folder. Trees stay readable.
func (m *Mirror) Close() error {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if m.closed {
		return nil
	}
	m.closed = true
	if m.remote != nil {
		m.remote.close()
	}
	m.store = nil
	if m.lock == nil {
		return nil
	}
	if err := m.lock.Close(); err != nil {
		return fmt.Errorf("close mirror: %w", err)
	}
	return nil
}

// begin waits for its turn and bounds what follows in time.
func (m *Mirror) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if m.closed {
		<-m.turn
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.limits.Timeout,
		fmt.Errorf("gave up after %s: %w", m.limits.Timeout, context.DeadlineExceeded))
	return ctx, func() { cancel(); <-m.turn }, nil
}

// cause prefers why the context ended to what broke because of it.
func (*Mirror) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && !Permanent(err) {
		return context.Cause(ctx)
	}
	return err
}

func stopper(ctx context.Context) func() error {
	return func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
}

func (m *Mirror) failed(doing string, err error) error {
	return fmt.Errorf("%s %s: %w", doing, m.loc.URL(), err)
}

// sharing is the current tree, if it lives in the same objects.
func (m *Mirror) sharing(o objects) *Tree {
	if t := m.current.Load(); t != nil && t.objects == o {
		return t
	}
	return nil
}

func (m *Mirror) fetchLocal(ctx context.Context) (*Tree, bool, error) {
	head, branch, err := m.local.head(m.source.Branch)
	if err != nil {
		return nil, false, err
	}
	current := m.current.Load()
	if current != nil && current.commit.ID == head.String() {
		return current, false, nil
	}
	if m.rejected.head == head && m.rejected.err != nil {
		return nil, false, m.rejected.err
	}
	tree, err := readTree(m.local, head, branch, m.sharing(m.local), m.limits, stopper(ctx))
	if err != nil {
		return nil, false, m.reject(head, err)
	}
	m.current.Store(tree)
	return tree, true, nil
}

// reject remembers a verdict about the content of a commit.
func (m *Mirror) reject(head plumbing.Hash, err error) error {
	if errors.Is(err, ErrTree) || errors.Is(err, ErrLimit) {
		m.rejected = rejection{head: head, err: err}
	}
	return err
}

// ask opens a session and finds the tip of the branch.
func (m *Mirror) ask(ctx context.Context) (session, advert, error) { return m.askFor(ctx, m.readHead) }

// askFor opens a session and reads what the server advertises.
func (m *Mirror) askFor(
	ctx context.Context, read func(context.Context, session) (advert, error),
) (_ session, _ advert, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(min(pollTimeout, m.limits.Timeout), func() {
		cancel(fmt.Errorf("server stalled: %w", context.DeadlineExceeded))
	})
	defer stalled.Stop()
	s, err := m.remote.open(ctx)
	if err != nil {
		cancel(nil)
		return nil, advert{}, m.cause(ctx, err)
	}
	s = &ended{session: s, cancel: func() { cancel(nil) }}
	adv, err := read(ctx, s)
	if err != nil {
		err = m.cause(ctx, err)
		_ = s.close()
		return nil, advert{}, err
	}
	return s, adv, nil
}

// ended releases the context of a session with it.
type ended struct {
	session
	cancel func()
}

func (e *ended) close() error {
	defer e.cancel()
	return e.session.close()
}

func (m *Mirror) readHead(ctx context.Context, s session) (advert, error) {
	list, err := s.advertise(ctx)
	if err != nil {
		return advert{}, err
	}
	adv, err := m.source.readAdvert(list, m.source.Branch)
	switch {
	case err != nil:
		return advert{}, err
	case adv.empty:
		return advert{}, fmt.Errorf("%w: the repository is empty", ErrRef)
	case adv.branch == "":
		return advert{}, fmt.Errorf("%w: the server does not say which branch is the default; name one", ErrRef)
	case adv.head.IsZero():
		return advert{}, fmt.Errorf("%w: no branch %s", ErrRef, shown(adv.branch))
	}
	return adv, checkBranch(adv.branch)
}

// checkBranch applies Git's rules for the names of references.
func checkBranch(name string) error {
	bad := name == "" || len(name) > maxNameBytes || name == "@" ||
		strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f") || printable(name) != name
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("%w: %s is not a branch name", ErrRef, shown(name))
	}
	return nil
}
