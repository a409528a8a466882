// Package findings writes diagnostics in the forms that people, editors and CI systems
// read. It decides nothing: what is found, and how severe it is, is settled before.
package findings

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// Format is a form of output.
type Format string

// The formats.
const (
	// Text is for people.
	Text Format = "text"
	// JSON is for programs and editors.
	JSON Format = "json"
	// GitHub are the commands by which a step of GitHub Actions annotates files.
	GitHub Format = "github"
	// SARIF is version 2.1.0 of the exchange format for results of analysis.
	SARIF Format = "sarif"
	// JUnit is the XML that most CI systems show as tests.
	JUnit Format = "junit"
)

// Formats are all formats.
func Formats() []Format { return []Format{Text, JSON, GitHub, SARIF, JUnit} }

// Report is the result of looking at one or more trees. Files are as the user can open
// them: relative to the working directory, or absolute.
type Report struct {
	Diagnostics fleet.Diagnostics
	// Servers and Stacks count what is declared.
	Servers, Stacks int
	// Others count what else is declared, by its kind: "procedure", "variable", ...
	Others map[string]int
	// Files are those that were looked at, for formats that list what is right as well.
	Files []string
	// Root is the directory that CI systems start from; paths in their formats are relative
	// to it.
	Root string
	// Version is that of the program.
	Version string
}

// Counts are the numbers of findings by severity.
type Counts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
}

// Count counts findings.
func Count(ds fleet.Diagnostics) Counts {
	var c Counts
	for i := range ds {
		switch ds[i].Severity {
		case fleet.SeverityError:
			c.Errors++
		case fleet.SeverityWarning:
			c.Warnings++
		case fleet.SeverityNote:
			c.Notes++
		}
	}
	return c
}

// Within gives positions that are relative to dir as the user can open them.
func Within(dir string, ds fleet.Diagnostics) fleet.Diagnostics {
	out := slices.Clone(ds)
	for i := range out {
		out[i].File = joined(dir, out[i].File)
		out[i].Related.File = joined(dir, out[i].Related.File)
	}
	return out
}

func joined(dir, file string) string {
	if file == "" || dir == "." || path.IsAbs(file) {
		return file
	}
	return filepath.ToSlash(filepath.Join(dir, filepath.FromSlash(file)))
}

// Root is the top of the repository that a directory is in: the nearest one above it that
// holds .git, or the working directory.
func Root(dir string) string {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "."
	}
	for at := start; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	if working, err := os.Getwd(); err == nil {
		return working
	}
	return start
}

// fromRoot is a file relative to the root; as it is when it lies elsewhere.
func (r Report) fromRoot(file string) string {
	if file == "" {
		return ""
	}
	full, err := filepath.Abs(filepath.FromSlash(file))
	if err != nil {
		return file
	}
	rel, err := filepath.Rel(r.Root, full)
	if err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return file
	}
	return filepath.ToSlash(rel)
}

// full is a message with its hint and, for what an exception excuses, the reason.
func full(d fleet.Diagnostic) string {
	text := d.Message
	if d.Hint != "" {
		text += "\n" + d.Hint
	}
	if d.Reason != "" {
		text += "\nexcused: " + d.Reason
	}
	return text
}

// WriteGitHub writes one workflow command for each error and warning. GitHub shows ten of
// each at the files; the log has all of them.
func (r Report) WriteGitHub(w io.Writer) error {
	var out strings.Builder
	for _, d := range r.Diagnostics {
		command := "error"
		switch d.Severity {
		case fleet.SeverityNote:
			continue
		case fleet.SeverityWarning:
			command = "warning"
		case fleet.SeverityError:
		}
		properties := []string{}
		add := func(key, value string) {
			properties = append(properties, key+"="+gitHubProperty.Replace(value))
		}
		if d.File != "" {
			add("file", r.fromRoot(d.File))
		}
		if d.Line > 0 {
			add("line", fmt.Sprint(d.Line))
		}
		if d.Line > 0 && d.Col > 0 {
			add("col", fmt.Sprint(d.Col))
		}
		add("title", d.Rule)
		fmt.Fprintf(&out, "::%s %s::%s\n", command, strings.Join(properties, ","), gitHubData.Replace(full(d)))
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

// What a workflow command must not hold as it is, in its message and in its properties.
var (
	gitHubData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	gitHubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
