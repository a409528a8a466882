package spec

import (
	"time"

	"github.com/varanhq/varan/fleet"
)

// Procedure is a [[procedure]] table: stages that run in order.
type Procedure struct {
	Common
	Config ProcedureConfig

	marks
}

// ProcedureConfig is [procedure.config].
type ProcedureConfig struct {
	Inputs []Input `key:"input" alias:"inputs" doc:"What whoever starts a run may say of it; params name it as ${{ inputs.NAME }}."`
	Stages []Stage `key:"stage" alias:"stages" doc:"Stages, one after the other; one that fails ends the procedure."`
	Timetable
	Webhook

	_ struct{} `retired:"procedure_type" doc:"stages run in order, and what is in a stage runs at once"`
}

// Input is something that a run of a procedure is told.
type Input struct {
	Name        string   `key:"name" doc:"Name of the input: letters, digits, _ and -."`
	Description string   `key:"description" doc:"Free text for people."`
	Default     string   `key:"default" doc:"Value where none is given."`
	Required    bool     `key:"required" doc:"Whether it must be given."`
	Options     []string `key:"options" doc:"The values that it may have; empty is any."`
	Pos         fleet.Position
}

// Stage is executions that run at the same time, or an approval to wait for.
type Stage struct {
	Name    string `key:"name" doc:"Name of the stage."`
	Enabled bool   `key:"enabled" default:"true" doc:"Whether the stage runs."`
	Policy
	Approval   bool        `key:"approval" doc:"Wait until somebody approves; such a stage has no executions."`
	Approvers  []string    `key:"approvers" doc:"Names of the API keys that may approve; empty is any."`
	Executions []Execution `key:"executions" alias:"execution" doc:"What runs, all at the same time."`
	Pos        fleet.Position
}

// Policy says when a stage or an execution runs, and what becomes of its failures.
type Policy struct {
	When            string        `key:"when" enum:"success,failure,always" doc:"In which state of the run it runs; empty is success, and for an execution what its stage says."`
	Timeout         time.Duration `key:"timeout" doc:"How long it may take: a stage as a whole, an execution at each attempt; empty is for ever."`
	Retries         int           `key:"retries" doc:"How often what failed is tried again."`
	RetryDelay      time.Duration `key:"retry_delay" doc:"Time before the first retry, doubled for each further one up to 5m; empty is 5s."`
	ContinueOnError bool          `key:"continue_on_error" doc:"Whether the run goes on as if it had succeeded."`
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
