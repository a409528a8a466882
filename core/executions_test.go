package core_test

import (
	"strings"
	"testing"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/procedure"
	"github.com/varanhq/varan/sync/spec"
)

// komodos are the executions of Komodo 2.3, by what they are about.
const komodos = `None Sleep
DeployStack BatchDeployStack DeployStackIfChanged BatchDeployStackIfChanged PullStack BatchPullStack StartStack RestartStack
PauseStack UnpauseStack StopStack DestroyStack BatchDestroyStack RunStackService
Deploy BatchDeploy PullDeployment StartDeployment RestartDeployment PauseDeployment UnpauseDeployment StopDeployment
DestroyDeployment BatchDestroyDeployment
RunBuild BatchRunBuild CancelBuild
CloneRepo PullRepo BuildRepo BatchCloneRepo BatchPullRepo BatchBuildRepo CancelRepoBuild
RunProcedure BatchRunProcedure CancelProcedure RunAction BatchRunAction CancelAction
RunSync CommitSync
TestAlerter SendAlert
StartContainer RestartContainer PauseContainer UnpauseContainer StopContainer DestroyContainer
StartAllContainers RestartAllContainers PauseAllContainers UnpauseAllContainers StopAllContainers
PruneContainers PruneNetworks PruneImages PruneVolumes PruneDockerBuilders PruneBuildx PruneSystem
DeleteNetwork DeleteImage DeleteVolume
RemoveSwarmNodes UpdateSwarmNode RemoveSwarmStacks RemoveSwarmServices CreateSwarmConfig RotateSwarmConfig RemoveSwarmConfigs
CreateSwarmSecret RotateSwarmSecret RemoveSwarmSecrets
ClearRepoCache BackupCoreDatabase GlobalAutoUpdate RotateAllServerKeys RotateCoreKeys`

func TestEveryExecutionOfKomodosRunsOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	for typ := range strings.FieldsSeq(komodos) {
		if _, ok := spec.FindExecution(typ); !ok {
			t.Errorf("%s is not known", typ)
			continue
		}
		switch runs, refused := procedure.Runs(typ), fleet.RefusedExecution(typ); {
		case runs && refused != "":
			t.Errorf("%s runs, and is refused: %s", typ, refused)
		case !runs && refused == "":
			t.Errorf("%s is neither run nor refused with a reason", typ)
		}
	}
}
