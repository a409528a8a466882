package render

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// loader resolves a request: compose.Load, or compose.Checkout for a repo.
type loader func(context.Context, compose.Request) (compose.Result, fleet.Diagnostics)

// inlineFile stands for a Compose file inside a resource file while it is loaded, so that
// what is kept does not depend on where in that file it is.
const inlineFile = "\x00inline"

// job is one declared thing on one server.
type job struct {
	// about is what does not depend on files.
	about fleet.Stack
	// idle things are checked and not deployed: templates, and what has no server.
	idle   bool
	source source
	// sourceAt is the field that says where the files are.
	sourceAt fleet.Position
	request  compose.Request
	// pool is what the Compose files may use; likeness is the same on servers where that is
	// the same.
	pool     *pool
	likeness string
	load     loader
	// explain finds the place of a line of the Compose file that is part of the declaration,
	// or made from it; nil when there is none.
	explain func(line, col int) fleet.Position
	// names are services that settings beside the Compose file name.
	names []mention
	// own are findings made before anything was loaded.
	own fleet.Diagnostics
	// blind is set when a value is not known here, so that what comes of it means nothing.
	blind bool
	// entry is the result; shares says that another job of this pass made it.
	entry  *entry
	shares bool
	// moved maps places at the time the entry was made to where they are now.
	moved map[fleet.Position]fleet.Position
}

// key names what is kept between renders: all servers of a stack share it.
func (j *job) key() string { return string(j.about.Kind) + "/" + j.about.Name }

// who is "stack web".
func (j *job) who() string { return string(j.about.Kind) + " " + j.about.Name }

// settle decides whether there is anything to load.
func (j *job) settle() {
	j.own = append(j.own, j.source.findings...)
	if j.source.checkout == nil || j.own.HasErrors() {
		j.entry = &entry{}
		return
	}
	j.request.Tree, j.request.Commit = j.source.checkout.Tree, j.source.checkout.Commit
	j.request.Repository = j.source.origin.Repository
	if j.source.hostDir != "" {
		j.request.HostDir, j.request.Options.Dir = j.source.hostDir, j.source.hostDir
	}
	if j.pool != nil {
		j.request.Variables, j.request.LocalSecrets = j.pool, j.pool.place.locals
	}
}

// loadAll loads what the caches do not have, several at once. Servers on which a stack is
// made of the same things share one load.
func (p *pass) loadAll(ctx context.Context, jobs []*job) (loads int, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(p.renderer.parallel)
	flights := map[string]*entry{}
	for _, j := range jobs {
		if j.entry != nil {
			continue
		}
		fingerprint := p.fingerprint(j)
		if old := p.keptEntry(j, fingerprint); old != nil {
			j.entry, j.moved = old, old.moves(j.request)
			continue
		}
		flight := strings.Join([]string{
			j.key(), fingerprint, j.source.origin.Repository, j.source.origin.Commit.ID, j.likeness,
		}, "\x00")
		if j.source.hostDir == "" && flights[flight] != nil {
			j.entry, j.shares = flights[flight], true
			continue
		}
		j.entry = &entry{}
		flights[flight] = j.entry
		loads++
		group.Go(func() error {
			result, findings, tree := p.loadOne(groupCtx, j)
			if err := groupCtx.Err(); err != nil {
				return fmt.Errorf("load %s: %w", j.who(), err)
			}
			j.entry.fill(fingerprint, j.request, result, findings)
			if p.in.Commit.ID != "" {
				j.entry.remember(tree)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err //nolint:wrapcheck // It is wrapped where it is made.
	}
	for _, j := range jobs {
		if j.shares {
			j.moved = j.entry.moves(j.request)
		}
	}
	return loads, nil
}

// fingerprint names what a job asks for, the tree apart.
func (p *pass) fingerprint(j *job) string {
	// Where it runs may hang on what the tree holds.
	place := strings.Join([]string{j.key(), j.about.Server, j.request.RunDirectory, j.request.HostDir}, "\x00")
	known, ok := p.kept.fingerprints[place]
	if !ok || !p.unchanged {
		known = fingerprintOf(j.request, p.in.Identities)
	}
	p.fingerprints[place] = known
	return known
}

// keptEntry is the result of an earlier render, if it would be the same now.
func (p *pass) keptEntry(j *job, fingerprint string) *entry {
	for _, old := range p.kept.stacks[j.key()] {
		if old.fits(fingerprint, &j.request) {
			return old
		}
	}
	return nil
}

// loadOne loads one stack. What a Compose file on a host refers to is known only once it
// is read, so that its files are asked for in rounds.
func (p *pass) loadOne(ctx context.Context, j *job) (compose.Result, fleet.Diagnostics, compose.Tree) {
	result, findings := j.load(ctx, j.request)
	if j.source.hostDir == "" {
		return result, findings, j.request.Tree
	}
	asked := p.hostFiles(j)
	for range maxRounds {
		more := slices.DeleteFunc(slices.Clone(result.Dependencies), func(name string) bool {
			return name == "." || slices.Contains(asked, name)
		})
		if len(more) == 0 {
			break
		}
		asked = append(asked, more...)
		tree, err := p.in.Sources.HostDirectory(ctx, j.about.Server, j.source.hostDir, asked)
		if err != nil {
			return compose.Result{}, fleet.Diagnostics{p.hostFault(j, err)}, j.request.Tree
		}
		j.request.Tree = tree
		result, findings = j.load(ctx, j.request)
	}
	return result, findings, j.request.Tree
}

// findings are those of the job, at the places they have now.
func (j *job) findings() fleet.Diagnostics {
	out := append(slices.Clone(j.own), j.strangers()...)
	for _, d := range slices.Concat(j.entry.findings, j.entry.result.Advice) {
		if j.blind && (strings.Contains(d.Message, unknown) || strings.Contains(d.Hint, unknown)) {
			continue
		}
		d.Position, d.Related = j.place(d.Position), j.place(d.Related)
		d.Message = strings.ReplaceAll(d.Message, inlineFile, j.about.Origin.File)
		out = append(out, d)
	}
	for i := range out {
		out[i].Stack = j.about.Name
	}
	return out
}

// place is where something is that had a place when the entry was made.
func (j *job) place(at fleet.Position) fleet.Position {
	if at.File == inlineFile && j.explain != nil {
		return cmp.Or(j.explain(at.Line, at.Col), j.about.Origin)
	}
	if now, ok := j.moved[at]; ok {
		return now
	}
	return at
}

// desired is the stack with its release.
func (j *job) desired(commit fleet.Commit) fleet.Stack {
	out := j.about
	release := j.entry.release(out.Server)
	release.Commit, release.Source = commit, j.source.origin
	if len(j.moved) > 0 || j.explain != nil {
		release.Services = slices.Clone(release.Services)
		for i := range release.Services {
			fields := slices.Clone(release.Services[i].Fields)
			for k := range fields {
				fields[k].Origin = j.place(fields[k].Origin)
			}
			release.Services[i].Fields = fields
		}
		release.Volumes = slices.Clone(release.Volumes)
		for i := range release.Volumes {
			release.Volumes[i].Origin = j.place(release.Volumes[i].Origin)
		}
	}
	out.Release = release
	return out
}
