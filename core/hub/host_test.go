package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
)

func TestFilesAndProjectsOfAHost(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	files := []wire.HostFile{{Path: "compose.yaml", Mode: 0o644, Content: []byte("services: {}")}, {Path: ".env", Missing: true}}
	a.on(wire.VerbFiles, func(_ context.Context, _ wire.Verb, body []byte, stream io.Writer) (any, error) {
		var req wire.FilesRequest
		if err := wire.Decode(body, &req); err != nil {
			return nil, err
		}
		if req.Dir != "/srv/web" {
			return nil, wire.Errorf(wire.CodeDenied, "the policy does not let core use %s", req.Dir)
		}
		out := json.NewEncoder(stream)
		for _, f := range files {
			if err := out.Encode(f); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	got, err := c.hub.Files(t.Context(), "alpha", wire.FilesRequest{Dir: "/srv/web", Files: []string{"compose.yaml", ".env"}})
	if diff := cmp.Diff(files, got); err != nil || diff != "" {
		t.Errorf("%v, files (-want +got):\n%s", err, diff)
	}
	_, err = c.hub.Files(t.Context(), "alpha", wire.FilesRequest{Dir: "/etc", Files: []string{"shadow"}})
	wantCode(t, err, wire.CodeDenied)

	a.on(wire.VerbProjects, func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
		return wire.Projects{Projects: []wire.Project{{
			Name: "web", WorkingDir: "/srv/web\x1b[2J", Containers: []wire.ProjectContainer{{ID: "1", Name: "web-app-1", State: fleet.StateRunning}},
		}}, Loose: []wire.ProjectContainer{{ID: "2", Name: "lone\x1b"}}}, nil
	})
	projects, err := c.hub.Projects(t.Context(), "alpha")
	if err != nil || len(projects.Projects) != 1 || projects.Projects[0].WorkingDir != "/srv/web\ufffd[2J" ||
		len(projects.Loose) != 1 || projects.Loose[0].Name != "lone\ufffd" {
		t.Errorf("projects %+v, %v", projects, err)
	}
	for _, err := range []error{
		second(c.hub.Files(t.Context(), "beta", wire.FilesRequest{})), second(c.hub.Projects(t.Context(), "beta")),
	} {
		if _, ok := errors.AsType[*hub.OfflineError](err); !ok {
			t.Errorf("an absent agent: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAnAgentThatSendsTooManyFilesIsNotBelieved(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	a.on(wire.VerbFiles, func(_ context.Context, _ wire.Verb, _ []byte, stream io.Writer) (any, error) {
		out := json.NewEncoder(stream)
		for range wire.MaxHostFiles + 1 {
			if err := out.Encode(wire.HostFile{Path: "x"}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	_, err := c.hub.Files(t.Context(), "alpha", wire.FilesRequest{Dir: "/srv", Files: []string{"."}})
	wantCode(t, err, wire.CodeTooLarge)
}

// accounts is a hub.LoginSource in memory.
type accounts map[fleet.RegistryAccount]string

func (a accounts) Logins(_ context.Context, account fleet.RegistryAccount) ([]wire.Login, error) {
	password, ok := a[account]
	if !ok {
		return nil, errors.New("no such account in the table with canary")
	}
	return []wire.Login{{Registry: account.Registry, Username: account.Account, Password: password}}, nil
}

func TestRegistryAccountsAreOnlyForOrdersThatNameThem(t *testing.T) {
	known := fleet.RegistryAccount{Registry: "ghcr.io", Account: "ci"}
	c := newCore(t, func(cfg *hub.Config) { cfg.Logins = accounts{known: "p4ssword"} })
	a, b := c.online(c.register("alpha"), "alpha"), c.online(c.register("beta"), "beta")
	orders := a.takes()
	ask := func(a *agent, order string) (wire.Logins, error) {
		var answer wire.Logins
		err := a.peer.Call(t.Context(), wire.VerbRegistry, wire.RegistryRequest{Order: order}, &answer)
		return answer, err
	}
	order := anOrder("o1")
	order.Release.Options.Registry = known
	done := c.dispatch(t.Context(), order, nil, nil)
	<-orders
	want := wire.Logins{Logins: []wire.Login{{Registry: "ghcr.io", Username: "ci", Password: "p4ssword"}}}
	if got, err := ask(a, "o1"); err != nil || !cmp.Equal(want, got) {
		t.Errorf("got %v, %v", got, err)
	}
	_, err := ask(b, "o1")
	wantCode(t, err, wire.CodeNotFound)
	_, err = ask(a, "o2")
	wantCode(t, err, wire.CodeNotFound)
	a.result(succeeded("o1"))
	<-done
	_, err = ask(a, "o1")
	wantCode(t, err, wire.CodeNotFound)

	for id, account := range map[string]fleet.RegistryAccount{"none": {}, "unknown": {Registry: "ghcr.io", Account: "gone"}} {
		order := anOrder(id)
		order.Release.Options.Registry = account
		done := c.dispatch(t.Context(), order, nil, nil)
		<-orders
		_, err := ask(a, id)
		wantCode(t, err, map[string]wire.Code{"none": wire.CodeDenied, "unknown": wire.CodeNotFound}[id])
		a.result(succeeded(id))
		<-done
	}
}
