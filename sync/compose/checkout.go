package compose

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// Checkout makes a release of all files of a tree and of no service: for a repository that
// is put on a host as it is. Of the request, what is about Compose files does not count.
func Checkout(ctx context.Context, req Request) (Result, fleet.Diagnostics) {
	l := newLoad(req)
	var release fleet.Release
	if l.checkRequest() {
		l.prepareEnvironment()
		l.takeAll(ctx, ".", 1)
		release = l.checkoutRelease()
	}
	result := Result{Dependencies: []string{l.dir}, Variables: l.env.pool.names()}
	if !l.findings.HasErrors() {
		result.Release, result.Content = release, l.content
	}
	return result, l.findings.Sort()
}

func (l *load) checkoutRelease() fleet.Release {
	if l.envFile.path != "" {
		l.addGenerated()
	}
	release := fleet.Release{
		Stack: l.req.Stack, Server: l.req.Server, Project: l.req.Project, Commit: l.req.Commit, Options: l.options(),
	}
	release.Options.FirstDeploy = l.hook("on_clone", l.req.FirstDeploy, l.req.Settings.FirstDeploy)
	for _, rel := range slices.Sorted(maps.Keys(l.files)) {
		release.Files = append(release.Files, l.files[rel])
	}
	release.Digest = ReleaseDigest(release)
	return release
}

// takeAll adds every file below a directory. Links are left out: on the host they could
// lead anywhere.
func (l *load) takeAll(ctx context.Context, rel string, depth int) {
	full := path.Join(l.dir, rel)
	list, err := l.req.Tree.ReadDir(full)
	switch {
	case err == nil && ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && depth > maxDepth:
		err = fmt.Errorf("it nests deeper than %d directories", maxDepth)
	}
	if err != nil {
		l.fail("file-unreadable", l.req.Origin, fmt.Sprintf("%s cannot be read: %v", l.show(rel), err), "")
		return
	}
	for _, entry := range list {
		l.takeEntry(ctx, path.Join(rel, entry.Name()), entry, depth)
		if l.findings.HasErrors() {
			return
		}
	}
}

func (l *load) takeEntry(ctx context.Context, name string, entry fs.DirEntry, depth int) {
	if name == l.envFile.path || entry.Name() == ".git" {
		return
	}
	info, err := entry.Info()
	switch {
	case err != nil:
		l.fail("file-unreadable", l.req.Origin, fmt.Sprintf("%s cannot be read: %v", l.show(name), err), "")
	case info.IsDir():
		l.takeAll(ctx, name, depth+1)
	case !info.Mode().IsRegular():
		refused := refuseMode(l.show(name), info.Mode())
		l.warn(refused.rule, l.req.Origin, refused.message+", and left out", refused.hint)
	default:
		l.addFile(name, info, l.req.Origin)
	}
}
