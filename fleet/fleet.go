// Package fleet holds the values the whole project talks about: servers, stacks,
// releases, what a commit desires and what agents observe.
//
// It is the domain root: every other package may import it and it imports nothing
// of ours. It is pure: no I/O, no clock, no context, no randomness, so that the
// planner can be tested, replayed and trusted.
package fleet

import "time"

// Tier says how far a server is trusted. It scopes secrets and narrows what may run.
type Tier string

// The tiers. A server without one is TierTrusted.
const (
	TierTrusted   Tier = "trusted"
	TierUntrusted Tier = "untrusted"
)

// Commit identifies what a desired state was read from.
type Commit struct {
	// ID is the full object id; empty for a local directory.
	ID string `json:"id"`
	// Branch is the short branch name; empty for a local directory.
	Branch string `json:"branch,omitempty"`
	// Subject is the first line of the message.
	Subject string `json:"subject,omitempty"`
	// Author is "Name <mail>", as the commit says it.
	Author string `json:"author,omitempty"`
	// Time is the committer time. It is shown, never used for ordering.
	Time time.Time `json:"time,omitzero"`
}

// Short is the first eight digits of the id, or "worktree" for a local directory.
func (c Commit) Short() string {
	switch {
	case c.ID == "":
		return "worktree"
	case len(c.ID) > 8:
		return c.ID[:8]
	default:
		return c.ID
	}
}

// Server is a Docker host as a [[server]] table declares it.
type Server struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Enabled     bool     `json:"enabled"`
	Tier        Tier     `json:"tier"`
	// ExternalAddress and Links are for people only.
	ExternalAddress string   `json:"external_address,omitempty"`
	Links           []string `json:"links,omitempty"`
	// Address is where core dials the agent; empty for an agent that dials core. VerifyTLS has
	// its certificate checked.
	Address   string `json:"address,omitempty"`
	VerifyTLS bool   `json:"verify_tls,omitempty"`
	// Quiet servers cause no alert when they cannot be reached; in Maintenance they cause
	// none at all.
	Quiet bool `json:"quiet,omitempty"`
	// KeepKey servers are left out when the keys of all servers are changed.
	KeepKey     bool                `json:"keep_key,omitempty"`
	Maintenance []MaintenanceWindow `json:"maintenance,omitempty"`
	// Origin is where the server is declared; zero for one that only onboarded.
	Origin Position `json:"origin,omitzero"`
}

// Kind is the type of resource that a Stack was declared as. All kinds go through the
// same planner and the same engine.
type Kind string

// The kinds. An empty Kind is KindStack.
const (
	// KindStack is a [[stack]]: a Compose application.
	KindStack Kind = "stack"
	// KindDeployment is a [[deployment]]: one container, as a Compose project of one service.
	KindDeployment Kind = "deployment"
	// KindRepo is a [[repo]] with a server: files in a directory of the host and no service.
	KindRepo Kind = "repo"
)

// Stack is a Compose application bound to one server. A stack declared for several
// servers is several of these, with the same name.
type Stack struct {
	Name string `json:"name"`
	// Kind is what it was declared as; empty means KindStack.
	Kind        Kind     `json:"kind,omitempty"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Links       []string `json:"links,omitempty"`
	Server      string   `json:"server"`
	// Deploy asks that a stack someone stopped is started again (Komodo's `deploy`).
	Deploy bool `json:"deploy,omitempty"`
	// After names stacks that must have been deployed successfully before this one.
	After []string `json:"after,omitempty"`
	// IgnoreServices are left out of the stack's health.
	IgnoreServices []string `json:"ignore_services,omitempty"`
	// Quiet stacks cause no alerts (send_alerts = false).
	Quiet bool `json:"quiet,omitempty"`
	// Updates says what is done about newer images. It is core's business and no part of
	// the release.
	Updates UpdatePolicy `json:"updates,omitzero"`
	// Rollout is how a stack on several servers is deployed; nil is on all at once.
	Rollout *Rollout `json:"rollout,omitempty"`
	Release Release  `json:"release"`
	// Unreadable says why its files could not be had this time; nothing is known of its
	// release then.
	Unreadable string `json:"unreadable,omitempty"`
	// Origin is where the stack is declared.
	Origin Position `json:"origin,omitzero"`
}

// Desired is what one commit of one sync says the fleet should be. It is immutable.
// Servers and Stacks are sorted by name.
type Desired struct {
	Sync    string   `json:"sync"`
	Commit  Commit   `json:"commit"`
	Servers []Server `json:"servers"`
	Stacks  []Stack  `json:"stacks"`
	// Resources are the records of all that is declared, of every kind, sorted by kind and
	// name; Stacks are made from some of them.
	Resources []Resource `json:"resources,omitempty"`
	// Syncs, Variables, Repositories and Hooks are what core acts on or lets other syncs see.
	Syncs        []SyncSpec   `json:"syncs,omitempty"`
	Variables    []Variable   `json:"variables,omitempty"`
	Repositories []Repository `json:"repositories,omitempty"`
	Hooks        []Hook       `json:"hooks,omitempty"`
	// Procedures and Alerters are what core runs and whom it tells.
	Procedures []Procedure `json:"procedures,omitempty"`
	Alerters   []Alerter   `json:"alerters,omitempty"`
}

// Stack returns the stack of that name.
func (d Desired) Stack(name string) (Stack, bool) {
	for i := range d.Stacks {
		if d.Stacks[i].Name == name {
			return d.Stacks[i], true
		}
	}
	return Stack{}, false
}

// Server returns the server of that name.
func (d Desired) Server(name string) (Server, bool) {
	for i := range d.Servers {
		if d.Servers[i].Name == name {
			return d.Servers[i], true
		}
	}
	return Server{}, false
}
