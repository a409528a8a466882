package compose

import (
	"maps"
	"slices"
)

// pool is what a stack may use without declaring it, and the names that were looked for.
type pool struct {
	vars  map[string]Variable
	asked map[string]bool
	seal  *sealer
}

func newPool(req *Request, seal *sealer) *pool {
	p := &pool{vars: make(map[string]Variable, len(req.Variables)), asked: map[string]bool{}, seal: seal}
	for _, secret := range req.LocalSecrets {
		p.vars[secret.Name] = localVariable(secret.Name, secret.Token())
	}
	for _, v := range req.Variables {
		p.vars[v.Name] = v
	}
	return p
}

// localVariable is a secret of the agent's own. Its token counts as secret, so that what
// it goes into is sealed as the value would be.
func localVariable(name, token string) Variable {
	return Variable{Name: name, Value: token, Secret: true}
}

// get returns the value of a variable and remembers that the result depends on it.
func (p *pool) get(name string) (string, bool) {
	p.asked[name] = true
	v, ok := p.vars[name]
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
func (p *pool) refused(name string) string { return p.vars[name].Refused }

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
	v, ok := s.pool.vars[name]
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

// known are all names that have a value, for a hint.
func (s scope) known() []string {
	names := slices.Collect(maps.Keys(s.own))
	for name, v := range s.pool.vars {
		if v.Refused == "" {
			names = append(names, name)
		}
	}
	return names
}
