package spec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// union is a value of {type, params}: the type says which fields the params have. The
// params may also be written beside the type.
type union []variant

type variant struct {
	name string
	// old are names of older versions.
	old    []string
	fields *fieldSet
}

func (u union) names() []string {
	names := make([]string, len(u))
	for i, v := range u {
		names[i] = v.name
	}
	return names
}

func (u union) find(name string) *fieldSet {
	for _, v := range u {
		if v.name == name || slices.Contains(v.old, name) {
			return v.fields
		}
	}
	return nil
}

// The unions. They are read-only.
var (
	imageUnion = func() union {
		all := fieldsOf[Image]()
		return union{
			{name: "Image", fields: all.only("image")},
			{name: "Build", fields: all.only("build", "version")},
		}
	}()
	endpointUnion = func() union {
		all := fieldsOf[Endpoint]()
		return union{
			{name: "Custom", fields: all.only("url")},
			{name: "Slack", fields: all.only("url")},
			{name: "Discord", fields: all.only("url")},
			{name: "Ntfy", fields: all.only("url", "email")},
			{name: "Pushover", fields: all.only("url")},
		}
	}()
	builderUnion = func() union {
		all := fieldsOf[BuilderConfig]()
		return union{
			{name: "Url", fields: all.only("address", "periphery_public_key", "insecure_tls", "passkey")},
			{name: "Server", fields: all.only("servers")},
			{name: "Aws", fields: all.only("region", "instance_type", "volume_gb", "ami_id", "subnet_id", "key_pair_name",
				"assign_public_ip", "use_public_ip", "security_group_ids", "user_data", "port", "use_https",
				"periphery_public_key", "insecure_tls", "git_providers", "image_registries", "secrets")},
		}
	}()
)

// typed is the parts of a value of {type, params}.
type typed struct {
	at     int
	name   string
	nameAt int
	params []entry
}

// typed takes a value of {type, params} apart. Params beside the type count too.
func (d decoder) typed(v value, name string) (parts typed, ok bool) {
	if v.table == nil {
		d.wrongType(v, name, "a table with type and params", "")
		return typed{}, false
	}
	parts.at = v.table.at
	found := false
	for _, e := range v.table.entries {
		switch {
		case e.key == "type":
			if parts.name, ok = d.text(e.value, name+".type"); !ok {
				return typed{}, false
			}
			parts.nameAt, found = e.value.at, true
		case e.key == "params" && e.value.table != nil:
			parts.params = append(parts.params, e.value.table.entries...)
		case e.key == "params":
			d.wrongType(e.value, name+".params", "a table", "")
			return typed{}, false
		default:
			parts.params = append(parts.params, e)
		}
	}
	if !found {
		d.fail(v.table.at, "missing-type", `add type = "..."`, "%s has no type", quoted(name))
	}
	return parts, found
}

// union decodes a value of {type, params} into dst, a struct with the fields Type and Pos.
func (d decoder) union(dst reflect.Value, u union, v value, name string) {
	parts, ok := d.typed(v, name)
	if !ok {
		return
	}
	set := u.find(parts.name)
	if set == nil {
		d.unknownWord(parts.nameAt, name+".type", parts.name, u.names())
		return
	}
	dst.Set(set.defaults)
	dst.FieldByName("Type").SetString(parts.name)
	dst.FieldByIndex(set.pos).Set(reflect.ValueOf(d.position(parts.at)))
	d.keys(dst, parts.params, name, set)
}

// unknownWord reports a word that is none of those allowed.
func (d decoder) unknownWord(at int, name, word string, allowed []string) {
	hint := didYouMean(word, allowed)
	if hint == "" {
		hint = "use one of " + strings.Join(allowed, ", ")
	}
	d.fail(at, "invalid-value", hint, "%s cannot be %s", quoted(name), quoted(word))
}

func (i *Image) decode(d decoder, v value, name string) {
	if v.kind == kindString { // the short form
		if s, ok := d.text(v, name); ok {
			*i = Image{Type: "Image", Image: s, Pos: d.position(v.at)}
		}
		return
	}
	d.union(reflect.ValueOf(i).Elem(), imageUnion, v, name)
}

func (e *Endpoint) decode(d decoder, v value, name string) {
	d.union(reflect.ValueOf(e).Elem(), endpointUnion, v, name)
}

func (b *BuilderConfig) decode(d decoder, v value, name string) {
	d.union(reflect.ValueOf(b).Elem(), builderUnion, v, name)
}

// registryList is the list that image_registry stands for: one table is a list of one,
// and tables of {type, params} are those of older versions.
func registryList(v value) value {
	if v.table != nil {
		v = value{kind: kindArray, at: v.at, list: []value{v}}
	}
	out := value{kind: v.kind, at: v.at, list: make([]value, 0, len(v.list))}
	for _, item := range v.list {
		if item.table == nil || item.table.find("type") == nil {
			out.list = append(out.list, item)
			continue
		}
		if params := item.table.find("params"); params != nil && params.value.table != nil {
			out.list = append(out.list, params.value)
		}
	}
	return out
}

// version decodes a version that is written as a table of its parts.
func (d decoder) version(dst reflect.Value, t *table, name string) {
	parts := map[string]string{"major": "0", "minor": "0", "patch": "0"}
	for _, e := range t.entries {
		if _, ok := parts[e.key]; !ok {
			d.unknownKey(e, name, []string{"major", "minor", "patch"})
			continue
		}
		if e.value.kind != kindInteger {
			d.wrongType(e.value, name+"."+e.key, "an integer", "")
			return
		}
		parts[e.key] = e.value.text
	}
	dst.SetString(parts["major"] + "." + parts["minor"] + "." + parts["patch"])
}

// timeWords are the units of durations such as 5-min.
var timeWords = map[string]time.Duration{
	"sec": time.Second, "min": time.Minute, "hr": time.Hour, "day": 24 * time.Hour, "wk": 7 * 24 * time.Hour,
}

// duration decodes 90s, 1h30m, and words such as 5-min.
func (d decoder) duration(dst reflect.Value, v value, name string) {
	s, ok := d.text(v, name)
	if !ok {
		return
	}
	length, err := time.ParseDuration(s)
	if count, unit, found := strings.Cut(s, "-"); found {
		var n int64
		n, err = strconv.ParseInt(count, 10, 16)
		length = time.Duration(n) * timeWords[unit]
	}
	if err != nil || length <= 0 {
		d.fail(v.at, "invalid-value", "write it like 90s, 5m, 5-min or 1-hr", "%s cannot be %s", quoted(name), quoted(s))
		return
	}
	dst.SetInt(int64(length))
}

// typePermissions decodes a table from resource types to levels.
func (d decoder) typePermissions(v value, name string) []TypePermission {
	if v.table == nil {
		d.wrongType(v, name, "a table of levels by type", "")
		return nil
	}
	types := targetFields.byKey["type"].enum
	var out []TypePermission
	for _, e := range v.table.entries {
		if !slices.Contains(types, e.key) {
			d.unknownKey(e, name, types)
			continue
		}
		p := TypePermission{Type: e.key}
		d.item(reflect.ValueOf(&p).Elem(), levelFields, e.value, name+"."+e.key)
		p.Type, p.Pos = e.key, d.position(e.at)
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(a, b TypePermission) int { return strings.Compare(a.Type, b.Type) })
	return out
}

var (
	targetFields = fieldsOf[Target]()
	levelFields  = fieldsOf[TypePermission]().only("level", "specific")
)

// pairs decodes ports and volumes: a string of LOCAL = CONTAINER or LOCAL:CONTAINER
// lines, a list of such entries, or a list of {local, container} tables.
func (d decoder) pairs(v value, name string) []Pair {
	var out []Pair
	add := func(text string, at int) {
		local, container, ok := cutPair(text)
		if !ok {
			d.fail(at, "pair-syntax", "write HOST:CONTAINER", "an entry of %s is not of two parts", quoted(name))
			return
		}
		out = append(out, Pair{Local: local, Container: container, Pos: d.position(at)})
	}
	switch v.kind {
	case kindString:
		if _, ok := d.text(v, name); !ok {
			return nil
		}
		for line := range entryLines(v.text) {
			line = unlist(line)
			add(cutComment(line.text), v.place(line.offset))
		}
	case kindArray:
		for i, item := range v.list {
			itemName := name + "[" + strconv.Itoa(i) + "]"
			if item.table != nil {
				out = append(out, d.pairTable(item.table, itemName)...)
			} else if text, ok := d.text(item, itemName); ok {
				add(text, item.at)
			}
		}
	default:
		d.wrongType(v, name, "a string or a list", `write HOST:CONTAINER lines between """ and """`)
	}
	return out
}

// cutPair cuts an entry at the first = or :.
func cutPair(text string) (local, container string, ok bool) {
	local, container, ok = cutEntry(text)
	local, container = strings.TrimSpace(local), envValue(strings.TrimSpace(container))
	return local, container, ok && local != "" && container != ""
}

func (d decoder) pairTable(t *table, name string) []Pair {
	pair := Pair{Pos: d.position(t.at)}
	for _, e := range t.entries {
		into := map[string]*string{"local": &pair.Local, "container": &pair.Container}[e.key]
		if into == nil {
			d.unknownKey(e, name, []string{"local", "container"})
			continue
		}
		s, ok := d.text(e.value, name+"."+e.key)
		if !ok {
			return nil
		}
		*into = s
	}
	if pair.Local == "" || pair.Container == "" {
		d.fail(t.at, "pair-syntax", "give it both", "%s needs local and container", quoted(name))
		return nil
	}
	return []Pair{pair}
}
