package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

// recordKinds are the kinds that are listed from core's records, as people write them.
var recordKinds = []string{
	"actions", "alerters", "builders", "builds", "deployments", "procedures", "repos", "swarms", "user-groups", "variables",
}

func (a *app) getCommand() *cobra.Command {
	kinds := append([]string{"servers", "stacks", "syncs", "containers", "resources"}, recordKinds...)
	return &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "List one kind of thing, or show one of them",
		Long: `List one kind of thing, or show one of them.

Servers, stacks, syncs and containers are shown with their live state. The other kinds, and
"resources" for all of them, are what the applied commits declare.

Kinds: ` + strings.Join(kinds, ", ") + ".",
		Example:   "  varan get servers\n  varan get procedures\n  varan get variable DOMAIN --json",
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 1 {
				name = args[1]
			}
			kind := strings.ReplaceAll(strings.TrimSuffix(args[0], "s"), "_", "-")
			switch kind {
			case "server":
				return some(a, cmd, client.Servers, name, func(v api.Server) string { return v.Name },
					func(s style, v []api.Server) { a.printServers(s, v, time.Now()) })
			case "stack":
				return some(a, cmd, client.Stacks, name, func(v api.Stack) string { return v.Name },
					func(s style, v []api.Stack) { a.printStacks(s, v, time.Now()) })
			case "container":
				return some(a, cmd, client.Stacks, name, func(v api.Stack) string { return v.Name }, a.printContainers)
			case "sync", "resource-sync":
				return some(a, cmd, client.Syncs, name, func(v api.Sync) string { return v.Name },
					func(s style, v []api.Sync) { a.printSyncs(s, v, time.Now()) })
			}
			if kind != "resource" && !slices.Contains(recordKinds, kind+"s") {
				return &exit.Error{
					Code: exit.Usage, Err: fmt.Errorf("there are no %q", args[0]), Hint: "varan get " + strings.Join(kinds, ", "),
				}
			}
			return a.getRecords(cmd, client, strings.ReplaceAll(kind, "-", "_"), name)
		},
	}
}

// some lists what has the name, or everything when there is none.
func some[T any](
	a *app, cmd *cobra.Command, list func(context.Context) ([]T, error), name string, nameOf func(T) string, show func(style, []T),
) error {
	if name == "" {
		return listed(a, list, cmd, show)
	}
	all, err := list(cmd.Context())
	if err != nil {
		return err
	}
	found := slices.DeleteFunc(all, func(v T) bool { return nameOf(v) != name })
	if len(found) == 0 {
		return &exit.Error{
			Code: exit.Failed, Err: fmt.Errorf("there is no %q", name), Hint: "varan " + cmdPath(cmd) + " " + cmd.Flags().Arg(0),
		}
	}
	return listed(a, func(context.Context) ([]T, error) { return found, nil }, cmd, show)
}

func (a *app) getRecords(cmd *cobra.Command, client *api.Client, kind, name string) error {
	if name == "" {
		if kind == "resource" {
			kind = ""
		}
		list := func(ctx context.Context) ([]api.Resource, error) { return client.Resources(ctx, kind) }
		return listed(a, list, cmd, a.printResources)
	}
	if kind == "resource" {
		var ok bool
		if kind, name, ok = strings.Cut(name, "/"); !ok {
			return &exit.Error{Code: exit.Usage, Err: errors.New("which kind of resource?"), Hint: "varan get resource KIND/NAME"}
		}
	}
	one, err := client.Resource(cmd.Context(), kind, name)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(one)
	}
	s := styleFor(a.stdout)
	fmt.Fprintf(a.stdout, "%s %s  %s\n", s.bold(strings.ReplaceAll(one.Kind, "_", " ")), one.Name, s.dim(one.Origin.String()))
	fmt.Fprintf(a.stdout, "  of sync %s, commit %s, %s ago\n", one.Sync, orDash(fleet.Commit{ID: one.Commit}.Short()), ago(one.Updated, time.Now()))
	for _, f := range one.Fields {
		value := f.Value
		if f.Keyed != "" {
			value = fleet.Secret{}.String()
		}
		fmt.Fprintf(a.stdout, "  %s = %s\n", f.Path, printable(strings.ReplaceAll(value, "\n", `\n`)))
	}
	return nil
}

func (a *app) printResources(s style, resources []api.Resource) {
	t := table{head: []string{"KIND", "NAME", "SYNC", "COMMIT", "UPDATED", "DECLARED"}}
	for i := range resources {
		r := &resources[i]
		commit := "-"
		if r.Commit != "" {
			commit = fleet.Commit{ID: r.Commit}.Short()
		}
		t.add(r.Kind, r.Name, r.Sync, commit, ago(r.Updated, time.Now()), r.Origin.String())
	}
	t.write(a.stdout, s)
}
