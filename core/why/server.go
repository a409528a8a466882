package why

import (
	"fmt"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler/plan"
)

// explainServer says why a server is as it is: from what keeps its agent away to what is the
// matter with its stacks.
func (e *explanation) explainServer() {
	at := slices.IndexFunc(e.Servers, func(s api.Server) bool { return s.Name == e.Name })
	if at < 0 {
		e.unknown()
		return
	}
	server := &e.Servers[at]
	e.Known, e.Server, e.Sync, e.Health = true, server.Name, server.Sync, server.Health
	for i := range e.Sources {
		for _, declared := range e.Sources[i].Desired.Servers {
			if declared.Name == server.Name && !declared.Origin.IsZero() {
				e.Source, e.Origin = e.Sources[i].Sync.Name, declared.Origin
			}
		}
	}
	e.suspended(func(u *plan.Suspension) bool { return u.Kind == plan.KindServer && u.Name == server.Name })
	e.away(server)
	unwell := 0
	for i := range e.Stacks {
		stack := &e.Stacks[i]
		if stack.Server != server.Name || stack.Source == "" || stack.Sync == fleet.Synced && stack.Health == fleet.Healthy {
			continue
		}
		unwell++
		text := fmt.Sprintf("stack %s is %s / %s", stack.Name, stack.Sync, stack.Health)
		if stack.Text != "" {
			text += ": " + stack.Text
		}
		if unwell == 1 {
			e.say(api.WhyDetail{Kind: "stack", Text: text}, "varan why "+stack.Name+"@"+server.Name)
		} else {
			e.add(api.WhyDetail{Kind: "stack", Text: text}, "varan why "+stack.Name+"@"+server.Name)
		}
	}
	if e.Summary == "" {
		e.Summary = fmt.Sprintf("server %s is connected, last heard of at %s, and nothing is the matter with its %s",
			server.Name, e.moment(server.LastSeen), plural(server.Stacks, "stack"))
	}
}

// away tells why nothing can be done on a server.
func (e *explanation) away(server *api.Server) {
	if server.Online && server.Agent.EngineError == "" && !server.Pending && !server.Disabled && server.Enabled {
		return
	}
	text := fmt.Sprintf("server %s: %s", server.Name, server.Text)
	var next []string
	switch {
	case server.Pending:
		next = []string{"varan server approve " + server.Name, "varan server reject " + server.Name}
	case server.Disabled:
		next = []string{"varan server enable " + server.Name}
	case !server.Enabled:
		next = []string{fmt.Sprintf("set enabled = true at %s and push", e.Origin)}
	case server.PublicKey == "" && !server.Online:
		next = []string{"varan onboarding-key create --server " + server.Name + " prints the line that starts an agent there"}
	case !server.Online:
		if !server.LastSeen.IsZero() {
			text += ", since " + e.moment(server.LastSeen)
		}
		text += "; what runs there goes on, and it catches up as soon as its agent connects"
		next = []string{"on the host: systemctl status varan-agent, and journalctl -u varan-agent"}
	default:
		next = []string{"on the host: systemctl status docker"}
	}
	if d := server.Dial; d != nil && !server.Online {
		text += fmt.Sprintf("; core dials %s: %s", d.Address, d.Text)
		if d.AttemptedKey != "" {
			next = append(next, "varan server accept "+server.Name+" shows the key of the agent that answers there")
		}
	}
	e.say(api.WhyDetail{Kind: "server", Text: text, Origin: e.Origin}, next...)
}
