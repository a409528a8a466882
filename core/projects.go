package core

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/wire"
)

// maxRounds bounds how often an agent is asked for files that files refer to.
const maxRounds = 6

// ProjectFiles implements web.Sources. What a Compose file refers to is known only once
// it is read, so that files are asked for in rounds. What containers mount is not read.
func (s *source) ProjectFiles(ctx context.Context, server string, project wire.Project) (api.ProjectFiles, error) {
	r := &projectReader{agents: s.agents, server: server, files: map[string]wire.HostFile{}}
	r.out = api.ProjectFiles{Project: project.Name, Dir: project.WorkingDir, Files: []api.HostFile{}}
	r.out.ComposeFiles = r.below(project.ConfigFiles)
	r.out.EnvFiles = slices.DeleteFunc(r.below(project.EnvFiles), func(name string) bool { return name == ".env" })
	switch {
	case len(r.out.Refused) > 0:
		return r.out, nil
	case len(r.out.ComposeFiles) == 0 || !path.IsAbs(r.out.Dir):
		r.refuse(r.out.Dir, "the containers do not say from which files they were made")
		return r.out, nil
	}
	wanted := slices.Concat(r.out.ComposeFiles, r.out.EnvFiles)
	if len(r.out.EnvFiles) == 0 {
		wanted = append(wanted, ".env")
	}
	if err := r.read(ctx, wanted); err != nil {
		return api.ProjectFiles{}, err
	}
	return r.out, nil
}

// projectReader reads the files of one project.
type projectReader struct {
	agents agents
	server string
	files  map[string]wire.HostFile
	out    api.ProjectFiles
}

func (r *projectReader) refuse(name, reason string) {
	r.out.Refused = append(r.out.Refused, api.RefusedFile{Path: name, Reason: reason})
}

// below makes paths of the host relative to the directory of the project.
func (r *projectReader) below(names []string) []string {
	var out []string
	for _, name := range names {
		rel, inside := strings.CutPrefix(path.Clean(name), path.Clean(r.out.Dir)+"/")
		switch {
		case !path.IsAbs(name):
			out = append(out, path.Clean(name))
		case inside:
			out = append(out, rel)
		default:
			r.refuse(name, "it is outside of the project's directory "+r.out.Dir)
		}
	}
	return out
}

// read asks for files and for what they refer to.
func (r *projectReader) read(ctx context.Context, wanted []string) error {
	asked := []string{}
	for range maxRounds {
		wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == "." || slices.Contains(asked, name) })
		if len(wanted) == 0 {
			break
		}
		files, err := r.agents.Files(ctx, r.server, wire.FilesRequest{Dir: r.out.Dir, Files: wanted})
		if theirs, ok := errors.AsType[*wire.Error](err); ok && (theirs.Code == wire.CodeDenied || theirs.Code == wire.CodeTooLarge) {
			r.refuse(r.out.Dir, theirs.Message)
			return nil
		}
		if err != nil {
			return err
		}
		asked = append(asked, wanted...)
		for _, f := range files {
			if !f.Missing {
				r.files[f.Path] = f
			}
		}
		if wanted, err = r.load(ctx); err != nil {
			return err
		}
	}
	for _, f := range r.files {
		r.out.Files = append(r.out.Files, api.HostFile{Path: f.Path, Mode: f.Mode, Content: f.Content})
	}
	slices.SortFunc(r.out.Files, func(a, b api.HostFile) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// load reads the project as a stack whose files are on the host, and returns what it needs.
func (r *projectReader) load(ctx context.Context) (needs []string, err error) {
	contents, modes := map[string][]byte{}, map[string]fs.FileMode{}
	for name, f := range r.files {
		contents[name], modes[name] = f.Content, fs.FileMode(f.Mode)
	}
	tree, err := render.MemTree(contents, modes)
	if err != nil {
		return nil, err
	}
	req := compose.Request{
		Tree: tree, Stack: r.out.Project, Server: r.server, Project: r.out.Project, HostDir: r.out.Dir, FilePaths: r.out.ComposeFiles,
		Lenient: true, Offline: true, Key: []byte("what is loaded is looked at and not kept"),
	}
	for _, name := range r.out.EnvFiles {
		req.AdditionalEnvFiles = append(req.AdditionalEnvFiles, compose.EnvFile{Path: name, Track: true})
	}
	result, findings := compose.Load(ctx, req)
	r.out.Diagnostics = slices.DeleteFunc(findings, func(d fleet.Diagnostic) bool { return d.Severity != fleet.SeverityError })
	r.out.Mounts = nil
	for _, name := range result.Claims.Paths {
		if name == r.out.Dir {
			r.out.Mounts = append(r.out.Mounts, ".")
		} else if rel, inside := strings.CutPrefix(name, r.out.Dir+"/"); inside {
			r.out.Mounts = append(r.out.Mounts, rel)
		}
	}
	return slices.DeleteFunc(slices.Clone(result.Dependencies), func(name string) bool {
		return slices.ContainsFunc(r.out.Mounts, func(mount string) bool {
			return name == mount || strings.HasPrefix(name, mount+"/")
		})
	}), nil
}
