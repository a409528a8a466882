package hub

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/varanhq/varan/fleet"
)

// clean makes a text of an agent fit for a terminal and a log: no control characters,
// no invisible ones that reorder text, and no more than a line is worth.
func clean(s string) string { return cleanUpTo(s, maxText, unprintable) }

func cleanUpTo(s string, limit int, bad func(rune) bool) string {
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// unprintable matches control characters and the format characters (Cf) that can make
// a text look like another.
func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// unprintableInLog leaves lines and columns alone.
func unprintableInLog(r rune) bool { return r != '\n' && r != '\t' && unprintable(r) }

func cleanAgent(a fleet.AgentInfo) fleet.AgentInfo {
	return fleet.AgentInfo{
		Version: clean(a.Version), Hostname: clean(a.Hostname), OS: clean(a.OS), Arch: clean(a.Arch),
		Engine: clean(a.Engine), EngineAPI: clean(a.EngineAPI), EngineError: clean(a.EngineError),
		LocalSecrets: cleanSecrets(a.LocalSecrets), HostCommands: a.HostCommands,
		Tier: cleanTier(a.Tier), AllowedRegistries: cleanRegistries(a.AllowedRegistries),
		Foreign: cleanForeign(a.Foreign), LowDisk: clean(a.LowDisk),
	}
}

// cleanTier takes an agent's word for being less than core thinks, and for nothing else.
func cleanTier(t fleet.Tier) fleet.Tier {
	if t == fleet.TierUntrusted {
		return t
	}
	return ""
}

// cleanRegistries keeps the patterns that mean something. That there are some counts also
// when none is left: then no image is allowed.
func cleanRegistries(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, 0, min(len(list), maxRegistries))
	for _, pattern := range list[:min(len(list), maxRegistries)] {
		if fleet.ValidRegistryPattern(pattern) {
			out = append(out, clean(pattern))
		}
	}
	if len(out) == 0 {
		return []string{"none.invalid"}
	}
	return out
}

// maxRegistries bounds the patterns of an agent.
const maxRegistries = 256

// cleanForeign bounds the projects as those of a whole answer.
func cleanForeign(list []fleet.ForeignProject) []fleet.ForeignProject {
	list = list[:min(len(list), maxProjects)]
	for i := range list {
		list[i].Name = clean(list[i].Name)
		list[i].Services = list[i].Services[:min(len(list[i].Services), maxContainers)]
		for n := range list[i].Services {
			list[i].Services[n] = clean(list[i].Services[n])
		}
	}
	return list
}

// maxSecrets bounds the local secrets that an agent may name.
const maxSecrets = 1_000

// cleanSecrets drops what could not be the name of a secret: a token would not hold it.
func cleanSecrets(list []fleet.LocalSecret) []fleet.LocalSecret {
	var out []fleet.LocalSecret
	for _, s := range list[:min(len(list), maxSecrets)] {
		if s.Valid() {
			out = append(out, s)
		}
	}
	return out
}

// cleanStack leaves Release alone: it is what core once sent, and is compared with what
// core would send now.
func cleanStack(s *fleet.StackReport) {
	for _, text := range []*string{&s.Stack, &s.Project, &s.Busy} {
		*text = clean(*text)
	}
	cleanDrift(s.Drift)
	for i := range s.Bad {
		s.Bad[i].Reason, s.Bad[i].Commit = clean(s.Bad[i].Reason), clean(s.Bad[i].Commit)
	}
	for i := range s.Containers {
		cleanContainer(&s.Containers[i])
	}
}

func cleanDrift(list []fleet.Drift) {
	for i := range list {
		d := &list[i]
		d.Field, d.Want, d.Have = clean(d.Field), clean(d.Want), clean(d.Have)
	}
}

// maxImageDigests bounds the names that registries have for one image.
const maxImageDigests = 64

func cleanContainer(c *fleet.Container) {
	for _, text := range []*string{&c.ID, &c.Name, &c.Service, &c.Image, &c.ImageID} {
		*text = clean(*text)
	}
	c.State = fleet.ContainerState(clean(string(c.State)))
	c.Health = fleet.ContainerHealth(clean(string(c.Health)))
	c.Digest = fleet.Digest(clean(string(c.Digest)))
	c.ImageDigests = c.ImageDigests[:min(len(c.ImageDigests), maxImageDigests)]
	for i := range c.ImageDigests {
		c.ImageDigests[i] = clean(c.ImageDigests[i])
	}
	c.RestartCount = max(0, c.RestartCount)
	cleanDrift(c.Drift)
	for i := range c.Ports {
		c.Ports[i].HostIP, c.Ports[i].Protocol = clean(c.Ports[i].HostIP), clean(c.Ports[i].Protocol)
	}
}

func cleanOutcome(o fleet.Outcome) fleet.Outcome {
	o.Order, o.Stack, o.Reason, o.Hint = clean(o.Order), clean(o.Stack), clean(o.Reason), clean(o.Hint)
	if len(o.Log) > maxLog {
		o.Log = o.Log[len(o.Log)-maxLog:] // the end is what tells
	}
	o.Log = cleanUpTo(o.Log, maxLog, unprintableInLog)
	for _, services := range [][]string{o.Recreated, o.Started, o.Removed} {
		for i := range services {
			services[i] = clean(services[i])
		}
	}
	return o
}

func cleanProgress(p fleet.Progress) fleet.Progress {
	p.Phase = fleet.Phase(clean(string(p.Phase)))
	p.Service, p.Text = clean(p.Service), clean(p.Text)
	p.Percent = min(max(p.Percent, -1), 100)
	return p
}
