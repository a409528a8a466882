package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/varanhq/varan/fleet"
)

// fromText sets a value that is no list from text. The error never holds a secret.
func (r *Row) fromText(v reflect.Value, text string) error {
	if v.Type() == secretType {
		v.Set(reflect.ValueOf(fleet.NewSecret(text)))
		return nil
	}
	if v.Type() == durationType {
		d, err := duration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration", text)
		}
		v.SetInt(int64(d))
		return r.bounds(v)
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return nil
	}
	switch v.Kind() { //nolint:exhaustive // Rows has no others
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", text)
		}
		v.SetInt(n)
		return r.bounds(v)
	default:
		return r.setWord(v, text)
	}
	return nil
}

func (r *Row) setWord(v reflect.Value, text string) error {
	if len(r.Enum) == 0 {
		v.SetString(text)
		return nil
	}
	word := strings.ToLower(text)
	if !slices.Contains(r.Enum, word) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(r.Enum, ", "))
	}
	v.SetString(word)
	return nil
}

// duration is like time.ParseDuration, with whole days too.
func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36_500 {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(text)
}

func (r *Row) bounds(v reflect.Value) error {
	limit := func(text string) int64 {
		if v.Type() == durationType {
			d, _ := duration(text)
			return int64(d)
		}
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	switch {
	case r.min != "" && v.Int() < limit(r.min):
		return fmt.Errorf("%s is less than %s", render(v), r.min)
	case r.max != "" && v.Int() > limit(r.max):
		return fmt.Errorf("%s is more than %s", render(v), r.max)
	}
	return nil
}

// fromTexts sets a value from what a variable or flags hold.
func (r *Row) fromTexts(v reflect.Value, texts []string) error {
	if v.Kind() != reflect.Slice {
		return r.fromText(v, texts[len(texts)-1])
	}
	out := reflect.MakeSlice(v.Type(), 0, len(texts))
	for _, text := range texts {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := r.fromText(item, text); err != nil {
			return err
		}
		out = reflect.Append(out, item)
	}
	v.Set(out)
	return nil
}

// fromNode sets a value from the file.
func (r *Row) fromNode(v reflect.Value, n *node) (fleet.Position, error) {
	switch v.Kind() { //nolint:exhaustive // the others are scalars
	case reflect.Slice:
		return r.listFrom(v, n)
	case reflect.Map:
		return r.mapFrom(v, n)
	}
	want, name := unstable.String, "text in quotes"
	switch {
	case v.Type() == durationType:
		name = `a duration in quotes, like "30s"`
	case v.Kind() == reflect.Bool:
		want, name = unstable.Bool, "true or false"
	case v.Kind() == reflect.Int || v.Kind() == reflect.Int64:
		want, name = unstable.Integer, "a whole number"
	}
	if n.kind != want {
		return n.pos, fmt.Errorf("it is %s, not %s", n.words(), name)
	}
	return n.pos, r.fromText(v, n.text)
}

func (r *Row) listFrom(v reflect.Value, n *node) (fleet.Position, error) {
	if r.single && n.kind == unstable.String {
		return n.pos, r.fromTexts(v, []string{n.text})
	}
	if n.kind != unstable.Array {
		return n.pos, fmt.Errorf("it is %s, not a list", n.words())
	}
	out := reflect.MakeSlice(v.Type(), 0, len(n.list))
	for _, child := range n.list {
		item := reflect.New(v.Type().Elem()).Elem()
		if pos, err := r.fromNode(item, child); err != nil {
			return pos, err
		}
		out = reflect.Append(out, item)
	}
	v.Set(out)
	return n.pos, nil
}

func (r *Row) mapFrom(v reflect.Value, n *node) (fleet.Position, error) {
	if n.table == nil {
		return n.pos, fmt.Errorf("it is %s, not a table", n.words())
	}
	out := reflect.MakeMap(v.Type())
	for _, key := range n.keys {
		item := reflect.New(v.Type().Elem()).Elem()
		if pos, err := r.fromNode(item, n.table[key]); err != nil {
			return pos, err
		}
		out.SetMapIndex(reflect.ValueOf(key), item)
	}
	v.Set(out)
	return n.pos, nil
}

// render is a value as it is shown, in TOML. Secrets are three stars.
func render(v reflect.Value) string {
	if v.Type() == secretType {
		if v.Interface().(fleet.Secret).IsEmpty() { //nolint:forcetypeassert // its type was compared
			return `""`
		}
		return `"***"`
	}
	if v.Type() == durationType {
		return strconv.Quote(Short(time.Duration(v.Int())))
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		text, _ := m.MarshalText()
		return quote(string(text))
	}
	switch v.Kind() { //nolint:exhaustive // the rest is text
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = render(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		for _, key := range v.MapKeys() {
			items = append(items, quote(key.String())+" = "+render(v.MapIndex(key)))
		}
		slices.Sort(items)
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Struct:
		var items []string
		for i := range v.NumField() {
			if key, ok := v.Type().Field(i).Tag.Lookup("key"); ok && !v.Field(i).IsZero() {
				items = append(items, key+" = "+render(v.Field(i)))
			}
		}
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	return quote(v.String())
}

// quote is text in TOML, whose escapes are not quite those of Go.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Short is a duration without the parts that are zero.
func Short(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
