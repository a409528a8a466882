package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// leftName are the names that Temp gives to files.
var leftName = regexp.MustCompile(`^\.(.+)\.\d+\.tmp$`)

// Left lists what Write and Create left in a directory when their process died: regular files
// with the names that they give, for a file whose name is wanted. It knows such a file from one
// that is just being written as little as anybody: the caller has to be the only writer. A
// directory that is not there has nothing.
func Left(dir string, wanted func(name string) bool) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for what a crash left: %w", err)
	}
	for _, e := range entries {
		if name := leftName.FindStringSubmatch(e.Name()); name != nil && e.Type().IsRegular() && wanted(name[1]) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// Clean removes what Left lists in directories in which every such file is the caller's.
func Clean(dirs ...string) (err error) {
	for _, dir := range dirs {
		left, leftErr := Left(dir, func(string) bool { return true })
		err = errors.Join(err, leftErr)
		for _, path := range left {
			if e := os.Remove(path); !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}
