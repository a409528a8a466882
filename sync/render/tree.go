package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxTreeFile bounds a file of a directory or of uploaded content.
const maxTreeFile = 16 << 20

// maxTreeEntries bounds how many files a tree in memory may have.
const maxTreeEntries = 50_000

// gitDir is no part of the content of a repository.
const gitDir = ".git"

// objectID names a file by its content and a directory by its listing.
func objectID(tree interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
}, name string,
) (string, error) {
	info, err := tree.Stat(name)
	if err != nil {
		return "", fmt.Errorf("identify %s: %w", name, err)
	}
	hash := sha256.New()
	switch {
	case info.Mode().IsRegular():
		data, err := tree.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("identify %s: %w", name, err)
		}
		_, _ = hash.Write(data)
	case info.IsDir():
		list, err := tree.ReadDir(name)
		if err != nil {
			return "", fmt.Errorf("identify %s: %w", name, err)
		}
		for _, e := range list {
			id, err := objectID(tree, path.Join(name, e.Name()))
			if err != nil {
				return "", err
			}
			info, err := e.Info()
			if err != nil {
				return "", fmt.Errorf("identify %s: %w", name, err)
			}
			fmt.Fprintf(hash, "%s %s %s\n", info.Mode(), id, e.Name())
		}
	default:
		fmt.Fprint(hash, info.Mode())
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// hidden reports paths that are no part of the content.
func hidden(name string) bool {
	return name == gitDir || strings.HasPrefix(name, gitDir+"/") || strings.Contains(name, "/"+gitDir+"/") ||
		strings.HasSuffix(name, "/"+gitDir)
}
