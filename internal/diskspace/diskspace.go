// Package diskspace says when so little of a disk is left that nothing new should begin on
// it, and keeps a reserve by which what makes room again still works on a full one.
package diskspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// reserveName is the file that holds the reserve.
const reserveName = "reserve"

// maxReserveShare is the least share of a disk that the reserve may be: one in that many bytes.
const maxReserveShare = 16

// Space is how much of a disk there is for us.
type Space struct{ Free, Total uint64 }

// Limit is from where on a disk is nearly full: below both of them. Zero never is.
type Limit struct {
	Percent int
	MiB     int
}

// floor is how much has to be free.
func (l Limit) floor(total uint64) uint64 {
	return min(total/100*uint64(max(l.Percent, 0)), uint64(max(l.MiB, 0))<<20)
}

// Config of a Guard.
type Config struct {
	// Dir is a directory on the disk; required, and it must exist.
	Dir string
	// Limit is asked at each look, since settings change; required.
	Limit func() Limit
	// Reserve is how many bytes are kept for a full disk; optional, without it there is none.
	Reserve int64
	// Statfs tells of the disk that a directory is on; optional, default the system's.
	Statfs func(dir string) (Space, error)
}

// Guard watches one disk. Its methods are safe for concurrent use.
type Guard struct {
	cfg Config

	mu  sync.Mutex
	low bool
	// text says how it was when the disk became nearly full.
	text string
	// given says that the reserve was given up.
	given bool
}

// New makes a guard and sets the reserve aside.
func New(cfg Config) *Guard {
	if cfg.Statfs == nil {
		cfg.Statfs = statfs
	}
	g := &Guard{cfg: cfg, given: true}
	g.Low()
	return g
}

// Low looks at the disk. It is nearly full from when less than the limit is free until an
// eighth more than that is, so that it does not change with every file. text says how full,
// in the same words as long as it lasts. A disk that cannot be asked is not called full.
func (g *Guard) Low() (text string, low bool) {
	if g == nil {
		return "", false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	space, err := g.cfg.Statfs(g.cfg.Dir)
	if err != nil {
		return g.text, g.low
	}
	floor, size := g.cfg.Limit().floor(space.Total), g.reserve(space.Total)
	free := space.Free
	if g.given {
		free -= min(free, size) // it is to be set aside again
	}
	if g.low {
		floor += floor / 8
	}
	switch {
	case free >= floor:
		g.low, g.text = false, ""
	case !g.low:
		g.low, g.text = true, fmt.Sprintf("%s of %s are free in %s", Bytes(space.Free), Bytes(space.Total), g.cfg.Dir)
	}
	if g.low && !g.given && space.Free < size {
		g.given = os.Remove(g.path()) == nil
	}
	if !g.low && g.given && size > 0 {
		g.given = setAside(g.path(), int64(size)) != nil //nolint:gosec // some megabytes
	}
	return g.text, g.low
}

func (g *Guard) path() string { return filepath.Join(g.cfg.Dir, reserveName) }

// reserve is how many bytes are kept on a disk of that size.
func (g *Guard) reserve(total uint64) uint64 {
	return min(uint64(max(g.cfg.Reserve, 0)), total/maxReserveShare)
}

// setAside makes a file of that size whose bytes are taken from the disk.
func setAside(path string, size int64) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == size {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := allocate(f, size); err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	return f.Close()
}

// Bytes is a size as people read it.
func Bytes(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, name := float64(n)/unit, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB", "PiB"} {
		if value < unit {
			break
		}
		value, name = value/unit, next
	}
	return fmt.Sprintf("%.1f %s", value, name)
}
