package findings_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varanhq/varan/cmd/internal/findings"
	"github.com/varanhq/varan/fleet"
)

func report(t *testing.T) findings.Report {
	t.Helper()
	root := t.TempDir()
	at := func(name string, line, col int) fleet.Position {
		return fleet.Position{File: filepath.ToSlash(filepath.Join(root, name)), Line: line, Col: col}
	}
	return findings.Report{
		Root: root, Version: "1.2.3", Files: []string{at("good.toml", 0, 0).File, at("a b/bad.toml", 0, 0).File},
		Diagnostics: fleet.Diagnostics{
			{Rule: "unknown-key", Severity: fleet.SeverityError, Position: at("a b/bad.toml", 3, 7), Message: "50% <wrong>:\n::set-env name=X::y", Hint: "h"},
			{Rule: "port-taken", Severity: fleet.SeverityWarning, Position: at("a b/bad.toml", 4, 0), Message: "m", Stack: "web", Related: at("other.yaml", 2, 1)},
			{Rule: "privileged", Severity: fleet.SeverityNote, Position: at("x.yaml", 1, 1), Message: "n", Reason: "because"},
			{Rule: "source-stale", Severity: fleet.SeverityWarning, Message: "no file"},
			{Rule: "of-a-newer-core", Severity: fleet.SeverityError, Position: fleet.Position{File: "/elsewhere/z.toml"}, Message: "\x01"},
		},
	}
}

func TestGitHubCommandsCannotBeForged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := report(t).WriteGitHub(&out); err != nil {
		t.Fatal(err)
	}
	want := "::error file=a b/bad.toml,line=3,col=7,title=unknown-key::50%25 <wrong>:%0A::set-env name=X::y%0Ah\n" +
		"::warning file=a b/bad.toml,line=4,title=port-taken::m\n" +
		"::warning title=source-stale::no file\n" +
		"::error file=/elsewhere/z.toml,title=of-a-newer-core::\x01\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestSARIFHasRulesPlacesAndSuppressions(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := report(t).WriteSARIF(&out); err != nil {
		t.Fatal(err)
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name, Version string
					Rules         []struct {
						ID, HelpURI          string
						ShortDescription     struct{ Text string }
						DefaultConfiguration struct{ Level string }
					}
				}
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI, URIBaseID string }
						Region           *struct{ StartLine, StartColumn int }
					}
				}
				RelatedLocations    []json.RawMessage
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind, Justification string }
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif") || len(log.Runs) != 1 {
		t.Fatalf("log %+v", log)
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name != "varan" || run.Tool.Driver.Version != "1.2.3" || len(run.Tool.Driver.Rules) != 5 || len(run.Results) != 5 {
		t.Fatalf("run %+v", run)
	}
	for i, r := range run.Results {
		rule := run.Tool.Driver.Rules[r.RuleIndex]
		if rule.ID != r.RuleID || rule.ShortDescription.Text == "" || rule.DefaultConfiguration.Level == "" ||
			!strings.HasSuffix(rule.HelpURI, "/docs/rules.md#"+r.RuleID) || len(r.PartialFingerprints) != 1 || r.Message.Text == "" {
			t.Errorf("result %d: %+v of rule %+v", i, r, rule)
		}
		if related := len(r.RelatedLocations) == 1; related != (r.RuleID == "port-taken") {
			t.Errorf("related places of %s: %v", r.RuleID, related)
		}
	}
	first := run.Results[0].Locations[0].PhysicalLocation
	if first.ArtifactLocation.URI != "a%20b/bad.toml" || first.ArtifactLocation.URIBaseID != "%SRCROOT%" || first.Region.StartLine != 3 || first.Region.StartColumn != 7 {
		t.Errorf("place %+v", first)
	}
	if s := run.Results[2].Suppressions; len(s) != 1 || s[0].Kind != "external" || s[0].Justification != "because" || run.Results[2].Level != "note" {
		t.Errorf("suppressions %+v", s)
	}
	if len(run.Results[3].Locations) != 0 {
		t.Error("a finding without a place has one")
	}
	if uri := run.Results[4].Locations[0].PhysicalLocation.ArtifactLocation.URI; uri != "file:///elsewhere/z.toml" {
		t.Errorf("a file outside the repository: %s", uri)
	}
}

func TestJUnitHasACaseForEachFile(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := report(t).WriteJUnit(&out); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(out.Bytes()))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v\n%s", err, out.String())
		}
	}
	for _, want := range []string{
		`tests="5" failures="2"`, `<testcase name="good.toml" classname="varan.validate" file="good.toml"></testcase>`,
		`type="unknown-key"`, `50% &lt;wrong&gt;`, `m [port-taken]</system-out>`, `<testcase name="the fleet"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}
