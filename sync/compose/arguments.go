package compose

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/shlex"
	"github.com/spf13/pflag"

	"github.com/varanhq/varan/fleet"
)

// arguments are what extra_args and build_extra_args come to.
type arguments struct {
	up    fleet.UpOptions
	build fleet.BuildOptions
	// pull and runBuild are set when the arguments ask for what auto_pull and run_build do.
	pull, runBuild bool
	profiles       []string
	scale          map[string]int
}

// argument says what becomes of a flag that was given. A nil apply leaves it out, with a
// note; then says what to do about one that cannot be left out.
type argument struct {
	apply func(l *load, a *arguments, f *pflag.Flag) error
	then  string
}

// parseArguments reads the arguments as Compose would.
func (l *load) parseArguments() {
	at := l.req.Settings
	l.parseFlags("extra_args", l.setting(at.ExtraArgs), l.req.ExtraArgs, upFlags(), upArguments(), l.fail)
	report := l.fail
	if !l.req.Options.Build {
		report = l.warn // they are not used
	}
	l.parseFlags("build_extra_args", l.setting(at.BuildExtraArgs), l.req.BuildExtraArgs, buildFlags(), buildArguments(), report)
	if l.args.up.ForceRecreate && l.args.up.NoRecreate {
		l.fail("extra-args", l.setting(at.ExtraArgs), "--force-recreate and --no-recreate contradict each other", "keep one of the two")
	}
}

func newFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	return flags
}

// upFlags are those of `docker compose up`.
func upFlags() *pflag.FlagSet {
	flags := newFlags()
	for _, name := range []string{
		"force-recreate", "no-recreate", "always-recreate-deps", "no-deps", "no-build", "build", "quiet-pull",
		"remove-orphans", "wait", "no-color", "no-log-prefix", "timestamps", "menu", "quiet-build", "compatibility",
		"abort-on-container-exit", "abort-on-container-failure", "attach-dependencies", "no-start", "dry-run", "help",
	} {
		flags.Bool(name, false, "")
	}
	flags.BoolP("renew-anon-volumes", "V", false, "")
	flags.BoolP("detach", "d", false, "")
	flags.BoolP("watch", "w", false, "")
	flags.BoolP("yes", "y", false, "")
	flags.IntP("timeout", "t", 0, "")
	flags.Int("wait-timeout", 0, "")
	for _, name := range []string{"pull", "exit-code-from", "ansi", "progress", "parallel", "project-directory"} {
		flags.String(name, "", "")
	}
	flags.StringP("project-name", "p", "", "")
	flags.StringArrayP("file", "f", nil, "")
	for _, name := range []string{"scale", "profile", "env-file", "attach", "no-attach"} {
		flags.StringArray(name, nil, "")
	}
	return flags
}

// buildFlags are those of `docker compose build`.
func buildFlags() *pflag.FlagSet {
	flags := newFlags()
	for _, name := range []string{
		"no-cache", "pull", "push", "with-dependencies", "check", "print", "compress", "force-rm", "no-rm", "parallel", "help",
	} {
		flags.Bool(name, false, "")
	}
	flags.BoolP("quiet", "q", false, "")
	flags.StringP("memory", "m", "", "")
	for _, name := range []string{"builder", "progress", "ssh", "provenance", "sbom"} {
		flags.String(name, "", "")
	}
	flags.StringArray("build-arg", nil, "")
	return flags
}

// boolean sets an option that a flag without a value turns on.
func boolean(option func(a *arguments) *bool) argument {
	return argument{apply: func(_ *load, a *arguments, f *pflag.Flag) error {
		*option(a) = f.Value.String() == "true"
		return nil
	}}
}

// values are those of a flag that may be given several times.
func values(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

// refusedArgument has no effect that could be left out.
func refusedArgument(instead string) argument { return argument{then: instead} }

func upArguments() map[string]argument {
	known := map[string]argument{
		"force-recreate":       boolean(func(a *arguments) *bool { return &a.up.ForceRecreate }),
		"no-recreate":          boolean(func(a *arguments) *bool { return &a.up.NoRecreate }),
		"always-recreate-deps": boolean(func(a *arguments) *bool { return &a.up.AlwaysRecreateDeps }),
		"renew-anon-volumes":   boolean(func(a *arguments) *bool { return &a.up.RenewAnonymousVolume }),
		"no-deps":              boolean(func(a *arguments) *bool { return &a.up.NoDeps }),
		"build":                boolean(func(a *arguments) *bool { return &a.runBuild }),
		"timeout":              {apply: applyTimeout},
		"pull":                 {apply: applyPull},
		"scale":                {apply: applyScale},
		"profile": {apply: func(_ *load, a *arguments, f *pflag.Flag) error {
			a.profiles = append(a.profiles, values(f)...)
			return nil
		}},
		"env-file":          refusedArgument("use additional_env_files"),
		"file":              refusedArgument("use file_paths"),
		"project-name":      refusedArgument("use project_name"),
		"project-directory": refusedArgument("use run_directory"),
		"no-start":          refusedArgument("stop the stack with `varan run stop`, or use a profile that is not enabled"),
		"dry-run":           refusedArgument("`varan plan` shows what would be done"),
		"watch":             refusedArgument("push to the repository instead"),
	}
	for _, name := range []string{
		"abort-on-container-exit", "abort-on-container-failure", "exit-code-from", "attach", "no-attach", "attach-dependencies",
	} {
		known[name] = refusedArgument("services run detached: leave it out")
	}
	return known
}

func buildArguments() map[string]argument {
	return map[string]argument{
		"no-cache":  boolean(func(a *arguments) *bool { return &a.build.NoCache }),
		"pull":      boolean(func(a *arguments) *bool { return &a.build.Pull }),
		"build-arg": {apply: applyBuildArg},
		"push":      refusedArgument("images are built on the host that runs them: leave it out"),
		"builder":   refusedArgument("the engine's own builder is used: leave it out"),
		"ssh":       refusedArgument("keys of the host are not used: fetch what is private before the build"),
		"memory":    refusedArgument("limit the engine's builder instead"),
		"check":     refusedArgument("check the Dockerfile in CI"),
		"print":     refusedArgument("leave it out"),
	}
}

// parseFlags reads the arguments of one field, and reports those that cannot be.
func (l *load) parseFlags(
	field string, pos fleet.Position, args []string, flags *pflag.FlagSet, known map[string]argument,
	report func(rule string, pos fleet.Position, message, hint string),
) {
	var words []string
	for _, arg := range args {
		split, err := shlex.Split(arg)
		if err != nil {
			report("extra-args", pos, fmt.Sprintf("%s: a quote in %q is not closed", field, arg), "")
			return
		}
		words = append(words, split...)
	}
	if len(words) == 0 {
		return
	}
	if err := flags.Parse(words); err != nil {
		detail := err.Error()
		if slices.ContainsFunc(args, l.seal.holds) {
			detail = "an argument is not understood" // the error may quote a part of a secret
		}
		report("extra-args", pos, field+": "+detail, "only flags of docker compose can be given")
		return
	}
	if flags.NArg() > 0 {
		report("extra-args", pos, fmt.Sprintf("%s: %q is no flag", field, flags.Arg(0)),
			"a stack is deployed as a whole: put services that are not always wanted in a profile")
	}
	flags.Visit(func(f *pflag.Flag) {
		argument, ok := known[f.Name]
		var err error
		switch {
		case !ok:
			l.note("extra-args", pos, fmt.Sprintf("%s: --%s makes no difference here", field, f.Name), "")
		case argument.apply == nil:
			report("extra-args", pos, fmt.Sprintf("%s: --%s is not supported", field, f.Name), argument.then)
		default:
			err = argument.apply(l, &l.args, f)
		}
		if err != nil {
			report("extra-args", pos, fmt.Sprintf("%s: --%s: %v", field, f.Name, err), "")
		}
	})
}

func applyTimeout(_ *load, a *arguments, f *pflag.Flag) error {
	seconds, err := strconv.Atoi(f.Value.String())
	if err != nil || seconds < 0 || seconds > 24*60*60 {
		return fmt.Errorf("%s is not a number of seconds up to a day", f.Value)
	}
	a.up.TimeoutSeconds = seconds
	return nil
}

func applyPull(_ *load, a *arguments, f *pflag.Flag) error {
	switch policy := f.Value.String(); policy {
	case "always":
		a.pull = true
	case "missing", "policy":
	default:
		return fmt.Errorf("%s: what an image needs is pulled; set pull_policy of the service instead", policy)
	}
	return nil
}

func applyScale(_ *load, a *arguments, f *pflag.Flag) error {
	for _, value := range values(f) {
		service, number, _ := strings.Cut(value, "=")
		count, err := strconv.Atoi(number)
		if err != nil || count < 0 || count > maxReplicas {
			return fmt.Errorf("%q is not SERVICE=NUMBER with at most %d", value, maxReplicas)
		}
		if a.scale == nil {
			a.scale = map[string]int{}
		}
		a.scale[service] = count
	}
	return nil
}

// applyBuildArg keeps arguments for the build. They are part of the release and of the
// image's history, so that they are no place for a secret.
func applyBuildArg(l *load, a *arguments, f *pflag.Flag) error {
	for _, given := range values(f) {
		name, value, ok := strings.Cut(given, "=")
		if !ok {
			value, ok = l.env.lookup(name)
		}
		switch {
		case !ok:
			return fmt.Errorf("%s has no value", name)
		case l.seal.holds(value):
			return fmt.Errorf("the value of %s is a secret, and would be in the image: use build.secrets of the service", name)
		}
		if a.build.Args == nil {
			a.build.Args = map[string]string{}
		}
		a.build.Args[name] = value
	}
	return nil
}

// rescale applies --scale to the model.
func (l *load) rescale(project *types.Project) {
	pos := l.setting(l.req.Settings.ExtraArgs)
	for _, name := range sortedKeys(l.args.scale) {
		service, ok := project.Services[name]
		if !ok {
			l.fail("undefined-service", pos, fmt.Sprintf("extra_args: the stack has no service %q to scale", name),
				DidYouMean(name, serviceNames(project)))
			continue
		}
		service.SetScale(l.args.scale[name])
		project.Services[name] = service
	}
}

// options are those of the request and what the arguments add.
func (l *load) options() fleet.ReleaseOptions {
	out := l.req.Options
	out.Pull = out.Pull || l.args.pull
	out.Build = out.Build || l.args.runBuild
	if l.args.up != (fleet.UpOptions{}) {
		out.Up = l.args.up
	}
	if l.args.build.NoCache || l.args.build.Pull || len(l.args.build.Args) > 0 {
		out.BuildWith = l.args.build
	}
	out.PreDeploy = l.hook("pre_deploy", l.req.PreDeploy, l.req.Settings.PreDeploy)
	out.PostDeploy = l.hook("post_deploy", l.req.PostDeploy, l.req.Settings.PostDeploy)
	return out
}

// hook puts the script of a hook into the release's content, where it may hold secrets.
func (l *load) hook(field string, h Hook, at fleet.Position) fleet.Command {
	script := h.Command
	if !h.Shell {
		script = strings.Join(hookLines(h.Command), "\n")
	}
	if strings.TrimSpace(script) == "" {
		return fleet.Command{}
	}
	rel, refused := l.inside(".", cmp.Or(h.Path, "."))
	if refused == nil && isBeside(rel) {
		refused = &refusal{"path-outside", fmt.Sprintf("%q is not in the run directory", h.Path), "hooks run in the run directory or below it"}
	}
	if refused != nil {
		l.fail(refused.rule, l.setting(at), field+": "+refused.message, refused.hint)
		return fleet.Command{}
	}
	if rel == "." {
		rel = ""
	}
	data := l.seal.prefix([]byte(script + "\n"))
	digest := fleet.SumDigest(data)
	l.content[digest] = Blob{Size: int64(len(data)), data: data}
	return fleet.Command{Path: rel, Script: digest, Shell: h.Shell}
}

// hookLines are the commands of a text, one each: without comments, and with the lines
// that a backslash continues put together.
func hookLines(text string) []string {
	var out []string
	continued := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(withoutComment(strings.TrimSpace(line)))
		if line == "" {
			continue
		}
		line, more := strings.CutSuffix(line, `\`)
		line = strings.TrimSpace(line)
		if continued && len(out) > 0 {
			out[len(out)-1] += " " + line
		} else {
			out = append(out, line)
		}
		continued = more
	}
	return slices.DeleteFunc(out, func(line string) bool { return line == "" })
}

// withoutComment cuts a line at a "#" that begins a word outside quotes.
func withoutComment(line string) string {
	var quote byte
	for i := range len(line) {
		switch c := line[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return line[:i]
		}
	}
	return line
}
