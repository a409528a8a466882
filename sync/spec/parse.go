package spec

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

// ParseFile reads one resource file. It is pure: the same path and content always
// give the same result, so callers may keep it by the content's id. It checks what a
// file says on its own; Load checks what the files say together.
func ParseFile(path string, content []byte) (File, fleet.Diagnostics) {
	p := parser{decoder: decoder{&report{file: path}}}
	if len(content) > maxFileSize {
		p.fail(0, "file-too-large", "split it into several files",
			"the file has %d bytes; the most is %d", len(content), maxFileSize)
		return p.file, p.diags
	}
	bom := []byte("\xEF\xBB\xBF")
	src, hasBOM := bytes.CutPrefix(content, bom)
	if f := checkEncoding(content); f != nil {
		p.lines = newlines(content)
		p.fault(f)
		return p.file, p.diags
	}
	p.lines = newlines(src)
	if hasBOM {
		p.warn(0, "byte-order-mark", "save it as UTF-8 without a byte order mark", "the file starts with a byte order mark")
	}
	if f := checkLines(src); f != nil {
		p.fault(f)
		return p.file, p.diags
	}
	p.parse(src)
	p.file.References = references(string(src))
	return p.file, p.diags.Sort()
}

// references are the names that a text has in double brackets. The headers of tables look
// the same and are among them, which does no harm.
func references(text string) []string {
	var names []string
	for {
		_, after, ok := strings.Cut(text, "[[")
		if !ok {
			break
		}
		text = after
		// Nearby or not at all: looking further for each would take for ever.
		name, _, ok := strings.Cut(after[:min(len(after), 2*maxName)], "]]")
		if name = strings.Trim(name, "[] \t"); ok && !strings.ContainsAny(name, "\n[") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// parser fills a File from a tree of tables.
type parser struct {
	decoder
	file File
}

func (p *parser) parse(src []byte) {
	s := scanner{src: src}
	unbalanced := s.scan()
	if unbalanced != nil && unbalanced.rule == "too-deep" {
		p.fault(unbalanced)
		return
	}
	for _, at := range s.hidden {
		p.warn(at, "invisible-character", "remove it", "a comment has an invisible character")
	}
	root, failure := buildTree(p.report, src, s.escapes)
	// A string or bracket that is never closed is best shown where it opens; but an
	// error before that place explains more.
	if failure != nil && unbalanced != nil && unbalanced.offset <= failure.offset {
		failure = unbalanced
	}
	switch {
	case failure != nil && !mentionsResources(src):
		p.notResources(failure.offset) // some other file, with a template language in it perhaps
		return
	case failure != nil:
		p.fault(failure) // what was read before it may be half a resource
		return
	}
	if foreign(root) {
		p.notResources(root.entries[0].at)
		return
	}
	p.resources(root)
}

func (p *parser) fault(f *fault) {
	if f != nil {
		p.fail(f.offset, f.rule, f.hint, "%s", f.message)
	}
}

// resources reads the top level of a file.
func (p *parser) resources(root *table) {
	for _, e := range root.entries {
		name, ok := typeOf(e.key)
		if !ok {
			if why, ok := gone[strings.TrimSuffix(e.key, "s")]; ok {
				p.retiredKey(e, why)
				continue
			}
			if e.key == "secrets" || e.key == "secret" {
				p.failUnknown(e.at, "unknown-key", func() string { return "write [[variable]], or store what is secret with varan secret set NAME" },
					"unknown key %s in a resource file", quoted(e.key))
				continue
			}
			p.unknownKey(e, "a resource file", typeNames())
			continue
		}
		if !e.value.tables() {
			p.fail(e.at, "type", "write [["+e.key+"]]", "%s must be a list of tables, not %s", quoted(e.key), e.value.kind)
			continue
		}
		for _, v := range e.value.list {
			p.resource(name, v.table)
		}
	}
}

// notResources notes that a file is not about resources.
func (p *parser) notResources(at int) {
	p.note(at, "not-a-resource-file", "name the files and directories that hold resources as resource paths",
		"the file declares no resource, and is left alone")
}

// foreign reports whether nothing at the top level is a list of resources, nor meant to
// be one: a TOML file of some application.
func foreign(root *table) bool {
	strange := false
	for _, e := range root.entries {
		_, known := typeOf(strings.ToLower(e.key))
		near := didyoumean.Word(e.key, typeNames()) != ""
		if known && e.value.kind == kindArray || near && !known {
			return false
		}
		_, once := gone[strings.TrimSuffix(e.key, "s")]
		strange = strange || !known && !once
	}
	return strange
}

// resourceHeader finds what may be the header of a resource.
var resourceHeader = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?mi)^[ \t]*\[?\[?[ \t"']*(` + strings.Join(typeNames(), "|") + `)s?\b`)
})

// mentionsResources reports whether a file that is not TOML may be about resources.
func mentionsResources(src []byte) bool { return resourceHeader().Match(src) }

// tables reports whether v is a list of tables only.
func (v value) tables() bool {
	return v.kind == kindArray && !slices.ContainsFunc(v.list, func(item value) bool { return item.table == nil })
}

func (p *parser) resource(name string, t *table) {
	if p.full() {
		return
	}
	r := &p.file.Resources
	switch name {
	case serverSchema.name:
		p.finishServer(add(p, &r.Servers, &serverSchema, t))
	case stackSchema.name:
		p.finishStack(add(p, &r.Stacks, &stackSchema, t))
	case deploymentSchema.name:
		p.finishDeployment(add(p, &r.Deployments, &deploymentSchema, t))
	case repoSchema.name:
		p.finishRepo(add(p, &r.Repos, &repoSchema, t))
	case buildSchema.name:
		add(p, &r.Builds, &buildSchema, t)
	case builderSchema.name:
		add(p, &r.Builders, &builderSchema, t)
	case procedureSchema.name:
		procedure := add(p, &r.Procedures, &procedureSchema, t)
		p.checkSchedule(&procedure.Config.Timetable, t)
		p.finishProcedure(procedure)
	case actionSchema.name:
		action := add(p, &r.Actions, &actionSchema, t)
		p.checkSchedule(&action.Config.Timetable, t)
	case alerterSchema.name:
		finishAlerter(add(p, &r.Alerters, &alerterSchema, t))
	case swarmSchema.name:
		add(p, &r.Swarms, &swarmSchema, t)
	case syncSchema.name:
		p.finishSync(add(p, &r.Syncs, &syncSchema, t))
	case variableSchema.name:
		p.finishVariable(add(p, &r.Variables, &variableSchema, t))
	case userGroupSchema.name:
		finishUserGroup(add(p, &r.UserGroups, &userGroupSchema, t))
	}
}

// resource is a declaration that can be told where it was written.
type resource[T any] interface {
	*T
	place(m marks)
}

// add decodes a resource to the end of a list.
func add[T any, P resource[T]](p *parser, list *[]T, s *schema, t *table) P {
	decoded, marks := decodeResource[T](p, s, t)
	P(&decoded).place(marks)
	*list = append(*list, decoded)
	if s.idle {
		name := ""
		if e := t.find("name"); e != nil {
			name = e.value.text
		}
		p.note(t.at, "not-acted-on", "", "%s %s is kept, and not acted on yet", s.name, quoted(name))
	}
	return &(*list)[len(*list)-1]
}

// resourceDecoder decodes one resource: its own fields and those of its config.
type resourceDecoder struct {
	*parser
	schema *schema
	top    reflect.Value
	config reflect.Value
	marks  marks
	seen   map[string]int
}

func decodeResource[T any](p *parser, s *schema, t *table) (T, marks) {
	var resource T
	r := resourceDecoder{
		parser: p, schema: s, top: reflect.ValueOf(&resource).Elem(),
		marks: marks{file: p.report.file, list: make([]mark, 1, 1+2*len(t.entries))},
		seen:  make(map[string]int, 2*len(t.entries)),
	}
	r.top.Set(s.top.defaults)
	if s.config != nil {
		r.config = r.top.FieldByName("Config")
		r.config.Set(s.config.defaults)
	}
	r.marks.list[0] = p.mark("", -1, t.at)
	r.entries(t, false)
	r.checkName(t)
	return resource, r.marks
}

func (r *resourceDecoder) entries(t *table, inConfig bool) {
	where := "[[" + r.schema.name + "]]"
	if inConfig {
		where = "[" + r.schema.name + ".config]"
	}
	for _, e := range fold(t, r.schema.folded) {
		if e.key == "config" && !inConfig && r.schema.config != nil {
			if e.value.table == nil {
				r.wrongType(e.value, e.key, "a table", "")
				continue
			}
			r.entries(e.value.table, true)
			continue
		}
		if at, ok := r.schema.find(e.key, inConfig); ok {
			r.field(e, at)
		} else if why, ok := r.schema.retired(e.key); ok {
			r.retiredKey(e, why)
		} else {
			r.misplaced(e, where, inConfig)
		}
	}
}

// fold puts type and params into the table that they are for.
func fold(t *table, into string) []entry {
	if into == "" || t.find("type") == nil || t.find(into) != nil {
		return t.entries
	}
	var out []entry
	inner := &table{at: t.find("type").at}
	for _, e := range t.entries {
		if e.key == "type" || e.key == "params" {
			inner.entries = append(inner.entries, e)
		} else {
			out = append(out, e)
		}
	}
	return append(out, entry{key: into, at: inner.at, value: value{kind: kindTable, at: inner.at, table: inner}})
}

func (r *resourceDecoder) field(e entry, at place) {
	name := at.name()
	if first, again := r.seen[name]; again {
		r.fail(e.at, "duplicate-field", "keep one of them",
			"%s is set in two places, first on line %d", quoted(name), r.position(first).Line)
		return
	}
	r.seen[name] = e.at
	r.marks.list = append(r.marks.list, r.mark(name, -1, e.at))
	owner, defaults := r.top, r.schema.top.defaults
	if at.config {
		owner, defaults = r.config, r.schema.config.defaults
	}
	dst := owner.FieldByIndex(at.field.index)
	r.oldSpelling(e, at.field)
	for i, offset := range r.into(dst, at.field, e.value, name) {
		r.marks.list = append(r.marks.list, r.mark(name, i, offset))
	}
	if !at.field.later && at.field.moot == "" || r.schema.idle ||
		atDefault(dst, defaults.FieldByIndex(at.field.index)) {
		return
	}
	if at.field.moot != "" {
		r.note(e.at, "no-meaning-here", "remove it", "%s has no meaning here: %s", quoted(name), at.field.moot)
		return
	}
	r.note(e.at, "not-acted-on", "", "%s is not acted on yet", quoted(name))
}

// misplaced reports an unknown key, and says so when it belongs beside config.
func (r *resourceDecoder) misplaced(e entry, where string, inConfig bool) {
	if _, ok := r.schema.top.byKey[e.key]; ok && inConfig {
		r.failUnknown(e.at, "unknown-key", func() string { return "write it directly under [[" + r.schema.name + "]]" },
			"%s does not belong in %s", quoted(e.key), where)
		return
	}
	r.unknownKey(e, where, r.schema.keys(inConfig))
}

func (r *resourceDecoder) checkName(t *table) {
	e := t.find("name")
	switch {
	case e == nil:
		if !slices.ContainsFunc(t.entries, func(e entry) bool { return strings.EqualFold(e.key, "name") }) {
			r.fail(t.at, "missing-name", `add name = "..."`, "the %s has no name", r.schema.name)
		}
	case e.value.kind == kindString:
		if hiddenAt, _ := findHidden(e.value.text); hiddenAt >= 0 || strings.IndexFunc(e.value.text, control) >= 0 {
			return // reported with the text
		}
		if _, ok := renamed(e.value.text); ok && r.schema.naming == projectName {
			return // the stack gets the name that it would have anyway
		}
		if problem, hint := r.schema.naming.check(e.value.text); problem != "" {
			r.fail(e.value.at, "invalid-name", hint, "%s", problem)
		}
	}
}
