package git

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// What can go wrong, for errors.Is. Permanent tells which of them are worth trying
// again.
var (
	// ErrAuth: the server wants other credentials.
	ErrAuth = errors.New("authentication refused")
	// ErrHostKey: the SSH host key is unknown, changed or revoked.
	ErrHostKey = errors.New("ssh host key not trusted")
	// ErrTLS: the server's certificate was not accepted.
	ErrTLS = errors.New("tls certificate not trusted")
	// ErrNotFound: there is no such repository, or the credentials may not see it.
	ErrNotFound = errors.New("repository not found")
	// ErrRef: there is no such branch or commit.
	ErrRef = errors.New("reference not found")
	// ErrLimit: the repository is larger than the limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrTree: a tree holds names that are not accepted.
	ErrTree = errors.New("tree not accepted")
	// ErrUnsupported: the server or the repository needs something we do not speak.
	ErrUnsupported = errors.New("not supported")
	// ErrRedirect: the server sent us to another origin.
	ErrRedirect = errors.New("redirect refused")
	// ErrCorrupt: stored or received objects are damaged or missing. The next fetch
	// makes a fresh clone.
	ErrCorrupt = errors.New("object store damaged")
	// ErrHistory: commits that led to the head are not here. The next fetch of a mirror with
	// History brings them.
	ErrHistory = errors.New("history is not here")
	// ErrNotRegular: a symbolic link or a submodule was opened. They are never followed.
	ErrNotRegular = errors.New("symbolic links and submodules are not followed")
	// ErrClosed: the mirror was closed.
	ErrClosed = errors.New("mirror is closed")
	// ErrInUse: another mirror or process works in the same folder.
	ErrInUse = errors.New("mirror folder is in use")
)

// Permanent reports whether trying again is pointless until the configuration, the
// server's settings or the branch changes. All other errors deserve a retry with
// backoff.
func Permanent(err error) bool {
	for _, kind := range []error{
		ErrAuth, ErrHostKey, ErrTLS, ErrNotFound, ErrRef, ErrLimit, ErrTree, ErrUnsupported, ErrRedirect, ErrClosed,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	_, badURL := errors.AsType[*URLError](err)
	return badURL
}

// RetryAfter is how long the server asked to be left alone; zero when it did not.
func RetryAfter(err error) time.Duration {
	if busy, ok := errors.AsType[*busyError](err); ok {
		return busy.after
	}
	return 0
}

// busyError is a server's temporary refusal.
type busyError struct {
	status string
	after  time.Duration
}

func (e *busyError) Error() string { return "server answered " + e.status }

// damaged reports whether err can be cured by a fresh clone.
func damaged(err error) bool { return errors.Is(err, ErrCorrupt) }

// remoteText makes what a server said fit for a log line. A server can echo what it was
// sent, so the source's own secrets are taken out.
func (s *Source) remoteText(text string) string {
	for _, secret := range []string{s.Password.Reveal(), s.SSHPassphrase.Reveal()} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, s.Password.String())
		}
	}
	return fmt.Sprintf("%q", clip(printable(text), 200))
}

// printable turns control characters into spaces, joins the words and repairs UTF-8.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}
