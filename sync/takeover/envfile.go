package takeover

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/varanhq/varan/internal/leak"
	"github.com/varanhq/varan/sync/spec"
)

// assignment is a line of an environment file that sets a variable.
var assignment = regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]`)

// parseEnv reads an environment file as Compose does. Variables that it does not set
// itself are looked for in known; missing are those that are not there either.
func parseEnv(data []byte, known map[string]string) (vars map[string]string, missing []string, ok bool) {
	vars = map[string]string{}
	err := dotenv.ParseWithFormat(bytes.NewReader(data), "", vars, func(name string) (string, bool) {
		value, found := known[name]
		if !found {
			value, found = vars[name]
		}
		if !found && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
		return value, true // or the library would write a warning
	}, dotenv.DotEnv)
	return vars, missing, err == nil
}

// environment makes the stack's environment of the project's ".env".
func (c *conversion) environment(f File) (reason string) {
	vars, missing, ok := parseEnv(f.Content, nil)
	if !ok {
		return "its .env is not one that can be read"
	}
	if len(missing) > 0 {
		return "its .env uses variables of the shell: " + strings.Join(missing, ", ")
	}
	for _, name := range order(f.Content, vars) {
		value := strings.ReplaceAll(vars[name], "$", "$$")
		if isSecret(name, vars[name]) {
			value = "[[" + c.secret(name, vars[name]) + "]]"
		} else if strings.Contains(value, "[[") {
			return "its .env has a value with double brackets"
		}
		c.out.Stack.Config.Environment = append(c.out.Stack.Config.Environment, spec.EnvVar{Name: name, Value: value})
	}
	if len(vars) > 0 {
		var example strings.Builder
		for _, name := range order(f.Content, vars) {
			example.WriteString(name + "=\n")
		}
		c.out.Files = append(c.out.Files, File{Path: ".env.example", Mode: 0o644, Content: []byte(example.String())})
	}
	return ""
}

// order lists the names as they are written.
func order(content []byte, vars map[string]string) []string {
	var names []string
	for line := range strings.Lines(string(content)) {
		if m := assignment.FindStringSubmatch(line); len(m) > 1 && !slices.Contains(names, m[1]) {
			if _, set := vars[m[1]]; set {
				names = append(names, m[1])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// envFile replaces what is secret in an environment file by a variable, and makes sure
// that it still says the same. Other files are left as they are.
func (c *conversion) envFile(f File) (content []byte, reason string) {
	vars, _, ok := parseEnv(f.Content, nil)
	if !ok {
		if kind, _ := leak.Find(string(f.Content)); kind != "" {
			return nil, f.Path + " holds " + kind
		}
		return f.Content, ""
	}
	known := map[string]string{}
	var out strings.Builder
	for line := range strings.Lines(string(f.Content)) {
		m := assignment.FindStringSubmatch(line)
		if len(m) < 2 || !isSecret(m[1], vars[m[1]]) {
			out.WriteString(line)
			continue
		}
		name := c.secret(m[1], vars[m[1]])
		known[name] = vars[m[1]]
		out.WriteString(m[1] + "=${" + name + "}\n")
	}
	if len(known) == 0 {
		return f.Content, ""
	}
	again, _, ok := parseEnv([]byte(out.String()), known)
	if !ok || !maps.Equal(again, vars) {
		return nil, f.Path + " holds secrets in a form that cannot be told from the rest"
	}
	return []byte(out.String()), ""
}
