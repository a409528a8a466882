package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/internal/atomicfile"
)

// Entry is a backup in a directory.
type Entry struct {
	Name    string
	Created time.Time
	// Keys says that it was made because keys had changed.
	Keys bool
	Size int64
	// SHA256 is what the file beside it says; empty when there is none.
	SHA256 string
}

const (
	stamp  = "20060102-150405"
	suffix = ".tar.gz.age"
	sums   = ".sha256"
)

var entryName = regexp.MustCompile(`^varan-(\d{8}-\d{6})(-keys)?\.tar\.gz\.age$`)

// Name is that of a backup made at a time.
func Name(at time.Time, keys bool) string {
	name := "varan-" + at.UTC().Format(stamp)
	if keys {
		name += "-keys"
	}
	return name + suffix
}

// Temp makes the file that a backup is written to before it has a name. It begins with a dot,
// and Clean removes it when nobody finished it.
func Temp(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of backups: %w", err)
	}
	f, err := os.CreateTemp(dir, tempPattern)
	if err != nil {
		return nil, fmt.Errorf("make a backup's file: %w", err)
	}
	return f, nil
}

const tempPattern = ".varan-*.partial"

// Clean removes what backups that were cut off left behind, and their removals: files without a
// name, and sums without their backup. Nobody may be making a backup.
func Clean(dir string) error {
	left, err := filepath.Glob(filepath.Join(escaped(dir), tempPattern))
	halves, halvesErr := atomicfile.Left(dir, isSum)
	files, filesErr := os.ReadDir(dir)
	if errors.Is(filesErr, os.ErrNotExist) {
		filesErr = nil
	}
	left, err = append(left, halves...), errors.Join(err, halvesErr, filesErr)
	for _, f := range files {
		if !isSum(f.Name()) || !f.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, f.Name())
		if _, err := os.Lstat(strings.TrimSuffix(path, sums)); errors.Is(err, os.ErrNotExist) {
			left = append(left, path)
		}
	}
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// isSum reports whether a file is the sum of a backup, by its name.
func isSum(name string) bool {
	of, ok := strings.CutSuffix(name, sums)
	return ok && entryName.MatchString(of)
}

// escaped is a directory as a pattern that matches it alone.
func escaped(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Sum finishes a file that was written: it is on disk when that returns.
func Sum(f *os.File) (sha string, size int64, err error) {
	if err := f.Sync(); err != nil {
		return "", 0, fmt.Errorf("sync the backup: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, fmt.Errorf("read the backup again: %w", err)
	}
	hash := sha256.New()
	if size, err = io.Copy(hash, f); err != nil {
		return "", 0, fmt.Errorf("read the backup again: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// Keep gives a finished file its name in its directory: that of the first second from at on that
// no backup has, so that none replaces another. The sum is there first, so that a backup never
// lacks it.
func Keep(temp string, at time.Time, keys bool, sha string) (name string, err error) {
	dir := filepath.Dir(temp)
	for ; ; at = at.Add(time.Second) {
		name = Name(at, keys)
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", fmt.Errorf("find a name for the backup: %w", err)
		}
	}
	path := filepath.Join(dir, name)
	if err := atomicfile.Write(path+sums, []byte(sha+"  "+name+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := (atomicfile.On{FS: atomicfile.OS{}}).Rename(temp, path); err != nil {
		return "", fmt.Errorf("put the backup in place: %w", err)
	}
	return name, nil
}

// List is the backups of a directory, newest first. A directory that is not there has none.
func List(dir string) ([]Entry, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	out := []Entry{}
	for _, f := range files {
		parts := entryName.FindStringSubmatch(f.Name())
		if parts == nil || !f.Type().IsRegular() {
			continue
		}
		at, err := time.Parse(stamp, parts[1])
		info, infoErr := f.Info()
		if err != nil || infoErr != nil {
			continue // removed meanwhile, or not named by us
		}
		e := Entry{Name: f.Name(), Created: at, Keys: parts[2] != "", Size: info.Size()}
		if text, err := os.ReadFile(filepath.Join(dir, f.Name()+sums)); err == nil {
			e.SHA256, _, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(b.Name, a.Name) })
	return out, nil
}

// Prune removes the oldest backups, so that keep of them are left. Of those that were made
// because keys had changed, all but the newest go: otherwise they would crowd out the others.
func Prune(dir string, keep int) (removed []string, err error) {
	entries, err := List(dir)
	if err != nil {
		return nil, err
	}
	kept, keys := 0, 0
	for _, e := range entries {
		switch {
		case e.Keys && keys == 0:
			keys++
			continue
		case !e.Keys && kept < keep:
			kept++
			continue
		}
		path := filepath.Join(dir, e.Name)
		if err := os.Remove(path); err != nil {
			return removed, fmt.Errorf("remove an old backup: %w", err)
		}
		if err := os.Remove(path + sums); err != nil && !errors.Is(err, os.ErrNotExist) {
			return removed, fmt.Errorf("remove the sum of an old backup: %w", err)
		}
		removed = append(removed, e.Name)
	}
	return removed, nil
}
