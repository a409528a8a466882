package render

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/spec"
)

// longField is the longest value that a record keeps as it is; of longer ones it keeps a
// digest.
const longField = 1 << 10

// records makes the records of everything that is declared. It knows no resource type by
// name: what the tags in sync/spec describe is what is compared.
//
// known are the records of the last time, by what they were made from. It returns those of
// this time.
func records(decls spec.Declarations, key []byte, known map[any]fleet.Resource) ([]fleet.Resource, map[any]fleet.Resource) {
	r := recorder{key: key, known: known, kept: make(map[any]fleet.Resource, len(known))}
	r.lists(reflect.ValueOf(decls))
	slices.SortStableFunc(r.out, func(a, b fleet.Resource) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return r.out, r.kept
}

// recorder collects records.
type recorder struct {
	key         []byte
	out         []fleet.Resource
	known, kept map[any]fleet.Resource
	// at finds positions in the resource being recorded.
	at func(field string) fleet.Position
	// shown is set when the resource's secrets are none.
	shown  bool
	fields []fleet.Field
}

// lists records the resources in each list of a struct.
func (r *recorder) lists(all reflect.Value) {
	for i := range all.NumField() {
		list := all.Field(i)
		switch {
		case all.Type().Field(i).Anonymous && list.Kind() == reflect.Struct:
			r.lists(list)
		case list.Kind() == reflect.Slice && list.Type().Elem().Kind() == reflect.Struct:
			kind := snakeCase(list.Type().Elem().Name())
			for k := range list.Len() {
				r.resource(kind, list.Index(k))
			}
		}
	}
}

func (r *recorder) resource(kind string, v reflect.Value) {
	name := v.FieldByName("Name")
	placed, ok := reflect.TypeAssert[interface {
		At(field string) fleet.Position
		Parse() any
	}](v.Addr())
	if !ok || name.Kind() != reflect.String || name.String() == "" {
		return
	}
	if known, ok := r.known[placed.Parse()]; ok {
		r.out, r.kept[placed.Parse()] = append(r.out, known), known
		return
	}
	r.at, r.fields = placed.At, nil
	variable, isVariable := placed.(*spec.Variable)
	r.shown = isVariable && !variable.IsSecret
	r.table("", v)
	slices.SortStableFunc(r.fields, func(a, b fleet.Field) int { return cmp.Compare(a.Path, b.Path) })
	made := fleet.Resource{Kind: kind, Name: name.String(), Fields: r.fields, Origin: placed.At("")}
	r.out = append(r.out, made)
	if parse := placed.Parse(); parse != nil {
		r.kept[parse] = made
	}
}

// keyedField is a field of a declaration with its TOML key; without one it is a struct whose
// fields are those of the one around it.
type keyedField struct {
	index         int
	key, fallback string
}

// layouts keeps what reflection found, by type: fleets have thousands of the same.
var layouts sync.Map

func layoutOf(t reflect.Type) []keyedField {
	if known, ok := layouts.Load(t); ok {
		return known.([]keyedField) //nolint:forcetypeassert // nothing else is stored
	}
	var list []keyedField
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("key")
		switch {
		case f.Anonymous && f.IsExported() && f.Type.Kind() == reflect.Struct:
		case !f.IsExported() || key == "name":
			continue
		case key == "" && f.Type.Kind() == reflect.Struct && f.Name == "Config":
			key = "config"
		case key == "":
			continue
		}
		list = append(list, keyedField{index: i, key: key, fallback: f.Tag.Get("default")})
	}
	layouts.Store(t, list)
	return list
}

// table records the fields of a struct that are not at their default.
func (r *recorder) table(prefix string, v reflect.Value) {
	for _, f := range layoutOf(v.Type()) {
		if f.key == "" {
			r.table(prefix, v.Field(f.index))
			continue
		}
		r.value(prefix+f.key, v.Field(f.index), f.fallback)
	}
}

func (r *recorder) value(path string, v reflect.Value, fallback string) {
	if secret, ok := reflect.TypeAssert[fleet.Secret](v); ok {
		r.secret(path, secret)
		return
	}
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		if known, err := time.ParseDuration(cmp.Or(fallback, "0s")); err != nil || d != known {
			r.text(path, d.String(), "")
		}
		return
	}
	if v.IsZero() && (fallback == "" || fallback == "0" || fallback == "false") {
		return
	}
	switch v.Kind() { //nolint:exhaustive // the rest has no place in a resource file
	case reflect.String:
		r.text(path, v.String(), fallback)
	case reflect.Bool:
		r.text(path, strconv.FormatBool(v.Bool()), fallback)
	case reflect.Int, reflect.Int32, reflect.Int64:
		r.text(path, strconv.FormatInt(v.Int(), 10), fallback)
	case reflect.Float32, reflect.Float64:
		r.text(path, strconv.FormatFloat(v.Float(), 'g', -1, 64), fallback)
	case reflect.Struct:
		r.table(path+".", v)
	case reflect.Pointer:
		r.value(path, v.Elem(), "")
	case reflect.Slice:
		r.list(path, v)
	default:
		if raw, err := json.Marshal(v.Interface()); err == nil {
			r.text(path, string(raw), "")
		}
	}
}

func (r *recorder) list(path string, v reflect.Value) {
	switch list := v.Interface().(type) {
	case []string:
		if strings.HasSuffix(path, "tags") {
			list = slices.Sorted(slices.Values(list)) // their order means nothing
		}
		r.text(path, strings.Join(list, ", "), "")
		return
	case []spec.EnvVar:
		for _, e := range list {
			r.add(fleet.Field{Path: path + "." + e.Name, Value: shortened(e.Value), Origin: e.Pos})
		}
		return
	}
	for i := range v.Len() {
		r.value(fmt.Sprintf("%s[%d]", path, i), v.Index(i), "")
	}
}

func (r *recorder) text(path, text, fallback string) {
	if text != fallback {
		r.add(fleet.Field{Path: path, Value: shortened(text), Origin: r.at(path)})
	}
}

func (r *recorder) secret(path string, secret fleet.Secret) {
	switch {
	case secret.IsEmpty():
	case r.shown:
		r.text(path, secret.Reveal(), "")
	default:
		mac := hmac.New(sha256.New, r.key)
		_, _ = mac.Write([]byte("record\x00" + path + "\x00" + secret.Reveal()))
		r.add(fleet.Field{Path: path, Keyed: "hmac:" + hex.EncodeToString(mac.Sum(nil)[:20]), Origin: r.at(path)})
	}
}

func (r *recorder) add(f fleet.Field) { r.fields = append(r.fields, f) }

func shortened(text string) string {
	if len(text) <= longField {
		return text
	}
	return string(fleet.SumDigest([]byte(text)))
}

// snakeCase is "resource_sync" for "ResourceSync".
func snakeCase(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
