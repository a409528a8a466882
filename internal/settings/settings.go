// Package settings reads what a process is told: by flags, the environment, a TOML file and
// defaults, in this order. A struct with tags is the one table of the settings of a process;
// flags, the file's grammar, the reload and the reference page all come from it:
//
//	key       name in the file; a struct with a key is a table of the file
//	alias     other names in the file, separated by commas
//	flag      name of the flag; none if empty. fileflag names a file with a secret's value
//	env       variables, the first that is set counts. NAME_FILE works for a secret
//	default   as text, like in the environment
//	reload    "dynamic" may change while the process runs, "static" needs a restart
//	enum      the words that are allowed; case does not count
//	min, max  bounds of numbers and durations
//	split     "path" for lists that the environment separates as PATH does, not by commas
//	single    "text": a list of one may be written as the text alone
//	optional  "file": a secret's file need not exist
//	doc       one sentence
//
// A slice of structs is a list of tables, a map of structs has tables with names. Both are
// written in the file alone.
package settings

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// Row is one setting.
type Row struct {
	Key     string
	Aliases []string
	Flag    string
	// FileFlag names a file that holds the value of a secret.
	FileFlag string
	Env      []string
	// Type is the kind of value in words.
	Type    string
	Default string
	Doc     string
	Enum    []string
	// Dynamic settings may change while the process runs. Tagged says that the table says
	// whether they may.
	Dynamic, Tagged bool
	// Secret values are not shown.
	Secret bool
	// Boolean flags need no value; Repeated ones add to a list.
	Boolean, Repeated bool
	// FileOnly rows are those of lists of tables and of tables with names.
	FileOnly bool

	index    []int
	typ      reflect.Type
	min, max string
	split    string
	optional bool
	single   bool
}

// Rows lists the settings of the struct that table is, or points to, in the order of its
// fields.
func Rows(table any) []Row {
	t := reflect.TypeOf(table)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return rows(t, "", nil, false)
}

func rows(t reflect.Type, prefix string, index []int, fileOnly bool) []Row {
	var out []Row
	for i := range t.NumField() {
		field := t.Field(i)
		key, ok := field.Tag.Lookup("key")
		if !ok {
			continue
		}
		at := slices.Concat(index, []int{i})
		key = prefix + key
		switch inner, form := tables(field.Type); form {
		case oneTable:
			out = append(out, rows(inner, key+".", at, fileOnly)...)
		case listOfTables:
			out = append(out, rows(inner, key+"[].", nil, true)...)
		case namedTables:
			out = append(out, rows(inner, key+".NAME.", nil, true)...)
		case noTable:
			out = append(out, row(field, key, at, fileOnly))
		}
	}
	return out
}

func row(field reflect.StructField, key string, index []int, fileOnly bool) Row {
	tag := field.Tag
	r := Row{
		Key: key, Aliases: list(tag.Get("alias")), Flag: tag.Get("flag"), FileFlag: tag.Get("fileflag"), Env: list(tag.Get("env")),
		Type: typeName(field.Type), Default: tag.Get("default"), Doc: tag.Get("doc"), Enum: list(tag.Get("enum")),
		Dynamic: tag.Get("reload") == "dynamic", Secret: field.Type == secretType, Boolean: field.Type.Kind() == reflect.Bool,
		Repeated: field.Type.Kind() == reflect.Slice, FileOnly: fileOnly,
		index: index, typ: field.Type, min: tag.Get("min"), max: tag.Get("max"), split: tag.Get("split"), optional: tag.Get("optional") == "file",
		single: tag.Get("single") == "text",
	}
	r.Tagged = r.Dynamic || tag.Get("reload") == "static"
	if len(r.Enum) > 0 {
		r.Type = strings.Join(r.Enum, ", ")
	}
	return r
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

var (
	secretType   = reflect.TypeFor[fleet.Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// form says which tables of the file a field stands for.
type form uint8

const (
	noTable form = iota
	oneTable
	listOfTables
	namedTables
)

func tables(t reflect.Type) (inner reflect.Type, f form) {
	switch {
	case isTable(t):
		return t, oneTable
	case t.Kind() == reflect.Slice && isTable(t.Elem()):
		return t.Elem(), listOfTables
	case t.Kind() == reflect.Map && isTable(t.Elem()):
		return t.Elem(), namedTables
	}
	return nil, noTable
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != secretType && !reflect.PointerTo(t).Implements(textType)
}

func typeName(t reflect.Type) string {
	switch {
	case t == secretType:
		return "secret"
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem())
	case t.Kind() == reflect.Map:
		return "table of " + typeName(t.Elem())
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "number"
	}
	return "text"
}
