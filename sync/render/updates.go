package render

import (
	"fmt"
	"slices"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/didyoumean"
	"github.com/varanhq/varan/sync/spec"
)

// mention is a service that a setting names.
type mention struct {
	field, service string
	at             fleet.Position
}

// stackUpdates is what a stack says of newer images, and the services it names for that.
func stackUpdates(s *spec.Stack) (policy fleet.UpdatePolicy, names []mention) {
	c := &s.Config
	policy = fleet.UpdatePolicy{
		Poll: c.PollForUpdates, Auto: c.AutoUpdate, AllServices: c.AutoUpdateAllServices, Skip: c.AutoUpdateSkipServices,
		MinAge: c.UpdateMinAge,
	}
	at := item(s.At, "config.auto_update_skip_services")
	for i, service := range c.AutoUpdateSkipServices {
		names = append(names, mention{"auto_update_skip_services", service, at(i)})
	}
	for _, e := range c.UpdatePolicy {
		policy.Tags = append(policy.Tags, fleet.TagPolicy{Service: e.Name, Policy: e.Value})
		names = append(names, mention{"update_policy", e.Name, e.Pos})
	}
	return policy, names
}

func deploymentUpdates(c *spec.DeploymentConfig) fleet.UpdatePolicy {
	policy := fleet.UpdatePolicy{Poll: c.PollForUpdates, Auto: c.AutoUpdate, MinAge: c.UpdateMinAge}
	if c.UpdatePolicy != "" {
		policy.Tags = []fleet.TagPolicy{{Policy: c.UpdatePolicy}}
	}
	return policy
}

// strangers are findings about services that settings name and the stack has not.
func (j *job) strangers() (out fleet.Diagnostics) {
	services := j.entry.result.Release.Services
	if len(services) == 0 || len(j.names) == 0 {
		return nil
	}
	known := make([]string, len(services))
	for i := range services {
		known[i] = services[i].Name
	}
	for _, n := range j.names {
		if slices.Contains(known, n.service) {
			continue
		}
		hint := "name one of the services that the stack brings up"
		if near := didyoumean.Word(n.service, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		out = append(out, fleet.Diagnostic{
			Rule: "update-service", Severity: fleet.SeverityWarning, Position: n.at, Hint: hint,
			Message: fmt.Sprintf("%s names the service %q, which %s does not bring up", n.field, n.service, j.who()),
		})
	}
	return out
}
