package spec

import (
	"reflect"
	"slices"
)

// Kinds are the resource types as their tables are called, such as "stack".
func Kinds() []string { return typeNames() }

// KindOf is the resource type that a table's name stands for, in the singular or plural.
func KindOf(name string) (kind string, ok bool) { return typeOf(name) }

// Select returns the resources that keep wants.
func (r *Resources) Select(keep func(kind, name string) bool) Resources {
	out := *r
	for _, list := range reflect.ValueOf(&out).Elem().Fields() {
		kind := kindOfType(list.Type().Elem())
		kept := reflect.MakeSlice(list.Type(), 0, list.Len())
		for n := range list.Len() {
			if item := list.Index(n); keep(kind, item.FieldByName("Name").String()) {
				kept = reflect.Append(kept, item)
			}
		}
		list.Set(kept)
	}
	return out
}

// kindOfType is the table that holds declarations of a Go type.
func kindOfType(t reflect.Type) string {
	i := slices.IndexFunc(schemas, func(s *schema) bool { return s.top.defaults.Type() == t })
	return schemas[i].name
}

// Join is all resources of both.
func (r *Resources) Join(other Resources) Resources {
	out := *r
	all, more := reflect.ValueOf(&out).Elem(), reflect.ValueOf(other)
	for i := range all.NumField() {
		joined := reflect.MakeSlice(all.Field(i).Type(), 0, all.Field(i).Len()+more.Field(i).Len())
		all.Field(i).Set(reflect.AppendSlice(reflect.AppendSlice(joined, all.Field(i)), more.Field(i)))
	}
	return out
}
