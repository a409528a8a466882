package compose

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
)

// usage is what a service uses of the release's files, each sorted by path.
type usage struct {
	// recreate are the files whose change asks for a new container, restart those whose
	// change asks for a restart of it.
	recreate, restart []mount
}

// listing is what the stack says about one of its config files.
type listing struct {
	mount
	services []string
	requires Reaction
}

func (c listing) concerns(service string) bool {
	return len(c.services) == 0 || slices.Contains(c.services, service)
}

// listConfigPaths says in which files [[NAME]] may be replaced, before any is read.
func (l *load) listConfigPaths(project *types.Project) {
	for _, file := range l.req.ConfigFiles {
		if rel, refused := l.inside(".", file.Path); refused == nil {
			l.configPaths = append(l.configPaths, rel)
		}
	}
	for _, config := range project.Configs {
		if rel, refused := l.inside(l.base, config.File); refused == nil {
			l.configPaths = append(l.configPaths, rel)
		}
	}
}

// isConfig reports whether a file is one of configPaths, or below one.
func (l *load) isConfig(rel string) bool {
	return slices.ContainsFunc(l.configPaths, func(p string) bool { return p == "." || within(rel, p) })
}

// listConfigFiles puts the config files of the stack into the release.
func (l *load) listConfigFiles(ctx context.Context, project *types.Project) []listing {
	var out []listing
	for _, file := range l.req.ConfigFiles {
		pos := cmp.Or(file.Origin, l.req.Origin)
		for _, name := range file.Services {
			l.checkConfigService(project, name, file)
		}
		rel, refused := l.inside(".", file.Path)
		if refused != nil {
			l.fail(refused.rule, pos, "config_files: "+refused.message, refused.hint)
			continue
		}
		for _, m := range l.gather(ctx, rel, pos, true) {
			out = append(out, listing{mount: m, services: file.Services, requires: file.Requires})
		}
	}
	return out
}

func (l *load) checkConfigService(project *types.Project, name string, file ConfigFile) {
	if _, ok := project.Services[name]; ok {
		return
	}
	pos := cmp.Or(file.Origin, l.req.Origin)
	if l.definesService(name) {
		l.note("undefined-service", pos, fmt.Sprintf("config_files: service %s is in no enabled profile", name), "")
		return
	}
	l.fail("undefined-service", pos, fmt.Sprintf("config_files: the stack has no service %q", name),
		DidYouMean(name, serviceNames(project)))
}

// react makes the usage of a service from what it mounts. A file that the stack lists
// counts for the services, and in the way, that the list says, mounted or not.
func react(service string, mounted []mount, listed []listing) usage {
	recreate, restart := map[string]mount{}, map[string]mount{}
	for _, m := range mounted {
		if !slices.ContainsFunc(listed, func(c listing) bool { return c.file.Path == m.file.Path }) {
			recreate[m.file.Path] = m
		}
	}
	for _, c := range listed {
		switch {
		case !c.concerns(service):
		case c.requires == ReactRedeploy:
			recreate[c.file.Path] = c.mount
		case c.requires == ReactRestart:
			restart[c.file.Path] = c.mount
		}
	}
	maps.DeleteFunc(restart, func(p string, _ mount) bool { return recreate[p].file.Path == p })
	return usage{recreate: byPath(recreate), restart: byPath(restart)}
}

func byPath(files map[string]mount) []mount {
	out := make([]mount, 0, len(files))
	for _, p := range slices.Sorted(maps.Keys(files)) {
		out = append(out, files[p])
	}
	return out
}
