package plan

import (
	"slices"

	"github.com/varanhq/varan/fleet"
)

// runsAlready finds the Compose project of a stack among those that somebody else started.
func (p *planner) runsAlready(s *fleet.Stack) *fleet.ForeignProject {
	list := p.in.Observed[s.Server].Agent.Foreign
	for i := range list {
		if list[i].Name == s.Release.Project {
			return &list[i]
		}
	}
	return nil
}

// adoptionCause says no more than is known: only the agent can compare the containers.
func adoptionCause(s *fleet.Stack, forced bool) Cause {
	text := "the Compose project " + s.Release.Project + " runs there already: it is taken over as it is if it is what the stack " +
		"declares, and otherwise left untouched"
	if forced {
		text = "the Compose project " + s.Release.Project + " runs there already: it is taken over, and what is not as declared is recreated"
	}
	return Cause{Kind: CauseAdopt, Text: text, Origin: s.Origin}
}

// takeOver leaves the services alone that a project of somebody else has.
func (c *comparison) takeOver(theirs *fleet.ForeignProject) {
	for i := range c.list {
		if change := &c.list[i].ServiceChange; slices.Contains(theirs.Services, change.Service) {
			change.Action, change.Create = ActionKeep, 0
			change.Causes = []Cause{{Kind: CauseAdopt, Text: "runs already"}}
		} else {
			change.Causes = []Cause{{Kind: CauseAdopt, Text: "the project that runs has no such service"}}
		}
	}
}
