package procedure

import (
	"context"
	"fmt"
	"slices"

	"github.com/varanhq/varan/fleet"
)

// Task carries out a maintenance execution and says in words what it did. It hears through
// ctx when core stops or the execution's time is up, and of which run it is, see RunOf; news is for a person who watches and may
// be called from any goroutine. The text counts also when there is an error: a task that did
// half of its work says so.
type Task func(ctx context.Context, x *fleet.Execution, news func(text string)) (text string, err error)

// Maintenance are the executions that are about core or the fleet as a whole, by type. Of one
// type there is never more than one under way: the next one waits for it.
type Maintenance map[string]Task

// maintenanceTypes are the executions that a Maintenance may have.
var maintenanceTypes = []string{
	"ClearRepoCache", "BackupCoreDatabase", "GlobalAutoUpdate", "RotateServerKeys", "RotateAllServerKeys", "RotateCoreKeys",
}

func isMaintenance(typ string) bool { return slices.Contains(maintenanceTypes, typ) }

// check refuses tasks that no execution could ask for.
func (m Maintenance) check() error {
	for typ, task := range m {
		if !isMaintenance(typ) || task == nil {
			return fmt.Errorf("procedure: %q is no maintenance execution, or has no task", typ)
		}
	}
	return nil
}

type runKey struct{}

func withRun(ctx context.Context, run string) context.Context {
	return context.WithValue(ctx, runKey{}, run)
}

// RunOf is the id of the run whose execution has work done; empty when none has. Whoever
// records what was done names it, so that it can be told what led to it.
func RunOf(ctx context.Context) string {
	run, _ := ctx.Value(runKey{}).(string)
	return run
}

// maintain carries out a maintenance execution in its turn.
func (x *run) maintain(ctx context.Context, u *unit) []Step {
	step := u.steps[0]
	turn := x.r.turns[u.execution.Type]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-x.canceled:
		return all(u, StatusCanceled, x.whyStopped().Error())
	case <-ctx.Done():
		return all(u, StatusCanceled, errShutdown.Error())
	}
	text, err := x.r.cfg.Maintenance[u.execution.Type](withRun(ctx, x.record.ID), u.execution, func(text string) { x.progress(&step, text) })
	u.steps[0].Text = text
	return said(ctx, u, err)
}
