package web

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
)

// maxVariable is the longest value of a variable.
const maxVariable = 64 << 10

// komodoVariable is where Komodo's clients set variables.
const komodoVariable = "/api/variable"

// accountNamed is the input of an operation on an account.
type accountNamed struct {
	Kind     string `path:"kind" maxLength:"16"`
	Domain   string `path:"domain" maxLength:"255"`
	Username string `path:"username" maxLength:"255"`
}

// accountBody is the same with what opens it.
type accountBody struct {
	Kind     string `path:"kind" maxLength:"16"`
	Domain   string `path:"domain" maxLength:"255"`
	Username string `path:"username" maxLength:"255"`
	Body     api.AccountSpec
}

func (s *server) registerValues(a huma.API) {
	handle(s, a, route(http.MethodGet, "/variables", "listVariables", "Variables by name, secrets without values"),
		func(ctx context.Context, _ *none) ([]api.Variable, error) { return s.Store.Variables(ctx) })
	handle(s, a, route(http.MethodPut, "/variables/{name}", "setVariable", "Create or replace a variable"), s.setVariable)
	act(s, a, route(http.MethodDelete, "/variables/{name}", "deleteVariable", "Remove a variable"), s.deleteVariable)
	upsert := route(http.MethodPost, "", "upsertVariable", "Set a variable as Komodo's clients do")
	upsert.Path = komodoVariable
	handle(s, a, upsert, s.upsertVariable)

	handle(s, a, route(http.MethodGet, "/accounts", "listAccounts", "Accounts at Git hosts and registries, without what opens them"),
		func(ctx context.Context, _ *none) ([]api.Account, error) { return s.Store.Accounts(ctx) })
	handle(s, a, route(http.MethodPut, "/accounts/{kind}/{domain}/{username}", "setAccount", "Create or replace an account"), s.setAccount)
	act(s, a, route(http.MethodDelete, "/accounts/{kind}/{domain}/{username}", "deleteAccount", "Remove an account"), s.deleteAccount)
}

func (s *server) setVariable(ctx context.Context, in *namedBody[api.VariableSpec]) (api.Variable, error) {
	if ok, _ := regexp.MatchString(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`, in.Name); !ok {
		return api.Variable{}, badRequest(fmt.Sprintf("%q cannot be the name of a variable", in.Name),
			"use a letter or underscore, then letters, digits, underscores, dots or dashes")
	}
	if len(in.Body.Value) > maxVariable {
		return api.Variable{}, &api.Error{
			Status: http.StatusRequestEntityTooLarge, Code: api.CodeTooLarge,
			Message: fmt.Sprintf("the value of %s is longer than 64 KiB", in.Name), Hint: "put it into a file of the repository",
		}
	}
	if err := checkScope(in.Body.Tags); err != nil {
		return api.Variable{}, err
	}
	variable, err := s.Store.SetVariable(ctx, in.Name, in.Body)
	if err != nil {
		return variable, err
	}
	s.record(ctx, api.Event{Kind: "variable", Text: "variable " + in.Name + " set"})
	s.wakeAll(ctx)
	return variable, nil
}

// checkScope refuses a misspelt scope: it would be none, and open the variable to all.
func checkScope(tags []string) error {
	known := []string{"scope:trusted", "scope:untrusted", "scope:all"}
	for _, tag := range tags {
		if strings.HasPrefix(strings.ToLower(tag), "scope:") && !slices.Contains(known, tag) {
			return badRequest(fmt.Sprintf("there is no scope %q", tag), strings.Join(known, ", "))
		}
	}
	return nil
}

// upsertVariable keeps what the request leaves out. A secret stays one unless the request
// says otherwise and brings its value: what is sealed is never shown by a change of its kind.
func (s *server) upsertVariable(ctx context.Context, in *body[api.VariableUpsert]) (api.VariableUpserted, error) {
	req := in.Body
	variables, err := s.Store.Variables(ctx)
	if err != nil {
		return api.VariableUpserted{}, err
	}
	var before api.Variable
	if i := slices.IndexFunc(variables, func(v api.Variable) bool { return v.Name == req.Name }); i >= 0 {
		before = variables[i]
	}
	if req.Value == nil {
		return api.VariableUpserted{}, badRequest(fmt.Sprintf("variable %q is set without a value", req.Name),
			`send {"name": ..., "value": ..., "is_secret": true}`)
	}
	spec := api.VariableSpec{Value: *req.Value, Secret: before.Secret, Description: before.Description, Scope: before.Scope}
	if req.IsSecret != nil {
		spec.Secret = *req.IsSecret
	}
	if req.Description != nil {
		spec.Description = *req.Description
	}
	if req.Tags != nil {
		spec.Tags = req.Tags
	}
	set, err := s.setVariable(ctx, &namedBody[api.VariableSpec]{Name: req.Name, Body: spec})
	if err != nil {
		return api.VariableUpserted{}, err
	}
	return api.VariableUpserted{Name: set.Name, Value: set.Value, IsSecret: set.Secret, Description: set.Description}, nil
}

func (s *server) deleteVariable(ctx context.Context, in *named) error {
	if err := s.Store.DeleteVariable(ctx, in.Name); err != nil {
		return err
	}
	s.record(ctx, api.Event{Kind: "variable", Text: "variable " + in.Name + " deleted"})
	s.wakeAll(ctx)
	return nil
}

// domain is a host, with a port or without.
var domain = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?$`)

func (s *server) setAccount(ctx context.Context, in *accountBody) (api.Account, error) {
	id := api.AccountID{Kind: in.Kind, Domain: strings.ToLower(in.Domain), Username: in.Username}
	if err := checkAccount(id, in.Body); err != nil {
		return api.Account{}, err
	}
	account, err := s.Store.SetAccount(ctx, id, in.Body)
	if err != nil {
		return account, err
	}
	s.record(ctx, api.Event{Kind: "account", Text: id.String() + " set"})
	s.wakeAll(ctx)
	return account, nil
}

func checkAccount(id api.AccountID, spec api.AccountSpec) error {
	switch {
	case id.Kind != api.AccountGit && id.Kind != api.AccountRegistry:
		return badRequest(fmt.Sprintf("there is no kind of account %q", id.Kind), "git or registry")
	case !domain.MatchString(id.Domain):
		return badRequest(fmt.Sprintf("%q is not a host", id.Domain), "write it without https://, like github.com or ghcr.io")
	case id.Username == "" || strings.ContainsAny(id.Username, " \t\r\n:/@"):
		return badRequest(fmt.Sprintf("%q is not a user name", id.Username), "")
	case id.Kind == api.AccountRegistry && spec.SSHKey != "":
		return badRequest("a registry is not opened by an SSH key", "give a token")
	case spec.Token == "" && spec.SSHKey == "":
		return badRequest("the account has neither a token nor an SSH key", "send one of them")
	case spec.SSHKey != "" && strings.TrimSpace(spec.KnownHosts) == "":
		return badRequest("an SSH key needs the server's host keys", "send known_hosts; ssh-keyscan prints them, compare them first")
	}
	return nil
}

func (s *server) deleteAccount(ctx context.Context, in *accountNamed) error {
	id := api.AccountID{Kind: in.Kind, Domain: strings.ToLower(in.Domain), Username: in.Username}
	if err := s.Store.DeleteAccount(ctx, id); err != nil {
		return err
	}
	s.record(ctx, api.Event{Kind: "account", Text: id.String() + " deleted"})
	s.wakeAll(ctx)
	return nil
}
