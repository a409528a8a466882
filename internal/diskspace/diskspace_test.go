package diskspace_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/varanhq/varan/internal/diskspace"
)

const mib = 1 << 20

// disk is one whose free space a test sets.
type disk struct {
	space diskspace.Space
	err   error
}

func (d *disk) statfs(string) (diskspace.Space, error) { return d.space, d.err }

func standard() diskspace.Limit { return diskspace.Limit{Percent: 5, MiB: 512} }

func TestTheLowerOfBothLimitsCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		space diskspace.Space
		limit diskspace.Limit
		low   bool
	}{
		"a large disk goes by the megabytes": {diskspace.Space{Free: 513 * mib, Total: 1 << 40}, standard(), false},
		"a large disk below them":            {diskspace.Space{Free: 511 * mib, Total: 1 << 40}, standard(), true},
		"a small disk goes by the share":     {diskspace.Space{Free: 52 * mib, Total: 1000 * mib}, standard(), false},
		"a small disk below it":              {diskspace.Space{Free: 48 * mib, Total: 1000 * mib}, standard(), true},
		"a full disk":                        {diskspace.Space{Free: 0, Total: 1 << 40}, standard(), true},
		"no share, no limit":                 {diskspace.Space{Free: 0, Total: 1 << 40}, diskspace.Limit{MiB: 512}, false},
		"no megabytes, no limit":             {diskspace.Space{Free: 0, Total: 1 << 40}, diskspace.Limit{Percent: 5}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := disk{space: tc.space}
			g := diskspace.New(diskspace.Config{
				Dir: t.TempDir(), Statfs: d.statfs, Limit: func() diskspace.Limit { return tc.limit },
			})
			if text, low := g.Low(); low != tc.low || low != (text != "") {
				t.Errorf("low is %v with the text %q, want %v", low, text, tc.low)
			}
		})
	}
}

func TestADiskThatRecoversHasSomeMoreThanTheLimit(t *testing.T) {
	d := disk{space: diskspace.Space{Free: 400 * mib, Total: 1 << 40}}
	g := diskspace.New(diskspace.Config{Dir: "/data", Statfs: d.statfs, Limit: standard})
	first, _ := g.Low()
	if first != "400.0 MiB of 1.0 TiB are free in /data" {
		t.Errorf("got %q", first)
	}
	d.space.Free = 520 * mib
	if text, low := g.Low(); !low || text != first {
		t.Errorf("at once not low any more, or in other words: %q", text)
	}
	d.space.Free, d.err = 600*mib, errors.New("no answer")
	if _, low := g.Low(); !low {
		t.Error("a disk that cannot be asked recovered")
	}
	d.err = nil
	if _, low := g.Low(); low {
		t.Error("still low with 600 MiB free")
	}
	d.space.Free = 520 * mib
	if _, low := g.Low(); low {
		t.Error("low again above the limit")
	}
}

func TestTheReserveIsGivenUpOnAFullDiskAndSetAsideAgain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is a reserve on Linux only")
	}
	dir := t.TempDir()
	reserved := func() int64 {
		info, err := os.Stat(filepath.Join(dir, "reserve"))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	d := disk{space: diskspace.Space{Free: 900 * mib, Total: 1000 * mib}}
	g := diskspace.New(diskspace.Config{Dir: dir, Statfs: d.statfs, Limit: standard, Reserve: mib})
	if got := reserved(); got != mib {
		t.Fatalf("%d bytes are set aside, want %d", got, mib)
	}
	d.space.Free = 20 * mib
	g.Low()
	if reserved() != mib {
		t.Error("the reserve is gone while there is enough for a while")
	}
	d.space.Free = mib / 2
	g.Low()
	if reserved() != 0 {
		t.Error("the reserve is kept on a full disk")
	}
	d.space.Free = 57 * mib // with the reserve set aside again it were not enough
	if _, low := g.Low(); !low || reserved() != 0 {
		t.Error("recovered with what the reserve had")
	}
	d.space.Free = 500 * mib
	if text, low := g.Low(); low || reserved() != mib {
		t.Errorf("not recovered: %q, %d bytes set aside", text, reserved())
	}
}

func TestTheSystemKnowsItsDisks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("asked on Linux only")
	}
	g := diskspace.New(diskspace.Config{
		Dir: t.TempDir(), Limit: func() diskspace.Limit { return diskspace.Limit{Percent: 100, MiB: 1 << 40} },
	})
	if text, low := g.Low(); !low || !strings.Contains(text, " are free in /") {
		t.Errorf("a disk that must be all free is not nearly full: %q", text)
	}
}
