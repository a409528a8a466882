package core

import (
	"context"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

// maintenance is what procedures can have core do about itself and the fleet as a whole. Who
// adds a task takes idle off its row in sync/spec.
func (c *core) maintenance() procedure.Maintenance {
	return procedure.Maintenance{
		"ClearRepoCache":     c.clearRepoCache,
		"BackupCoreDatabase": c.backups.task,
		"RotateServerKeys": c.keyring.task(func(x *fleet.Execution) api.KeyRotation {
			return api.KeyRotation{Server: x.Text("server"), Emergency: x.Param("emergency").Bool}
		}),
		"RotateAllServerKeys": c.keyring.task(func(*fleet.Execution) api.KeyRotation { return api.KeyRotation{All: true} }),
		"RotateCoreKeys": c.keyring.task(func(x *fleet.Execution) api.KeyRotation {
			return api.KeyRotation{Core: true, Force: x.Param("force").Bool}
		}),
		"GlobalAutoUpdate": c.globalAutoUpdate,
	}
}

// clearRepoCache has what was fetched of all repositories fetched anew. What was read last
// stays in force until a repository has answered.
func (c *core) clearRepoCache(ctx context.Context, _ *fleet.Execution, _ func(string)) (string, error) {
	renewed, removed, err := c.source.mirrors.renew(ctx)
	for _, status := range c.reconciler.Statuses() {
		c.reconciler.Poke(status.Sync, reconciler.TriggerManual, "ClearRepoCache")
	}
	return fmt.Sprintf("%d repositories are cloned anew, %d that nothing follows any more were removed", renewed, removed), err
}
