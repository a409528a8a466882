package git

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/varanhq/varan/fleet"
)

// Init creates a repository with a work tree in dir, on branch main, and commits files
// to it. It needs no git binary; demos and new fleets start with it.
func Init(dir string, files map[string]string, message string, now time.Time) (fleet.Commit, error) {
	_, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
	})
	if err != nil {
		return fleet.Commit{}, fmt.Errorf("create repository %s: %w", dir, err)
	}
	return CommitFiles(dir, files, message, now)
}

// CommitFiles writes files, by slash separated path, into the work tree of the repository
// in dir and commits them.
func CommitFiles(dir string, files map[string]string, message string, now time.Time) (fleet.Commit, error) {
	repository, err := git.PlainOpen(dir)
	if err != nil {
		return fleet.Commit{}, fmt.Errorf("open repository %s: %w", dir, err)
	}
	tree, err := repository.Worktree()
	if err != nil {
		return fleet.Commit{}, fmt.Errorf("open the work tree of %s: %w", dir, err)
	}
	for path, content := range files {
		if err := writeFile(dir, path, content); err != nil {
			return fleet.Commit{}, err
		}
		if _, err := tree.Add(path); err != nil {
			return fleet.Commit{}, fmt.Errorf("add %s: %w", path, err)
		}
	}
	author := &object.Signature{Name: "Varan", Email: "varan@localhost", When: now}
	id, err := tree.Commit(message, &git.CommitOptions{Author: author})
	if err != nil {
		return fleet.Commit{}, fmt.Errorf("commit to %s: %w", dir, err)
	}
	return fleet.Commit{
		ID: id.String(), Branch: "main", Subject: message, Author: author.Name + " <" + author.Email + ">", Time: now,
	}, nil
}

// writeFile writes one file below dir and never outside it.
func writeFile(dir, path, content string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { _ = root.Close() }()
	name := filepath.FromSlash(path)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", path, err)
	}
	if err := root.WriteFile(name, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
