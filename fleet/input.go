package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Input is something that whoever starts a procedure may say of the run. Parameters of its
// executions name it as ${{ inputs.NAME }}: [[NAME]] is a variable of core's, ${NAME} is
// Compose's, and neither of the two is this.
type Input struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Default     string `json:"default,omitempty"`
	Required    bool   `json:"required,omitempty"`
	// Options are the values that it may have; any when there are none.
	Options []string `json:"options,omitempty"`
}

// Limits of inputs. What a webhook delivers may be longer.
const (
	MaxInputs     = 64
	MaxInputBytes = 64 << 10
)

// The inputs that a webhook gives to a procedure that declares them.
const (
	InputWebhookBranch = "WEBHOOK_BRANCH"
	InputWebhookBody   = "WEBHOOK_BODY"
)

// InputError is something wrong with an input that is given, or is not.
type InputError struct{ Input, Problem string }

// Error implements error.
func (f *InputError) Error() string { return "input " + strconv.Quote(f.Input) + ": " + f.Problem }

// FillInputs checks what is given for inputs, and adds the defaults.
func FillInputs(declared []Input, given map[string]string) (map[string]string, error) {
	values := make(map[string]string, len(declared))
	var faults []error
	for i := range declared {
		d := &declared[i]
		value, ok := given[d.Name]
		switch {
		case !ok && d.Required:
			faults = append(faults, &InputError{d.Name, "it must be given"})
		case !ok:
			value = d.Default
		case len(d.Options) > 0 && !slices.Contains(d.Options, value):
			faults = append(faults, &InputError{d.Name, fmt.Sprintf("%.64q is none of %s", value, strings.Join(d.Options, ", "))})
		case len(value) > MaxInputBytes && d.Name != InputWebhookBody:
			faults = append(faults, &InputError{d.Name, fmt.Sprintf("it is longer than %d bytes", MaxInputBytes)})
		}
		values[d.Name] = value
	}
	for _, name := range sortedNames(given) {
		if _, ok := values[name]; !ok {
			faults = append(faults, &InputError{name, "the procedure has no such input"})
		}
	}
	return values, errors.Join(faults...)
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ValidInputName says whether a name can be written in a reference.
func ValidInputName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	return name != "" && len(name) <= 64 && strings.Contains(letters, name[:1]) && strings.Trim(name, letters+"0123456789-") == ""
}

// UsesInputs reports whether a text refers to inputs, rightly or not.
func UsesInputs(text string) bool {
	_, _, _, found := cutInput(text)
	return found
}

// cutInput cuts a text at its first reference to an input; what is between the marks is
// returned as it is written. Any other ${{ is text.
func cutInput(text string) (before, inside, after string, found bool) {
	const open, end = "${{", "}}"
	for from := 0; ; {
		at := strings.Index(text[from:], open)
		if at < 0 {
			return text, "", "", false
		}
		at += from
		from = at + len(open)
		if !strings.HasPrefix(strings.TrimLeft(text[from:], " "), "inputs.") {
			continue
		}
		inside, after, _ = strings.Cut(text[from:], end)
		return text[:at], inside, after, true
	}
}

// ExpandInputs puts values in the place of the references of a text. value is asked for each
// name in turn; what it answers is not looked at again.
func ExpandInputs(text string, value func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, inside, after, found := cutInput(text)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name := strings.TrimPrefix(strings.Trim(inside, " "), "inputs.")
		if !ValidInputName(name) {
			return "", fmt.Errorf("%.64q names no input: write ${{ inputs.NAME }}", "${{"+inside)
		}
		v, err := value(name)
		if err != nil {
			return "", err
		}
		out.WriteString(v)
		text = after
	}
}

// Fill puts the values of inputs into the parameters of an execution.
func (e *Execution) Fill(value func(name string) (string, error)) (Execution, error) {
	out := *e
	out.Params = slices.Clone(e.Params)
	for i := range out.Params {
		if err := out.Params[i].fill(value); err != nil {
			return out, fmt.Errorf("%s of %s: %w", out.Params[i].Name, e.Type, err)
		}
	}
	return out, nil
}

func (p *Param) fill(value func(name string) (string, error)) (err error) {
	if len(p.List) > 0 {
		p.List = slices.Clone(p.List)
		for i := range p.List {
			if p.List[i], err = ExpandInputs(p.List[i], value); err != nil {
				return err
			}
		}
	}
	if p.As == ParamObject {
		return p.fillObject(value)
	}
	if p.Text, err = ExpandInputs(p.Text, value); err != nil {
		return err
	}
	switch p.As {
	case ParamInt:
		if p.Int, err = strconv.Atoi(p.Text); err != nil || p.Int < 0 {
			return fmt.Errorf("%.64q is no number from 0", p.Text)
		}
		p.Text = ""
	case ParamBool:
		if p.Text != "true" && p.Text != "false" {
			return fmt.Errorf("%.64q is neither true nor false", p.Text)
		}
		p.Bool, p.Text = p.Text == "true", ""
	case ParamStack:
		p.Text = ProjectName(p.Text)
	case ParamObject:
	}
	p.As = ""
	return nil
}

// fillObject puts the inputs into the strings of a JSON value, so that none can be more than
// a string.
func (p *Param) fillObject(value func(name string) (string, error)) error {
	var object any
	if err := json.Unmarshal([]byte(p.Text), &object); err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	filled, err := fillJSON(object, value)
	if err != nil {
		return err
	}
	text, err := json.Marshal(filled)
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	p.Text, p.As = string(text), ""
	return nil
}

func fillJSON(v any, value func(name string) (string, error)) (_ any, err error) {
	switch v := v.(type) {
	case string:
		return ExpandInputs(v, value)
	case []any:
		for i := range v {
			if v[i], err = fillJSON(v[i], value); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], err = fillJSON(v[key], value); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// ProjectName is the name that a stack is called by: Komodo and Compose write it in lower
// case, and put _ for what they do not allow.
func ProjectName(name string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789_-"
	const longest = 63
	if name != "" && strings.Trim(name, allowed) == "" && name[0] != '_' && name[0] != '-' {
		return name
	}
	normal := strings.Map(func(r rune) rune {
		if strings.ContainsRune(allowed, r) {
			return r
		}
		return '_'
	}, strings.ToLower(strings.TrimSpace(name)))
	return strings.TrimLeft(normal[:min(len(normal), longest)], "-_")
}
