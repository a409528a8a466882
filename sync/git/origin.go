package git

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/config"
)

// maxConfig bounds the configuration of a work tree.
const maxConfig = 1 << 20

// Origin is the identity of the repository that a work tree was cloned from: that of its
// remote "origin", or of its only one. It is empty when dir is not the top of a work tree,
// or nobody can tell. It reads the configuration alone and runs nothing.
func Origin(dir string) (string, error) {
	name, err := configOf(dir)
	if err != nil || name == "" {
		return "", err
	}
	data, err := readSmall(name)
	if err != nil {
		return "", err
	}
	parsed := config.New()
	if err := config.NewDecoder(bytes.NewReader(data)).Decode(parsed); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	remotes := parsed.Section("remote").Subsections
	for _, remote := range remotes {
		if remote.Name == "origin" || len(remotes) == 1 {
			return identity(remote.Option("url")), nil
		}
	}
	return "", nil
}

// configOf finds the configuration of a work tree; it is elsewhere for a linked one.
func configOf(dir string) (string, error) {
	dot := filepath.Join(dir, ".git")
	info, err := os.Stat(dot)
	switch {
	case os.IsNotExist(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("look for the repository: %w", err)
	case info.IsDir():
		return filepath.Join(dot, "config"), nil
	}
	data, err := readSmall(dot)
	if err != nil {
		return "", err
	}
	gitDir, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "gitdir:")
	if !ok {
		return "", nil
	}
	gitDir = below(dir, gitDir)
	if common, err := readSmall(filepath.Join(gitDir, "commondir")); err == nil {
		gitDir = below(gitDir, string(common))
	}
	return filepath.Join(gitDir, "config"), nil
}

// below is a path as one of Git's pointer files writes it.
func below(dir, written string) string {
	written = strings.TrimSpace(written)
	if filepath.IsAbs(written) {
		return filepath.Clean(written)
	}
	return filepath.Join(dir, written)
}

func readSmall(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the repository's configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// identity is a remote's address without credentials. People do keep tokens there.
func identity(remote string) string {
	if u, err := url.Parse(remote); err == nil && u.Host != "" && u.Scheme != schemeSSH {
		u.User = nil
		remote = u.String()
	}
	location, err := ParseURL(remote, []string{string(filepath.Separator)})
	if err != nil {
		return ""
	}
	return location.String()
}
