package render

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// RuleUnavailable is of files that could not be had. The declarations are not at fault, so
// that the stack is desired all the same, without a release.
const RuleUnavailable = "source-unavailable"

// maxOpening bounds how many repositories are fetched at once.
const maxOpening = 8

// ruleElsewhere is of files that are somewhere else, where nothing is looked at.
const ruleElsewhere = "elsewhere-not-checked"

// source is where the files of a stack are.
type source struct {
	// checkout is nil for a stack whose files cannot be had.
	checkout *Checkout
	// origin is empty for the sync's own tree.
	origin fleet.Source
	// hostDir is the directory on the host, for files that are there already.
	hostDir string
	// lost says why the files could not be had.
	lost     string
	findings fleet.Diagnostics
}

// checkouts are the repositories of one pass, each opened once.
type checkouts struct {
	byRef map[RepositoryRef]*opened
	order []RepositoryRef
}

type opened struct {
	checkout Checkout
	err      error
}

// want notes that a repository is needed.
func (c *checkouts) want(ref RepositoryRef) {
	if c.byRef == nil {
		c.byRef = map[RepositoryRef]*opened{}
	}
	if c.byRef[ref] == nil {
		c.byRef[ref] = &opened{}
		c.order = append(c.order, ref)
	}
}

// open opens all that is wanted, several at once.
func (c *checkouts) open(ctx context.Context, sources Sources) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxOpening)
	for _, ref := range c.order {
		slot := c.byRef[ref]
		group.Go(func() error {
			slot.checkout, slot.err = sources.Repository(groupCtx, ref)
			if slot.err == nil && slot.checkout.Tree == nil {
				slot.err = fmt.Errorf("repository %s/%s gave no files", ref.Provider, ref.Repo)
			}
			return groupCtx.Err() //nolint:wrapcheck // Only a canceled context ends a pass.
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("open repositories: %w", err)
	}
	return nil
}

// where is the repository that holds the files of a stack; own for the sync's tree.
type where struct {
	own  bool
	host bool
	named
	// field is the one that says so.
	field string
}

// locate says where the files of a stack are, from its fields alone.
func (p *pass) locate(s *spec.Stack) (where, fleet.Diagnostics) {
	c := &s.Config
	switch {
	case c.FileContents != "":
		return where{own: true}, nil
	case c.FilesOnHost:
		return where{host: true, field: "config.files_on_host"}, nil
	case c.LinkedRepo != "":
		w := where{field: "config.linked_repo"}
		found, ok := p.repositoryNamed(c.LinkedRepo)
		if !ok {
			return p.undeclared(s)
		}
		w.named = p.settle(found)
		w.own = p.isOwn(found) || p.takenAsOwn(s)
		return w, nil
	case c.Repo != "":
		w := where{named: p.settle(namedBy(c.GitSource, s.At)), field: "config.repo"}
		w.own = p.isOwn(w.named) || p.takenAsOwn(s)
		return w, nil
	}
	return where{own: true}, nil
}

// undeclared is a linked_repo that no [[repo]] has the name of.
func (p *pass) undeclared(s *spec.Stack) (where, fleet.Diagnostics) {
	name := s.Config.LinkedRepo
	own := plainRepository(p.in.Repository)
	if plain := plainRepository(name); own == plain || strings.HasSuffix(own, "/"+plain) || p.takenAsOwn(s) {
		return where{own: true}, nil
	}
	at := s.At("config.linked_repo")
	if p.in.Offline {
		return where{}, fleet.Diagnostics{{
			Rule: ruleElsewhere, Severity: fleet.SeverityNote, Position: at,
			Message: fmt.Sprintf("repository %s of stack %s is not declared here, so its files are not checked", name, s.Name),
		}}
	}
	names := make([]string, 0, len(p.decls.Repos)+len(p.in.KnownRepositories))
	for i := range p.decls.Repos {
		names = append(names, p.decls.Repos[i].Name)
	}
	for _, r := range p.in.KnownRepositories {
		names = append(names, r.Name)
	}
	return where{}, fleet.Diagnostics{{
		Rule: "unknown-repo", Severity: fleet.SeverityError, Position: at,
		Message: fmt.Sprintf("stack %s names the repo %s, which does not exist", s.Name, name),
		Hint:    compose.DidYouMean(name, names),
	}}
}

// takenAsOwn decides for a tree of which nobody knows the repository: files that are in
// it are taken from it.
func (p *pass) takenAsOwn(s *spec.Stack) bool {
	if p.in.Repository != "" {
		return false
	}
	dir := runDirectory(s, where{own: true})
	names := s.Config.FilePaths
	if len(names) == 0 {
		return slices.ContainsFunc(compose.UsualNames(), func(name string) bool { return p.has(path.Join(dir, name)) })
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !p.has(path.Join(dir, name)) })
}

func (p *pass) has(name string) bool {
	info, err := p.in.Tree.Stat(path.Clean(name))
	return err == nil && !info.IsDir()
}

// runDirectory is the directory in the repository. Under Komodo an absolute one inside
// the stack's own clone is one of the repository.
func runDirectory(s *spec.Stack, w where) string {
	dir := s.Config.RunDirectory
	if !path.IsAbs(dir) || s.Config.FilesOnHost {
		return dir
	}
	if clone := s.Config.ClonePath; path.IsAbs(clone) {
		if inside, ok := strings.CutPrefix(path.Clean(dir)+"/", path.Clean(clone)+"/"); ok {
			return path.Join(".", inside)
		}
	}
	clones := []string{s.Name}
	for _, more := range []string{path.Base(s.Config.ClonePath), s.Config.LinkedRepo, path.Base(w.Repo)} {
		if more != "" && more != "." && more != "/" {
			clones = append(clones, more)
		}
	}
	parts := strings.Split(strings.Trim(path.Clean(dir), "/"), "/")
	for i, part := range parts {
		if i > 0 && (parts[i-1] == "stacks" || parts[i-1] == "repos") && slices.Contains(clones, part) {
			return path.Join(".", strings.Join(parts[i+1:], "/"))
		}
	}
	for i, part := range slices.Backward(parts) {
		if slices.Contains(clones, part) {
			return path.Join(".", strings.Join(parts[i+1:], "/"))
		}
	}
	return dir
}

// find opens what a location names.
func (p *pass) find(s *spec.Stack, w where) source {
	switch {
	case w.own:
		return source{checkout: &Checkout{Tree: p.in.Tree, Commit: p.in.Commit}}
	case w.field == "":
		return source{} // reported before
	case w.host:
		return p.onHost(s)
	}
	return p.remote(w.named, s.At(w.field), "stack "+s.Name)
}

// remote is a repository other than the sync's own, or another commit of it.
func (p *pass) remote(n named, at fleet.Position, who string) source {
	say := func(severity fleet.Severity, rule, message, hint string) source {
		return source{findings: fleet.Diagnostics{{
			Rule: rule, Severity: severity, Position: at, Message: message, Hint: hint,
		}}}
	}
	if p.in.Sources == nil {
		return say(fleet.SeverityNote, ruleElsewhere,
			fmt.Sprintf("the files of %s are in %s, and not checked here", who, n.describe()), "")
	}
	got := p.checkouts.byRef[n.ref()]
	if got.err != nil {
		src := say(fleet.SeverityError, RuleUnavailable,
			fmt.Sprintf("the files of %s cannot be read: %v", who, got.err), "check the repository, its branch and its account")
		src.lost = fmt.Sprintf("the repository %s cannot be read: %v", n.shown(), got.err)
		return src
	}
	return source{
		checkout: &got.checkout,
		origin:   fleet.Source{Repository: n.shown(), Commit: got.checkout.Commit},
	}
}

// describe is a repository with what is not its usual state.
func (n named) describe() string {
	switch {
	case n.Commit != "":
		return n.shown() + " at " + fleet.Commit{ID: n.Commit}.Short()
	case n.anyBranch:
		return n.shown()
	}
	return fmt.Sprintf("%s (branch %s)", n.shown(), n.Branch)
}

// onHost is a directory of the stack's server.
func (p *pass) onHost(s *spec.Stack) source {
	at := s.At("config.files_on_host")
	dir := s.Config.RunDirectory
	switch {
	case !path.IsAbs(dir):
		return source{findings: fleet.Diagnostics{{
			Rule: "host-directory", Severity: fleet.SeverityError, Position: s.At("config.run_directory"),
			Message: fmt.Sprintf("the files of stack %s are on the host, and run_directory does not say where", s.Name),
			Hint:    "write the absolute directory; Komodo's own default is /etc/komodo/stacks/" + s.Name,
		}}}
	case p.in.Sources == nil:
		return source{findings: fleet.Diagnostics{{
			Rule: ruleElsewhere, Severity: fleet.SeverityNote, Position: at,
			Message: fmt.Sprintf("the files of stack %s are on the host, and not checked here", s.Name),
		}}}
	}
	return source{checkout: &Checkout{Commit: p.in.Commit}, hostDir: path.Clean(dir)}
}
