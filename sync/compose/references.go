package compose

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

// source is one Compose file.
type source struct {
	rel  string
	data []byte
	docs []*document
}

// UsualNames are the Compose files looked for when none is named, best first.
func UsualNames() []string {
	return []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
}

// mainPaths are the files the stack names, relative to the run directory. The directory
// of the first is where paths start from, as they do for Compose.
func (l *load) mainPaths() []string {
	written := l.req.FilePaths
	switch {
	case l.req.FileContents != "" && len(written) == 0:
		written = UsualNames()[:1]
	case l.req.FileContents != "":
		written = written[:1]
	case len(written) == 0:
		written = l.usualPaths()
	}
	written = slices.Concat(written, l.req.MoreFilePaths)
	var out []string
	for _, file := range written {
		rel, refused := l.inside(".", file)
		if refused != nil {
			l.fail(refused.rule, l.setting(l.req.Settings.FilePaths), "file_paths: "+refused.message, refused.hint)
			continue
		}
		if out = append(out, rel); len(out) == 1 {
			l.base = path.Dir(rel)
		}
	}
	return out
}

// readMains reads the files the stack names.
func (l *load) readMains(paths []string) {
	for i, rel := range paths {
		if l.req.FileContents == "" || i > 0 {
			l.addMain(l.readSource(rel, l.setting(l.req.Settings.FilePaths)))
			continue
		}
		from := origin{file: l.show(rel)}
		if at := l.req.FileContentsOrigin; at.File != "" {
			from = origin{file: at.File, shift: InlineShift(at, l.req.FileContents)}
		}
		l.addMain(l.parseSource(rel, []byte(l.req.FileContents), from))
	}
}

// InlineShift is what to add to a line of an inline file to get the line of the file it
// is in. The text of a string of several lines begins on the line after its quotes.
func InlineShift(at fleet.Position, text string) int {
	if strings.Count(text, "\n") > 1 {
		return at.Line
	}
	return max(at.Line-1, 0)
}

func (l *load) addMain(src *source) {
	if src == nil {
		return
	}
	for _, doc := range src.docs {
		l.mains = append(l.mains, &layer{document: doc, base: l.base, env: l.env})
	}
}

// usualPaths looks for the file that has a usual name.
func (l *load) usualPaths() []string {
	var there []string
	for _, name := range UsualNames() {
		// A link is there, too: reading it says that it is one.
		if info, refused := l.stat(name); info != nil || refused != nil {
			there = append(there, name)
		}
	}
	switch len(there) {
	case 0:
		l.fail("file-not-found", l.setting(l.req.Settings.RunDirectory),
			fmt.Sprintf("no Compose file in %s", l.showDir()), "add compose.yaml, or name the file in file_paths")
	case 1:
	default:
		l.fail("ambiguous-compose-file", fleet.Position{File: l.show(there[1]), Line: 1, Col: 1},
			fmt.Sprintf("%s has several Compose files: %s", l.showDir(), strings.Join(there, ", ")),
			"remove one, or name the one to use in file_paths")
		return nil
	}
	return there
}

func (l *load) showDir() string {
	if l.dir == "." {
		return "the repository's root"
	}
	return l.dir
}

// readSource reads and scans a Compose file once. A nil result has been reported at pos.
func (l *load) readSource(rel string, pos fleet.Position) *source {
	if known, ok := l.sources[rel]; ok {
		return known
	}
	if len(l.sources) >= maxSources {
		l.fail("too-many-files", pos, fmt.Sprintf("the stack is made of more than %d Compose files", maxSources), "")
		return nil
	}
	info, refused := l.stat(rel)
	var data []byte
	if refused == nil && info == nil {
		refused = &refusal{"file-not-found", fmt.Sprintf("%s does not exist", l.show(rel)), l.suggestFile(rel)}
	}
	if refused == nil {
		data, refused = l.read(rel)
	}
	if refused != nil {
		l.fail(refused.rule, pos, refused.message, refused.hint)
		l.sources[rel] = nil
		return nil
	}
	l.guessed = l.guessed || l.plain[rel].Locked
	return l.parseSource(rel, l.interpolate(rel, content{data: data}).data, origin{file: l.show(rel)})
}

func (l *load) suggestFile(rel string) string {
	list, err := l.req.Tree.ReadDir(path.Join(l.dir, path.Dir(rel)))
	if err != nil {
		return ""
	}
	names := make([]string, 0, len(list))
	for _, e := range list {
		names = append(names, e.Name())
	}
	if near := didyoumean.Word(path.Base(rel), names); near != "" {
		return fmt.Sprintf("did you mean %s?", path.Join(path.Dir(rel), near))
	}
	return ""
}

func (l *load) parseSource(rel string, data []byte, from origin) *source {
	docs, findings := prescan(data, from)
	for _, d := range findings {
		l.add(d.Severity, d.Rule, d.Position, d.Message, d.Hint)
	}
	if findings.HasErrors() {
		l.sources[rel] = nil
		return nil
	}
	src := &source{rel: rel, data: withoutVersion(data, docs), docs: docs}
	l.sources[rel] = src
	for _, doc := range docs {
		l.checkVersion(doc)
		if findings := checkKeys(doc); len(findings) > 0 {
			for _, d := range findings {
				l.add(d.Severity, d.Rule, d.Position, d.Message, d.Hint)
			}
		}
	}
	return src
}

func (l *load) checkVersion(doc *document) {
	if e, ok := lookup(entries(doc.root), "version"); ok {
		l.add(fleet.SeverityNote, "obsolete-version", doc.position(e.key), "version has no meaning any more", "remove the line")
	}
}

// withoutVersion blanks out "version: x" lines: compose-go writes a warning about them
// to standard error, once for each file name, and remembers the names for ever.
func withoutVersion(data []byte, docs []*document) []byte {
	lines := strings.Split(string(data), "\n")
	changed := false
	for _, doc := range docs {
		e, ok := lookup(entries(doc.root), "version")
		if !ok || e.value.Kind != yaml.ScalarNode || e.key.Column != 1 || e.key.Line != e.value.Line ||
			strings.Contains(e.value.Value, "\n") || doc.root.Style&yaml.FlowStyle != 0 {
			continue
		}
		lines[e.key.Line-1] = "#"
		changed = true
	}
	if !changed {
		return data
	}
	return []byte(strings.Join(lines, "\n"))
}

// followReferences reads what the files include and extend.
func (l *load) followReferences() {
	for _, main := range l.mains {
		l.followInclude(main, l.mainFiles())
	}
	for _, in := range slices.Concat(l.mains, l.included) {
		for _, e := range entries(field(in.root, "services")) {
			l.followExtends(e.key.Value, serviceRef{in, e.key.Value}, nil)
		}
	}
}

// includeRef is one entry of include.
type includeRef struct {
	paths, envFiles []*yaml.Node
	// projectDir is where the paths of the files start from; empty means beside the first.
	projectDir string
}

// followInclude reads the files that a document includes; trail are those on the way.
func (l *load) followInclude(in *layer, trail []string) {
	for _, item := range items(field(in.root, "include")) {
		ref := includeRef{paths: []*yaml.Node{item}}
		if item.Kind == yaml.MappingNode {
			ref.paths = items(field(item, "path"))
			ref.envFiles = items(field(item, "env_file"))
			if n := field(item, "project_directory"); n != nil {
				rel, refused := l.inside(in.base, expand(n.Value, in.env.lookup))
				if refused != nil {
					l.fail(refused.rule, in.position(n), "project_directory: "+refused.message, refused.hint)
					continue
				}
				ref.projectDir = rel
			}
		}
		l.include(in, ref, trail)
	}
}

func (l *load) include(in *layer, ref includeRef, trail []string) {
	var env scope
	for i, n := range ref.paths {
		rel, refused := l.inside(in.base, expand(n.Value, in.env.lookup))
		if refused != nil {
			l.fail(refused.rule, in.position(n), "include: "+refused.message, refused.hint)
			return
		}
		if slices.Contains(trail, rel) {
			l.fail("include-cycle", in.position(n),
				fmt.Sprintf("files include each other: %s", strings.Join(append(trail, rel), ", ")), "")
			return
		}
		src := l.readSource(rel, in.position(n))
		if src == nil {
			return
		}
		if i == 0 {
			ref.projectDir = cmp.Or(ref.projectDir, path.Dir(rel))
			env = l.includedEnv(in, ref.projectDir, ref.envFiles)
		}
		if len(l.included) >= maxIncluded {
			l.fail("too-many-files", in.position(n), fmt.Sprintf("more than %d files are included", maxIncluded), "")
			return
		}
		for _, doc := range src.docs {
			next := &layer{document: doc, base: ref.projectDir, env: env}
			l.included = append(l.included, next)
			l.followInclude(next, append(slices.Clone(trail), rel))
		}
	}
}

// includedEnv is the environment of an included file: the including one's, and under it
// the variables of env_file, or of the ".env" beside the file.
func (l *load) includedEnv(in *layer, base string, files []*yaml.Node) scope {
	env := map[string]string{}
	for _, n := range files {
		written := expand(n.Value, in.env.lookup)
		if written == "/dev/null" {
			continue
		}
		rel, refused := l.inside(in.base, written)
		if refused != nil {
			l.fail(refused.rule, in.position(n), "env_file: "+refused.message, refused.hint)
			continue
		}
		l.readIncludeEnv(in, rel, in.position(n), env)
	}
	if len(files) == 0 {
		rel := path.Join(base, dotenvPath)
		if info, refused := l.stat(rel); refused != nil || info != nil && !info.IsDir() {
			l.readIncludeEnv(in, rel, fleet.Position{File: l.show(rel)}, env)
		}
	}
	maps.Copy(env, in.env.own)
	l.seal.nameSecrets(env)
	return scope{own: env, pool: in.env.pool}
}

// readIncludeEnv reads an environment file of include into env. compose-go will read it
// once more, and gets what it came to: it knows nothing of the pool.
func (l *load) readIncludeEnv(in *layer, rel string, pos fleet.Position, env map[string]string) {
	if _, refused := l.stat(rel); refused != nil {
		l.fail(refused.rule, pos, "env_file: "+refused.message, refused.hint)
		return
	}
	data, refused := l.read(rel)
	if refused != nil {
		l.fail(refused.rule, pos, "env_file: "+refused.message, refused.hint)
		return
	}
	if l.envFile.path == rel {
		return // its variables are in the environment already
	}
	vars := map[string]string{}
	known := scope{own: env, pool: in.env.pool}
	if !l.parseEnv(rel, "", data, vars, func(name string) (string, bool) {
		if value, ok := in.env.own[name]; ok {
			return value, true
		}
		return known.over(vars)(name)
	}) {
		return
	}
	maps.Copy(env, vars)
	var list []Variable
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		list = append(list, Variable{Name: name, Value: vars[name]})
	}
	if l.includeEnv == nil {
		l.includeEnv = map[string][]byte{}
	}
	l.includeEnv[rel] = FormatEnv(list)
}

// followExtends reads what a service extends, and remembers it as a base of service.
func (l *load) followExtends(service string, from serviceRef, trail []string) {
	definition := field(field(from.layer.root, "services"), from.name)
	extends := field(definition, "extends")
	if extends == nil {
		return
	}
	next := serviceRef{layer: from.layer, name: extends.Value}
	at := extends
	if extends.Kind == yaml.MappingNode {
		name := field(extends, "service")
		if name == nil {
			return // compose-go says what is missing
		}
		next.name = expand(name.Value, from.layer.env.lookup)
		if file := field(extends, "file"); file != nil {
			at = file
			if next.layer = l.extendedLayer(from.layer, file); next.layer == nil {
				return
			}
		}
	} else {
		next.name = expand(extends.Value, from.layer.env.lookup)
	}
	step := next.layer.file + "#" + next.name
	if len(trail) == 0 {
		trail = []string{from.layer.file + "#" + from.name}
	}
	switch {
	case slices.Contains(trail, step):
		l.fail("extends-cycle", from.layer.position(at),
			fmt.Sprintf("services extend each other: %s", strings.Join(append(trail, step), ", ")), "")
		return
	case len(trail) > maxDepth:
		l.fail("too-deep", from.layer.position(at), fmt.Sprintf("extends goes through more than %d services", maxDepth), "")
		return
	case field(field(next.layer.root, "services"), next.name) == nil:
		names := keysOf(field(next.layer.root, "services"))
		if next.layer == from.layer && l.definesService(next.name) {
			return // another file of the stack has it
		}
		l.fail("undefined-service", from.layer.position(at),
			fmt.Sprintf("%s has no service %q to extend", next.layer.file, next.name), DidYouMean(next.name, names))
		return
	}
	l.bases[service] = append(l.bases[service], next)
	l.followExtends(service, next, append(slices.Clone(trail), step))
}

func (l *load) definesService(name string) bool {
	for _, in := range slices.Concat(l.mains, l.included) {
		if field(field(in.root, "services"), name) != nil {
			return true
		}
	}
	return false
}

// extendedLayer is the document an "extends: file:" names.
func (l *load) extendedLayer(from *layer, file *yaml.Node) *layer {
	rel, refused := l.inside(from.base, expand(file.Value, from.env.lookup))
	if refused != nil {
		l.fail(refused.rule, from.position(file), "extends: "+refused.message, refused.hint)
		return nil
	}
	src := l.readSource(rel, from.position(file))
	if src == nil {
		return nil
	}
	return &layer{document: src.docs[len(src.docs)-1], base: path.Dir(rel), env: from.env}
}

func keysOf(n *yaml.Node) []string {
	var keys []string
	for _, e := range entries(n) {
		keys = append(keys, e.key.Value)
	}
	return keys
}

// checkSources looks for undefined variables and a project name of the files' own.
func (l *load) checkSources() {
	for _, in := range slices.Concat(l.mains, l.included) {
		l.checkVariables(in, in.root)
	}
	for _, service := range slices.Sorted(maps.Keys(l.bases)) {
		for _, base := range l.bases[service] {
			if !l.isLayer(base.layer) {
				l.checkVariables(base.layer, field(field(base.layer.root, "services"), base.name))
			}
		}
	}
	for _, in := range l.mains {
		e, ok := lookup(entries(in.root), "name")
		if !ok {
			continue
		}
		if name := expand(resolve(e.value).Value, in.env.lookup); name != l.req.Project {
			l.note("project-name", in.position(e.key),
				fmt.Sprintf("the file names its project %q; the stack's project is %q", name, l.req.Project),
				"project_name of the stack counts")
		}
	}
}

func (l *load) isLayer(in *layer) bool {
	return slices.Contains(l.mains, in) || slices.Contains(l.included, in)
}
