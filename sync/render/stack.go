package render

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/spec"
)

// defaultRegistry is where images without a host come from.
const defaultRegistry = "docker.io"

// stackJob prepares a stack for one server.
func (p *pass) stackJob(s *spec.Stack, w where, src source, server fleet.Server) *job {
	config, more := overlaid(s, server)
	at := p.place(s.Name, server)
	f := &filler{vars: p.vars, place: at, skip: config.SkipSecretInterp}
	j := &job{
		about: fleet.Stack{
			Name: s.Name, Kind: fleet.KindStack, Description: s.Description, Tags: s.Tags, Links: config.Links,
			Server: server.Name, Deploy: s.Deploy, After: p.names.after(s.After),
			IgnoreServices: config.IgnoreServices, Quiet: !config.SendAlerts, Origin: s.At(""),
		},
		idle: s.Template || server.Name == "", source: src, sourceAt: s.At(w.field),
		pool: p.vars.pool(at), load: compose.Load,
	}
	j.about.Updates, j.names = stackUpdates(s)
	j.about.Rollout = rolloutOf(&config.Rollout)
	if !s.Template {
		j.own = append(j.own, checkTier("stack "+s.Name, s.Tags, s.At("tags"), server)...)
	}
	dir := runDirectory(s, w)
	if dir != config.RunDirectory {
		j.own = append(j.own, fleet.Diagnostic{
			Rule: "absolute-run-directory", Severity: fleet.SeverityNote, Position: s.At("config.run_directory"),
			Message: fmt.Sprintf("%s is the clone of the repository, so the stack runs in %s of it",
				config.RunDirectory, cmp.Or(strings.TrimPrefix(dir, "."), "the root")),
			Hint: "write it relative to the repository, or leave it out",
		})
	}
	if src.hostDir != "" {
		dir = ""
	}
	j.request = compose.Request{
		Stack: s.Name, Server: server.Name, Project: cmp.Or(config.ProjectName, s.Name), Origin: s.At(""),
		Tier: at.tier(), RunDirectory: dir, FilePaths: config.FilePaths, MoreFilePaths: more,
		FileContents: f.file(config.FileContents, s.At("config.file_contents")),
		Environment:  f.composeEnvironment(config.Environment), EnvFilePath: config.EnvFilePath, Profiles: config.Profiles,
		AdditionalEnvFiles: envFiles(s), ConfigFiles: configFiles(s),
		ExtraArgs:      f.list(config.ExtraArgs, item(s.At, "config.extra_args")),
		BuildExtraArgs: f.list(config.BuildExtraArgs, item(s.At, "config.build_extra_args")),
		PreDeploy:      f.hook(config.PreDeploy, s.At("config.pre_deploy")),
		PostDeploy:     f.hook(config.PostDeploy, s.At("config.post_deploy")),
		Key:            p.renderer.key, Lenient: p.in.Lenient, Offline: p.in.Offline,
		Settings: settingsOf(s),
		Options: fleet.ReleaseOptions{
			Pull: config.AutoPull, Build: config.RunBuild, DestroyFirst: config.DestroyBeforeDeploy,
			IgnoreServices: config.IgnoreServices, Registry: registry(config.RegistryProvider, config.RegistryAccount),
		},
	}
	if config.InterpolateFiles && !config.SkipSecretInterp {
		j.request.InterpolateFiles = f.gitFile()
	}
	p.finish(j, f)
	if config.FileContents != "" {
		j.request.FileContentsOrigin = fleet.Position{File: inlineFile, Col: 1}
		j.explain = inlineAt(s.At("config.file_contents"), config.FileContents)
	}
	return j
}

// inlineAt explains the lines of a text inside a resource file.
func inlineAt(begin fleet.Position, text string) func(line, col int) fleet.Position {
	shift := compose.InlineShift(begin, text)
	return func(line, col int) fleet.Position {
		return fleet.Position{File: begin.File, Line: line + shift, Col: col}
	}
}

// finish takes over what filling in brought to light.
func (p *pass) finish(j *job, f *filler) {
	j.request.Secrets = f.secrets
	j.own = append(j.own, f.findings...)
	j.blind = f.blind
	if p.in.Decrypter != nil {
		j.request.Decrypter = p.in.Decrypter(j.request.Tier)
	}
}

func settingsOf(s *spec.Stack) compose.Settings {
	return compose.Settings{
		RunDirectory: s.At("config.run_directory"), FilePaths: s.At("config.file_paths"),
		EnvFilePath: s.At("config.env_file_path"), ProjectName: s.At("config.project_name"),
		ExtraArgs: s.At("config.extra_args"), BuildExtraArgs: s.At("config.build_extra_args"),
		PreDeploy: s.At("config.pre_deploy"), PostDeploy: s.At("config.post_deploy"),
	}
}

func registry(provider, account string) fleet.RegistryAccount {
	if account == "" {
		return fleet.RegistryAccount{}
	}
	return fleet.RegistryAccount{Registry: cmp.Or(provider, defaultRegistry), Account: account}
}

func envFiles(s *spec.Stack) []compose.EnvFile {
	out := make([]compose.EnvFile, len(s.Config.AdditionalEnvFiles))
	for i, f := range s.Config.AdditionalEnvFiles {
		out[i] = compose.EnvFile{Path: f.Path, Track: f.Track, Origin: item(s.At, "config.additional_env_files")(i)}
	}
	return out
}

func configFiles(s *spec.Stack) []compose.ConfigFile {
	out := make([]compose.ConfigFile, len(s.Config.ConfigFiles))
	for i, f := range s.Config.ConfigFiles {
		out[i] = compose.ConfigFile{
			Path: f.Path, Services: f.Services, Requires: compose.Reaction(f.Requires),
			Origin: item(s.At, "config.config_files")(i),
		}
	}
	return out
}

// item is the place of an item of a list.
func item(at func(string) fleet.Position, field string) func(i int) fleet.Position {
	return func(i int) fleet.Position { return at(fmt.Sprintf("%s[%d]", field, i)) }
}

// environment fills in the values of an environment.
func (f *filler) environment(vars []spec.EnvVar) []compose.Variable {
	out := make([]compose.Variable, len(vars))
	for i, e := range vars {
		value, secret := f.text(e.Value, e.Pos)
		out[i] = compose.Variable{Name: e.Name, Value: value, Secret: secret, Origin: e.Pos}
	}
	return out
}

// composeEnvironment fills in an environment that Compose reads: there, a value may refer
// to variables before it.
func (f *filler) composeEnvironment(vars []spec.EnvVar) []compose.Variable {
	out := make([]compose.Variable, len(vars))
	for i, e := range vars {
		out[i] = compose.Variable{Name: e.Name, Origin: e.Pos, Expand: strings.Contains(e.Value, "$")}
		if out[i].Expand {
			out[i].Value, out[i].Secret = f.interpolated(e.Value, e.Pos)
		} else {
			out[i].Value, out[i].Secret = f.text(e.Value, e.Pos)
		}
	}
	return out
}

// hook fills in a command that runs on the host.
func (f *filler) hook(c spec.SystemCommand, at fleet.Position) compose.Hook {
	command, _ := f.text(c.Command, at)
	return compose.Hook{Path: cleanHookPath(c.Path), Command: command, Shell: c.ShellMode}
}

func cleanHookPath(dir string) string {
	if dir == "" {
		return ""
	}
	return path.Clean(dir)
}
