package render

import (
	"context"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
)

// maxRounds bounds how often an agent is asked for files that files refer to.
const maxRounds = 6

// readHosts asks agents for the files of the stacks that are on their hosts.
func (p *pass) readHosts(ctx context.Context, jobs []*job) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxOpening)
	for _, j := range jobs {
		if j.source.hostDir == "" || j.entry != nil {
			continue
		}
		group.Go(func() error {
			tree, err := p.in.Sources.HostDirectory(groupCtx, j.about.Server, j.source.hostDir, p.hostFiles(j))
			if err != nil {
				j.own = append(j.own, p.hostFault(j, err))
				j.entry = &entry{}
			}
			j.request.Tree = tree
			return groupCtx.Err() //nolint:wrapcheck // Only a canceled context ends a pass.
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read files of hosts: %w", err)
	}
	return nil
}

// hostFiles are the files that a stack names, and those it turned out to need before.
func (p *pass) hostFiles(j *job) []string {
	r := &j.request
	names := slices.Clone(r.FilePaths)
	if len(names) == 0 && r.FileContents == "" {
		names = compose.UsualNames()
	}
	names = append(names, r.MoreFilePaths...)
	names = append(names, ".env")
	for _, f := range r.AdditionalEnvFiles {
		names = append(names, f.Path)
	}
	for _, f := range r.ConfigFiles {
		names = append(names, f.Path)
	}
	for _, old := range p.kept.stacks[j.key()] {
		for _, d := range old.deps {
			names = append(names, d.path)
		}
	}
	var out []string
	for _, name := range names {
		clean := path.Clean(name)
		if clean != "." && !path.IsAbs(clean) && !slices.Contains(out, clean) {
			out = append(out, clean)
		}
	}
	return out
}

func (*pass) hostFault(j *job, err error) fleet.Diagnostic {
	j.source.lost = fmt.Sprintf("%s cannot be read: %v", j.source.hostDir, err)
	return fleet.Diagnostic{
		Rule: RuleUnavailable, Severity: fleet.SeverityError, Position: j.sourceAt,
		Message: fmt.Sprintf("%s of server %s cannot be read for %s: %v", j.source.hostDir, j.about.Server, j.who(), err),
		Hint:    "the agent must be connected, and its policy must allow the directory",
	}
}
