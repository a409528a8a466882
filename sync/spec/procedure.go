package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// maxRetries is how many retries are worth declaring.
const maxRetries = 100

// finishProcedure checks what the parts of a procedure say of each other.
func (p *parser) finishProcedure(r *Procedure) {
	inputs := p.inputs(r)
	for i := range r.Config.Stages {
		stage := &r.Config.Stages[i]
		p.approval(stage)
		p.retries(&stage.Policy, stage.Pos)
		for n := range stage.Executions {
			e := &stage.Executions[n]
			p.retries(&e.Policy, e.Pos)
			if never(stage.When, e.When) {
				p.failAt(e.Pos, "never-runs", "give the stage when = \"always\"", "the execution runs on %s only, and its stage on %s only",
					orSuccess(e.When), orSuccess(stage.When))
			}
			for k := range e.Params {
				p.inputsIn(e, &e.Params[k], inputs)
			}
		}
	}
}

// never reports whether a stage never runs in the state that an execution of it asks for.
func never(stage, execution string) bool {
	const always = string(fleet.WhenAlways)
	return execution != "" && execution != always && stage != always && orSuccess(stage) != execution
}

func orSuccess(when string) string {
	if when == "" {
		return string(fleet.WhenSuccess)
	}
	return when
}

func (p *parser) retries(policy *Policy, at fleet.Position) {
	if policy.Retries > maxRetries {
		p.failAt(at, "invalid-value", "", "`retries` must be an integer from 0 to %d", maxRetries)
	}
}

// approval checks a stage that waits, and that the others do not say how.
func (p *parser) approval(s *Stage) {
	switch {
	case s.Approval && len(s.Executions) > 0:
		p.failAt(s.Pos, "approval-stage", "put them into a stage after it", "a stage with `approval` waits, and runs no executions")
	case s.Approval && s.Retries > 0:
		p.failAt(s.Pos, "approval-stage", "remove `retries`", "an approval is not tried again")
	case !s.Approval && len(s.Approvers) > 0:
		p.failAt(s.Pos, "approval-stage", "add approval = true", "a stage has `approvers`, and waits for none")
	}
}

// inputs checks the inputs that a procedure declares, and returns them by name.
func (p *parser) inputs(r *Procedure) map[string]*Input {
	byName := make(map[string]*Input, len(r.Config.Inputs))
	if n := len(r.Config.Inputs); n > fleet.MaxInputs {
		p.failAt(r.Config.Inputs[fleet.MaxInputs].Pos, "invalid-input", "", "a procedure has at most %d inputs, not %d", fleet.MaxInputs, n)
	}
	scheduled := strings.TrimSpace(r.Config.Schedule) != "" && r.Config.ScheduleEnabled
	for i := range r.Config.Inputs {
		in := &r.Config.Inputs[i]
		switch {
		case !fleet.ValidInputName(in.Name):
			p.failAt(in.Pos, "invalid-input", `write name = "VERSION"`, "%s is no name of an input: it has letters, digits, _ and -", quoted(in.Name))
		case byName[in.Name] != nil:
			p.failAt(in.Pos, "invalid-input", "rename one of them", "the input %s is declared twice, first at %s", quoted(in.Name), byName[in.Name].Pos)
		case in.Required && in.Default != "":
			p.failAt(in.Pos, "invalid-input", "keep one of them", "the input %s is required, and has a default that is never used", quoted(in.Name))
		case in.Required && scheduled:
			p.failAt(in.Pos, "invalid-input", "give it a default", "the input %s is required, and a schedule gives none", quoted(in.Name))
		case len(in.Options) > 0 && !in.Required && !slices.Contains(in.Options, in.Default):
			p.failAt(in.Pos, "invalid-input", "use one of "+strings.Join(in.Options, ", "), "the default %s of the input %s is none of its options",
				quoted(in.Default), quoted(in.Name))
		}
		byName[in.Name] = in
	}
	return byName
}

// inputsIn checks the references of a parameter, and the values that are known of them.
func (p *parser) inputsIn(e *Execution, given *Param, inputs map[string]*Input) {
	typ, _ := FindExecution(e.Type)
	param := typ.param(given.Name)
	if param == nil {
		return
	}
	var used []*Input
	collect := func(name string) (string, error) {
		in := inputs[name]
		if in == nil {
			return "", &unknownInputError{name}
		}
		used = append(used, in)
		return "", nil
	}
	for _, text := range append(slices.Clone(given.List), given.Text) {
		if _, err := fleet.ExpandInputs(text, collect); err != nil {
			p.wrongInput(given.Pos, err, inputs)
			return
		}
	}
	if len(used) > 0 && param.Resource == aProcedure {
		p.failAt(given.Pos, "input-reference", "write its name", "which procedure runs cannot depend on an input: whether it runs itself could not be seen")
		return
	}
	for _, in := range used {
		p.valuesOf(in, e, given, param)
	}
}

// unknownInputError is a reference to an input that is not declared.
type unknownInputError struct{ name string }

func (u *unknownInputError) Error() string {
	return fmt.Sprintf("there is no input %s", quoted(u.name))
}

func (p *parser) wrongInput(at fleet.Position, err error, inputs map[string]*Input) {
	unknown, ok := err.(*unknownInputError) //nolint:errorlint // as collect made it
	if !ok {
		p.failAt(at, "invalid-input", "", "%v", err)
		return
	}
	names := make([]string, 0, len(inputs))
	for name := range inputs {
		names = append(names, name)
	}
	slices.Sort(names)
	hint := didYouMean(unknown.name, names)
	if hint == "" {
		hint = "declare it: [[procedure.config.input]] name = " + fmt.Sprintf("%q", unknown.name)
	}
	p.failAt(at, "unknown-input", hint, "%v", err)
}

// valuesOf tries the values that are known of an input in a number or a flag.
func (p *parser) valuesOf(in *Input, e *Execution, given *Param, param *ParamType) {
	form := formOf(param)
	if form != fleet.ParamInt && form != fleet.ParamBool {
		return
	}
	values := in.Options
	if len(values) == 0 && (!in.Required || in.Default != "") {
		values = []string{in.Default}
	}
	for _, value := range values {
		x := fleet.Execution{Type: e.Type, Params: []fleet.Param{{Name: given.Name, Text: given.Text, As: form}}}
		if _, err := x.Fill(func(name string) (string, error) {
			if name == in.Name {
				return value, nil
			}
			return "", nil
		}); err != nil && given.Text == strings.TrimSpace(given.Text) && onlyInput(given.Text, in.Name) {
			p.failAt(given.Pos, "type", "change the options or the default of the input", "with the input %s as %s: %v", quoted(in.Name), quoted(value), err)
			return
		}
	}
}

// onlyInput reports whether a text is one reference to an input and nothing else.
func onlyInput(text, name string) bool {
	const mark = "\x00"
	filled, err := fleet.ExpandInputs(text, func(n string) (string, error) { return mark + n, nil })
	return err == nil && filled == mark+name
}

// formOf is what a parameter becomes once inputs are in it.
func formOf(p *ParamType) fleet.ParamForm {
	switch {
	case p.Kind == ParamInt:
		return fleet.ParamInt
	case p.Kind == ParamBool:
		return fleet.ParamBool
	case p.Kind == ParamObject:
		return fleet.ParamObject
	case p.Kind == ParamReference && p.Resource == aStack:
		return fleet.ParamStack
	}
	return ""
}

// Form is what a parameter becomes once the inputs are in it; empty for text, and where there
// are none.
func (e *Execution) Form(name string) fleet.ParamForm {
	typ, _ := FindExecution(e.Type)
	p := typ.param(name)
	if p == nil || !fleet.UsesInputs(e.Text(name)) {
		return ""
	}
	return formOf(p)
}
