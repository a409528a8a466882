package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// field is one row of the table that struct tags make.
type field struct {
	key, alias string
	doc        string
	fallback   string // the default as the tag writes it
	enum       []string
	file       bool
	later      bool
	hoist      bool
	index      int
	typ        reflect.Type
}

// fieldSet is the fields of one struct, and the struct with all defaults in place.
type fieldSet struct {
	fields   []field
	byKey    map[string]*field
	keys     []string // every accepted spelling
	defaults reflect.Value
}

// fieldsOf reads the struct tags of T. A tag that makes no sense is a programmer's
// error and panics when the package starts.
func fieldsOf[T any]() *fieldSet { return fieldsOfType(reflect.TypeFor[T]()) }

func fieldsOfType(t reflect.Type) *fieldSet {
	set := &fieldSet{byKey: map[string]*field{}, defaults: reflect.New(t).Elem()}
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if tag.Get("key") == "" {
			continue
		}
		f := field{
			key: tag.Get("key"), alias: tag.Get("alias"), doc: tag.Get("doc"), fallback: tag.Get("default"),
			file: tag.Get("form") == "file", later: tag.Get("later") == "true", hoist: tag.Get("hoist") == "true",
			index: i, typ: t.Field(i).Type,
		}
		if words := tag.Get("enum"); words != "" {
			f.enum = strings.Split(words, ",")
		}
		if f.fallback != "" {
			setDefault(set.defaults.Field(i), f.fallback)
		}
		set.fields = append(set.fields, f)
	}
	for i := range set.fields {
		f := &set.fields[i]
		for _, key := range []string{f.key, f.alias} {
			if key != "" {
				set.byKey[key] = f
				set.keys = append(set.keys, key)
			}
		}
	}
	return set
}

func setDefault(v reflect.Value, text string) {
	var err error
	switch v.Kind() { //nolint:exhaustive // only these have defaults
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case reflect.Float64:
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.SetFloat(f)
	default:
		err = fmt.Errorf("no defaults for %s", v.Type())
	}
	if err != nil {
		panic(fmt.Sprintf("default %q: %v", text, err))
	}
}

// schema is one resource type: the fields beside config, and those inside.
type schema struct {
	name   string
	top    *fieldSet
	config *fieldSet // nil for a flat type
	naming naming
}

// The tables of the four types that are typed. They are read-only.
var (
	serverSchema   = schema{"server", fieldsOf[Server](), fieldsOf[ServerConfig](), freeName}
	stackSchema    = schema{"stack", fieldsOf[Stack](), fieldsOf[StackConfig](), projectName}
	variableSchema = schema{"variable", fieldsOf[Variable](), nil, freeName}
	syncSchema     = schema{"resource_sync", fieldsOf[ResourceSync](), fieldsOf[ResourceSyncConfig](), freeName}

	envFileFields    = fieldsOf[EnvFile]()
	configFileFields = fieldsOf[ConfigFile]()
	commandFields    = fieldsOf[SystemCommand]()
	windowFields     = fieldsOf[MaintenanceWindow]()
)

// otherTypes are the types that are accepted and not acted on yet.
var otherTypes = []string{
	"action", "alerter", "build", "builder", "deployment", "procedure", "repo", "swarm", "user_group",
}

// typeOf returns the singular of a top-level key: "stacks" and "stack" are "stack".
func typeOf(key string) (name string, ok bool) {
	for _, name := range typeNames() {
		if key == name || key == name+"s" {
			return name, true
		}
	}
	return "", false
}

func typeNames() []string {
	return append([]string{"server", "stack", "variable", "resource_sync"}, otherTypes...)
}

// place says where a key of a resource belongs.
type place struct {
	field  *field
	config bool
}

// name is the field's name in messages and marks.
func (p place) name() string {
	if p.config {
		return "config." + p.field.key
	}
	return p.field.key
}

// find looks a key up. A config field may be written beside config, and a hoisted
// field inside it.
func (s schema) find(key string, inConfig bool) (place, bool) {
	if f, ok := s.top.byKey[key]; ok && (!inConfig || f.hoist) {
		return place{field: f}, true
	}
	if s.config != nil {
		if f, ok := s.config.byKey[key]; ok {
			return place{field: f, config: true}, true
		}
	}
	return place{}, false
}

// keys are all spellings accepted at a place, for hints.
func (s schema) keys(inConfig bool) []string {
	var keys []string
	if !inConfig {
		keys = slices.Clone(s.top.keys)
	}
	if s.config == nil {
		return keys
	}
	for _, f := range s.top.fields {
		if inConfig && f.hoist {
			keys = append(keys, f.key)
		}
	}
	if !inConfig {
		keys = append(keys, "config")
	}
	return append(keys, s.config.keys...)
}

var (
	secretType  = reflect.TypeFor[fleet.Secret]()
	stringsType = reflect.TypeFor[[]string]()
	envType     = reflect.TypeFor[[]EnvVar]()
	envFileType = reflect.TypeFor[[]EnvFile]()
	configType  = reflect.TypeFor[[]ConfigFile]()
	commandType = reflect.TypeFor[SystemCommand]()
	windowsType = reflect.TypeFor[[]MaintenanceWindow]()
)
