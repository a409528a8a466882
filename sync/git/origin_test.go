package git_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/varanhq/varan/sync/git"
)

func TestOriginIsReadFromTheConfiguration(t *testing.T) {
	write := func(t *testing.T, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const core = "[core]\n\tbare = false\n"
	for name, tc := range map[string]struct{ config, want string }{
		"https":       {core + "[remote \"origin\"]\n\turl = https://git.example.com/house/docker.git\n", "https://git.example.com/house/docker"},
		"short ssh":   {core + "[remote \"origin\"]\n\turl = git@git.example.com:house/docker.git\n", "ssh://git@git.example.com/house/docker"},
		"token":       {core + "[remote \"origin\"]\n\turl = https://me:ghp_x@git.example.com/house/docker\n", "https://git.example.com/house/docker"},
		"only remote": {core + "[remote \"upstream\"]\n\turl = https://git.example.com/a/b\n", "https://git.example.com/a/b"},
		"of several":  {core + "[remote \"x\"]\n\turl = https://h.example/x/x\n[remote \"origin\"]\n\turl = https://h.example/a/b\n", "https://h.example/a/b"},
		"none":        {core, ""},
		"strange":     {core + "[remote \"origin\"]\n\turl = ext::sh -c x\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, ".git", "config"), tc.config)
			got, err := git.Origin(dir)
			if err != nil || got != tc.want {
				t.Errorf("Origin = %q, %v; want %q", got, err, tc.want)
			}
			linked := t.TempDir()
			write(t, filepath.Join(linked, ".git"), "gitdir: "+filepath.Join(dir, ".git", "worktrees", "w")+"\n")
			write(t, filepath.Join(dir, ".git", "worktrees", "w", "commondir"), "../..\n")
			got, err = git.Origin(linked)
			if err != nil || got != tc.want {
				t.Errorf("Origin of a linked work tree = %q, %v; want %q", got, err, tc.want)
			}
		})
	}
	if got, err := git.Origin(t.TempDir()); err != nil || got != "" {
		t.Errorf("Origin of a plain directory = %q, %v", got, err)
	}
}
