package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/rules"
)

func TestEntriesAreComplete(t *testing.T) {
	t.Parallel()
	for _, e := range rules.All() {
		switch {
		case e.Title == "" || e.Why == "" || strings.HasSuffix(e.Title, ".") || !strings.HasSuffix(e.Why, "."):
			t.Errorf("%s: the title has no full stop, and why is sentences: %+v", e.ID, e)
		case len(e.Title) > 75:
			t.Errorf("%s: the title is longer than a line", e.ID)
		case e.Severity < fleet.SeverityNote || e.Severity > fleet.SeverityError:
			t.Errorf("%s has no severity", e.ID)
		case e.Group.About() == "" || e.Group.Origin() == "" || !slices.Contains(rules.Groups(), e.Group):
			t.Errorf("%s has no group", e.ID)
		}
	}
	if near := rules.Closest("cap-drop-al"); near != "cap-drop-all" {
		t.Errorf("Closest: %q", near)
	}
}

func findings(rule string, severity fleet.Severity) fleet.Diagnostics {
	return fleet.Diagnostics{{Rule: rule, Severity: severity, Stack: "web", Service: "app", Message: "m"}}
}

func TestSettingsDecideSeverities(t *testing.T) {
	t.Parallel()
	const note, warning, fault, off = fleet.SeverityNote, fleet.SeverityWarning, fleet.SeverityError, fleet.Severity(0)
	for name, tc := range map[string]struct {
		text     string
		tier     fleet.Tier
		rule     string
		reported fleet.Severity
		want     fleet.Severity
	}{
		"nothing said":           {"", "", "read-only", warning, warning},
		"off for all":            {"[rules]\nread-only = \"off\"\n", fleet.TierUntrusted, "read-only", warning, off},
		"error for all":          {"[rules]\nread-only = \"error\"\n", "", "read-only", warning, fault},
		"another rule":           {"[rules]\nread-only = \"error\"\n", "", "cap-drop-all", warning, warning},
		"for one tier":           {"[rules.untrusted]\nread-only = \"error\"\n", fleet.TierUntrusted, "read-only", warning, fault},
		"for the other tier":     {"[rules.untrusted]\nread-only = \"error\"\n", fleet.TierTrusted, "read-only", warning, warning},
		"tier over all":          {"[rules]\nread-only = \"off\"\n[rules.trusted]\nread-only = \"note\"\n", "", "read-only", warning, note},
		"preset none":            {"[rules]\npreset = \"none\"\n", "", "read-only", warning, off},
		"none keeps fleet rules": {"[rules]\npreset = \"none\"\n", "", "port-taken", warning, warning},
		"preset strict":          {"[rules]\npreset = \"strict\"\n", "", "image-digest", warning, fault},
		"strict keeps notes":     {"[rules]\npreset = \"strict\"\n", "", "unused-variable", note, note},
		"strict, but":            {"[rules]\npreset = \"strict\"\nread-only = \"off\"\n", "", "read-only", warning, off},
		"strict for a tier":      {"[rules.untrusted]\npreset = \"strict\"\n", fleet.TierUntrusted, "read-only", warning, fault},
		"rule over tier preset":  {"[rules]\nread-only = \"off\"\n[rules.untrusted]\npreset = \"strict\"\n", fleet.TierUntrusted, "read-only", warning, off},
		"tier preset over preset": {
			"[rules]\npreset = \"strict\"\n[rules.trusted]\npreset = \"none\"\n", fleet.TierTrusted, "read-only", warning, off,
		},
		"host rule on trusted":   {"[rules]\nprivileged = \"off\"\n", fleet.TierTrusted, "privileged", warning, off},
		"host rule on untrusted": {"[rules]\nprivileged = \"off\"\n", fleet.TierUntrusted, "privileged", fault, fault},
		"excused": {
			"[[exception]]\nrule = \"privileged\"\nstack = \"web\"\nservice = \"app\"\nreason = \"why\"\n", "", "privileged", warning, note,
		},
		"excused though an error": {
			"[rules]\nread-only = \"error\"\n[[exception]]\nrule = \"read-only\"\nreason = \"why\"\n", "", "read-only", warning, note,
		},
		"another stack is excused": {
			"[[exception]]\nrule = \"privileged\"\nstack = \"db\"\nreason = \"why\"\n", "", "privileged", warning, warning,
		},
	} {
		settings, faults := rules.Parse(".varan.toml", []byte(tc.text))
		if len(faults) > 0 {
			t.Errorf("%s: %v", name, faults)
		}
		got := rules.NewJudge(settings).Judge(tc.tier, findings(tc.rule, tc.reported))
		severity := off
		if len(got) > 0 {
			severity = got[0].Severity
			if excused := got[0].Reason != ""; excused != strings.HasPrefix(name, "excused") {
				t.Errorf("%s: reason %q", name, got[0].Reason)
			}
		}
		if severity != tc.want {
			t.Errorf("%s: severity %v, want %v", name, severity, tc.want)
		}
	}
}

func TestRulesFileIsChecked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want, hint string }{
		"no TOML":               {"[rules\n", ".varan.toml:1:1: error: the bracket that opens here is never closed [unterminated]", ""},
		"unknown table":         {"[rule]\n", ".varan.toml:1:2: error: unknown key `rule` in .varan.toml [unknown-key]", "rules"},
		"unknown tier":          {"[rules.trust]\n", ".varan.toml:1:8: error: unknown key `trust` in [rules] [unknown-key]", ""},
		"unknown rule":          {"[rules]\nreadonly = \"off\"\n", ".varan.toml:2:1: error: there is no rule \"readonly\" [unknown-rule]", "read-only"},
		"unknown level":         {"[rules]\nread-only = \"warm\"\n", ".varan.toml:2:13: error: \"warm\" is not a level [rule-level]", "warn"},
		"not a text":            {"[rules]\nread-only = false\n", ".varan.toml:2:13: error: `rules.read-only` must be a string, not a boolean [type]", ""},
		"unknown preset":        {"[rules]\npreset = \"strickt\"\n", ".varan.toml:2:10: error: there is no preset \"strickt\" [rule-level]", "strict"},
		"what cannot work":      {"[rules]\nunknown-key = \"off\"\n", ".varan.toml:2:15: error: the rule unknown-key is always an error [rule-level]", ""},
		"host rule":             {"[rules.untrusted]\nprivileged = \"off\"\n", ".varan.toml:2:14: error: the rule privileged is always an error on untrusted servers [rule-level]", ""},
		"no reason":             {"[[exception]]\nrule = \"read-only\"\n", ".varan.toml:1:1: error: the exception has no reason [exception-reason]", ""},
		"blank reason":          {"[[exception]]\nrule = \"read-only\"\nreason = \" \"\n", ".varan.toml:3:10: error: the exception has no reason [exception-reason]", ""},
		"exception of no rule":  {"[[exception]]\nreason = \"x\"\n", ".varan.toml:1:1: error: the exception names no rule [unknown-rule]", ""},
		"exception of an error": {"[[exception]]\nrule = \"type\"\nreason = \"x\"\n", ".varan.toml:2:8: error: the rule type is always an error [rule-level]", ""},
		"misspelt key":          {"[[exception]]\nrule = \"read-only\"\nstak = \"web\"\nreason = \"x\"\n", ".varan.toml:3:1: error: unknown key `stak` in [[exception]] [unknown-key]", "stack"},
	} {
		_, got := rules.Parse(".varan.toml", []byte(tc.text))
		if len(got) != 1 || got[0].String() != tc.want || !strings.Contains(got[0].Hint, tc.hint) {
			t.Errorf("%s: %v (hint %q), want %s", name, got, got[0].Hint, tc.want)
		}
	}
}

func TestExceptionThatMatchesNothingIsReported(t *testing.T) {
	t.Parallel()
	settings, faults := rules.Parse(".varan.toml", []byte(
		"[[exception]]\nrule = \"privileged\"\nstack = \"web\"\nreason = \"a\"\n\n[[exception]]\nrule = \"privileged\"\nstack = \"wbe\"\nreason = \"b\"\n"))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	judge := rules.NewJudge(settings)
	_ = judge.Judge("", findings("privileged", fleet.SeverityWarning))
	want := fleet.Diagnostics{{
		Rule: "unused-exception", Severity: fleet.SeverityWarning, Position: fleet.Position{File: ".varan.toml", Line: 6, Col: 1}, Stack: "wbe",
		Message: "the exception of the rule privileged matches nothing", Hint: "remove it, or check its names",
	}}
	if diff := cmp.Diff(want, judge.Unused()); diff != "" {
		t.Errorf("unused (-want +got):\n%s", diff)
	}
}

func TestBriefLeavesAdviceToValidate(t *testing.T) {
	t.Parallel()
	all := slices.Concat(findings("read-only", fleet.SeverityWarning), findings("privileged", fleet.SeverityWarning),
		findings("image-digest", fleet.SeverityError))
	kept, left := rules.Brief(all)
	if left != 1 || len(kept) != 2 || kept[0].Rule != "privileged" {
		t.Errorf("%d left out of %v", left, kept)
	}
}
