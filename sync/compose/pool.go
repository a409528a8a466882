package compose

import (
	"maps"
	"slices"
)

// Pool is what a stack may use without declaring it. There may be many variables of which
// a stack uses few: only those are asked for.
type Pool interface {
	// Variable is the variable of a name; ok is false when there is none.
	Variable(name string) (v Variable, ok bool)
	// Names are those of all variables, for a hint.
	Names() []string
}

// List is a Pool of a few variables; of two with one name, the later counts.
type List []Variable

// Variable implements Pool.
func (l List) Variable(name string) (Variable, bool) {
	for _, v := range slices.Backward(l) {
		if v.Name == name {
			return v, true
		}
	}
	return Variable{}, false
}

// Names implements Pool.
func (l List) Names() []string {
	names := make([]string, len(l))
	for i, v := range l {
		names[i] = v.Name
	}
	return names
}

// pooled is the variable that a request has for a name.
func (r *Request) pooled(name string) (Variable, bool) {
	if r.Variables != nil {
		if v, ok := r.Variables.Variable(name); ok {
			return v, true
		}
	}
	for _, secret := range r.LocalSecrets {
		if secret.Name == name {
			return localVariable(name, secret.Token()), true
		}
	}
	return Variable{}, false
}

// pool looks in a request's variables, and remembers the names that were looked for.
type pool struct {
	req   *Request
	asked map[string]bool
	seal  *sealer
}

func newPool(req *Request, seal *sealer) *pool {
	return &pool{req: req, asked: map[string]bool{}, seal: seal}
}

// localVariable is a secret of the agent's own. Its token counts as secret, so that what
// it goes into is sealed as the value would be.
func localVariable(name, token string) Variable {
	return Variable{Name: name, Value: token, Secret: true}
}

// get returns the value of a variable and remembers that the result depends on it.
func (p *pool) get(name string) (string, bool) {
	p.asked[name] = true
	v, ok := p.req.pooled(name)
	if !ok || v.Refused != "" {
		return "", false
	}
	if v.Secret {
		p.seal.addSecret(v.Value)
		p.seal.names[name] = true
	}
	return v.Value, true
}

// refused says why a variable that exists may not be used here.
func (p *pool) refused(name string) string {
	v, _ := p.req.pooled(name)
	return v.Refused
}

// names are those that were looked for.
func (p *pool) names() []string { return slices.Sorted(maps.Keys(p.asked)) }

// scope is what the variables of one file stand for. The pool comes last: whatever the
// repository says is nearer to the stack.
type scope struct {
	own  map[string]string
	pool *pool
}

func (s scope) lookup(name string) (string, bool) {
	if value, ok := s.own[name]; ok {
		return value, true
	}
	return s.pool.get(name)
}

// peek is lookup for finding places and names: the result does not depend on it.
func (s scope) peek(name string) (string, bool) {
	if value, ok := s.own[name]; ok {
		return value, true
	}
	v, ok := s.pool.req.pooled(name)
	return v.Value, ok && v.Refused == ""
}

// over looks in vars before the scope's own variables.
func (s scope) over(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if value, ok := vars[name]; ok {
			return value, true
		}
		return s.lookup(name)
	}
}

// refused says why the scope has no value for a variable that exists.
func (s scope) refused(name string) string {
	if _, ok := s.own[name]; ok {
		return ""
	}
	return s.pool.refused(name)
}

// known are all names, for a hint.
func (s scope) known() []string {
	names := slices.Collect(maps.Keys(s.own))
	if variables := s.pool.req.Variables; variables != nil {
		names = append(names, variables.Names()...)
	}
	for _, secret := range s.pool.req.LocalSecrets {
		names = append(names, secret.Name)
	}
	return names
}
