package fleet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/fleet"
)

func TestDiagnosticsSortByPlaceAndDropRepeats(t *testing.T) {
	t.Parallel()
	at := func(file string, line, col int, message string) fleet.Diagnostic {
		return fleet.Diagnostic{
			Rule: "rule", Severity: fleet.SeverityError, Message: message,
			Position: fleet.Position{File: file, Line: line, Col: col},
		}
	}
	got := fleet.Diagnostics{
		at("b.toml", 1, 1, "x"), at("a.toml", 10, 1, "x"), at("a.toml", 2, 5, "x"), at("a.toml", 2, 5, "x"),
	}.Sort()
	want := fleet.Diagnostics{at("a.toml", 2, 5, "x"), at("a.toml", 10, 1, "x"), at("b.toml", 1, 1, "x")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.HasErrors() || (fleet.Diagnostics{{Severity: fleet.SeverityWarning}}).HasErrors() {
		t.Error("only errors are errors")
	}
	if first, _, _ := strings.Cut(got.Error(), "\n"); first != "a.toml:2:5: error: x [rule]" {
		t.Errorf("the first line is %q", first)
	}
}

func TestSeverityIsAWordInJSON(t *testing.T) {
	t.Parallel()
	for _, s := range []fleet.Severity{fleet.SeverityNote, fleet.SeverityWarning, fleet.SeverityError} {
		raw, err := json.Marshal(s)
		var back fleet.Severity
		if err != nil || json.Unmarshal(raw, &back) != nil || back != s {
			t.Errorf("%s went out as %s and came back as %s, %v", s, raw, back, err)
		}
	}
	var s fleet.Severity
	if json.Unmarshal([]byte(`"fatal"`), &s) == nil {
		t.Error("an unknown severity was taken")
	}
}

func TestPositionLeavesOutWhatIsUnknown(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]fleet.Position{
		"": {}, "a": {File: "a"}, "a:3": {File: "a", Line: 3}, "a:3:7": {File: "a", Line: 3, Col: 7},
	} {
		if p.String() != want || p.IsZero() != (want == "") {
			t.Errorf("%+v prints %q, want %q", p, p, want)
		}
	}
}

func TestOnlyWellFormedDigestsAreValid(t *testing.T) {
	t.Parallel()
	good := fleet.SumDigest([]byte("x"))
	if !good.Valid() || len(good.Short()) != 12 {
		t.Errorf("%s is not taken for a digest", good)
	}
	for _, bad := range []fleet.Digest{
		"", "sha256:", "sha256:../../etc/passwd", good[:70], good + "0", fleet.Digest(strings.ToUpper(string(good))),
		"md5:" + good[7:], fleet.Digest(strings.Replace(string(good), "2", "/", 2)),
	} {
		if bad.Valid() {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

func TestOutcomeIsAnErrorUnlessItSucceeded(t *testing.T) {
	t.Parallel()
	if err := (fleet.Outcome{Status: fleet.OutcomeSucceeded}).Err(); err != nil {
		t.Error(err)
	}
	failed := fleet.Outcome{Stack: "web", Status: fleet.OutcomeRolledBack, Reason: "service app exited"}
	if err := failed.Err(); err == nil || !strings.Contains(err.Error(), "service app exited") {
		t.Errorf("got %v", err)
	}
}

func TestCommitWithoutAnIDIsAWorktree(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"": "worktree", "abc": "abc", "0123456789abcdef": "01234567"} {
		if got := (fleet.Commit{ID: id}).Short(); got != want {
			t.Errorf("%q is short for %q, want %q", got, id, want)
		}
	}
}
