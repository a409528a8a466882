package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varanhq/varan/fleet"
)

// field is one row of the table that struct tags make.
type field struct {
	key      string
	aliases  []string // further spellings
	old      []string // spellings of older versions
	doc      string
	fallback string // the default as the tag writes it
	enum     []string
	form     string
	later    bool
	moot     string
	hoist    bool
	short    bool
	index    []int
	typ      reflect.Type
	// sub are the fields of a table, or of the tables of a list; nil for anything else.
	sub *fieldSet
}

// fieldSet is the fields of one struct, and the struct with all defaults in place.
type fieldSet struct {
	fields []*field
	byKey  map[string]*field
	keys   []string // the spellings to offer as hints
	// retired are keys of older versions, and why they mean nothing.
	retired  map[string]string
	short    *field
	pos      []int // where the table's position goes; nil for nowhere
	defaults reflect.Value
}

// fieldsOf reads the struct tags of T. A tag that makes no sense is a programmer's
// error and panics when the package starts.
func fieldsOf[T any]() *fieldSet { return fieldsOfType(reflect.TypeFor[T]()) }

func fieldsOfType(t reflect.Type) *fieldSet {
	set := &fieldSet{
		byKey: map[string]*field{}, retired: map[string]string{}, defaults: reflect.New(t).Elem(),
	}
	set.read(t, nil)
	return set
}

// read adds the fields of t, which is found at the index in the whole struct.
func (set *fieldSet) read(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		switch {
		case sf.Name == "_":
			for _, key := range words(sf.Tag.Get("retired")) {
				set.retired[key] = sf.Tag.Get("doc")
			}
		case sf.Anonymous && sf.IsExported():
			set.read(sf.Type, at)
		case sf.Type == positionType && sf.Name == "Pos":
			set.pos = at
		case sf.Tag.Get("key") != "":
			set.add(newField(sf, at))
		}
	}
}

func newField(sf reflect.StructField, index []int) *field {
	tag := sf.Tag
	return &field{
		key: tag.Get("key"), aliases: words(tag.Get("alias")), old: words(tag.Get("old")), doc: tag.Get("doc"),
		fallback: tag.Get("default"), enum: words(tag.Get("enum")), form: tag.Get("form"),
		later: tag.Get("later") == "true", moot: tag.Get("moot"), hoist: tag.Get("hoist") == "true",
		short: tag.Get("short") == "true", index: index, typ: sf.Type, sub: subFields(sf.Type),
	}
}

func words(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// subFields are the fields of the tables that a field of type t holds. Types that are
// written in a form of their own have none here.
func subFields(t reflect.Type) *fieldSet {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == secretType || reflect.PointerTo(t).Implements(ownForm) {
		return nil
	}
	return fieldsOfType(t)
}

func (set *fieldSet) add(f *field) {
	if f.fallback != "" {
		setDefault(set.defaults.FieldByIndex(f.index), f.fallback)
	}
	if f.short {
		set.short = f
	}
	set.fields = append(set.fields, f)
	set.keys = append(append(set.keys, f.key), f.aliases...)
	for _, key := range f.spellings() {
		set.byKey[key] = f
	}
}

// spellings are all keys that mean the field.
func (f *field) spellings() []string {
	return slices.Concat([]string{f.key}, f.aliases, f.old)
}

// only is the set with no more than the fields named.
func (set *fieldSet) only(keys ...string) *fieldSet {
	out := &fieldSet{
		byKey: map[string]*field{}, retired: set.retired, pos: set.pos, defaults: reflect.New(set.defaults.Type()).Elem(),
	}
	for _, key := range keys {
		out.add(set.byKey[key])
	}
	return out
}

func setDefault(v reflect.Value, text string) {
	var err error
	switch {
	case v.Type() == durationType:
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case v.Kind() == reflect.Int:
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		v.SetInt(n)
	case v.Kind() == reflect.Float64:
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

var (
	secretType      = reflect.TypeFor[fleet.Secret]()
	positionType    = reflect.TypeFor[fleet.Position]()
	durationType    = reflect.TypeFor[time.Duration]()
	stringsType     = reflect.TypeFor[[]string]()
	envType         = reflect.TypeFor[[]EnvVar]()
	pairsType       = reflect.TypeFor[[]Pair]()
	permissionsType = reflect.TypeFor[[]TypePermission]()
	registriesType  = reflect.TypeFor[[]ImageRegistry]()
)
