package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/varanhq/varan/fleet"
)

// describer turns one resolved service into a digest and into fields.
type describer struct {
	*load
	service string
	tree    map[string]any
	used    usage
	// sealed are the top-level keys into which a secret went.
	sealed map[string]bool
	// objects are the configs and secrets it uses, by "configs NAME", already sealed.
	objects map[string]any
	out     []fleet.Field
}

// sealedKeys are the keys of an object in the files that refer to a variable with a
// secret. A secret may not be found in the model again: a command is split at spaces,
// a size is rounded. So the whole key counts.
func (l *load) sealedKeys(kind, name string) map[string]bool {
	out := map[string]bool{}
	if len(l.seal.secrets)+len(l.seal.weak)+len(l.seal.names) == 0 {
		return out
	}
	for _, f := range l.writings(kind, name) {
		for _, e := range entries(f.value) {
			if l.refersToSecret(e.value) {
				out[e.key.Value] = true
			}
		}
	}
	return out
}

func (l *load) refersToSecret(n *yaml.Node) bool {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		if l.seal.holds(n.Value) {
			return true // an inline file may hold the value itself
		}
		found, _ := uses(n.Value, l.env.peek)
		return slices.ContainsFunc(found, func(u use) bool { return l.seal.names[u.name] })
	}
	return slices.ContainsFunc(n.Content, l.refersToSecret)
}

// object adds a config or a secret that the service uses.
func (d *describer) object(kind, name string, definition any, content string) error {
	tree, err := jsonTree(definition)
	if err != nil {
		return fmt.Errorf("describe %s: %w", name, err)
	}
	context := d.context(kind + " " + name)
	delete(tree, "content")
	sealedTree, ok := d.seal.sealTree(tree, context, len(d.sealedKeys(kind, name)) > 0).(map[string]any)
	if !ok {
		return fmt.Errorf("describe %s: not a mapping", name)
	}
	if content != "" {
		sealedTree["content"] = d.seal.keyed(context, content)
	}
	d.objects[kind+" "+name] = sealedTree
	return nil
}

// context tells equal values of different places apart in keyed hashes.
func (d *describer) context(place string) string {
	return d.req.Stack + "/" + d.service + "/" + place
}

// digest covers the service, the content of what it mounts, and what it uses.
func (d *describer) digest() (fleet.Digest, error) {
	tree := make(map[string]any, len(d.tree))
	for key, value := range d.tree {
		// What comes of an encrypted environment file may be part of any value.
		everything := d.sealed[key] || key == "environment" && len(d.plain) > 0
		tree[key] = d.seal.sealTree(value, d.context(key), everything)
	}
	return digestOf(map[string]any{
		"service": tree, "files": contentOf(d.used.recreate), "objects": d.objects,
	})
}

// restartDigest covers the files whose change asks for a restart; empty without any.
func (d *describer) restartDigest() (fleet.Digest, error) {
	if len(d.used.restart) == 0 {
		return "", nil
	}
	return digestOf(contentOf(d.used.restart))
}

// fileContent is what counts of a file.
type fileContent struct {
	Path   string
	Mode   uint32
	Digest fleet.Digest
}

func contentOf(mounts []mount) []fileContent {
	out := make([]fileContent, len(mounts))
	for i, m := range mounts {
		out[i] = fileContent{m.file.Path, m.file.Mode, m.file.Digest}
	}
	return out
}

// fields are the leaves, sorted by path.
func (d *describer) fields() []fleet.Field {
	for _, key := range slices.Sorted(maps.Keys(d.tree)) {
		value := d.tree[key]
		switch key {
		case "environment":
			d.environment(value)
		case "command", "entrypoint":
			if value != nil {
				d.add(key, d.sealed[key], words(value), key)
			}
		case "ports", "volumes":
			d.list(key, value)
		default:
			d.flatten(key, value, d.sealed[key], key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.objects)) {
		kind, object, _ := strings.Cut(name, " ")
		d.object2fields(kind, object, d.objects[name])
	}
	for _, m := range slices.Concat(d.used.recreate, d.used.restart) {
		field := fleet.Field{Path: "file ./" + m.file.Path, Origin: m.origin}
		text := m.file.Digest.Short()
		if m.file.Mode&0o111 != 0 {
			text += " executable"
		}
		if m.file.Secret {
			field.Keyed = d.seal.keyed(d.context(field.Path), text)
		} else {
			field.Value = text
		}
		d.out = append(d.out, field)
	}
	slices.SortStableFunc(d.out, func(a, b fleet.Field) int { return strings.Compare(a.Path, b.Path) })
	return d.out
}

// add appends a leaf. place is where it is looked for in the files, below the service.
func (d *describer) add(path string, hide bool, text string, place ...string) {
	if d.sealed[place[0]] && d.seal.holds(path) {
		path = d.seal.redact(path)
		hide = true
	}
	field := fleet.Field{Path: path}
	if hide || d.seal.holds(text) {
		field.Keyed = d.seal.keyed(d.context(path), text)
	} else {
		field.Value = text
	}
	if f := d.find(append([]string{"services", d.service}, place...)...); f.depth >= 3 {
		field.Origin = f.position()
	}
	d.out = append(d.out, field)
}

// environment hides every value: people put passwords there.
func (d *describer) environment(value any) {
	variables, _ := value.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		text := "unset"
		if variables[name] != nil {
			text = "=" + textOf(variables[name])
		}
		d.add("environment."+name, true, text, "environment", name)
		field := &d.out[len(d.out)-1]
		if origin, ok := d.variableOrigin(name); ok {
			field.Origin = origin
		} else if f := d.find("services", d.service, "environment", name); f.depth < 4 {
			if files := d.find("services", d.service, "env_file"); files.depth == 3 {
				field.Origin = files.position()
			}
		}
	}
}

// variableOrigin is where the stack's environment sets what an entry is made of.
func (d *describer) variableOrigin(name string) (fleet.Position, bool) {
	f := d.find("services", d.service, "environment", name)
	wanted := []string{name}
	if f.depth == 4 && f.value != nil && f.value.Kind == yaml.ScalarNode && f.value.ShortTag() != "!!null" {
		text := f.value.Value
		if before, after, ok := strings.Cut(text, "="); ok && before == name {
			text = after
		} else if text == name {
			text = "$" + name
		}
		wanted = nil
		found, _ := uses(text, d.env.peek)
		for _, u := range found {
			wanted = append(wanted, u.name)
		}
	}
	for _, v := range slices.Backward(d.req.Environment) {
		if slices.Contains(wanted, v.Name) && !v.Origin.IsZero() {
			return v.Origin, true
		}
	}
	return fleet.Position{}, false
}

// list shows ports and volumes the short way.
func (d *describer) list(key string, value any) {
	elements, _ := value.([]any)
	for i, element := range elements {
		path := key + "[" + strconv.Itoa(i) + "]"
		m, ok := element.(map[string]any)
		if !ok {
			d.flatten(path, element, d.sealed[key], key, strconv.Itoa(i))
			continue
		}
		text, rest := shortPort(m)
		target := textOf(m["target"])
		if key == "volumes" {
			text, rest = shortVolume(m)
		}
		d.add(path, d.sealed[key], text, key)
		d.out[len(d.out)-1].Origin = d.atItem(target, "services", d.service, key)
		for _, name := range slices.Sorted(maps.Keys(rest)) {
			if inner, ok := rest[name].(map[string]any); ok && len(inner) == 0 {
				continue
			}
			d.flatten(path+"."+name, rest[name], d.sealed[key], key)
		}
	}
}

// flatten adds every leaf below value.
func (d *describer) flatten(path string, value any, hide bool, place ...string) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			d.add(path, hide, "{}", place...)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			d.flatten(path+"."+key, v[key], hide, append(slices.Clone(place), key)...)
		}
	case []any:
		if strings.HasSuffix(path, ".test") || strings.HasSuffix(path, ".command") {
			d.add(path, hide, words(v), place...)
			return
		}
		if len(v) == 0 {
			d.add(path, hide, "[]", place...)
		}
		for i, inner := range v {
			d.flatten(path+"["+strconv.Itoa(i)+"]", inner, hide, append(slices.Clone(place), strconv.Itoa(i))...)
		}
	default:
		d.add(path, hide, textOf(value), place...)
	}
}

// object2fields adds the leaves of a config or secret, which are sealed already.
func (d *describer) object2fields(kind, name string, value any) {
	definition, _ := value.(map[string]any)
	origin := fleet.Position{}
	if f := d.find(kind, name); f.depth == 2 {
		origin = f.position()
	}
	for _, key := range slices.Sorted(maps.Keys(definition)) {
		field := fleet.Field{Path: strings.TrimSuffix(kind, "s") + " " + name + "." + key, Origin: origin}
		text := textOf(definition[key])
		if text == "" {
			text = fmt.Sprint(definition[key])
		}
		if strings.HasPrefix(text, "hmac:") {
			field.Keyed = text
		} else {
			field.Value = text
		}
		d.out = append(d.out, field)
	}
}

// words shows a command as one would type it.
func words(value any) string {
	list, ok := value.([]any)
	if !ok {
		return textOf(value)
	}
	if len(list) == 0 {
		return "[]"
	}
	out := make([]string, len(list))
	for i, word := range list {
		text := textOf(word)
		if text == "" || strings.ContainsAny(text, " \t\n\"'\\$`;&|<>()") {
			text = "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
		}
		out[i] = text
	}
	return strings.Join(out, " ")
}

// shortPort is "127.0.0.1:8080:80/tcp" and what that leaves out.
func shortPort(m map[string]any) (string, map[string]any) {
	rest := maps.Clone(m)
	text := textOf(m["target"])
	if published := textOf(m["published"]); m["published"] != nil {
		text = published + ":" + text
	}
	if ip := textOf(m["host_ip"]); m["host_ip"] != nil {
		text = ip + ":" + text
	}
	if m["protocol"] != nil {
		text += "/" + textOf(m["protocol"])
	}
	for _, key := range []string{"target", "published", "host_ip", "protocol"} {
		delete(rest, key)
	}
	if rest["mode"] == "ingress" {
		delete(rest, "mode")
	}
	return text, rest
}

// shortVolume is "./conf:/etc/app:ro" and what that leaves out.
func shortVolume(m map[string]any) (string, map[string]any) {
	rest := maps.Clone(m)
	text := textOf(m["target"])
	if m["source"] != nil {
		text = textOf(m["source"]) + ":" + text
	}
	if m["read_only"] == true {
		text += ":ro"
	}
	for _, key := range []string{"source", "target", "read_only"} {
		delete(rest, key)
	}
	if rest["type"] == "bind" || rest["type"] == "volume" {
		delete(rest, "type")
	}
	return text, rest
}
