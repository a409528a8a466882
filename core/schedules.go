package core

import (
	"cmp"
	"context"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/spec"
)

// zone is the time zone of schedules that name none.
func (c *core) zone() string { return cmp.Or(c.settings().Timezone, "Local") }

// procedures makes what runs procedures, and what follows their schedules.
func (c *core) procedures() error {
	runner, err := procedure.New(procedure.Config{
		Applier: c.reconciler, Hosts: c.hub, Alerts: c.alerts, Journal: c.store, Catalog: c.catalog, Logger: c.cfg.Logger,
		Maintenance: c.maintenance(), Ended: c.alerts.ProcedureEnded,
	})
	if err != nil {
		return err
	}
	c.operations = &operations{Runner: runner, core: c}
	if c.scheduler, err = c.newScheduler(runner); err != nil {
		return err
	}
	c.reconciler.Subscribe(c.scheduled)
	return nil
}

// newScheduler makes what follows the schedules of the declared procedures.
func (c *core) newScheduler(runner *procedure.Runner) (*procedure.Scheduler, error) {
	return procedure.NewScheduler(procedure.SchedulerConfig{
		Runner: runner, Marks: c.store, Zone: c.zone, Logger: c.cfg.Logger, Fired: c.alerts.ProcedureScheduled,
		Procedures: func(ctx context.Context) ([]fleet.Procedure, bool, error) {
			declared, _, err := c.operations.Declared(ctx)
			complete := true
			for _, status := range c.reconciler.Statuses() {
				complete = complete && status.Planned
			}
			return declared, complete, err
		},
		Tell: func(ctx context.Context, text string) { c.record(ctx, api.Event{Kind: "schedule", Text: text}) },
	})
}

// scheduled wakes the scheduler when a sync may declare something else: a time that is near does
// not wait for its next look.
func (c *core) scheduled(e reconciler.Event) {
	if e.Kind == reconciler.EventStatus || e.Kind == reconciler.EventPlan {
		c.scheduler.Changed()
	}
}

// Zone implements web.Procedures.
func (o *operations) Zone() string { return o.core.zone() }

// ProceduresChanged implements web.Procedures.
func (o *operations) ProceduresChanged() {
	o.core.ownMu.Lock()
	o.core.ownRead = nil
	o.core.ownMu.Unlock()
	o.core.scheduler.Changed()
}

// own are the procedures that core has of its own. The scheduler asks for them every minute,
// and they change once in a lifetime.
func (c *core) own(ctx context.Context) ([]spec.Procedure, error) {
	c.ownMu.Lock()
	defer c.ownMu.Unlock()
	if c.ownRead != nil {
		return c.ownRead, nil
	}
	own, err := c.readOwn(ctx)
	if err == nil {
		c.ownRead = own
	}
	return own, err
}

func (c *core) readOwn(ctx context.Context) ([]spec.Procedure, error) {
	stored, err := c.store.OwnProcedures(ctx)
	if err != nil {
		return nil, err
	}
	all := []spec.Procedure{}
	for _, p := range stored {
		file, diags := spec.ParseFile("core:"+p.Name, []byte(p.TOML))
		if diags.HasErrors() {
			return nil, fmt.Errorf("core's own procedure %q: %w", p.Name, diags)
		}
		for _, declared := range file.Procedures {
			declared.Config.ScheduleEnabled = declared.Config.ScheduleEnabled && p.Enabled
			all = append(all, declared)
		}
	}
	return all, nil
}

// ownProcedures are they as they are run, without those of which the name is taken.
func (c *core) ownProcedures(ctx context.Context, sources map[string]string) ([]fleet.Procedure, error) {
	own, err := c.own(ctx)
	var out []fleet.Procedure
	for i := range own {
		if _, taken := sources[own[i].Name]; !taken {
			sources[own[i].Name] = api.OwnSource
			out = append(out, render.Procedure(&own[i], fleet.Secret{}))
		}
	}
	return out, err
}
