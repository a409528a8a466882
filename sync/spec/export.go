package spec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Export writes declarations as a resource file: by type and name, and of each no more
// than what differs from the defaults. Reading the file gives the same declarations.
// Values of secrets are left out, with a comment that says so.
func Export(d Declarations) []byte {
	x := &exporter{}
	r := &d.Resources
	exportAll(x, &serverSchema, r.Servers, func(v *Server) string { return v.Name })
	exportAll(x, &swarmSchema, r.Swarms, func(v *Swarm) string { return v.Name })
	exportAll(x, &builderSchema, r.Builders, func(v *Builder) string { return v.Name })
	exportAll(x, &repoSchema, r.Repos, func(v *Repo) string { return v.Name })
	exportAll(x, &buildSchema, r.Builds, func(v *Build) string { return v.Name })
	exportAll(x, &variableSchema, r.Variables, func(v *Variable) string { return v.Name })
	exportAll(x, &stackSchema, r.Stacks, func(v *Stack) string { return v.Name })
	exportAll(x, &deploymentSchema, r.Deployments, func(v *Deployment) string { return v.Name })
	exportAll(x, &procedureSchema, r.Procedures, func(v *Procedure) string { return v.Name })
	exportAll(x, &actionSchema, r.Actions, func(v *Action) string { return v.Name })
	exportAll(x, &alerterSchema, r.Alerters, func(v *Alerter) string { return v.Name })
	exportAll(x, &syncSchema, r.Syncs, func(v *ResourceSync) string { return v.Name })
	exportAll(x, &userGroupSchema, r.UserGroups, func(v *UserGroup) string { return v.Name })
	return []byte(x.String())
}

// exporter writes TOML.
type exporter struct {
	strings.Builder
	// blocks are the lists of tables that follow the keys of the table being written.
	blocks []block
	// decided says for fields whose default depends on others whether to write them.
	decided func(f *field) (write, ok bool)
	// withheld reports secrets that are not to be written.
	withheld func(f *field) bool
}

// block is a list of tables with a header each.
type block struct {
	header string
	set    *fieldSet
	list   reflect.Value
}

func exportAll[T any](x *exporter, s *schema, list []T, nameOf func(*T) string) {
	order := make([]*T, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortStableFunc(order, func(a, b *T) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	for _, r := range order {
		if x.Len() > 0 {
			x.WriteByte('\n')
		}
		x.settle(r)
		x.resource(s, reflect.ValueOf(r).Elem())
	}
}

// settle finds what a resource implies and withholds.
func (x *exporter) settle(resource any) {
	x.decided = func(*field) (write, ok bool) { return false, false }
	x.withheld = func(*field) bool { return true }
	switch r := resource.(type) {
	case *Server:
		x.decided = func(f *field) (write, ok bool) {
			switch f.key {
			case "enabled":
				return r.Config.Enabled != (r.Config.Address == ""), true
			case "tier":
				return hasTag(r.Tags, "untrusted", "tier:untrusted") != (r.Config.Tier == fleet.TierUntrusted), true
			}
			return false, false
		}
	case *Variable:
		x.withheld = func(*field) bool { return r.IsSecret }
	case *Alerter:
		// Chat services take whoever has the address for the one it was given to.
		open := r.Config.Endpoint.Type == "Custom" || r.Config.Endpoint.Type == "Ntfy"
		x.withheld = func(*field) bool { return !open || strings.ContainsAny(r.Config.Endpoint.URL.Reveal(), "@?") }
	}
}

func (x *exporter) resource(s *schema, v reflect.Value) {
	fmt.Fprintf(x, "[[%s]]\n", s.name)
	x.keys(s.name, "", s.top.fields, s.top.defaults, v)
	blocks := x.blocks
	x.blocks = nil
	if s.config != nil {
		inside := &exporter{decided: x.decided, withheld: x.withheld}
		inside.keys(s.name+".config", "", s.config.fields, s.config.defaults, v.FieldByName("Config"))
		if inside.Len() > 0 {
			fmt.Fprintf(x, "[%s.config]\n%s", s.name, inside.String())
		}
		blocks = append(blocks, inside.blocks...)
	}
	for _, b := range blocks {
		for i := range b.list.Len() {
			fmt.Fprintf(x, "[[%s]]\n", b.header)
			x.keys(b.header, "", b.set.fields, b.set.defaults, b.list.Index(i))
		}
	}
}

// keys writes the fields of a table that are not at their defaults. header is the table
// they are in, prefix what comes before their keys.
func (x *exporter) keys(header, prefix string, fields []*field, defaults, v reflect.Value) {
	for _, f := range fields {
		value := v.FieldByIndex(f.index)
		write, decided := x.decided(f)
		if !decided {
			write = !atDefault(value, defaults.FieldByIndex(f.index))
		}
		if write {
			x.field(header, prefix, f, value)
		}
	}
}

func atDefault(v, fallback reflect.Value) bool {
	switch {
	case v.Type() == secretType:
		return v.Interface().(fleet.Secret).IsEmpty()
	case v.Kind() == reflect.Slice:
		return v.Len() == 0
	}
	return reflect.DeepEqual(v.Interface(), fallback.Interface())
}

func (x *exporter) line(key, value string) { fmt.Fprintf(x, "%s = %s\n", key, value) }

func (x *exporter) field(header, prefix string, f *field, v reflect.Value) {
	key := prefix + f.key
	switch value := v.Interface().(type) {
	case fleet.Secret:
		if x.withheld(f) && !isReference(value.Reveal()) {
			fmt.Fprintf(x, "# %s is secret, and left out\n", key)
			return
		}
		x.line(key, tomlText(value.Reveal(), true))
	case []EnvVar:
		x.line(key, exportEnvironment(value, f.form == "labels"))
	case []Pair:
		x.line(key, exportPairs(value))
	case []TypePermission:
		for _, p := range value {
			x.line(key+"."+p.Type, exportLevel(p))
		}
	case Image:
		x.union(key, imageUnion, value.Type, v)
	case Endpoint:
		x.union(key, endpointUnion, value.Type, v)
	case BuilderConfig:
		if value.Type != "" {
			fmt.Fprintf(x, "[%s.%s]\n", header, key)
			x.union("", builderUnion, value.Type, v)
		}
	default:
		switch {
		case v.Kind() == reflect.Slice && f.sub != nil && f.sub.pos != nil && f.typ.Elem() != reflect.TypeFor[Target]() &&
			f.typ.Elem() != reflect.TypeFor[Permission]():
			x.blocks = append(x.blocks, block{header: header + "." + f.key, set: f.sub, list: v})
		case v.Kind() == reflect.Struct:
			x.keys(header, key+".", f.sub.fields, f.sub.defaults, v)
		default:
			x.line(key, x.inline(f, v, true))
		}
	}
}

// union writes a value of {type, params}.
func (x *exporter) union(key string, u union, typ string, v reflect.Value) {
	set := u.find(typ)
	if set == nil {
		return // it could not be read
	}
	if key != "" {
		key += "."
	}
	x.line(key+"type", tomlText(typ, false))
	x.keys("", key+"params.", set.fields, set.defaults, v)
}

// inline is a value as it is written behind a key; tall values may have several lines.
func (x *exporter) inline(f *field, v reflect.Value, tall bool) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return tomlText(shortDuration(value), false)
	case []string:
		return tomlTexts(value, tall)
	case []Execution:
		return exportList(len(value), tall, func(i int) string { return exportExecution(&value[i]) })
	case fleet.Secret:
		return tomlText(value.Reveal(), false)
	}
	switch v.Kind() { //nolint:exhaustive // the declarations hold nothing else
	case reflect.String:
		return tomlText(v.String(), tall)
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case reflect.Slice:
		return exportList(v.Len(), tall, func(i int) string { return x.inlineTable(f.sub, v.Index(i)) })
	}
	return x.inlineTable(f.sub, v)
}

// inlineTable is a table in braces; or a plain string, where that says the same.
func (x *exporter) inlineTable(set *fieldSet, v reflect.Value) string {
	var parts []string
	onlyShort := set.short != nil
	for _, f := range set.fields {
		value := v.FieldByIndex(f.index)
		if atDefault(value, set.defaults.FieldByIndex(f.index)) {
			continue
		}
		if secret, ok := reflect.TypeAssert[fleet.Secret](value); ok && !isReference(secret.Reveal()) {
			continue
		}
		onlyShort = onlyShort && f.short
		parts = append(parts, f.key+" = "+x.inline(f, value, false))
	}
	if onlyShort && len(parts) == 1 {
		return x.inline(set.short, v.FieldByIndex(set.short.index), false)
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// exportList is a list, of which each item has its line when there are several.
func exportList(n int, tall bool, item func(int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	if n < 2 && len(strings.Join(items, "")) < 80 || !tall {
		return "[" + strings.Join(items, ", ") + "]"
	}
	return "[\n  " + strings.Join(items, ",\n  ") + ",\n]"
}

func exportLevel(p TypePermission) string {
	if len(p.Specific) == 0 {
		return tomlText(p.Level, false)
	}
	return "{ level = " + tomlText(p.Level, false) + ", specific = " + tomlTexts(p.Specific, false) + " }"
}

func exportExecution(e *Execution) string {
	parts := []string{"execution.type = " + tomlText(e.Type, false)}
	typ, _ := FindExecution(e.Type)
	for _, p := range e.Params {
		kind := ParamText
		if param := typ.param(p.Name); param != nil {
			kind = param.Kind
		}
		parts = append(parts, "execution.params."+p.Name+" = "+exportParam(kind, p))
	}
	if len(e.Params) == 0 {
		parts = append(parts, "execution.params = {}")
	}
	if !e.Enabled {
		parts = append(parts, "enabled = false")
	}
	parts = append(parts, exportPolicy(&e.Policy)...)
	return "{ " + strings.Join(parts, ", ") + " }"
}

// exportPolicy are the fields that are not at their defaults.
func exportPolicy(p *Policy) (parts []string) {
	v := reflect.ValueOf(p).Elem()
	for _, f := range policyFields.fields {
		if value := v.FieldByIndex(f.index); !value.IsZero() {
			parts = append(parts, f.key+" = "+(&exporter{}).inline(f, value, false))
		}
	}
	return parts
}

func exportParam(kind ParamKind, p Param) string {
	switch kind {
	case ParamList, ParamWords, ParamReferences:
		return tomlTexts(p.List, false)
	case ParamInt:
		if p.Text == "" {
			return strconv.Itoa(p.Int)
		}
	case ParamBool:
		if p.Text == "" {
			return strconv.FormatBool(p.Bool)
		}
	case ParamObject:
		decoder := json.NewDecoder(strings.NewReader(p.Text))
		decoder.UseNumber()
		var value any
		if decoder.Decode(&value) != nil {
			return "{}"
		}
		return tomlJSON(value)
	case ParamText, ParamReference, ParamPattern:
	}
	return tomlText(p.Text, false)
}

// exportEnvironment is KEY = value lines, or tables where lines could not say it.
func exportEnvironment(list []EnvVar, labels bool) string {
	var lines strings.Builder
	for _, e := range list {
		line, ok := entryLine(e.Name, e.Value)
		if !ok || !labels && !validEnvName(e.Name) {
			return exportList(len(list), true, func(i int) string {
				return "{ variable = " + tomlText(list[i].Name, false) + ", value = " + tomlText(list[i].Value, false) + " }"
			})
		}
		lines.WriteString(line + "\n")
	}
	return tomlText(lines.String(), true)
}

// entryLine is a line that is read as the entry, if there is one.
func entryLine(name, value string) (line string, ok bool) {
	for _, line := range []string{name + " = " + value, name + ` = "` + value + `"`, name + " = '" + value + "'"} {
		var readName, readValue string
		lines := 0
		for read := range entryLines(line) {
			lines++
			key, text, _ := cutEntry(unlist(read).text)
			readName, readValue = strings.TrimPrefix(strings.TrimSpace(key), "export "), envValue(strings.TrimSpace(text))
		}
		if line = strings.TrimRight(line, " "); lines == 1 && readName == name && readValue == value {
			return line, true
		}
	}
	return "", false
}

// exportPairs is HOST:CONTAINER lines, or tables where lines could not say it.
func exportPairs(list []Pair) string {
	var lines strings.Builder
	for _, p := range list {
		line := p.Local + ":" + p.Container
		local, container, n := "", "", 0
		for read := range entryLines(line) {
			n++
			local, container, _ = cutPair(cutComment(unlist(read).text))
		}
		if n != 1 || local != p.Local || container != p.Container {
			return exportList(len(list), true, func(i int) string {
				return "{ local = " + tomlText(list[i].Local, false) + ", container = " + tomlText(list[i].Container, false) + " }"
			})
		}
		lines.WriteString(line + "\n")
	}
	return tomlText(lines.String(), true)
}

// isReference reports a value that is nothing but a [[NAME]].
func isReference(value string) bool {
	name, ok := strings.CutPrefix(value, "[[")
	name, closed := strings.CutSuffix(name, "]]")
	return ok && closed && name != "" && !strings.ContainsAny(name, "[]\n")
}

// shortDuration is 5m for 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
