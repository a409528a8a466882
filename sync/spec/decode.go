package spec

import (
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// decoder turns values into Go fields and says what is wrong with them.
type decoder struct {
	*report
}

// into decodes v into dst, a field of the given row. It reports faults itself; where
// it does, dst keeps its default. items are the offsets of a list's entries.
func (d decoder) into(dst reflect.Value, f *field, v value, name string) (items []int) {
	switch f.typ {
	case secretType:
		if s, ok := d.text(v, name); ok {
			dst.Set(reflect.ValueOf(fleet.NewSecret(s)))
		}
	case stringsType:
		var list []string
		list, items = d.strings(v, name)
		dst.Set(reflect.ValueOf(list))
	case envType:
		dst.Set(reflect.ValueOf(d.environment(v, name)))
	case envFileType:
		dst.Set(reflect.ValueOf(entries[EnvFile](d, v, name, envFileFields)))
	case configType:
		dst.Set(reflect.ValueOf(entries[ConfigFile](d, v, name, configFileFields)))
	case windowsType:
		dst.Set(reflect.ValueOf(entries[MaintenanceWindow](d, v, name, windowFields)))
	case commandType:
		if v.table == nil {
			d.wrongType(v, name, "a table with path and command", "")
			return nil
		}
		d.table(dst, v.table, name, commandFields)
	default:
		d.scalar(dst, f, v, name)
	}
	return items
}

func (d decoder) scalar(dst reflect.Value, f *field, v value, name string) {
	switch dst.Kind() { //nolint:exhaustive // the declarations hold no other scalars
	case reflect.String:
		d.word(dst, f, v, name)
	case reflect.Bool:
		if v.kind != kindBool {
			hint := ""
			if v.kind == kindString && (v.text == "true" || v.text == "false") {
				hint = "remove the quotes"
			}
			d.wrongType(v, name, "a boolean", hint)
			return
		}
		dst.SetBool(v.text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 32)
		switch {
		case v.kind != kindInteger:
			d.wrongType(v, name, "an integer", "")
		case err != nil || n < 0:
			d.fail(v.at, "type", "", "%s must be an integer from 0 to %d", quoted(name), math.MaxInt32)
		default:
			dst.SetInt(n)
		}
	case reflect.Float64:
		n, err := strconv.ParseFloat(strings.ReplaceAll(v.text, "_", ""), 64)
		switch {
		case v.kind != kindInteger && v.kind != kindFloat:
			d.wrongType(v, name, "a number", "")
		case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
			d.fail(v.at, "type", "", "%s must be a finite number", quoted(name))
		default:
			dst.SetFloat(n)
		}
	}
}

// word decodes a string, one of a few words where the row says so.
func (d decoder) word(dst reflect.Value, f *field, v value, name string) {
	s, ok := d.text(v, name)
	if !ok {
		return
	}
	if f.enum != nil && !slices.Contains(f.enum, s) {
		hint := didYouMean(s, f.enum)
		if hint == "" {
			hint = "use one of " + strings.Join(f.enum, ", ")
		}
		d.fail(v.at, "invalid-value", hint, "%s cannot be %s", quoted(name), quoted(s))
		return
	}
	if f.file && strings.TrimSpace(s) != "" {
		s = strings.TrimRight(s, "\n") + "\n"
	}
	dst.SetString(s)
}

// text decodes a string. Line ends become LF.
func (d decoder) text(v value, name string) (s string, ok bool) {
	if v.kind != kindString {
		d.wrongType(v, name, "a string", "")
		return "", false
	}
	if !d.checkText(v, quoted(name)) {
		return "", false
	}
	return strings.ReplaceAll(v.text, "\r\n", "\n"), true
}

func (d decoder) wrongType(v value, name, want, hint string) {
	d.fail(v.at, "type", hint, "%s must be %s, not %s", quoted(name), want, v.kind)
}

// table decodes the keys of a small table that is part of a field.
func (d decoder) table(dst reflect.Value, t *table, name string, set *fieldSet) {
	seen := make(map[*field]int, len(t.entries))
	for _, e := range t.entries {
		f, ok := set.byKey[e.key]
		if !ok {
			d.unknownKey(e, name, set.keys)
			continue
		}
		if first, again := seen[f]; again {
			d.fail(e.at, "duplicate-field", "keep one of them", "%s and %s are the same key, first on line %d",
				quoted(e.key), quoted(f.key), d.position(first).Line)
			continue
		}
		seen[f] = e.at
		d.into(dst.Field(f.index), f, e.value, name+"."+f.key)
	}
}

// unknownKey reports a key that means nothing at its place.
func (d decoder) unknownKey(e entry, where string, known []string) {
	for _, k := range known {
		if strings.EqualFold(k, e.key) {
			d.failUnknown(e.at, "key-case", func() string { return "write " + quoted(k) },
				"keys are lower case: %s in %s", quoted(e.key), where)
			return
		}
	}
	d.failUnknown(e.at, "unknown-key", func() string { return didYouMean(e.key, known) },
		"unknown key %s in %s", quoted(e.key), where)
}

// entries decodes a list whose items are tables, or strings that stand for their path.
// One string with a path a line stands for a list of such strings.
func entries[T any](d decoder, v value, name string, set *fieldSet) []T {
	pathField := set.byKey["path"]
	var out []T
	add := func(fill func(dst reflect.Value)) {
		dst := reflect.New(set.defaults.Type()).Elem()
		dst.Set(set.defaults)
		fill(dst)
		out = append(out, dst.Interface().(T))
	}
	if v.kind == kindString && pathField != nil {
		paths, _ := d.strings(v, name)
		for _, p := range paths {
			add(func(dst reflect.Value) { dst.Field(pathField.index).SetString(p) })
		}
		return out
	}
	if v.kind != kindArray {
		d.wrongType(v, name, "a list", "")
		return nil
	}
	for i, item := range v.list {
		itemName := name + "[" + strconv.Itoa(i) + "]"
		switch {
		case item.table != nil:
			add(func(dst reflect.Value) { d.table(dst, item.table, itemName, set) })
		case item.kind == kindString && pathField != nil:
			if s, ok := d.text(item, itemName); ok {
				add(func(dst reflect.Value) { dst.Field(pathField.index).SetString(s) })
			}
		default:
			d.wrongType(item, itemName, "a table", "")
		}
	}
	return out
}

// strings decodes a list of strings: an array, or one string with items separated by
// lines and commas, with comments.
func (d decoder) strings(v value, name string) (list []string, items []int) {
	switch v.kind {
	case kindArray:
		for i, item := range v.list {
			if s, ok := d.text(item, name+"["+strconv.Itoa(i)+"]"); ok {
				list, items = append(list, s), append(items, item.at)
			}
		}
	case kindString:
		if _, ok := d.text(v, name); !ok {
			return nil, nil
		}
		for line := range splitLines(v.text) {
			line.text = cutComment(line.text)
			for part := range line.split(',') {
				list, items = append(list, part.text), append(items, v.place(part.offset))
			}
		}
	default:
		d.wrongType(v, name, "a list of strings", "")
	}
	return list, items
}

// place is the offset in the source of an offset in the text of a string.
func (v value) place(offset int) int {
	if v.body < 0 {
		return v.at
	}
	return v.body + offset
}
