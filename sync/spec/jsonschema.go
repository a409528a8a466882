package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// object is a node of a JSON Schema.
type object = map[string]any

// JSONSchema describes resource files for editors, as a JSON Schema of draft 7. It is
// made from the same tables that files are decoded by.
func JSONSchema() ([]byte, error) {
	properties, definitions := object{}, object{"execution": executionSchema()}
	for _, s := range schemas {
		definitions[s.name] = s.jsonSchema()
		for _, key := range []string{s.name, s.name + "s"} {
			properties[key] = object{"type": "array", "items": object{"$ref": "#/definitions/" + s.name}, "description": s.doc}
		}
	}
	for name, why := range gone {
		for _, key := range []string{name, name + "s"} {
			properties[key] = retiredSchema(why)
		}
	}
	out, err := json.MarshalIndent(object{
		"$schema":              "http://json-schema.org/draft-07/schema#",
		"title":                "Varan resource file",
		"type":                 "object",
		"additionalProperties": false,
		"properties":           properties,
		"definitions":          definitions,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(out, '\n'), nil
}

func retiredSchema(why string) object {
	return object{"deprecated": true, "description": "Means nothing now: " + why + "."}
}

func (s *schema) jsonSchema() object {
	properties := object{}
	for key, why := range anywhere {
		properties[key] = retiredSchema(why)
	}
	if s.config != nil {
		inside := object{}
		s.config.properties(inside)
		for key := range inside { // the short form
			properties[key] = object{"$ref": "#/definitions/" + s.name + "/properties/config/properties/" + key}
		}
		for key, f := range s.top.byKey {
			if f.hoist {
				inside[key] = f.jsonSchema(key)
			}
		}
		properties["config"] = closedObject(inside)
	}
	s.top.properties(properties)
	if s.folded != "" { // the short form
		short := map[string]object{"type": textSchema(), "params": {"type": "object"}}
		for key, node := range short {
			properties[key] = node
			if config, ok := properties["config"].(object)["properties"].(object); ok {
				config[key] = node
			}
		}
	}
	name := s.top.byKey["name"].jsonSchema("name")
	name["pattern"] = s.naming.pattern()
	properties["name"] = name
	out := closedObject(properties)
	out["required"] = []string{"name"}
	out["description"] = s.doc
	if s.idle {
		out["description"] = s.doc + " Kept, and not acted on yet."
	}
	return out
}

func closedObject(properties object) object {
	return object{"type": "object", "additionalProperties": false, "properties": properties}
}

// pattern is the rule as a regular expression, without the few reserved names. Names of
// stacks that are only written differently are accepted with a warning, and so here.
func (n naming) pattern() string {
	switch n {
	case projectName:
		return `^[A-Za-z0-9][^/*\\]{0,62}$`
	case displayName:
		return `\S`
	case freeName:
	}
	return `^[A-Za-z0-9]([A-Za-z0-9_. -]{0,61}[A-Za-z0-9_-])?$`
}

func (set *fieldSet) jsonSchema() object {
	properties := object{}
	set.properties(properties)
	return closedObject(properties)
}

// properties adds a property for every spelling of every field.
func (set *fieldSet) properties(into object) {
	for key, f := range set.byKey {
		into[key] = f.jsonSchema(key)
	}
	for key, why := range set.retired {
		into[key] = retiredSchema(why)
	}
}

// jsonSchema describes the field as it is spelt by key.
func (f *field) jsonSchema(key string) object {
	node := f.jsonType()
	node["description"] = f.doc
	switch {
	case slices.Contains(f.old, key):
		node["deprecated"], node["description"] = true, "Older spelling of "+f.key+". "+f.doc
	case f.moot != "":
		node["deprecated"], node["description"] = true, f.doc+" It has no meaning here: "+f.moot+"."
	case f.later:
		node["description"] = f.doc + " Not acted on yet."
	}
	if f.enum != nil {
		node["enum"] = f.enum
	}
	if f.fallback != "" {
		v := reflect.New(f.typ).Elem()
		setDefault(v, f.fallback)
		node["default"] = v.Interface()
		if f.typ == durationType {
			node["default"] = f.fallback
		}
	}
	return node
}

func textSchema() object { return object{"type": "string"} }

// listSchema is a list of any of the items, or one string with an item a line.
func listSchema(items ...object) object {
	return object{"anyOf": []object{textSchema(), {"type": "array", "items": anyOf(items...)}}}
}

func anyOf(nodes ...object) object {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return object{"anyOf": nodes}
}

func (f *field) jsonType() object {
	switch f.typ {
	case stringsType:
		return listSchema(textSchema())
	case envType:
		return listSchema(textSchema(), closedObject(object{"variable": textSchema(), "value": textSchema()}))
	case pairsType:
		return listSchema(textSchema(), closedObject(object{"local": textSchema(), "container": textSchema()}))
	case permissionsType:
		return levelsSchema()
	case registriesType:
		old := object{"type": "object", "required": []string{"type"}}
		return anyOf(f.sub.jsonSchema(), old, object{"type": "array", "items": anyOf(f.sub.jsonSchema(), old)})
	case secretType, durationType:
		return textSchema()
	case reflect.TypeFor[Image]():
		return anyOf(textSchema(), imageUnion.jsonSchema())
	case reflect.TypeFor[Endpoint]():
		return endpointUnion.jsonSchema()
	case reflect.TypeFor[BuilderConfig]():
		return builderUnion.jsonSchema()
	case reflect.TypeFor[[]Execution]():
		return object{"type": "array", "items": object{"$ref": "#/definitions/execution"}}
	}
	if f.form == "share" {
		return anyOf(textSchema(), object{"type": "integer", "minimum": 1})
	}
	if f.form == "version" {
		part := object{"type": "integer", "minimum": 0}
		return anyOf(textSchema(), closedObject(object{"major": part, "minor": part, "patch": part}))
	}
	return f.plainType()
}

func (f *field) plainType() object {
	switch {
	case f.sub != nil && f.typ.Kind() == reflect.Struct:
		return f.sub.jsonSchema()
	case f.sub != nil && f.sub.short != nil:
		return listSchema(textSchema(), f.sub.jsonSchema())
	case f.sub != nil:
		return object{"type": "array", "items": f.sub.jsonSchema()}
	}
	switch f.typ.Kind() { //nolint:exhaustive // the declarations hold no other scalars
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return object{"type": "number"}
	default:
		return textSchema()
	}
}

func levelsSchema() object {
	level := levelFields.byKey["level"].jsonSchema("level")
	properties := object{}
	for _, typ := range targetFields.byKey["type"].enum {
		properties[typ] = anyOf(level, levelFields.jsonSchema())
	}
	return closedObject(properties)
}

// jsonSchema is one alternative for each type, with the params in a table of their own
// or beside the type.
func (u union) jsonSchema() object {
	var alternatives []object
	for _, v := range u {
		alternatives = append(alternatives, typedSchema(append([]string{v.name}, v.old...), func(into object) { v.fields.properties(into) }))
	}
	return anyOf(alternatives...)
}

func typedSchema(names []string, fill func(object)) object {
	params, properties := object{}, object{}
	fill(params)
	fill(properties)
	properties["params"] = closedObject(params)
	properties["type"] = object{"enum": names}
	out := closedObject(properties)
	out["required"] = []string{"type"}
	return out
}

// executionSchema is {execution = {type, params}, enabled}, or the inner table alone.
func executionSchema() object {
	var alternatives []object
	for i := range executionTypes {
		t := &executionTypes[i]
		node := typedSchema([]string{t.Name}, t.properties)
		properties := node["properties"].(object) //nolint:forcetypeassert // made above
		properties["enabled"] = object{"type": "boolean", "default": true}
		policyFields.properties(properties)
		alternatives = append(alternatives, node)
	}
	outer := object{"execution": object{"anyOf": alternatives}, "enabled": object{"type": "boolean", "default": true}}
	policyFields.properties(outer)
	return object{
		"description": "What a stage of a procedure runs.",
		"if":          object{"required": []string{"execution"}},
		"then":        closedObject(outer),
		"else":        object{"$ref": "#/definitions/execution/then/properties/execution"},
	}
}

func (t ExecutionType) properties(into object) {
	for i := range t.Params {
		p := &t.Params[i]
		node := p.jsonType()
		if p.Resource != "" {
			node["description"] = "Names a " + strings.ReplaceAll(p.Resource, "_", " ") + "."
		}
		into[p.Name] = node
		if p.Kind == ParamReference { // the older spelling
			old := maps.Clone(node)
			old["deprecated"] = true
			into[p.Name+"_id"] = old
		}
	}
}

func (p ParamType) jsonType() object {
	switch p.Kind {
	case ParamList, ParamWords, ParamReferences:
		return listSchema(textSchema())
	case ParamInt:
		return anyOf(object{"type": "integer", "minimum": 0}, withInputs())
	case ParamBool:
		return anyOf(object{"type": "boolean"}, withInputs())
	case ParamObject:
		return object{}
	case ParamText, ParamReference, ParamPattern:
	}
	return textSchema()
}

// withInputs is a text that refers to inputs, where the rest is no text.
func withInputs() object { return object{"type": "string", "pattern": `\$\{\{ *inputs\.`} }
