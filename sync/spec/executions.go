package spec

// ParamKind is what a parameter of an execution holds.
type ParamKind string

// The kinds of parameters.
const (
	ParamText       ParamKind = "text"
	ParamList       ParamKind = "list"       // of strings
	ParamWords      ParamKind = "words"      // a list of strings, or a text that is split as a shell does
	ParamInt        ParamKind = "int"        // from 0
	ParamBool       ParamKind = "bool"       // false when absent
	ParamReference  ParamKind = "reference"  // the name of a resource
	ParamReferences ParamKind = "references" // names of resources
	ParamPattern    ParamKind = "pattern"    // names, wildcards and \regular expressions\ of resources
	ParamObject     ParamKind = "object"     // a table of anything
)

// ParamType is a parameter that an execution has.
type ParamType struct {
	Name string
	Kind ParamKind
	// Resource is the type that a reference or pattern names, such as "stack".
	Resource string
	// Required parameters must be given, and not be empty.
	Required bool
}

// ExecutionType is something that a procedure can run.
type ExecutionType struct {
	Name   string
	Params []ParamType
}

// param returns a parameter by name.
func (t ExecutionType) param(name string) *ParamType {
	for i := range t.Params {
		if t.Params[i].Name == name {
			return &t.Params[i]
		}
	}
	return nil
}

// Target is the parameter that names what the execution is about; nil when it is about
// nothing declared.
func (t ExecutionType) Target() *ParamType {
	for i := range t.Params {
		switch t.Params[i].Kind { //nolint:exhaustive // the rest name nothing
		case ParamReference, ParamPattern:
			return &t.Params[i]
		}
	}
	return nil
}

// ExecutionTypes lists all executions. It is read-only.
func ExecutionTypes() []ExecutionType { return executionTypes }

// FindExecution returns an execution type by name.
func FindExecution(name string) (ExecutionType, bool) {
	i, ok := executionIndex[name]
	if !ok {
		return ExecutionType{}, false
	}
	return executionTypes[i], true
}

func text(name string) ParamType   { return ParamType{Name: name, Kind: ParamText} }
func texts(name string) ParamType  { return ParamType{Name: name, Kind: ParamList} }
func number(name string) ParamType { return ParamType{Name: name, Kind: ParamInt} }
func flag(name string) ParamType   { return ParamType{Name: name, Kind: ParamBool} }
func free(name string) ParamType   { return ParamType{Name: name, Kind: ParamObject} }

func (p ParamType) must() ParamType {
	p.Required = true
	return p
}

// ref names the resource of the same type.
func ref(resource string) ParamType {
	return ParamType{Name: resource, Kind: ParamReference, Resource: resource, Required: true}
}

// runs is an execution about one resource, with further parameters.
func runs(name, resource string, more ...ParamType) ExecutionType {
	return ExecutionType{Name: name, Params: append([]ParamType{ref(resource)}, more...)}
}

// batch is an execution about all resources that a pattern matches.
func batch(name, resource string) ExecutionType {
	return ExecutionType{Name: name, Params: []ParamType{
		{Name: "pattern", Kind: ParamPattern, Resource: resource, Required: true}, texts("tags"),
	}}
}

func plain(name string, params ...ParamType) ExecutionType {
	return ExecutionType{Name: name, Params: params}
}

// The resource types as executions name them.
const (
	aStack      = "stack"
	aDeployment = "deployment"
	aServer     = "server"
	aRepo       = "repo"
	aBuild      = "build"
	aProcedure  = "procedure"
	anAction    = "action"
	aSwarm      = "swarm"
	services    = "services"
	stopTime    = "stop_time"
)

// executionTypes is the table that decoding, hints, reference checks and the JSON Schema
// are made from.
var executionTypes = []ExecutionType{
	plain("None"),
	plain("Sleep", number("duration_ms").must()),

	runs("DeployStack", aStack, texts(services), number(stopTime)),
	batch("BatchDeployStack", aStack),
	runs("DeployStackIfChanged", aStack, number(stopTime)),
	batch("BatchDeployStackIfChanged", aStack),
	runs("PullStack", aStack, texts(services)),
	batch("BatchPullStack", aStack),
	runs("StartStack", aStack, texts(services)),
	runs("RestartStack", aStack, texts(services)),
	runs("PauseStack", aStack, texts(services)),
	runs("UnpauseStack", aStack, texts(services)),
	runs("StopStack", aStack, number(stopTime), texts(services)),
	runs("DestroyStack", aStack, texts(services), flag("remove_orphans"), number(stopTime)),
	batch("BatchDestroyStack", aStack),
	runs("RunStackService", aStack, text("service").must(), ParamType{Name: "command", Kind: ParamWords}, flag("no_tty"), flag("no_deps"), flag("detach"),
		flag("service_ports"), free("env"), text("workdir"), text("user"), text("entrypoint"), flag("pull")),

	runs("Deploy", aDeployment, text("stop_signal"), number(stopTime)),
	batch("BatchDeploy", aDeployment),
	runs("PullDeployment", aDeployment),
	runs("StartDeployment", aDeployment),
	runs("RestartDeployment", aDeployment),
	runs("PauseDeployment", aDeployment),
	runs("UnpauseDeployment", aDeployment),
	runs("StopDeployment", aDeployment, text("signal"), number("time")),
	runs("DestroyDeployment", aDeployment, text("signal"), number("time")),
	batch("BatchDestroyDeployment", aDeployment),

	runs("RunBuild", aBuild),
	batch("BatchRunBuild", aBuild),
	runs("CancelBuild", aBuild),

	runs("CloneRepo", aRepo),
	runs("PullRepo", aRepo),
	runs("BuildRepo", aRepo),
	batch("BatchCloneRepo", aRepo),
	batch("BatchPullRepo", aRepo),
	batch("BatchBuildRepo", aRepo),
	runs("CancelRepoBuild", aRepo),

	runs("RunProcedure", aProcedure, free("inputs")),
	batch("BatchRunProcedure", aProcedure),
	runs("CancelProcedure", aProcedure, text("update_id")),
	runs("RunAction", anAction, free("args")),
	batch("BatchRunAction", anAction),
	runs("CancelAction", anAction, text("update_id")),

	plain("RunSync", ParamType{Name: "sync", Kind: ParamReference, Resource: "resource_sync", Required: true},
		text("resource_type"), texts("resources")),
	plain("CommitSync", ParamType{Name: "sync", Kind: ParamReference, Resource: "resource_sync", Required: true}),

	runs("TestAlerter", "alerter"),
	plain("SendAlert", text("level"), text("message").must(), text("details"),
		ParamType{Name: "alerters", Kind: ParamReferences, Resource: "alerter"}),

	runs("StartContainer", aServer, text("container").must()),
	runs("RestartContainer", aServer, text("container").must()),
	runs("PauseContainer", aServer, text("container").must()),
	runs("UnpauseContainer", aServer, text("container").must()),
	runs("StopContainer", aServer, text("container").must(), text("signal"), number("time")),
	runs("DestroyContainer", aServer, text("container").must(), text("signal"), number("time")),
	runs("StartAllContainers", aServer),
	runs("RestartAllContainers", aServer),
	runs("PauseAllContainers", aServer),
	runs("UnpauseAllContainers", aServer),
	runs("StopAllContainers", aServer),
	runs("PruneContainers", aServer),
	runs("PruneNetworks", aServer),
	runs("PruneImages", aServer),
	runs("PruneVolumes", aServer),
	runs("PruneDockerBuilders", aServer),
	runs("PruneBuildx", aServer),
	runs("PruneSystem", aServer),
	runs("DeleteNetwork", aServer, text("name").must()),
	runs("DeleteImage", aServer, text("name").must()),
	runs("DeleteVolume", aServer, text("name").must()),

	runs("RemoveSwarmNodes", aSwarm, texts("nodes"), flag("force")),
	runs("UpdateSwarmNode", aSwarm, text("node"), text("availability"), free("label_add"), texts("label_rm"), text("role")),
	runs("RemoveSwarmStacks", aSwarm, texts("stacks"), flag("detach")),
	runs("RemoveSwarmServices", aSwarm, texts(services)),
	runs("CreateSwarmConfig", aSwarm, text("name"), text("data"), free("labels"), text("template_driver")),
	runs("RotateSwarmConfig", aSwarm, text("config"), text("data")),
	runs("RemoveSwarmConfigs", aSwarm, texts("configs")),
	runs("CreateSwarmSecret", aSwarm, text("name"), text("data"), text("driver"), free("labels"), text("template_driver")),
	runs("RotateSwarmSecret", aSwarm, text("secret"), text("data")),
	runs("RemoveSwarmSecrets", aSwarm, texts("secrets")),

	plain("ClearRepoCache"),
	plain("BackupCoreDatabase"),
	plain("GlobalAutoUpdate", flag("skip_auto_update")),
	runs("RotateServerKeys", aServer, flag("emergency")),
	plain("RotateAllServerKeys"),
	plain("RotateCoreKeys", flag("force")),
}

var executionIndex = func() map[string]int {
	index := make(map[string]int, len(executionTypes))
	for i := range executionTypes {
		index[executionTypes[i].Name] = i
	}
	return index
}()

func executionNames() []string {
	names := make([]string, len(executionTypes))
	for i := range executionTypes {
		names[i] = executionTypes[i].Name
	}
	return names
}
