package store

import (
	"context"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// SetVariable creates or replaces a variable.
func (s *Store) SetVariable(ctx context.Context, name string, spec api.VariableSpec) (api.Variable, error) {
	now := s.clock()
	value := []byte(spec.Value)
	if spec.Secret {
		value = s.sealer.seal(variableOf(name), value)
	}
	scope, err := encode(spec.Scope)
	if err != nil {
		return api.Variable{}, err
	}
	_, err = s.exec(ctx, `INSERT INTO variables (name, value, secret, description, scope, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET value = excluded.value,
		secret = excluded.secret, description = excluded.description, scope = excluded.scope,
		updated_at = excluded.updated_at`, name, value, spec.Secret, spec.Description, scope, stamp(now))
	if err != nil {
		return api.Variable{}, fmt.Errorf("set variable %q: %w", name, err)
	}
	variable := api.Variable{
		Name: name, Secret: spec.Secret, Description: spec.Description, Scope: spec.Scope, Updated: timeOf(stamp(now)),
	}
	if !spec.Secret {
		variable.Value = string(spec.Value)
	}
	return variable, nil
}

// DeleteVariable removes a variable.
func (s *Store) DeleteVariable(ctx context.Context, name string) error {
	if err := oneRow(s.exec(ctx, "DELETE FROM variables WHERE name = $1", name)); err != nil {
		return fmt.Errorf("delete variable %q: %w", name, err)
	}
	return nil
}

// Variables lists the variables by name, secrets without their values.
func (s *Store) Variables(ctx context.Context) ([]api.Variable, error) {
	variables, err := list(ctx, s.reader, func(row scanner) (v api.Variable, err error) {
		err = row.Scan(&v.Name, &v.Value, &v.Secret, &v.Description, jsonColumn{&v.Scope}, stampColumn{&v.Updated})
		return v, err
	}, `SELECT name, CASE WHEN secret THEN '' ELSE value END, secret, description, scope, updated_at
		FROM variables ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list variables: %w", err)
	}
	return variables, nil
}

// Variable is a variable with its value, for rendering.
type Variable struct {
	Name   string
	Value  fleet.Secret
	Secret bool
	Scope  fleet.Scope
}

// RevealVariables lists the variables by name with their values. Only the renderer needs
// them.
func (s *Store) RevealVariables(ctx context.Context) ([]Variable, error) {
	variables, err := list(ctx, s.reader, s.scanVariable, "SELECT name, value, secret, scope FROM variables ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list variables: %w", err)
	}
	return variables, nil
}

func (s *Store) scanVariable(row scanner) (Variable, error) {
	var (
		v     Variable
		value []byte
		err   error
	)
	if err := row.Scan(&v.Name, &value, &v.Secret, jsonColumn{&v.Scope}); err != nil {
		return v, err
	}
	if v.Secret {
		value, err = s.sealer.open(variableOf(v.Name), value)
	}
	v.Value = fleet.NewSecret(string(value))
	return v, err
}

func variableOf(name string) place { return place{table: "variables", column: "value", row: name} }
