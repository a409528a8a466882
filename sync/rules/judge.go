package rules

import (
	"fmt"

	"github.com/varanhq/varan/fleet"
)

// Judge gives findings the severity that the settings ask for. It remembers which
// exceptions were of use. It is not safe for concurrent use.
type Judge struct {
	settings Settings
	used     []bool
}

// NewJudge returns a judge for one pass over a tree.
func NewJudge(s Settings) *Judge { return &Judge{settings: s, used: make([]bool, len(s.exceptions))} }

// Judge returns the findings of a stack on a server of a tier, or of none, as the
// settings have them. What an exception excuses becomes a note with its reason.
func (j *Judge) Judge(tier fleet.Tier, findings fleet.Diagnostics) fleet.Diagnostics {
	out := findings[:0:0]
	for _, d := range findings {
		entry, ok := Lookup(d.Rule)
		if !ok || !entry.Configurable() || entry.Group == GroupHost && d.Severity == fault {
			out = append(out, d)
			continue
		}
		severity := j.settings.level(entry, tier, d.Severity)
		if severity == off {
			continue
		}
		d.Severity = severity
		if reason, excused := j.excuse(d); excused {
			d.Severity, d.Reason = note, reason
		}
		out = append(out, d)
	}
	return out
}

// excuse finds the exception that a finding matches. Each that does counts as used.
func (j *Judge) excuse(d fleet.Diagnostic) (reason string, ok bool) {
	for i, x := range j.settings.exceptions {
		if x.Rule != d.Rule || x.Stack != "" && x.Stack != d.Stack || x.Service != "" && x.Service != d.Service {
			continue
		}
		if !ok {
			reason, ok = x.Reason, true
		}
		j.used[i] = true
	}
	return reason, ok
}

// Unused reports the exceptions that matched no finding.
func (j *Judge) Unused() fleet.Diagnostics {
	var out fleet.Diagnostics
	for i, x := range j.settings.exceptions {
		if !j.used[i] {
			out = append(out, fleet.Diagnostic{
				Rule: "unused-exception", Severity: warning, Position: x.Pos, Stack: x.Stack, Service: x.Service,
				Message: fmt.Sprintf("the exception of the rule %s matches nothing", x.Rule), Hint: "remove it, or check its names",
			})
		}
	}
	return out
}

// Brief leaves out advice that is no more than a warning: beside errors, or at each pass
// of core, it is noise. It returns how much was left out.
func Brief(findings fleet.Diagnostics) (kept fleet.Diagnostics, left int) {
	for _, d := range findings {
		if entry, ok := Lookup(d.Rule); ok && entry.Advisory() && d.Severity < fault {
			left++
			continue
		}
		kept = append(kept, d)
	}
	return kept, left
}
