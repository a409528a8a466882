package git

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what a repository may cost. Zero fields take their default.
type Limits struct {
	// Paths is how many files and folders a commit may hold; default 50,000.
	Paths int
	// TotalBytes is how large all files of a commit may be together; default 100 MB.
	TotalBytes int64
	// BlobBytes is how large one file may be; default 10 MB.
	BlobBytes int64
	// PackBytes is how much one fetch may transfer; default 2 GiB.
	PackBytes int64
	// Depth is how deep folders may be nested; default 64.
	Depth int
	// Timeout bounds one call to the server and all that follows; default 300 s.
	Timeout time.Duration
}

// pollTimeout bounds the part of a call that only asks for the branch's head.
const pollTimeout = 60 * time.Second

const (
	// minObjectBytes is the least that a single object of a pack may inflate to, whatever
	// BlobBytes says: a file that is too large is better refused by its path.
	minObjectBytes = 64 << 20
	// maxHeldBytes bounds the delta bases that are kept in memory at once.
	maxHeldBytes = 128 << 20
)

// errPackLimit marks limits that a fresh clone may keep although a fetch did not: the
// clone holds one commit, the fetch all since the last.
var errPackLimit = errors.New("pack too large")

func (l Limits) withDefaults() Limits {
	return Limits{
		Paths:      orDefault(l.Paths, 50_000),
		TotalBytes: orDefault(l.TotalBytes, 100_000_000),
		BlobBytes:  orDefault(l.BlobBytes, 10_000_000),
		PackBytes:  orDefault(l.PackBytes, 2<<30),
		Depth:      orDefault(l.Depth, 64),
		Timeout:    orDefault(l.Timeout, 300*time.Second),
	}
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// objectBytes is how large one object of a pack may be.
func (l Limits) objectBytes() int64 { return max(l.BlobBytes, minObjectBytes) }

// inflatedBytes is how much all objects of one pack may inflate to. Several versions of
// the same files are normal in a fetch, so it is a multiple of a whole commit.
func (l Limits) inflatedBytes() int64 { return 4*l.TotalBytes + minObjectBytes }

// inflates accounts for one more object of a pack.
func (l Limits) inflates(size int64, total *int64) error {
	if size < 0 || size > l.objectBytes() {
		return fmt.Errorf("%w: an object of %d bytes: %w", ErrLimit, size, errPackLimit)
	}
	*total += size
	if *total > l.inflatedBytes() {
		return fmt.Errorf("%w: the pack inflates to more than %d bytes: %w", ErrLimit, l.inflatedBytes(), errPackLimit)
	}
	return nil
}
