package spec

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// Execution is one thing that a stage runs: plain data, whose parameters are those that
// its type has in ExecutionTypes.
type Execution struct {
	Type    string `key:"type" doc:"What to do; see ExecutionTypes."`
	Enabled bool   `key:"enabled" default:"true" doc:"Whether it runs."`
	Policy
	// Params are the parameters that are given, in the order of the type's.
	Params []Param `key:"params" doc:"The parameters."`
	Pos    fleet.Position
}

// Param is a parameter that is given. Which field holds the value depends on its kind.
type Param struct {
	Name string `key:"name" doc:"Name of the parameter."`
	// Text is a text, reference or pattern; an object is JSON. A number or flag that is written
	// with inputs is text too.
	Text string `key:"text" doc:"A text, reference, pattern, or JSON."`
	// List are strings or references.
	List []string `key:"list" doc:"Strings or references."`
	Int  int      `key:"int" doc:"A number."`
	Bool bool     `key:"bool" doc:"A flag."`
	Pos  fleet.Position
}

func (e *Execution) param(name string) Param {
	for _, p := range e.Params {
		if p.Name == name {
			return p
		}
	}
	return Param{Pos: e.Pos}
}

// Has reports whether a parameter is given.
func (e *Execution) Has(name string) bool { return e.param(name).Name != "" }

// Text is the value of a text, reference, pattern or object; empty when not given.
func (e *Execution) Text(name string) string { return e.param(name).Text }

// List is the value of a list of strings or references.
func (e *Execution) List(name string) []string { return e.param(name).List }

// Int is the value of a number; 0 when not given.
func (e *Execution) Int(name string) int { return e.param(name).Int }

// Bool is the value of a flag.
func (e *Execution) Bool(name string) bool { return e.param(name).Bool }

// At is where a parameter is written; the execution's place when it is not given.
func (e *Execution) At(name string) fleet.Position { return e.param(name).Pos }

// policyFields are the keys beside an execution.
var policyFields = fieldsOf[Policy]()

// decode reads {execution = {type, params}, enabled}. The params may be written in the
// execution itself, and the execution without its name around it.
func (e *Execution) decode(d decoder, v value, name string) {
	e.Enabled, e.Pos = true, d.position(v.at)
	if v.table == nil {
		d.wrongType(v, name, "a table with an execution", `write { execution.type = "...", execution.params.... = "..." }`)
		return
	}
	e.Pos = d.position(v.table.at)
	rest := value{kind: kindTable, at: v.at, table: &table{at: v.table.at}}
	var policy []entry
	for _, entry := range v.table.entries {
		switch {
		case policyFields.byKey[entry.key] != nil:
			policy = append(policy, entry)
		case entry.key == "enabled" && entry.value.kind == kindBool:
			e.Enabled = entry.value.text == "true"
		case entry.key == "enabled":
			d.wrongType(entry.value, name+".enabled", "a boolean", "")
		case entry.key == "execution" && entry.value.table != nil:
			rest.table.entries = append(rest.table.entries, entry.value.table.entries...)
		default:
			rest.table.entries = append(rest.table.entries, entry)
		}
	}
	d.keys(reflect.ValueOf(&e.Policy).Elem(), policy, name, policyFields)
	parts, ok := d.typed(rest, name)
	if !ok {
		return
	}
	typ, ok := FindExecution(parts.name)
	if !ok {
		hint := didYouMean(parts.name, executionNames())
		if hint == "" {
			hint = "the documentation lists all executions"
		}
		d.fail(parts.nameAt, "execution-type", hint, "there is no execution %s", quoted(parts.name))
		return
	}
	e.Type = typ.Name
	if why := fleet.RefusedExecution(typ.Name); why != "" {
		d.warn(parts.nameAt, "execution-refused", "", "the execution %s is not run: %s", typ.Name, why)
	}
	e.params(d, &typ, parts, name)
}

func (e *Execution) params(d decoder, typ *ExecutionType, parts typed, name string) {
	known := make([]string, len(typ.Params))
	for i := range typ.Params {
		known[i] = typ.Params[i].Name
	}
	for _, entry := range parts.params {
		key := entry.key
		param := typ.param(key)
		if param == nil { // older versions ended references in _id
			if param = typ.param(strings.TrimSuffix(key, "_id")); param != nil {
				d.note(entry.at, "old-spelling", "write "+quoted(param.Name), "%s is an older spelling of %s", quoted(key), quoted(param.Name))
			}
		}
		switch {
		case param == nil:
			d.unknownKey(entry, "the params of "+typ.Name, known)
		case e.Has(param.Name):
			d.fail(entry.at, "duplicate-field", "keep one of them", "%s is set twice", quoted(param.Name))
		default:
			if p, ok := d.param(param, entry, name); ok {
				e.Params = append(e.Params, p)
			}
		}
	}
	slices.SortStableFunc(e.Params, func(a, b Param) int { return slices.Index(known, a.Name) - slices.Index(known, b.Name) })
	for i := range typ.Params {
		p := &typ.Params[i]
		if given := e.param(p.Name); p.Required && p.Kind != ParamInt && given.Text == "" && !d.full() {
			at := parts.nameAt
			if given.Name != "" {
				d.failAt(given.Pos, "missing-param", "", "%s of %s is empty", quoted(p.Name), typ.Name)
			} else if !slices.ContainsFunc(parts.params, func(e entry) bool { return strings.TrimSuffix(e.key, "_id") == p.Name }) {
				d.fail(at, "missing-param", "add execution.params."+p.Name+` = "..."`, "%s needs %s", typ.Name, quoted(p.Name))
			}
		}
	}
}

// param decodes one parameter.
func (d decoder) param(typ *ParamType, e entry, name string) (p Param, ok bool) {
	p = Param{Name: typ.Name, Pos: d.position(e.at)}
	name += "." + typ.Name
	before := d.found()
	switch typ.Kind {
	case ParamText, ParamReference, ParamPattern:
		p.Text, _ = d.text(e.value, name)
		if typ.Kind == ParamReference && typ.Resource == aStack && !objectID(p.Text) && !fleet.UsesInputs(p.Text) {
			p.Text = fleet.ProjectName(p.Text) // as stacks are called
		}
	case ParamWords:
		if e.value.kind != kindString {
			p.List, _ = d.strings(e.value, name)
		} else if text, ok := d.text(e.value, name); ok {
			p.List = fleet.SplitWords(text)
		}
	case ParamList, ParamReferences:
		p.List, _ = d.strings(e.value, name)
	case ParamInt, ParamBool:
		if e.value.kind == kindString && fleet.UsesInputs(e.value.text) {
			p.Text, _ = d.text(e.value, name)
			break
		}
		d.plainParam(&p, typ, e.value, name)
	case ParamObject:
		if e.value.table == nil && e.value.kind != kindArray {
			d.wrongType(e.value, name, "a table", "")
			break
		}
		text, err := json.Marshal(e.value.plain())
		if err != nil {
			d.wrongType(e.value, name, "a table", "")
		}
		p.Text = string(text)
	}
	return p, d.found() == before
}

// plainParam decodes a number or a flag.
func (d decoder) plainParam(p *Param, typ *ParamType, v value, name string) {
	if typ.Kind == ParamInt {
		n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 32)
		if v.kind != kindInteger || err != nil || n < 0 {
			d.wrongType(v, name, "an integer from 0", "")
		}
		p.Int = int(n)
		return
	}
	if v.kind != kindBool {
		d.wrongType(v, name, "a boolean", "")
	}
	p.Bool = v.text == "true"
}

// plain is a value as encoding/json takes it.
func (v value) plain() any {
	switch v.kind {
	case kindBool:
		return v.text == "true"
	case kindInteger, kindFloat:
		text := strings.TrimPrefix(strings.ReplaceAll(v.text, "_", ""), "+")
		if n, err := strconv.ParseInt(text, 0, 64); err == nil {
			return n
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return text
		}
		return f
	case kindArray:
		list := make([]any, len(v.list))
		for i, item := range v.list {
			list[i] = item.plain()
		}
		return list
	case kindTable:
		m := make(map[string]any, len(v.table.entries))
		for _, e := range v.table.entries {
			m[e.key] = e.value.plain()
		}
		return m
	}
	return v.text
}
