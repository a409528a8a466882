package settings

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Value is one setting as it is shown. Secrets are three stars.
type Value struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
	Dynamic bool   `json:"dynamic"`
}

// List shows every value with its origin, in the order of the table. A list of tables is
// shown whole, and only if it is not empty.
func (v *Values) List() []Value { return v.ListOf(v.table) }

// ListOf is List for another table of the type, with these origins. A nil v knows of none.
func (v *Values) ListOf(table any) []Value {
	var out []Value
	walk(reflect.ValueOf(table).Elem(), "", func(key string, dynamic bool, value reflect.Value) {
		if _, form := tables(value.Type()); form != noTable && value.Len() == 0 {
			return
		}
		out = append(out, Value{Key: key, Value: render(value), Origin: v.Origin(key).String(), Dynamic: dynamic})
	})
	return out
}

// Print writes every value with its origin, as a file that says the same.
func (v *Values) Print(w io.Writer) error {
	list, width := v.List(), 0
	for _, value := range list {
		width = max(width, min(60, len(value.Key)+len(value.Value)+3))
	}
	for _, value := range list {
		line := value.Key + " = " + value.Value
		if _, err := fmt.Fprintf(w, "%-*s  # %s\n", width, line, value.Origin); err != nil {
			return fmt.Errorf("print the configuration: %w", err)
		}
	}
	return nil
}

// walk calls f with every setting of a table that is not part of a list.
func walk(v reflect.Value, prefix string, f func(key string, dynamic bool, value reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key, ok := field.Tag.Lookup("key")
		if !ok {
			continue
		}
		if _, form := tables(field.Type); form == oneTable {
			walk(v.Field(i), prefix+key+".", f)
			continue
		}
		f(prefix+key, field.Tag.Get("reload") == "dynamic", v.Field(i))
	}
}

// Change is a setting of which two tables have different values.
type Change struct {
	Key     string `json:"key"`
	Old     string `json:"old"`
	New     string `json:"new"`
	Dynamic bool   `json:"dynamic"`
}

// Diff compares two tables of one type, given as pointers.
func Diff(before, after any) []Change {
	var out []Change
	next := map[string]reflect.Value{}
	walk(reflect.ValueOf(after).Elem(), "", func(key string, _ bool, value reflect.Value) { next[key] = value })
	walk(reflect.ValueOf(before).Elem(), "", func(key string, dynamic bool, value reflect.Value) {
		if !equal(value, next[key]) {
			out = append(out, Change{Key: key, Old: render(value), New: render(next[key]), Dynamic: dynamic})
		}
	})
	return out
}

// equal compares values deeply; secrets are pointers inside, and so compare by what they
// point to. An empty list is no list.
func equal(a, b reflect.Value) bool {
	if k := a.Kind(); (k == reflect.Slice || k == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// Reference is the table of the settings in Markdown.
func Reference(table any) string {
	var b strings.Builder
	b.WriteString("| key | flag | environment | default | reload | what it is |\n|---|---|---|---|---|---|\n")
	for _, r := range Rows(table) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", strings.Join(code(append([]string{r.Key}, r.Aliases...)), " "),
			strings.Join(flagNames(r), " "), strings.Join(variables(r), " "), strings.Join(code(list1(r.Default)), ""), reload(r), description(r))
	}
	return b.String()
}

func list1(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func code(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "`" + w + "`"
	}
	return out
}

func flagNames(r Row) []string {
	var out []string
	for _, name := range []string{r.Flag, r.FileFlag} {
		if name != "" {
			out = append(out, "`--"+name+"`")
		}
	}
	return out
}

func variables(r Row) []string {
	var out []string
	for _, name := range r.Env {
		out = append(out, "`"+name+"`")
		if r.Secret {
			out = append(out, "`"+name+"_FILE`")
		}
	}
	return out
}

func reload(r Row) string {
	if r.Dynamic {
		return "dynamic"
	}
	return "static"
}

func description(r Row) string {
	text := strings.ReplaceAll(r.Doc, "|", `\|`) + " (" + r.Type
	if r.min != "" {
		text += ", at least " + r.min
	}
	if r.max != "" {
		text += ", at most " + r.max
	}
	if r.Secret {
		text += "; `" + r.Key + "_file` names a file with it"
	}
	return text + ")"
}

// Take copies some settings of one table to another of its type, both given as pointers. Each
// of only is the key of a setting or of a table. It returns those that are neither.
func Take(to, from any, only []string) (unknown []string) {
	source := map[string]reflect.Value{}
	walk(reflect.ValueOf(from).Elem(), "", func(key string, _ bool, value reflect.Value) { source[key] = value })
	used := map[string]bool{}
	walk(reflect.ValueOf(to).Elem(), "", func(key string, _ bool, value reflect.Value) {
		for _, name := range only {
			if key == name || strings.HasPrefix(key, name+".") {
				used[name] = true
				value.Set(source[key])
			}
		}
	})
	for _, name := range only {
		if !used[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}
