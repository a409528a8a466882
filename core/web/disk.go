package web

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
)

// newWork are the operations that begin something or keep something new. What is not among
// them works on a full disk: to read, to plan, to delete, to revoke, to suspend, to stop.
func newWork() []string {
	return []string{
		"applySync", "deployStack", "rollback", "runSync", "runProcedure", "runExecution", "checkUpdates", "makeBackup",
		"addSync", "setVariable", "upsertVariable", "setAccount", "createKey", "createOnboardingKey", "approveServer",
	}
}

// refuseOnFullDisk answers new work with what keeps it from being done.
func (s *server) refuseOnFullDisk(ctx huma.Context, next func(huma.Context)) {
	if !slices.Contains(newWork(), ctx.Operation().OperationID) {
		next(ctx)
		return
	}
	low, full := s.LowDisk()
	if !full {
		next(ctx)
		return
	}
	ctx.SetHeader("Content-Type", "application/json")
	ctx.SetStatus(http.StatusInsufficientStorage)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(&api.Error{ // the client is gone, or has the answer
		Status: http.StatusInsufficientStorage, Code: api.CodeNoRoom,
		Message: "core's disk is nearly full and nothing new begins: " + low,
		Hint:    "make room on core's host, it goes on by itself then; deleting, revoking and suspending still work",
	})
}
