package fleet

// Procedure is a [[procedure]]: stages that run one after the other. What is in a stage runs
// at the same time.
type Procedure struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Stages      []Stage  `json:"stages"`
	// FailureAlert asks for an alert when a run fails.
	FailureAlert bool `json:"failure_alert,omitempty"`
	// Webhook lets a webhook run it that proves to know WebhookSecret.
	Webhook       bool   `json:"webhook,omitempty"`
	WebhookSecret Secret `json:"-"`
	// Origin is where it is declared.
	Origin Position `json:"origin,omitzero"`
}

// Stage is executions that run at the same time. All of them run to their end, and one
// that fails ends the procedure.
type Stage struct {
	Name       string      `json:"name"`
	Enabled    bool        `json:"enabled"`
	Executions []Execution `json:"executions"`
}

// Execution is one thing that a stage runs, by Komodo's name for it.
type Execution struct {
	Type    string   `json:"type"`
	Enabled bool     `json:"enabled"`
	Params  []Param  `json:"params,omitempty"`
	Origin  Position `json:"origin,omitzero"`
}

// Param is a parameter of an execution. Which field holds the value depends on its kind.
type Param struct {
	Name string   `json:"name"`
	Text string   `json:"text,omitempty"`
	List []string `json:"list,omitempty"`
	Int  int      `json:"int,omitempty"`
	Bool bool     `json:"bool,omitempty"`
}

// Param is the parameter of that name; zero when it is not given.
func (e *Execution) Param(name string) Param {
	for _, p := range e.Params {
		if p.Name == name {
			return p
		}
	}
	return Param{}
}

// Text is the text of a parameter; empty when it is not given.
func (e *Execution) Text(name string) string { return e.Param(name).Text }

// List is the list of a parameter; nil when it is not given.
func (e *Execution) List(name string) []string { return e.Param(name).List }

// Int is the number of a parameter; 0 when it is not given.
func (e *Execution) Int(name string) int { return e.Param(name).Int }
