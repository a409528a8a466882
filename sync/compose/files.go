package compose

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// mount is a file of the release that a service uses.
type mount struct {
	file fleet.File
	// origin is where the service asks for it.
	origin fleet.Position
}

// resolvePaths makes every path inside the run directory a relative one, gathers the
// repository's files behind them, and returns those by service, sorted by path.
func (l *load) resolvePaths(ctx context.Context, project *types.Project) map[string]usage {
	l.listConfigPaths(project)
	if l.envFile.path != "" {
		l.addGenerated()
	}
	objects := l.resolveObjectFiles(ctx, project)
	for _, name := range slices.Sorted(maps.Keys(project.Volumes)) {
		l.resolveVolume(name, project.Volumes[name])
	}
	listed := l.listConfigFiles(ctx, project)
	used := map[string]usage{}
	for _, name := range serviceNames(project) {
		g := &gatherer{load: l, ctx: ctx, seen: map[string]mount{}}
		service := project.Services[name]
		g.volumes(&service)
		g.build(&service)
		g.seccomp(service)
		for _, c := range service.Configs {
			g.take(objects["configs "+c.Source])
		}
		for _, s := range service.Secrets {
			g.take(objects["secrets "+s.Source])
		}
		project.Services[name] = service
		used[name] = react(name, byPath(g.seen), listed)
	}
	return used
}

// gatherer collects the files of one service.
//
//nolint:containedctx // It lives for one call of resolvePaths and saves six parameters.
type gatherer struct {
	*load
	ctx  context.Context
	seen map[string]mount
}

func (g *gatherer) take(list []mount) {
	for _, m := range list {
		if _, ok := g.seen[m.file.Path]; !ok {
			g.seen[m.file.Path] = m
		}
	}
}

func (g *gatherer) volumes(s *types.ServiceConfig) {
	for i, v := range s.Volumes {
		if !path.IsAbs(v.Target) {
			// "v:/data" is a drive of Windows to Compose, and would be a nameless volume.
			g.fail("volume-target", g.atItem(v.Target, "services", s.Name, "volumes"),
				fmt.Sprintf("service %s mounts a volume at %q, which is no absolute path", s.Name, v.Target),
				"the name of a volume has two characters or more")
			continue
		}
		if v.Type != types.VolumeTypeBind {
			continue
		}
		pos := g.atItem(v.Target, "services", s.Name, "volumes")
		source := g.hostPath(v.Source)
		rel, refused := g.inside(g.base, source)
		if refused != nil && path.IsAbs(source) {
			g.checkHostPath(source, v.ReadOnly, pos, "service "+s.Name)
			s.Volumes[i].Source = path.Clean(source)
			continue
		}
		if refused != nil {
			g.fail(refused.rule, pos, fmt.Sprintf("service %s: %s", s.Name, refused.message), refused.hint)
			continue
		}
		if g.sealedKeys("services", s.Name)["volumes"] && g.seal.holds(rel) {
			g.fail("secret-in-path", pos, fmt.Sprintf("service %s mounts a path that holds a secret", s.Name),
				"paths are shown to people and in labels")
			continue
		}
		s.Volumes[i].Source = g.place(rel)
		if info, _ := g.stat(rel); info == nil && isBeside(rel) {
			g.note("data-beside", pos, fmt.Sprintf("service %s keeps data outside the run directory: it is in %s there", s.Name, g.onHost(rel)),
				"write an absolute path for data that is elsewhere on the host")
		}
		g.missingFile(rel, v.Target, pos)
		// What is not in the repository is data: the engine makes a directory of it.
		g.take(g.gather(g.ctx, rel, pos, false))
	}
}

// fileExtensions are those that no directory has.
var fileExtensions = []string{
	".cfg", ".conf", ".crt", ".css", ".env", ".html", ".ini", ".js", ".json", ".key", ".pem", ".properties", ".py", ".sh",
	".sql", ".template", ".tmpl", ".toml", ".txt", ".xml", ".yaml", ".yml",
}

// missingFile warns of a mount that is meant to be a file and is none. A command before the
// deployment may make it.
func (l *load) missingFile(rel, target string, pos fleet.Position) {
	ext := path.Ext(rel)
	if l.req.HostDir != "" || l.req.PreDeploy.Command != "" || ext != path.Ext(target) || !slices.Contains(fileExtensions, ext) {
		return
	}
	if info, refused := l.stat(rel); info == nil && refused == nil && rel != l.envFile.path {
		l.warn("file-not-found", pos, fmt.Sprintf("%s does not exist: the engine makes a directory of that name", l.show(rel)),
			cmp.Or(l.suggestFile(rel), "commit the file, or mount the directory that it will be made in"))
	}
}

// hostPath makes a path that leaves the run directory one of the host, when the run
// directory is on the host. In a repository there is nothing where it leads.
func (l *load) hostPath(written string) string {
	if _, refused := l.inside(l.base, written); l.req.HostDir != "" && refused != nil && strings.HasPrefix(written, ".") {
		return path.Join(l.req.HostDir, l.base, written)
	}
	return written
}

func (g *gatherer) build(s *types.ServiceConfig) {
	if s.Build == nil {
		return
	}
	g.asIs = true
	defer func() { g.asIs = false }()
	at := func(key string) fleet.Position { return g.at("services", s.Name, "build", key) }
	if !isRemote(s.Build.Context) {
		rel, refused := g.inside(g.base, cmp.Or(s.Build.Context, "."))
		if refused != nil {
			g.fail(refused.rule, at("context"), "build: "+refused.message, refused.hint)
			return
		}
		s.Build.Context = g.place(rel)
		g.take(g.gather(g.ctx, rel, at("context"), true))
		if s.Build.Dockerfile != "" {
			g.dockerfile(s.Build, rel, at("dockerfile"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Build.AdditionalContexts)) {
		written := s.Build.AdditionalContexts[name]
		pos := g.at("services", s.Name, "build", "additional_contexts", name)
		switch {
		case strings.HasPrefix(written, "docker-image://"), strings.HasPrefix(written, types.ServicePrefix):
		case isRemote(written):
			g.risky("remote-build", pos, fmt.Sprintf("service %s is built from elsewhere", s.Name))
		default:
			rel, refused := g.inside(g.base, written)
			if refused != nil {
				g.fail(refused.rule, pos, "build: "+refused.message, refused.hint)
				continue
			}
			s.Build.AdditionalContexts[name] = g.place(rel)
			g.take(g.gather(g.ctx, rel, pos, true))
		}
	}
}

// dockerfile may lie outside its context. Where the two are put apart on the host, the
// way from one to the other is another.
func (g *gatherer) dockerfile(build *types.BuildConfig, contextDir string, pos fleet.Position) {
	written := build.Dockerfile
	rel, refused := g.inside(contextDir, written)
	if refused != nil {
		g.fail(refused.rule, pos, "build: "+refused.message, refused.hint)
		return
	}
	if child := path.Join(contextDir, written); within(child, contextDir) || contextDir == "." && !isBeside(child) {
		rel = child // it is gathered with its context
	}
	g.take(g.gather(g.ctx, rel, pos, true))
	if isBeside(contextDir) != isBeside(rel) {
		up := strings.Repeat("../", strings.Count(path.Join("x", g.onHost(contextDir)), "/"))
		build.Dockerfile = up + g.onHost(rel)
	}
}

// seccomp profiles are files that Compose reads on the host.
func (g *gatherer) seccomp(s types.ServiceConfig) {
	for i, opt := range s.SecurityOpt {
		key, value, ok := strings.Cut(strings.Replace(opt, ":", "=", 1), "=")
		if !ok || key != "seccomp" || value == "unconfined" || value == "builtin" {
			continue
		}
		pos := g.atItem(opt, "services", s.Name, "security_opt")
		rel, refused := g.inside(g.base, value)
		if refused != nil {
			g.fail(refused.rule, pos, "security_opt: "+refused.message, refused.hint)
			continue
		}
		if g.base != "." || g.req.HostDir != "" {
			s.SecurityOpt[i] = key + ":" + g.place(rel)
		}
		g.take(g.gather(g.ctx, rel, pos, true))
	}
}

// resolveObjectFiles handles the files of configs and secrets, by "configs NAME".
func (l *load) resolveObjectFiles(ctx context.Context, project *types.Project) map[string][]mount {
	out := map[string][]mount{}
	resolveFile := func(kind, name, file string) string {
		if file == "" {
			return ""
		}
		pos := l.at(kind, name, "file")
		rel, refused := l.inside(l.base, file)
		if refused != nil {
			l.fail(refused.rule, pos, fmt.Sprintf("%s %s: %s", strings.TrimSuffix(kind, "s"), name, refused.message), refused.hint)
			return file
		}
		out[kind+" "+name] = l.gather(ctx, rel, pos, true)
		return l.place(rel)
	}
	for _, name := range slices.Sorted(maps.Keys(project.Configs)) {
		config := project.Configs[name]
		config.File = resolveFile("configs", name, config.File)
		project.Configs[name] = config
	}
	for _, name := range slices.Sorted(maps.Keys(project.Secrets)) {
		secret := project.Secrets[name]
		secret.File = resolveFile("secrets", name, secret.File)
		project.Secrets[name] = secret
	}
	return out
}

// resolveVolume keeps a bind mount in the clothes of a volume inside the run directory.
func (l *load) resolveVolume(name string, v types.VolumeConfig) {
	device := v.DriverOpts["device"]
	if device == "" || path.IsAbs(device) || !isBind(v.DriverOpts) {
		return
	}
	rel, refused := l.inside(l.base, device)
	if refused != nil {
		l.fail(refused.rule, l.at("volumes", name, "driver_opts", "device"),
			fmt.Sprintf("volume %s: %s", name, refused.message), refused.hint)
		return
	}
	v.DriverOpts["device"] = l.place(rel)
}

// place is how a path inside the run directory is written in the model.
func (l *load) place(rel string) string {
	switch {
	case l.req.HostDir != "":
		return path.Join(l.req.HostDir, rel)
	case rel == ".":
		return "."
	}
	return "./" + l.onHost(rel)
}

func (l *load) addGenerated() {
	size := int64(len(l.envFile.data))
	l.ship(l.envFile.path, fleet.File{
		Path: l.onHost(l.envFile.path), Mode: 0o600, Size: size, Digest: fleet.SumDigest(l.envFile.data), Secret: true,
	}, Blob{Size: size, data: l.envFile.data})
}

// gather adds a file, or all files of a directory, to the release.
func (l *load) gather(ctx context.Context, rel string, pos fleet.Position, required bool) []mount {
	if rel == l.envFile.path {
		return []mount{{l.files[rel], pos}}
	}
	info, refused := l.stat(rel)
	if refused == nil && info == nil && required && l.req.HostDir == "" {
		refused = &refusal{"file-not-found", fmt.Sprintf("%s does not exist", l.show(rel)), l.suggestFile(rel)}
	}
	if refused != nil {
		l.fail(refused.rule, pos, refused.message, refused.hint)
		return nil
	}
	var out []mount
	switch {
	case info == nil:
	case info.IsDir():
		out = l.gatherDir(ctx, rel, pos, 1)
	default:
		if file, ok := l.addFile(rel, info, pos); ok {
			out = append(out, mount{file, pos})
		}
	}
	if l.envFile.path != "" && (rel == "." && !isBeside(l.envFile.path) || strings.HasPrefix(l.envFile.path, rel+"/")) {
		out = append(out, mount{l.files[l.envFile.path], pos})
	}
	return out
}

func (l *load) gatherDir(ctx context.Context, rel string, pos fleet.Position, depth int) []mount {
	full := path.Join(l.dir, rel)
	if depth > maxDepth {
		l.fail("too-deep", pos, fmt.Sprintf("%s nests deeper than %d directories", full, maxDepth), "")
		return nil
	}
	list, err := l.req.Tree.ReadDir(full)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.fail("file-unreadable", pos, fmt.Sprintf("%s cannot be read: %v", full, err), "")
		return nil
	}
	var out []mount
	for _, entry := range list {
		name := path.Join(rel, entry.Name())
		if name == l.envFile.path || entry.Name() == ".git" {
			continue
		}
		info, err := entry.Info()
		switch {
		case err != nil:
			l.fail("file-unreadable", pos, fmt.Sprintf("%s cannot be read: %v", l.show(name), err), "")
		case info.IsDir():
			out = append(out, l.gatherDir(ctx, name, pos, depth+1)...)
		case !info.Mode().IsRegular():
			refused := refuseMode(l.show(name), info.Mode())
			l.fail(refused.rule, pos, refused.message, refused.hint)
		default:
			if file, ok := l.addFile(name, info, pos); ok {
				out = append(out, mount{file, pos})
			}
		}
		if l.findings.HasErrors() {
			return out
		}
	}
	return out
}
