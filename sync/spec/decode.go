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

// ownForm is implemented by what is written in a form of its own.
var ownForm = reflect.TypeFor[formed]()

// formed decodes itself.
type formed interface {
	decode(d decoder, v value, name string)
}

// into decodes v into dst, a field of the given row. It reports faults itself; where
// it does, dst keeps its default. items are the offsets of a list's entries.
func (d decoder) into(dst reflect.Value, f *field, v value, name string) (items []int) {
	switch f.typ {
	case secretType:
		if s, ok := d.text(v, name); ok {
			dst.Set(reflect.ValueOf(fleet.NewSecret(s)))
		}
		return nil
	case stringsType:
		var list []string
		list, items = d.strings(v, name)
		dst.Set(reflect.ValueOf(list))
		return items
	case envType:
		dst.Set(reflect.ValueOf(d.environment(v, f, name)))
		return nil
	case pairsType:
		dst.Set(reflect.ValueOf(d.pairs(v, name)))
		return nil
	case permissionsType:
		dst.Set(reflect.ValueOf(d.typePermissions(v, name)))
		return nil
	case registriesType:
		v = registryList(v)
	}
	switch {
	case f.typ.Kind() == reflect.Slice:
		d.list(dst, f, v, name)
	case f.typ.Kind() == reflect.Struct:
		d.item(dst, f.sub, v, name)
	default:
		d.scalar(dst, f, v, name)
	}
	return nil
}

// item decodes a table, or a type with a form of its own.
func (d decoder) item(dst reflect.Value, set *fieldSet, v value, name string) {
	switch {
	case set == nil:
		dst.Addr().Interface().(formed).decode(d, v, name)
	case v.table != nil:
		dst.Set(set.defaults)
		d.table(dst, v.table, name, set)
	case v.kind == kindString && set.short != nil:
		dst.Set(set.defaults)
		d.into(dst.FieldByIndex(set.short.index), set.short, v, name)
	default:
		d.wrongType(v, name, "a table", "")
	}
}

// list decodes a list of tables. Where a string stands for a table, one string with
// an entry a line stands for a list of such strings.
func (d decoder) list(dst reflect.Value, f *field, v value, name string) {
	if v.kind == kindString && f.sub != nil && f.sub.short != nil {
		v = d.listOfText(v, name)
	}
	if v.kind != kindArray {
		d.wrongType(v, name, "a list", "")
		return
	}
	out := reflect.MakeSlice(f.typ, len(v.list), len(v.list))
	kept := 0
	for i, entry := range v.list {
		item := out.Index(kept)
		item.SetZero() // what stood there was not kept
		before := d.found()
		d.item(item, f.sub, entry, name+"["+strconv.Itoa(i)+"]")
		if d.found() == before || entry.table != nil {
			kept++
		}
	}
	if kept > 0 {
		dst.Set(out.Slice(0, kept))
	}
}

// listOfText is the entries of one string as a list.
func (d decoder) listOfText(v value, name string) value {
	texts, offsets := d.strings(v, name)
	out := value{kind: kindArray, at: v.at}
	for i, text := range texts {
		out.list = append(out.list, value{kind: kindString, at: offsets[i], text: text, body: -1})
	}
	return out
}

func (d decoder) scalar(dst reflect.Value, f *field, v value, name string) {
	if f.typ == durationType {
		d.duration(dst, v, name)
		return
	}
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
	if f.form == "version" && v.table != nil {
		d.version(dst, v.table, name)
		return
	}
	if f.form == "share" && v.kind == kindInteger {
		dst.SetString(strings.ReplaceAll(v.text, "_", ""))
		return
	}
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
	if f.form == "file" && strings.TrimSpace(s) != "" {
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

// table decodes the keys of a table that is part of a field.
func (d decoder) table(dst reflect.Value, t *table, name string, set *fieldSet) {
	if set.pos != nil {
		dst.FieldByIndex(set.pos).Set(reflect.ValueOf(d.position(t.at)))
	}
	d.keys(dst, t.entries, name, set)
}

func (d decoder) keys(dst reflect.Value, entries []entry, name string, set *fieldSet) {
	seen := make(map[*field]int, len(entries))
	for _, e := range entries {
		f, ok := set.byKey[e.key]
		if !ok {
			if why, ok := set.retired[e.key]; ok {
				d.retiredKey(e, why)
				continue
			}
			d.unknownKey(e, name, set.keys)
			continue
		}
		if first, again := seen[f]; again {
			d.fail(e.at, "duplicate-field", "keep one of them", "%s and %s are the same key, first on line %d",
				quoted(e.key), quoted(f.key), d.position(first).Line)
			continue
		}
		seen[f] = e.at
		d.oldSpelling(e, f)
		d.into(dst.FieldByIndex(f.index), f, e.value, name+"."+f.key)
	}
}

// oldSpelling notes a key that older versions wrote so.
func (d decoder) oldSpelling(e entry, f *field) {
	if len(f.old) > 0 && slices.Contains(f.old, e.key) {
		d.note(e.at, "old-spelling", "write "+quoted(f.key), "%s is an older spelling of %s", quoted(e.key), quoted(f.key))
	}
}

// retiredKey notes a key that older versions had.
func (d decoder) retiredKey(e entry, why string) {
	d.note(e.at, "old-key", "remove it", "%s means nothing now: %s", quoted(e.key), why)
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
	d.failUnknown(e.at, "unknown-key", func() string { return didYouMeanKey(e.key, known) },
		"unknown key %s in %s", quoted(e.key), where)
}

// strings decodes a list of strings: an array, or one string with items separated by
// lines and commas, with comments.
func (d decoder) strings(v value, name string) (list []string, items []int) {
	switch v.kind {
	case kindArray:
		list, items = slices.Grow(list, len(v.list)), slices.Grow(items, len(v.list))
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
