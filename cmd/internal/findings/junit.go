package findings

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Failure *junitFailure `xml:"failure,omitempty"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes one case for each file that was looked at. A file with an error has
// failed; its warnings are the output of the case.
func (r Report) WriteJUnit(w io.Writer) error {
	byFile := map[string]fleet.Diagnostics{}
	for _, file := range r.Files {
		byFile[r.fromRoot(file)] = nil
	}
	for _, d := range r.Diagnostics {
		file := r.fromRoot(d.File)
		byFile[file] = append(byFile[file], d)
	}
	suite := junitSuite{Name: "varan validate"}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		c := junitCase{Name: file, Class: "varan.validate", File: file}
		if file == "" {
			c.Name = "the fleet"
		}
		c.fill(byFile[file])
		if c.Failure != nil {
			suite.Failures++
		}
		suite.Cases = append(suite.Cases, c)
	}
	suite.Tests = len(suite.Cases)
	out, err := xml.MarshalIndent(junitSuites{
		Name: suite.Name, Tests: suite.Tests, Failures: suite.Failures, Suites: []junitSuite{suite},
	}, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	}
	if err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	return nil
}

func (c *junitCase) fill(ds fleet.Diagnostics) {
	var failed, told []string
	var first fleet.Diagnostic
	for _, d := range ds {
		place := d.Position.String()
		if place != "" {
			place += ": "
		}
		text := fmt.Sprintf("%s%s: %s [%s]", place, d.Severity, strings.ReplaceAll(full(d), "\n", "\n  "), d.Rule)
		switch d.Severity {
		case fleet.SeverityError:
			if len(failed) == 0 {
				first = d
			}
			failed = append(failed, text)
		case fleet.SeverityWarning:
			told = append(told, text)
		case fleet.SeverityNote:
		}
	}
	c.Output = strings.Join(told, "\n")
	if len(failed) > 0 {
		message := first.Message
		if len(failed) > 1 {
			message += fmt.Sprintf(" (and %d more)", len(failed)-1)
		}
		c.Failure = &junitFailure{Message: message, Type: first.Rule, Text: strings.Join(failed, "\n")}
	}
}
