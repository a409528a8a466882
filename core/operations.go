package core

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/varanhq/varan/core/alert"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
	"github.com/varanhq/varan/reconciler/procedure"
	"github.com/varanhq/varan/sync/spec"
)

var _ web.Procedures = (*operations)(nil)

// operations is what the handlers see of procedures: the runner, and what is declared.
type operations struct {
	*procedure.Runner
	core *core
}

// desired is what the last good commits of all syncs say, by the name of the sync.
// It is asked for every few seconds and keeps to what is in memory.
func (c *core) desired() []fleet.Desired {
	var all []fleet.Desired
	for _, status := range c.reconciler.Statuses() {
		if desired, ok := c.source.Desired(status.Sync); ok {
			desired.Sync = status.Sync
			all = append(all, desired)
		}
	}
	return all
}

// Declared implements web.Procedures. Of two with one name that of the first sync counts, and
// core's own comes last.
func (o *operations) Declared(ctx context.Context) ([]fleet.Procedure, map[string]string, error) {
	all := o.core.desired()
	var procedures []fleet.Procedure
	sources := map[string]string{}
	for i := range all {
		for _, p := range all[i].Procedures {
			if _, taken := sources[p.Name]; !taken {
				sources[p.Name] = all[i].Sync
				procedures = append(procedures, p)
			}
		}
	}
	own, err := o.core.ownProcedures(ctx, sources)
	if err != nil {
		return nil, nil, err
	}
	procedures = append(procedures, own...)
	slices.SortFunc(procedures, func(a, b fleet.Procedure) int { return strings.Compare(a.Name, b.Name) })
	return procedures, sources, nil
}

// view is what alerts are about.
func (c *core) view(ctx context.Context) (alert.View, error) {
	v := alert.View{Observed: c.hub.Observed(), Desired: c.desired(), Syncs: c.reconciler.Statuses(), Runs: c.operations.Active(), Flapping: c.hub.Flapping()}
	v.LowDisk, _ = c.disk.Low()
	v.Clock = c.clockText()
	pending, err := c.store.PendingServers(ctx)
	if err != nil {
		return alert.View{}, err
	}
	if v.Newer, err = c.newer(ctx, v.Desired); err != nil {
		return alert.View{}, err
	}
	for i := range pending {
		v.Pending = append(v.Pending, alert.Pending{Server: pending[i].Name, Text: web.PendingText(pending[i])})
	}
	keys, err := c.store.TriedKeys(ctx)
	for i := range keys {
		if k := &keys[i]; k.Expires.After(c.store.Clock().Now) {
			v.Tried = append(v.Tried, alert.Tried{Key: k.ID, Failures: k.Failures})
		}
	}
	return v, err
}

// catalog is what there is to run, and on what.
func (c *core) catalog(ctx context.Context) (procedure.Catalog, error) {
	var out procedure.Catalog
	var err error
	if out.Procedures, _, err = c.operations.Declared(ctx); err != nil {
		return out, err
	}
	if out.Suspended, err = c.suspendedProcedures(ctx); err != nil {
		return out, err
	}
	if text, low := c.disk.Low(); low {
		for _, p := range out.Procedures {
			out.Suspended[p.Name] = "core's disk is nearly full: " + text
		}
	}
	for server := range c.hub.Observed() {
		out.Servers = append(out.Servers, server)
	}
	all := c.desired()
	for i := range all {
		d := &all[i]
		out.Syncs = append(out.Syncs, d.Sync)
		for k := range d.Stacks {
			s := &d.Stacks[k]
			out.Stacks = append(out.Stacks, procedure.Target{Name: s.Name, Server: s.Server, Sync: d.Sync, Kind: s.Kind, Tags: s.Tags})
		}
		for _, s := range d.Servers {
			if !slices.Contains(out.Servers, s.Name) {
				out.Servers = append(out.Servers, s.Name)
			}
		}
	}
	return out, nil
}

// suspendedProcedures says of procedures that people suspended by whom and why.
func (c *core) suspendedProcedures(ctx context.Context) (map[string]string, error) {
	all, err := c.store.Suspensions(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, s := range all {
		if s.Kind == plan.KindProcedure {
			out[s.Name] = s.Text()
		}
	}
	return out, nil
}

// Execution implements web.Procedures with the table that resource files are checked by.
func (*operations) Execution(typ string, params map[string]string) (fleet.Execution, error) {
	known, ok := spec.FindExecution(typ)
	if !ok {
		names := make([]string, 0, len(spec.ExecutionTypes()))
		for _, t := range spec.ExecutionTypes() {
			names = append(names, t.Name)
		}
		return fleet.Execution{}, badExecution(fmt.Sprintf("there is no execution %q", typ), web.DidYouMean(typ, names))
	}
	x := fleet.Execution{Type: known.Name, Enabled: true}
	var names []string
	for _, p := range known.Params {
		names = append(names, p.Name)
		text, given := params[p.Name]
		if !given && p.Required {
			return x, badExecution(fmt.Sprintf("%s needs %s", typ, p.Name), fmt.Sprintf("varan run --execution %s %s=...", typ, p.Name))
		}
		if !given {
			continue
		}
		value, err := paramOf(p, text)
		if err != nil {
			return x, badExecution(fmt.Sprintf("%s of %s: %v", p.Name, typ, err), "")
		}
		x.Params = append(x.Params, value)
	}
	for name := range params {
		if !slices.Contains(names, name) {
			return x, badExecution(fmt.Sprintf("%s has no parameter %q", typ, name), web.DidYouMean(name, names))
		}
	}
	return x, nil
}

// paramOf reads a parameter written as one text.
func paramOf(p spec.ParamType, text string) (fleet.Param, error) {
	out := fleet.Param{Name: p.Name}
	var err error
	switch p.Kind {
	case spec.ParamList, spec.ParamReferences:
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				out.List = append(out.List, item)
			}
		}
	case spec.ParamWords:
		out.List = fleet.SplitWords(text)
	case spec.ParamInt:
		if out.Int, err = strconv.Atoi(text); err != nil || out.Int < 0 {
			return out, fmt.Errorf("%q is no number from 0", text)
		}
	case spec.ParamBool:
		if out.Bool, err = strconv.ParseBool(text); err != nil {
			return out, fmt.Errorf("%q is neither true nor false", text)
		}
	case spec.ParamText, spec.ParamReference, spec.ParamPattern, spec.ParamObject:
		out.Text = text
		if text == "" && p.Required {
			return out, fmt.Errorf("it is empty")
		}
	}
	return out, nil
}

func badExecution(message, hint string) *api.Error {
	return &api.Error{Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: message, Hint: hint}
}
