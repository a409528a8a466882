package spec

import (
	"errors"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/fleet/imagetag"
	"github.com/varanhq/varan/fleet/schedule"
)

// finishServer settles the two fields that depend on others: enabled and tier.
func (p *parser) finishServer(s *Server) {
	if !s.has("config.enabled") {
		s.Config.Enabled = s.Config.Address == ""
		if s.Config.Enabled {
			p.remarkAt(fleet.SeverityNote, s.At(""), "server-enabled-default", "write enabled = true or false to be explicit",
				"server %s has no `enabled` and no `address`: it is taken as enabled", quoted(s.Name))
		} else {
			p.remarkAt(fleet.SeverityNote, s.At(""), "server-enabled-default", "write enabled = true to use it",
				"server %s has an `address` and no `enabled`: it is disabled", quoted(s.Name))
		}
	}
	tagged := map[fleet.Tier]bool{
		fleet.TierTrusted:   hasTag(s.Tags, "trusted", "tier:trusted"),
		fleet.TierUntrusted: hasTag(s.Tags, "untrusted", "tier:untrusted"),
	}
	explicit := s.has("config.tier")
	switch {
	case tagged[fleet.TierTrusted] && tagged[fleet.TierUntrusted]:
		p.failAt(s.At("tags"), "tier-conflict", "keep one of the tags", "server %s is tagged trusted and untrusted", quoted(s.Name))
	case explicit && s.Config.Tier == fleet.TierTrusted && tagged[fleet.TierUntrusted],
		explicit && s.Config.Tier == fleet.TierUntrusted && tagged[fleet.TierTrusted]:
		p.failAt(s.At("config.tier"), "tier-conflict", "make the two agree",
			"server %s is %s here and tagged otherwise on line %d", quoted(s.Name), s.Config.Tier, s.At("tags").Line)
	case tagged[fleet.TierUntrusted]:
		s.Config.Tier = fleet.TierUntrusted
	}
}

func hasTag(tags []string, wanted ...string) bool {
	return slices.ContainsFunc(wanted, func(t string) bool { return slices.Contains(tags, t) })
}

func (p *parser) finishStack(s *Stack) {
	if normal, ok := renamed(s.Name); ok {
		p.remarkAt(fleet.SeverityWarning, s.At("name"), "name-normalized", "write "+quoted(normal),
			"stack %s is called %s: Compose has no other letters", quoted(s.Name), quoted(normal))
		s.Name = normal
	}
	p.checkEnvironment(s.Config.Environment)
	for _, o := range s.Config.Overlays {
		p.checkEnvironment(o.Environment)
	}
	c := &s.Config
	for _, policy := range c.UpdatePolicy {
		p.checkTagPolicy(policy.Value, policy.Pos)
	}
	if len(c.UpdatePolicy) > 0 {
		p.checkUpdates(s.At("config.update_policy"), c.PollForUpdates || c.AutoUpdate, "update_policy", "stack "+quoted(s.Name))
	}
	if c.UpdateMinAge > 0 {
		p.checkUpdates(s.At("config.update_min_age"), c.AutoUpdate, "update_min_age", "stack "+quoted(s.Name))
	}
	p.checkRollout(s)
	if s.Config.ComposeCmdWrapper != "" {
		p.failAt(s.At("config.compose_cmd_wrapper"), "compose-wrapper",
			"keep secrets in SOPS files beside the Compose file, or store them in core with `varan secret set NAME`",
			"stack %s wraps Compose in a command: Compose runs inside the agent, and no command goes around it", quoted(s.Name))
	}
}

// finishSync checks the windows: one that never opens would keep everything back.
func (p *parser) finishSync(s *ResourceSync) {
	for i := range s.Config.Windows {
		w := &s.Config.Windows[i]
		_, err := schedule.ParseAny(w.Schedule, w.Timezone)
		var fault *schedule.Error
		switch {
		case errors.As(err, &fault):
			p.failAt(w.Pos, "schedule", fault.Hint, "the schedule %s of a window of sync %s is no time: %s",
				quoted(w.Schedule), quoted(s.Name), fault.Message)
		case err != nil:
			p.failAt(w.Pos, "schedule", "", "the schedule %s of a window of sync %s is no time: %v", quoted(w.Schedule), quoted(s.Name), err)
		case w.Duration <= 0:
			p.failAt(w.Pos, "invalid-value", `add duration = "2h"`, "a window of sync %s does not say how long it stays open", quoted(s.Name))
		}
	}
}

// checkRollout checks what the decoder cannot.
func (p *parser) checkRollout(s *Stack) {
	if _, _, err := s.Config.Rollout.Size(); err != nil {
		p.failAt(s.At("config.rollout"), "invalid-value", `write it like batch = 2 or batch = "25%"`,
			"the batch of the rollout of stack %s: %v", quoted(s.Name), err)
	}
}

func (p *parser) finishDeployment(d *Deployment) {
	p.checkEnvironment(d.Config.Environment)
	if c := &d.Config; c.UpdatePolicy != "" {
		p.checkTagPolicy(c.UpdatePolicy, d.At("config.update_policy"))
		p.checkUpdates(d.At("config.update_policy"), c.PollForUpdates || c.AutoUpdate, "update_policy", "deployment "+quoted(d.Name))
	}
	if c := &d.Config; c.UpdateMinAge > 0 {
		p.checkUpdates(d.At("config.update_min_age"), c.AutoUpdate, "update_min_age", "deployment "+quoted(d.Name))
	}
}

// checkUpdates finds settings of updates where nothing looks for any.
func (p *parser) checkUpdates(at fleet.Position, looked bool, field, whose string) {
	if looked {
		return
	}
	p.remarkAt(fleet.SeverityWarning, at, "update-unused", "add auto_update = true, or poll_for_updates = true to be told only",
		"%s of %s has no effect: its images are not updated", quoted(field), whose)
}

// checkTagPolicy finds policies that no tag could be measured by.
func (p *parser) checkTagPolicy(policy string, at fleet.Position) {
	if _, err := imagetag.Parse(policy); err != nil {
		fault, _ := errors.AsType[*imagetag.Error](err)
		p.failAt(at, "update-policy", fault.Hint, "an update policy says which tags count: %s", fault.Message)
	}
}

func (p *parser) finishRepo(r *Repo) { p.checkEnvironment(r.Config.Environment) }

// finishAlerter and finishUserGroup call stacks as they are called.
func finishAlerter(a *Alerter) {
	callStacks(a.Config.Resources)
	callStacks(a.Config.ExceptResources)
}

func finishUserGroup(g *UserGroup) {
	for i := range g.Permissions {
		g.Permissions[i].Target.ID = stackID(g.Permissions[i].Target)
	}
}

func callStacks(targets []Target) {
	for i := range targets {
		targets[i].ID = stackID(targets[i])
	}
}

// stackID is the target's id, in the letters that stacks are called in.
func stackID(t Target) string {
	if t.Type != "Stack" || isPattern(t.ID) || objectID(t.ID) {
		return t.ID
	}
	return fleet.ProjectName(t.ID)
}

func (p *parser) checkEnvironment(env []EnvVar) {
	for _, e := range env {
		if plainSecret(e.Value) {
			p.failAt(e.Pos, "plaintext-secret", "remove it from Git, replace it at its source, and use a secret variable",
				"the value of %s is a private key or access key in plain text", quoted(e.Name))
		}
	}
}

func (p *parser) finishVariable(v *Variable) {
	for i, name := range v.Stacks {
		v.Stacks[i] = fleet.ProjectName(name)
	}
	switch {
	case plainSecret(v.Value.Reveal()):
		p.failAt(v.At("value"), "plaintext-secret", "remove it from Git, replace it at its source, and store it in core",
			"the value of variable %s is a private key or access key in plain text", quoted(v.Name))
	case v.IsSecret && !v.Value.IsEmpty():
		p.remarkAt(fleet.SeverityWarning, v.At("value"), "plaintext-secret", "store the value in core and declare no value here",
			"variable %s is secret, and its value is here in plain text", quoted(v.Name))
	}
}

// plainSecret reports the forms that nothing but a secret has.
func plainSecret(s string) bool {
	if i := strings.Index(s, "-----BEGIN "); i >= 0 {
		line, _, _ := strings.Cut(s[i:], "\n")
		return strings.Contains(line, "PRIVATE KEY")
	}
	for rest := s; ; {
		i := strings.Index(rest, "AKIA")
		if i < 0 {
			return false
		}
		rest = rest[i+4:]
		if len(rest) >= 16 && strings.Trim(rest[:16], "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == "" {
			return true
		}
	}
}
