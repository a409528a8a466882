package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
)

// maxFile bounds the file, and every file with a secret.
const maxFile = 1 << 20

// FlagRule is the rule of findings about the command line. All others are about the
// configuration.
const FlagRule = "flag-value"

// Source is where the values come from. Every field is optional.
type Source struct {
	// File is the TOML file.
	File string
	// Env looks a variable up.
	Env func(name string) string
	// Flags returns what a flag was set to.
	Flags func(name string) (values []string, set bool)
	// Defaults take the place of those in the table, by key.
	Defaults map[string]string
	// Ignored are keys of the file that have no effect here, such as those of an older
	// program whose file is read. A key stands for all below it.
	Ignored []string
}

// Origin is where a value comes from.
type Origin struct {
	// Name is "default", "$NAME" or "--name"; empty when the value is from the file.
	Name string
	// Pos is the place in the file.
	Pos fleet.Position
	// File is the file that a secret has to itself; empty when it has none.
	File string
	// Missing says that the file, which is to hold a secret, does not exist.
	Missing bool
}

// String is like "core.toml:3", "$VARAN_DIR", "--dir" or "default".
func (o Origin) String() string {
	if o.Name != "" {
		return o.Name
	}
	return fleet.Position{File: o.Pos.File, Line: o.Pos.Line}.String()
}

// Values is where every value of a table came from.
type Values struct {
	table   any
	origins map[string]Origin
	ignored []Ignored
}

// Ignored is a key of the file that has no effect.
type Ignored struct {
	Key string
	Pos fleet.Position
}

// Origin of a key; "default" when nothing set it. The keys of lists of tables have an
// index, as in "listeners[0].name".
func (v *Values) Origin(key string) Origin {
	if v != nil {
		if o, ok := v.origins[key]; ok {
			return o
		}
	}
	return Origin{Name: "default"}
}

// Ignored lists the keys of the file that have no effect.
func (v *Values) Ignored() []Ignored { return v.ignored }

// Fault is an error about a setting, in words that begin with the value's.
type Fault struct{ Key, Message, Hint string }

// Checker is a table with rules about more than one value.
type Checker interface {
	// Check lists what is wrong. It runs when each value alone is right.
	Check() []Fault
}

// Load fills table, a pointer to a struct. Its error is fleet.Diagnostics: about the command
// line when all have the rule FlagRule.
func Load(table any, src Source) (*Values, error) {
	l := &loader{src: src, root: reflect.ValueOf(table).Elem(), values: &Values{table: table, origins: map[string]Origin{}}}
	if l.src.Env == nil {
		l.src.Env = func(string) string { return "" }
	}
	if l.src.Flags == nil {
		l.src.Flags = func(string) ([]string, bool) { return nil, false }
	}
	all := Rows(table)
	for i := range all {
		l.defaults(&all[i])
	}
	if err := l.file(); err != nil {
		return nil, err
	}
	for i := range all {
		if !all[i].FileOnly {
			l.environment(&all[i])
			l.flags(&all[i])
		}
	}
	if checker, ok := table.(Checker); ok && len(l.found) == 0 {
		for _, f := range checker.Check() {
			l.refuse(f)
		}
	}
	if len(l.found) > 0 {
		return nil, l.found
	}
	return l.values, nil
}

type loader struct {
	src    Source
	root   reflect.Value
	values *Values
	found  fleet.Diagnostics
}

func (l *loader) fail(pos fleet.Position, rule, hint, format string, args ...any) {
	l.found = append(l.found, fault(pos, rule, hint, format, args...)...)
}

// refuse places a fault where the value came from.
func (l *loader) refuse(f Fault) {
	o := l.values.Origin(f.Key)
	rule := "invalid-value"
	if strings.HasPrefix(o.Name, "--") {
		rule = FlagRule
	}
	text := f.Key + ": " + f.Message
	if o.Name != "" && o.Name != "default" {
		text = o.Name + ": " + f.Message
	}
	l.fail(o.Pos, rule, f.Hint, "%s", text)
}

func (l *loader) defaults(r *Row) {
	text := r.Default
	if other, ok := l.src.Defaults[r.Key]; ok {
		text = other
	}
	if text == "" || r.FileOnly {
		return
	}
	if err := r.fromTexts(l.root.FieldByIndex(r.index), r.texts(text)); err != nil {
		panic(fmt.Sprintf("settings: the default of %s: %v", r.Key, err)) // tests hold the tables to it
	}
}

// texts splits what a variable holds.
func (r *Row) texts(text string) []string {
	if !r.Repeated {
		return []string{text}
	}
	parts := strings.Split(text, ",")
	if r.split == "path" {
		parts = filepath.SplitList(text)
	}
	out := make([]string, 0, len(parts))
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func (l *loader) environment(r *Row) {
	for _, name := range r.Env {
		text, file := l.src.Env(name), ""
		if r.Secret && text == "" {
			file = l.src.Env(name + "_FILE")
		}
		origin := Origin{Name: "$" + name}
		switch {
		case file != "":
			origin.Name += "_FILE"
			l.secretFile(r, l.root.FieldByIndex(r.index), file, r.Key, origin)
		case text == "":
			continue
		default:
			l.set(r, r.texts(text), origin, "invalid-value")
		}
		return
	}
}

func (l *loader) flags(r *Row) {
	if values, set := l.flag(r.Flag); set {
		l.set(r, values, Origin{Name: "--" + r.Flag}, FlagRule)
		return
	}
	if values, set := l.flag(r.FileFlag); set {
		l.secretFile(r, l.root.FieldByIndex(r.index), values[len(values)-1], r.Key, Origin{Name: "--" + r.FileFlag})
	}
}

func (l *loader) flag(name string) ([]string, bool) {
	if name == "" {
		return nil, false
	}
	return l.src.Flags(name)
}

func (l *loader) set(r *Row, texts []string, origin Origin, rule string) {
	if len(texts) == 0 {
		return
	}
	if err := r.fromTexts(l.root.FieldByIndex(r.index), texts); err != nil {
		l.fail(fleet.Position{}, rule, "", "%s: %v", origin.Name, err)
		return
	}
	l.values.origins[r.Key] = origin
}

// secretFile reads a secret from the file that has it to itself.
func (l *loader) secretFile(r *Row, v reflect.Value, name, key string, origin Origin) {
	text, err := readFile(name, true)
	origin.File = name
	if r.optional && errors.Is(err, fs.ErrNotExist) {
		origin.Missing = true
		l.values.origins[key] = origin
		return
	}
	if err != nil {
		where := origin.Name
		if where == "" {
			where = key + "_file"
		}
		l.fail(origin.Pos, "file-unreadable", "", "%s: %v", where, err)
		return
	}
	v.Set(reflect.ValueOf(fleet.NewSecret(strings.TrimSpace(string(text)))))
	l.values.origins[key] = origin
}

// readFile reads a regular file of a bearable size. devices allows pipes and devices, by
// which secrets are handed over too.
func readFile(name string, devices bool) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", name)
	case !devices && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return text, err
}

// file reads the TOML file.
func (l *loader) file() error {
	if l.src.File == "" {
		return nil
	}
	text, err := readFile(l.src.File, false)
	if err != nil {
		return fault(fleet.Position{File: l.src.File}, "file-unreadable", "", "%v", reason(err))
	}
	root, err := parse(l.src.File, text)
	if err != nil {
		return err
	}
	before := len(l.found)
	secrets := l.table(root, l.root, "")
	if len(l.found) == before && secrets {
		l.private()
	}
	return nil
}

// reason is an error without the file's name, which the position has.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// private refuses a file with a secret that others can read.
func (l *loader) private() {
	info, err := os.Stat(l.src.File)
	if err == nil && os.PathSeparator == '/' && info.Mode().Perm()&0o007 != 0 {
		l.fail(fleet.Position{File: l.src.File}, "file-unreadable", "chmod 600 "+l.src.File+", or name the secret's own file",
			"it holds a secret, and everybody can read it (mode %04o)", info.Mode().Perm())
	}
}

// table reads one table of the file into a struct and reports whether it held a secret.
// path is that of the table, with indexes.
func (l *loader) table(n *node, into reflect.Value, path string) (secrets bool) {
	t := into.Type()
	fields := fieldsOf(t)
	for _, key := range n.keys {
		child := n.table[key]
		base, isFile := key, false
		f, ok := fields[key]
		if !ok {
			if base, isFile = strings.CutSuffix(key, "_file"); isFile {
				f, ok = fields[base]
				ok = ok && f.Type == secretType
			}
		}
		if !ok {
			l.unknown(key, child, path, fields)
			continue
		}
		name := f.Tag.Get("key")
		v := into.FieldByIndex(f.Index)
		if isFile {
			l.fileKey(f, v, child, path+name, n.table[base] != nil)
			continue
		}
		secrets = l.value(f, v, child, path+name) || secrets
	}
	return secrets
}

// fieldsOf maps the keys and aliases of a table to its fields.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for f := range t.Fields() {
		if key, ok := f.Tag.Lookup("key"); ok {
			fields[key] = f
			for _, alias := range list(f.Tag.Get("alias")) {
				fields[alias] = f
			}
		}
	}
	return fields
}

func (l *loader) fileKey(f reflect.StructField, v reflect.Value, n *node, key string, both bool) {
	switch {
	case both:
		l.fail(n.pos, "invalid-value", "keep one of the two", "%s is set as well as %s_file", key, key)
	case n.kind != unstable.String:
		l.fail(n.pos, "wrong-type", "", "%s_file: it is %s, not text in quotes", key, n.words())
	default:
		r := row(f, key, nil, true)
		l.secretFile(&r, v, n.text, key, Origin{Pos: n.pos})
	}
}

func (l *loader) value(f reflect.StructField, v reflect.Value, n *node, key string) (secrets bool) {
	inner, form := tables(f.Type)
	switch form {
	case oneTable:
		if n.table == nil {
			l.fail(n.pos, "wrong-type", "write ["+key+"]", "%s: it is %s, not a table", key, n.words())
			return false
		}
		l.values.origins[key] = Origin{Pos: n.pos}
		return l.table(n, v, key+".")
	case listOfTables:
		return l.list(v, inner, n, key)
	case namedTables:
		return l.named(v, inner, n, key)
	case noTable:
	}
	r := row(f, key, nil, true)
	if pos, err := r.fromNode(v, n); err != nil {
		rule := "invalid-value"
		if strings.HasPrefix(err.Error(), "it is ") {
			rule = "wrong-type"
		}
		l.fail(pos, rule, "", "%s: %v", key, err)
		return false
	}
	l.values.origins[key] = Origin{Pos: n.pos}
	return r.Secret && !v.IsZero() // an empty one is none
}

func (l *loader) list(v reflect.Value, inner reflect.Type, n *node, key string) (secrets bool) {
	if n.kind != unstable.Array && n.kind != unstable.ArrayTable {
		l.fail(n.pos, "wrong-type", "write [["+key+"]]", "%s: it is %s, not a list of tables", key, n.words())
		return false
	}
	l.values.origins[key] = Origin{Pos: n.pos}
	out := reflect.MakeSlice(v.Type(), len(n.list), len(n.list))
	for i, child := range n.list {
		path := key + "[" + strconv.Itoa(i) + "]"
		if child.table == nil {
			l.fail(child.pos, "wrong-type", "write [["+key+"]]", "%s: it is %s, not a table", path, child.words())
			continue
		}
		l.values.origins[path] = Origin{Pos: child.pos}
		itemDefaults(inner, out.Index(i))
		secrets = l.table(child, out.Index(i), path+".") || secrets
	}
	v.Set(out)
	return secrets
}

func (l *loader) named(v reflect.Value, inner reflect.Type, n *node, key string) (secrets bool) {
	if n.table == nil {
		l.fail(n.pos, "wrong-type", "write ["+key+".NAME]", "%s: it is %s, not a table", key, n.words())
		return false
	}
	out := reflect.MakeMap(v.Type())
	for _, name := range n.keys {
		child, item := n.table[name], reflect.New(inner).Elem()
		if child.table == nil {
			l.fail(child.pos, "wrong-type", "write ["+key+"."+name+"]", "%s.%s: it is %s, not a table", key, name, child.words())
			continue
		}
		l.values.origins[key+"."+name] = Origin{Pos: child.pos}
		itemDefaults(inner, item)
		secrets = l.table(child, item, key+"."+name+".") || secrets
		out.SetMapIndex(reflect.ValueOf(name), item)
	}
	v.Set(out)
	return secrets
}

// itemDefaults sets the defaults of a table that may be there many times.
func itemDefaults(t reflect.Type, v reflect.Value) {
	for _, r := range rows(t, "", nil, true) {
		if r.Default != "" && len(r.index) > 0 {
			_ = r.fromTexts(v.FieldByIndex(r.index), r.texts(r.Default)) // tests hold the tables to it
		}
	}
}

// unknown tells of a key that is no setting, and which one may have been meant.
func (l *loader) unknown(key string, n *node, path string, fields map[string]reflect.StructField) {
	whole := path + key
	for _, ignored := range l.src.Ignored {
		if whole == ignored || strings.HasPrefix(whole, ignored+".") {
			l.values.ignored = append(l.values.ignored, Ignored{whole, n.pos})
			return
		}
	}
	known := make([]string, 0, len(fields))
	for name := range fields {
		known = append(known, name)
	}
	var hint string
	if near := didyoumean.Word(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	} else if at := l.elsewhere(key); at != "" {
		hint = fmt.Sprintf("did you mean %s?", at)
	} else {
		slices.Sort(known)
		hint = "the keys here are " + strings.Join(known, ", ")
	}
	l.fail(n.pos, "unknown-key", hint, "unknown key %q", whole)
}

// elsewhere finds a setting that has the name in another table.
func (l *loader) elsewhere(key string) string {
	for _, r := range Rows(l.values.table) {
		if strings.HasSuffix(r.Key, "."+key) {
			return r.Key
		}
	}
	return ""
}
