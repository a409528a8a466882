package render

import (
	"fmt"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// checkSource refuses stacks whose files are not in this tree.
func (p *pass) checkSource(s *spec.Stack) fleet.Diagnostics {
	c := &s.Config
	if c.FileContents != "" {
		return nil
	}
	refuse := func(field, message, hint string) fleet.Diagnostics {
		return fleet.Diagnostics{{
			Rule: "source-not-supported", Severity: fleet.SeverityError, Position: s.At("config." + field),
			Message: message, Hint: hint,
		}}
	}
	switch {
	case c.FilesOnHost:
		return refuse("files_on_host", fmt.Sprintf("the files of stack %s are on the host", s.Name),
			"move them into this repository, and remove files_on_host")
	case c.LinkedRepo != "" && !p.isOwn(c.LinkedRepo):
		return refuse("linked_repo", fmt.Sprintf("the files of stack %s are in the repository %s", s.Name, c.LinkedRepo),
			"add a sync for that repository, and declare the stack there")
	case c.Repo != "" && !p.isOwn(c.Repo):
		return refuse("repo", fmt.Sprintf("the files of stack %s are in the repository %s", s.Name, c.Repo),
			"add a sync for that repository, and declare the stack there")
	}
	return nil
}

// isOwn reports whether a repository, as a stack names it, is the tree's own. Offline
// nobody knows, and it is taken for granted.
func (p *pass) isOwn(written string) bool {
	own, other := plainRepository(p.in.Repository), plainRepository(written)
	return own == "" || own == other || strings.HasSuffix(own, "/"+other) || strings.HasSuffix(other, "/"+own)
}

// plainRepository is a repository without what its spellings differ in.
func plainRepository(name string) string {
	if _, after, ok := strings.Cut(name, "://"); ok {
		name = after
	}
	if _, after, ok := strings.Cut(name, "@"); ok {
		name = strings.Replace(after, ":", "/", 1)
	}
	return strings.ToLower(strings.Trim(strings.TrimSuffix(strings.TrimRight(name, "/"), ".git"), "/"))
}
