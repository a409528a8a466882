package spec

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// object is a node of a JSON Schema.
type object = map[string]any

// JSONSchema describes resource files for editors, as a JSON Schema of draft 7. It is
// made from the same table of struct tags that files are decoded by.
func JSONSchema() ([]byte, error) {
	properties, definitions := object{}, object{}
	list := func(name string, item object) {
		for _, key := range []string{name, name + "s"} {
			properties[key] = object{"type": "array", "items": item}
		}
	}
	for _, s := range schemas {
		definitions[s.name] = s.jsonSchema()
		list(s.name, object{"$ref": "#/definitions/" + s.name})
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

func (s *schema) jsonSchema() object {
	properties := object{}
	if s.config != nil {
		inside := object{}
		for key, f := range s.config.byKey {
			inside[key] = f.jsonSchema()
			properties[key] = object{"$ref": "#/definitions/" + s.name + "/properties/config/properties/" + key}
		}
		for key, f := range s.top.byKey {
			if f.hoist {
				inside[key] = f.jsonSchema()
			}
		}
		properties["config"] = object{"type": "object", "additionalProperties": false, "properties": inside}
	}
	for key, f := range s.top.byKey {
		properties[key] = f.jsonSchema()
	}
	name := s.top.byKey["name"].jsonSchema()
	name["pattern"] = s.naming.pattern()
	properties["name"] = name
	return object{
		"type": "object", "additionalProperties": false, "required": []string{"name"}, "properties": properties,
	}
}

// pattern is the rule as a regular expression, without the few reserved names.
func (n naming) pattern() string {
	switch n {
	case projectName: // others are accepted with a warning
		return `^[A-Za-z0-9]([A-Za-z0-9_., &-]{0,61}[A-Za-z0-9_-])?$`
	case displayName:
		return `\S`
	}
	return `^[A-Za-z0-9]([A-Za-z0-9_. -]{0,61}[A-Za-z0-9_-])?$`
}

func (s *fieldSet) jsonSchema() object {
	properties := object{}
	for key, f := range s.byKey {
		properties[key] = f.jsonSchema()
	}
	return object{"type": "object", "additionalProperties": false, "properties": properties}
}

func (f *field) jsonSchema() object {
	node := f.jsonType()
	node["description"] = f.doc
	if f.later {
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

func (f *field) jsonType() object {
	text := object{"type": "string"}
	listOf := func(items ...object) object {
		return object{"anyOf": []object{text, {"type": "array", "items": object{"anyOf": items}}}}
	}
	switch f.typ {
	case stringsType:
		return listOf(text)
	case envType:
		entry := object{"type": "object", "additionalProperties": false, "properties": object{"variable": text, "value": text}}
		return listOf(text, entry)
	case secretType, durationType:
		return text
	}
	if f.sub != nil && f.typ.Kind() == reflect.Struct {
		return f.sub.jsonSchema()
	}
	if f.sub != nil && f.sub.short != nil {
		return listOf(text, f.sub.jsonSchema())
	}
	if f.sub != nil {
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
		return object{"type": "string"}
	}
}
