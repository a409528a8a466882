package compose

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/leak"
)

// StandIn is the word that takes the place of a value nobody knows here: one that only
// core has, when core is not asked.
const StandIn = "varan-unknown"

// placeholderText is [[NAME]] as Varan fills it in, in places where it does not.
var placeholderText = regexp.MustCompile(`\[\[[A-Za-z][A-Za-z0-9_]*\]\]`)

// exampleNames are the files that show which variables a stack needs, best first.
func exampleNames() []string {
	return []string{".env.example", ".env.sample", ".env.template", ".env.dist", "example.env", "env.example"}
}

// portability collects what the files of a stack need to work with Compose alone.
type portability struct {
	*load
	// needed are the variables without a default, by the first place that uses each.
	needed map[string]fleet.Position
	// envFiles are the entries of env_file, by path.
	envFiles map[string]fleet.Position
}

// checkPortability looks at the files as they are written: whether they work without
// Varan, and whether they hold secrets.
func (l *load) checkPortability() {
	p := portability{load: l, needed: map[string]fleet.Position{}, envFiles: map[string]fleet.Position{}}
	for _, in := range slices.Concat(l.mains, l.included) {
		p.walk(in, in.root, nil)
		for _, e := range entries(field(in.root, "services")) {
			p.service(in, e)
		}
	}
	l.subject = ""
	if l.req.FileContents == "" {
		p.checkExample()
	}
	l.checkEnvFileSecrets(p.envFiles)
}

// walk visits every scalar below a node. seen keeps what aliases share from counting twice.
func (p *portability) walk(in *layer, n *yaml.Node, seen map[*yaml.Node]bool) {
	if seen == nil {
		seen = map[*yaml.Node]bool{}
	}
	n = resolve(n)
	if seen[n] {
		return
	}
	seen[n] = true
	if n.Kind == yaml.ScalarNode {
		p.scalar(in, n)
	}
	for i, child := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 1 {
			p.walk(in, child, seen)
		}
	}
}

func (p *portability) scalar(in *layer, n *yaml.Node) {
	if m := placeholderText.FindString(n.Value); m != "" && p.req.FileContents == "" {
		p.advise("literal-reference", in.positionOf(n, m), m+" is not filled in here: the container gets it as it is written",
			"use ${"+strings.Trim(m, "[]")+"}, or set interpolate_files = true for the stack")
	}
	if kind, _ := leak.Find(n.Value); kind != "" && !p.seal.holds(n.Value) {
		p.advise("plaintext-secret", in.position(n), "this is "+kind+" in plain text",
			"remove it from Git, replace it at its source, and use a secret variable")
	}
	if !strings.Contains(n.Value, "$") {
		return
	}
	found, _ := uses(n.Value, lookupIn(nil))
	for _, u := range found {
		if _, known := p.needed[u.name]; !known && u.required && !fromShell(u.name) {
			p.needed[u.name] = in.positionOf(n, u.text)
		}
	}
}

// fromShell reports variables that are there whoever runs Compose.
func fromShell(name string) bool {
	return steersCompose(name) || slices.Contains([]string{"HOME", "PWD", "USER"}, name)
}

// service looks at the environment of one service.
func (p *portability) service(in *layer, service entry) {
	p.subject = service.key.Value
	definition := resolve(service.value)
	for _, item := range items(field(definition, "env_file")) {
		if item.Kind == yaml.MappingNode {
			if item = field(item, "path"); item == nil {
				continue
			}
		}
		if rel, refused := p.inside(in.base, expand(item.Value, in.env.peek)); refused == nil {
			p.envFiles[rel] = in.position(item)
		}
	}
	environment := field(definition, "environment")
	if environment == nil {
		return
	}
	if environment.Kind == yaml.SequenceNode {
		for _, item := range items(environment) {
			name, value, _ := strings.Cut(item.Value, "=")
			p.password(in, item, name, value)
		}
		return
	}
	for _, e := range entries(environment) {
		p.password(in, e.key, e.key.Value, resolve(e.value).Value)
	}
}

func (p *portability) password(in *layer, at *yaml.Node, name, value string) {
	if strings.Contains(value, StandIn) {
		return // what is not known here is no plain text
	}
	if kind, _ := leak.Find(value); kind != "" || !leak.Password(name, value) || p.seal.holds(value) {
		return // nothing, or said already
	}
	p.advise("plaintext-password", in.position(at), fmt.Sprintf("the value of %s looks like a password in plain text", name),
		fmt.Sprintf("write ${%s}, and store the value with varan secret set %[1]s", name))
}

// checkExample compares the variables the files need with what stands beside them.
func (p *portability) checkExample() {
	generated, usesGenerated := p.envFiles[p.envFile.path]
	if len(p.needed) == 0 && !usesGenerated {
		return
	}
	example, names := p.example()
	known := p.namesIn(path.Join(p.base, dotenvPath))
	if example != "" {
		maps.Copy(known, names)
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(p.needed)) {
		if !known[name] {
			missing = append(missing, name)
		}
	}
	if usesGenerated && example == "" && p.absent(p.envFile.path) {
		p.advise("stands-alone", generated, fmt.Sprintf("%s is made by Varan: without it, docker compose refuses the file", p.show(p.envFile.path)),
			"put a .env.example beside the Compose file, or write {path: "+p.envFile.path+", required: false}")
	}
	switch {
	case len(missing) == 0:
	case example == "":
		p.advise("env-example", p.needed[missing[0]],
			fmt.Sprintf("nothing beside the Compose file says which variables it needs: %s", listNames(missing)),
			"list them in "+p.show(path.Join(p.base, exampleNames()[0])))
	default:
		for _, name := range missing {
			p.advise("env-example", p.needed[name], fmt.Sprintf("%s does not list the variable %s", p.show(example), name),
				fmt.Sprintf("add the line %s=", name))
		}
	}
}

// listNames shows the first of many names.
func listNames(names []string) string {
	const shown = 5
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// example is the file that lists the variables, and the names in it.
func (p *portability) example() (rel string, names map[string]bool) {
	for _, name := range exampleNames() {
		if rel := path.Join(p.base, name); !p.absent(rel) {
			return rel, p.namesIn(rel)
		}
	}
	return "", nil
}

// absent reports whether a file is not in the repository.
func (l *load) absent(rel string) bool {
	info, refused := l.stat(rel)
	return refused != nil || info == nil || info.IsDir()
}

// namesIn are the variables that an environment file of the repository sets, commented
// out ones too: they are listed.
func (l *load) namesIn(rel string) map[string]bool {
	names := map[string]bool{}
	if l.absent(rel) {
		return names
	}
	data, err := l.req.Tree.ReadFile(path.Join(l.dir, rel))
	if err != nil || len(data) > maxFileSize {
		return names
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimLeft(line, "# \t")
		line = strings.TrimPrefix(line, "export ")
		if name := leadingName(line); name != "" && strings.HasPrefix(strings.TrimLeft(line[len(name):], " \t"), "=") {
			names[name] = true
		}
	}
	return names
}

// checkEnvFileSecrets looks into the environment files of the repository.
func (l *load) checkEnvFileSecrets(named map[string]fleet.Position) {
	files := map[string]bool{path.Join(l.base, dotenvPath): true}
	for rel := range named {
		files[rel] = true
	}
	for _, rel := range slices.Sorted(maps.Keys(files)) {
		if l.absent(rel) {
			continue
		}
		data, err := l.req.Tree.ReadFile(path.Join(l.dir, rel))
		if err != nil || len(data) > maxFileSize || encrypted(data) {
			continue
		}
		l.checkEnvLines(rel, string(data))
	}
}

// encrypted reports a file of SOPS: it has no value in plain text.
func encrypted(data []byte) bool { return strings.Contains(string(data), "sops_") }

func (l *load) checkEnvLines(rel, data string) {
	number := 0
	for line := range strings.Lines(data) {
		number++
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "export "))
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		pos := fleet.Position{File: l.show(rel), Line: number, Col: 1}
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"'`)
		if kind, _ := leak.Find(value); kind != "" {
			l.advise("plaintext-secret", pos, fmt.Sprintf("the value of %s is %s in plain text", name, kind),
				"remove it from Git, replace it at its source, and use a secret variable")
		} else if leak.Password(name, value) {
			l.advise("plaintext-password", pos, fmt.Sprintf("the value of %s looks like a password in plain text", name),
				fmt.Sprintf("encrypt the file with SOPS, or store the value with varan secret set %s", name))
		}
	}
}
