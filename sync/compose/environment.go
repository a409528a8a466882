package compose

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// projectNameVariable is the one variable that is there without being declared.
const projectNameVariable = "COMPOSE_PROJECT_NAME"

// profilesVariable enables profiles, as it does for Compose.
const profilesVariable = "COMPOSE_PROFILES"

// dotenvPath is where Compose looks for variables of its own accord.
const dotenvPath = ".env"

// prepareEnvironment fills env, the lowest precedence first: the repository's ".env"
// unless it is shadowed, the additional files in order, and the stack's environment. It
// also generates the environment file.
func (l *load) prepareEnvironment() {
	own := map[string]string{}
	for _, secret := range l.req.Secrets {
		l.seal.addSecret(secret)
	}
	for _, v := range l.req.Environment {
		l.checkVariable(v)
		if v.Secret {
			l.seal.addSecret(v.Value)
		}
		if !v.Expand {
			own[v.Name] = v.Value
		}
	}
	if len(l.req.Environment) > 0 {
		l.findEnvFile()
	}
	l.env.own = map[string]string{projectNameVariable: l.req.Project}
	l.readDotenv(own)
	for _, file := range l.req.AdditionalEnvFiles {
		l.readAdditional(file, own)
	}
	maps.Copy(l.env.own, own)
	l.expandEnvironment()
	l.env.own[projectNameVariable] = l.req.Project
	l.seal.nameSecrets(l.env.own)
	if l.envFile.path != "" {
		l.envFile.data = l.seal.prefix(FormatEnv(l.req.Environment))
	}
}

// expandEnvironment replaces ${NAME} in the stack's environment, as Compose does in the
// environment file: by what comes before, and else by what the files and the pool say.
func (l *load) expandEnvironment() {
	budget := &expansion{}
	list := slices.Clone(l.req.Environment)
	for i, v := range list {
		if v.Expand {
			list[i].Value = l.expandVariable(v, budget)
			list[i].Secret = v.Secret || l.seal.holds(list[i].Value)
		}
		if list[i].Secret {
			l.seal.addSecret(list[i].Value)
		}
		l.env.own[v.Name] = list[i].Value
	}
	l.req.Environment = list
}

func (l *load) expandVariable(v Variable, budget *expansion) string {
	origin := cmp.Or(v.Origin, l.req.Origin)
	found, deep := uses(v.Value, l.env.lookup)
	for _, u := range found {
		switch {
		case !u.blank:
		case l.req.Offline || l.env.refused(u.name) != "":
			l.undefined(l.env, u.name, origin)
		default:
			l.warn("undefined-variable", origin, fmt.Sprintf("%s is not defined, and blank in %s", u.name, v.Name),
				suggestVariable(u.name, l.env.known()))
		}
	}
	value, err := budget.substitute(v.Value, l.standIn(v.Value, l.env.lookup))
	if err == nil && deep {
		err = fmt.Errorf("defaults nest deeper than %d levels", maxNesting)
	}
	if err != nil {
		l.fail("interpolation", origin, fmt.Sprintf("the value of %s: %v", v.Name, err), "$$ is a plain dollar sign")
	}
	return value
}

// profiles are those of the stack and those its environment names.
func (l *load) profiles() []string {
	out := slices.Concat(l.req.Profiles, l.args.profiles)
	for name := range strings.SplitSeq(l.env.own[profilesVariable], ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (l *load) checkVariable(v Variable) {
	origin := cmp.Or(v.Origin, l.req.Origin)
	switch {
	case !variableName.MatchString(v.Name):
		l.fail("variable-name", origin, fmt.Sprintf("%q is not a name for a variable", v.Name),
			"use letters, digits and _, and do not begin with a digit")
	case len(v.Value) > maxVariable:
		l.fail("too-large", origin,
			fmt.Sprintf("the value of %s has %d bytes; at most %d are allowed", v.Name, len(v.Value), maxVariable), "")
	case strings.ContainsRune(v.Value, 0) || !utf8.ValidString(v.Value):
		l.fail("invalid-encoding", origin, fmt.Sprintf("the value of %s is not UTF-8 text", v.Name), "")
	case steersCompose(v.Name):
		l.warn("ignored-variable", origin,
			fmt.Sprintf("%s does not steer how the stack is deployed", v.Name), "use the fields of the [[stack]] table")
	}
}

// steersCompose reports variables by which the Compose and Docker commands are told
// what to act on. Here the stack's declaration alone says that.
func steersCompose(name string) bool {
	switch name {
	case "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
		"DOCKER_API_VERSION", "DOCKER_DEFAULT_PLATFORM", "DOCKER_BUILDKIT":
		return true
	}
	return strings.HasPrefix(name, "COMPOSE_") && name != profilesVariable
}

// findEnvFile says where the environment file goes.
func (l *load) findEnvFile() {
	rel, refused := l.inside(".", cmp.Or(l.req.EnvFilePath, dotenvPath))
	if refused != nil {
		l.fail(refused.rule, l.setting(l.req.Settings.EnvFilePath), "env_file_path: "+refused.message, refused.hint)
		return
	}
	if info, refusedFile := l.stat(rel); refusedFile != nil {
		l.fail(refusedFile.rule, l.setting(l.req.Settings.EnvFilePath), refusedFile.message, refusedFile.hint)
	} else if info != nil {
		l.note("env-file-replaced", l.req.Origin,
			fmt.Sprintf("%s of the repository is replaced by the stack's environment", l.show(rel)), "")
	}
	l.envFile.path = rel
}

// readDotenv reads the ".env" beside the first Compose file, if there is one.
func (l *load) readDotenv(own map[string]string) {
	rel := path.Join(l.base, dotenvPath)
	if rel == l.envFile.path {
		return
	}
	info, refused := l.stat(rel)
	if refused == nil && (info == nil || info.IsDir()) {
		return
	}
	l.readEnv(rel, own, fleet.Position{File: l.show(rel)}, "")
}

// readAdditional reads one of additional_env_files.
func (l *load) readAdditional(file EnvFile, own map[string]string) {
	const field = "additional_env_files: "
	pos := cmp.Or(file.Origin, l.req.Origin)
	rel, refused := l.inside(".", file.Path)
	if refused != nil {
		l.fail(refused.rule, pos, field+refused.message, refused.hint)
		return
	}
	if rel == l.envFile.path {
		return // it is replaced by what comes last anyway
	}
	info, refused := l.stat(rel)
	if refused == nil && info == nil {
		message := fmt.Sprintf(field+"%s does not exist", l.show(rel))
		if file.Track {
			l.fail("file-not-found", pos, message, cmp.Or(l.suggestFile(rel), "with track = false it may be missing"))
			return
		}
		l.note("file-not-found", pos, message+"; its variables are not known", "")
		return
	}
	l.readEnv(rel, own, pos, field)
}

// readEnv reads an environment file over what env has already.
func (l *load) readEnv(rel string, own map[string]string, pos fleet.Position, field string) {
	data, refused := l.read(rel)
	if refused != nil {
		l.fail(refused.rule, pos, field+refused.message, refused.hint)
		return
	}
	vars := map[string]string{}
	if !l.parseEnv(rel, "", data, vars, func(name string) (string, bool) {
		if value, ok := own[name]; ok {
			return value, true
		}
		return l.env.over(vars)(name)
	}) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if steersCompose(name) {
			l.warn("ignored-variable", l.envLine(rel, data, name),
				fmt.Sprintf("%s in an environment file is ignored", name), "use the fields of the [[stack]] table")
			delete(vars, name)
		}
	}
	maps.Copy(l.env.own, vars)
}

// envLine finds where an environment file sets a variable.
func (l *load) envLine(rel string, data []byte, name string) fleet.Position {
	pos := fleet.Position{File: l.show(rel)}
	line := 0
	for text := range bytes.Lines(data) {
		line++
		trimmed := bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(text, " \t"), []byte("export ")), " \t")
		if bytes.HasPrefix(trimmed, []byte(name)) {
			pos.Line, pos.Col = line, bytes.Index(text, []byte(name))+1
			return pos
		}
	}
	return pos
}

// lookupIn looks in a plain map.
func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

var envErrorLine = regexp.MustCompile(`line (\d+): ([^"'` + "`" + `]*)`)

// parseEnv reads an environment file into vars.
func (l *load) parseEnv(
	rel, format string, data []byte, vars map[string]string, lookup func(string) (string, bool),
) bool {
	var err error
	budget := &expansion{}
	switch format {
	case "":
		err = dotenv.ParseWithFormat(bytes.NewReader(data), rel, vars, dotenv.LookupFn(budget.within(
			func(name string) (string, bool) {
				if value, ok := lookup(name); ok {
					return value, true
				}
				value, ok := vars[name]
				return value, ok
			})), dotenv.DotEnv)
		if err == nil {
			err = budget.err()
		}
	case "raw":
		err = parseRawEnv(data, vars)
	default:
		err = fmt.Errorf("unknown env_file format %q", format)
	}
	if err == nil {
		l.sealNames(rel, vars)
		return true
	}
	pos, message := fleet.Position{File: l.show(rel)}, err.Error()
	// The parser quotes the line it stumbled over, which may hold a password.
	if m := envErrorLine.FindStringSubmatch(message); m != nil {
		pos.Line, _ = strconv.Atoi(m[1])
		pos.Col = 1
		message = strings.TrimSpace(m[2])
	}
	l.fail("env-file-syntax", pos, message, "write one KEY=VALUE a line")
	return false
}

// parseRawEnv reads KEY=VALUE lines in which nothing is quoted or expanded.
func parseRawEnv(data []byte, vars map[string]string) error {
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		switch {
		case name == "" || strings.ContainsAny(name, " \t"):
			return fmt.Errorf("line %d: bad variable name", number)
		case ok:
			vars[name] = value
		}
	}
	return nil
}

// resolveEnvironments merges env_file into environment, as compose-go would, but from
// the tree: the files are never on disk.
func (l *load) resolveEnvironments(project *types.Project) {
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		declared := service.Environment.Resolve(l.env.lookup)
		merged := declared.ToMapping()
		lookup := func(key string) (string, bool) {
			if value, ok := l.env.own[key]; ok {
				return value, true
			}
			if value, ok := declared[key]; ok && value != nil {
				return *value, true
			}
			return l.env.over(merged)(key)
		}
		var made []types.EnvFile
		for _, file := range service.EnvFiles {
			if !l.mergeEnvFile(name, &file, merged, lookup) {
				made = append(made, file)
			}
		}
		service.Environment = merged.ToMappingWithEquals().OverrideBy(declared)
		if len(service.Environment) == 0 {
			service.Environment = nil
		}
		service.EnvFiles = made
		project.Services[name] = service
		for _, key := range slices.Sorted(maps.Keys(declared)) {
			if declared[key] == nil {
				l.passedOn(key, l.at("services", name, "environment", key))
			}
		}
	}
}

// passedOn reports a variable that a container asks for by name and does not get.
func (l *load) passedOn(name string, pos fleet.Position) {
	if l.req.Offline || l.env.refused(name) != "" {
		l.undefined(l.env, name, pos)
		return
	}
	l.warn("undefined-variable", pos, fmt.Sprintf("%s has no value here, so the container does not get it", name),
		"set it in the stack's environment, or remove it")
}

// mergeEnvFile is false for a file that is not here and that pre_deploy may make on the host:
// it then stays in the model for the agent, with the path that it has there.
func (l *load) mergeEnvFile(
	service string, file *types.EnvFile, into map[string]string, lookup func(string) (string, bool),
) bool {
	pos := l.atItem(path.Base(file.Path), "services", service, "env_file")
	rel, refused := l.inside(l.base, file.Path)
	var data []byte
	if refused == nil {
		data, refused = l.read(rel)
	}
	switch {
	case refused == nil:
		l.parseEnv(rel, file.Format, data, into, lookup)
	case refused.rule == "file-not-found" && !bool(file.Required):
	case refused.rule == "file-not-found" && l.req.PreDeploy.Command != "" && !strings.HasPrefix(rel, "../"):
		l.warn("made-on-host", pos, fmt.Sprintf("%s is not in the repository; it is taken for one that pre_deploy makes on the host", l.show(rel)),
			"a change of it is not noticed: name the SOPS file that it is made of instead, or set the variables in the stack's environment")
		file.Path = "./" + rel
		return false
	case refused.rule == "file-not-found":
		l.fail(refused.rule, pos, "env_file: "+refused.message, cmp.Or(refused.hint,
			"files that are on the host alone cannot be read: commit it, encrypted with SOPS if it is secret, or write {path: ..., required: false}"))
	default:
		l.fail(refused.rule, pos, "env_file: "+refused.message, refused.hint)
	}
	return true
}

// resolveLabels merges label_file into labels.
func (l *load) resolveLabels(project *types.Project) {
	for _, name := range serviceNames(project) {
		service := project.Services[name]
		if len(service.LabelFiles) == 0 {
			continue
		}
		labels := map[string]string{}
		for _, file := range service.LabelFiles {
			rel, refused := l.inside(l.base, file)
			var data []byte
			if refused == nil {
				data, refused = l.read(rel)
			}
			if _, encrypted := l.plain[rel]; encrypted && refused == nil {
				refused = &refusal{
					"secret-in-label", fmt.Sprintf("%s is encrypted, and labels are shown to everyone who may list containers", l.show(rel)),
					"use env_file, or a secret",
				}
			}
			if refused != nil {
				l.fail(refused.rule, l.atItem(path.Base(file), "services", name, "label_file"),
					"label_file: "+refused.message, refused.hint)
				continue
			}
			l.parseEnv(rel, "", data, labels, lookupIn(labels))
		}
		maps.Copy(labels, service.Labels)
		service.Labels, service.LabelFiles = labels, nil
		project.Services[name] = service
	}
}

// resolveObjects puts the value of a variable into the configs and secrets that name
// one: the agent has no environment to take it from.
func (l *load) resolveObjects(project *types.Project) {
	for _, name := range slices.Sorted(maps.Keys(project.Configs)) {
		config := project.Configs[name]
		if config.Environment == "" {
			continue
		}
		config.Content = l.objectValue("configs", name, config.Environment)
		config.Environment = ""
		project.Configs[name] = config
	}
	for _, name := range slices.Sorted(maps.Keys(project.Secrets)) {
		secret := project.Secrets[name]
		if secret.Environment == "" {
			continue
		}
		secret.Content = l.objectValue("secrets", name, secret.Environment)
		l.seal.addSecret(secret.Content)
		project.Secrets[name] = secret
	}
}

func (l *load) objectValue(kind, name, variable string) string {
	value, _ := l.env.lookup(variable)
	pos := l.at(kind, name, "environment")
	switch {
	case value != "":
	case l.req.Offline || l.env.refused(variable) != "":
		l.undefined(l.env, variable, pos)
	default:
		l.fail("undefined-variable", pos,
			fmt.Sprintf("%s has no value, and %s %s is made of it", variable, strings.TrimSuffix(kind, "s"), name),
			"set it in the stack's environment")
	}
	return value
}
