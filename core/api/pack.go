package api

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Limits of an uploaded directory, for the packer and for core.
const (
	MaxUploadBytes = 16 << 20
	MaxUploadFiles = 10_000
)

// ErrUploadTooLarge says that a directory is more than core plans for without Git.
var ErrUploadTooLarge = errors.New("the directory is too large to plan for")

// Pack reads a directory for an UploadRequest. It leaves out .git and everything that is
// neither a directory nor a regular file: what Git would not give core either, or core
// would refuse to follow.
func Pack(fsys fs.FS) (map[string]UploadFile, error) {
	files := map[string]UploadFile{}
	total := 0
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path.Base(name) == ".git":
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("read the mode of %s: %w", name, err)
		}
		if total += int(info.Size()); total > MaxUploadBytes || len(files) == MaxUploadFiles {
			return fmt.Errorf("%w: at %s it exceeds %d MiB or %d files",
				ErrUploadTooLarge, name, MaxUploadBytes>>20, MaxUploadFiles)
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		files[name] = UploadFile{Data: data, Executable: info.Mode()&0o111 != 0}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pack the directory: %w", err)
	}
	return files, nil
}
