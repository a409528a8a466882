package findings

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/rules"
)

const (
	homepage  = "https://github.com/varanhq/varan"
	rulesPage = homepage + "/blob/main/docs/rules.md#"
	// base is what paths are relative to: the top of the checked-out repository.
	base = "%SRCROOT%"
)

// The parts of SARIF 2.1.0 that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string          `json:"id"`
		ShortDescription sarifText       `json:"shortDescription"`
		FullDescription  sarifText       `json:"fullDescription"`
		Help             sarifText       `json:"help"`
		HelpURI          string          `json:"helpUri"`
		Default          sarifDefault    `json:"defaultConfiguration"`
		Properties       sarifProperties `json:"properties"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifProperties struct {
		Tags []string `json:"tags"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations,omitempty"`
		Related      []sarifLocation    `json:"relatedLocations,omitempty"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		ID       *int          `json:"id,omitempty"`
		Message  *sarifText    `json:"message,omitempty"`
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
)

// WriteSARIF writes all findings, notes as well, with what the registry says of their rules.
func (r Report) WriteSARIF(w io.Writer) error {
	ids := []string{}
	for i := range r.Diagnostics {
		ids = append(ids, r.Diagnostics[i].Rule)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "varan", Version: r.Version, InformationURI: homepage, Rules: []sarifRule{}}
	for _, id := range ids {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, describeRule(id))
	}
	for _, d := range r.Diagnostics {
		index, _ := slices.BinarySearch(ids, d.Rule)
		run.Results = append(run.Results, r.sarifResult(d, index))
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	}); err != nil {
		return fmt.Errorf("write SARIF: %w", err)
	}
	return nil
}

func describeRule(id string) sarifRule {
	entry, ok := rules.Lookup(id)
	if !ok { // of a core that is newer than this program
		entry = rules.Entry{ID: id, Title: id, Why: id, Severity: fleet.SeverityWarning}
	}
	var help, markdown strings.Builder
	help.WriteString(entry.Why)
	markdown.WriteString(entry.Why + "\n")
	for _, example := range []struct{ head, text string }{{"Instead of", entry.Bad}, {"Write", entry.Good}} {
		if example.text != "" {
			fmt.Fprintf(&help, "\n\n%s:\n\n%s", example.head, example.text)
			fmt.Fprintf(&markdown, "\n%s:\n\n```\n%s\n```\n", example.head, example.text)
		}
	}
	return sarifRule{
		ID: id, ShortDescription: sarifText{Text: entry.Title}, FullDescription: sarifText{Text: entry.Why},
		Help: sarifText{Text: help.String(), Markdown: markdown.String()}, HelpURI: rulesPage + id,
		Default: sarifDefault{sarifLevel(entry.Severity)}, Properties: sarifProperties{[]string{string(entry.Group)}},
	}
}

// sarifLevel is the word for a severity; they are the same by luck.
func sarifLevel(s fleet.Severity) string { return s.String() }

func (r Report) sarifResult(d fleet.Diagnostic, index int) sarifResult {
	message := d.Message
	if d.Hint != "" {
		message += "\nHint: " + d.Hint
	}
	file := r.fromRoot(d.File)
	sum := sha256.Sum256([]byte(strings.Join([]string{d.Rule, file, d.Stack, d.Service, d.Message}, "\x00")))
	out := sarifResult{
		RuleID: d.Rule, RuleIndex: index, Level: sarifLevel(d.Severity), Message: sarifText{Text: message},
		Fingerprints: map[string]string{"varan/v1": hex.EncodeToString(sum[:16])},
	}
	if d.File != "" {
		out.Locations = []sarifLocation{{Physical: r.sarifPhysical(d.Position)}}
	}
	if d.Related.File != "" {
		id := 1
		out.Related = []sarifLocation{{ID: &id, Message: &sarifText{Text: "the other place"}, Physical: r.sarifPhysical(d.Related)}}
	}
	if d.Reason != "" {
		out.Suppressions = []sarifSuppression{{Kind: "external", Justification: d.Reason}}
	}
	return out
}

func (r Report) sarifPhysical(at fleet.Position) sarifPhysical {
	file := r.fromRoot(at.File)
	out := sarifPhysical{Artifact: sarifArtifact{URI: (&url.URL{Path: file}).EscapedPath(), Base: base}}
	if strings.HasPrefix(file, "/") {
		out.Artifact = sarifArtifact{URI: (&url.URL{Scheme: "file", Path: file}).String()}
	}
	if at.Line > 0 {
		out.Region = &sarifRegion{StartLine: at.Line, StartColumn: at.Col}
	}
	return out
}
