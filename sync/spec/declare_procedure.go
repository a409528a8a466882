package spec

import "github.com/varanhq/varan/fleet"

// Procedure is a [[procedure]] table: stages that run in order.
type Procedure struct {
	Common
	Config ProcedureConfig

	marks
}

// ProcedureConfig is [procedure.config].
type ProcedureConfig struct {
	Stages []Stage `key:"stage" alias:"stages" doc:"Stages, one after the other; one that fails ends the procedure."`
	Timetable
	Webhook

	_ struct{} `retired:"procedure_type" doc:"stages run in order, and what is in a stage runs at once"`
}

// Stage is executions that run at the same time.
type Stage struct {
	Name       string      `key:"name" doc:"Name of the stage."`
	Enabled    bool        `key:"enabled" default:"true" doc:"Whether the stage runs."`
	Executions []Execution `key:"executions" alias:"execution" doc:"What runs, all at the same time."`
	Pos        fleet.Position
}

// Action is an [[action]] table: a script. It is kept and not acted on.
type Action struct {
	Common
	Config ActionConfig

	marks
}

// ActionConfig is [action.config].
type ActionConfig struct {
	RunAtStartup bool `key:"run_at_startup" doc:"Run when core starts."`
	Timetable
	Webhook
	ReloadDenoDeps  bool   `key:"reload_deno_deps" doc:"Fetch the script's dependencies anew."`
	FileContents    string `key:"file_contents" form:"file" doc:"The script."`
	ArgumentsFormat string `key:"arguments_format" default:"key_value" enum:"key_value,toml,yaml,json" doc:"How the arguments are written."`
	Arguments       string `key:"arguments" form:"file" doc:"Arguments of the script."`
}
