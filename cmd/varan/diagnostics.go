package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/varanhq/varan/cmd/internal/findings"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/leak"
	"github.com/varanhq/varan/sync/rules"
)

func invalid(ds fleet.Diagnostics) error {
	counts := findings.Count(ds)
	return fmt.Errorf("the configuration is invalid: %s, %s", plural(counts.Errors, "error"), plural(counts.Warnings, "warning"))
}

// plural is "1 stack" or "2 stacks".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// worthTelling leaves notes and advice to validate: beside a plan they are noise.
func worthTelling(ds fleet.Diagnostics, verbose bool) fleet.Diagnostics {
	if verbose {
		return ds
	}
	brief, _ := rules.Brief(ds)
	return slices.DeleteFunc(brief, func(d fleet.Diagnostic) bool { return d.Severity == fleet.SeverityNote })
}

// printDiagnostics shows each finding on a line, with its hint below.
func printDiagnostics(w io.Writer, ds fleet.Diagnostics) {
	s := styleFor(w)
	quote := func(fleet.Diagnostic) {}
	if s.on || columns(w) > 0 {
		lines := quoter{}
		quote = func(d fleet.Diagnostic) { lines.quote(w, s, d) }
	}
	for _, d := range ds {
		word := d.Severity.String()
		switch d.Severity {
		case fleet.SeverityError:
			word = s.red(word)
		case fleet.SeverityWarning:
			word = s.yellow(word)
		case fleet.SeverityNote:
			word = s.cyan(word)
		}
		position := d.Position.String()
		if position != "" {
			position = s.bold(printable(position)) + ": "
		}
		fmt.Fprintf(w, "%s%s: %s %s\n", position, word, printable(d.Message), s.dim("["+d.Rule+"]"))
		quote(d)
		if d.Hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", printable(d.Hint))
		}
		if d.Reason != "" {
			fmt.Fprintf(w, "  excused: %s\n", printable(d.Reason))
		}
	}
}

// quoter shows the line that a finding is about. It keeps the file it read last.
type quoter struct {
	file  string
	lines []string
}

// quote prints the line and a mark below the column. A line with a secret is not shown.
func (q *quoter) quote(w io.Writer, s style, d fleet.Diagnostic) {
	line, ok := q.line(d.File, d.Line)
	if !ok || d.Col < 1 || d.Col > len(line)+1 || confidential(d, line) {
		return
	}
	const widest = 160
	before := strings.ReplaceAll(line[:d.Col-1], "\t", " ")
	text := before + strings.ReplaceAll(line[d.Col-1:], "\t", " ")
	if utf8.RuneCountInString(before) >= widest {
		return
	}
	if runes := []rune(text); len(runes) > widest {
		text = string(runes[:widest]) + "..."
	}
	number := fmt.Sprintf("%5d", d.Line)
	fmt.Fprintf(w, "%s %s\n", s.dim(number+" |"), printable(text))
	fmt.Fprintf(w, "%s %s%s\n", s.dim(strings.Repeat(" ", len(number))+" |"),
		strings.Repeat(" ", utf8.RuneCountInString(printable(before))), s.red("^"))
}

// line is one line of a file; not ok for anything but a regular file of usual size.
func (q *quoter) line(file string, number int) (string, bool) {
	if file == "" || number < 1 {
		return "", false
	}
	if file != q.file {
		q.file, q.lines = file, readLines(filepath.FromSlash(file))
	}
	if number > len(q.lines) || !utf8.ValidString(q.lines[number-1]) {
		return "", false
	}
	return q.lines[number-1], true
}

func readLines(name string) []string {
	const largest = 1 << 20
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > largest {
		return nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	var lines []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, largest)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return lines
}

// confidential reports lines that hold, or may hold, a secret.
func confidential(d fleet.Diagnostic, line string) bool {
	if entry, ok := rules.Lookup(d.Rule); ok && entry.Group == rules.GroupSecrets {
		return true
	}
	if kind, _ := leak.Find(line); kind != "" {
		return true
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		if name, value, ok = strings.Cut(line, ":"); !ok {
			return false
		}
	}
	name = strings.Trim(strings.TrimLeft(strings.TrimSpace(name), "- "), `"'`)
	switch strings.ToLower(name) {
	case "value", "passkey", "webhook_secret":
		return true
	}
	return leak.Password(name, strings.Trim(strings.TrimSpace(value), `"',`))
}

// printFindings shows a report to people: what has to be dealt with, and counts of the rest.
func printFindings(w io.Writer, ds fleet.Diagnostics, verbose bool) {
	if verbose {
		printDiagnostics(w, ds)
		return
	}
	printDiagnostics(w, worthTelling(ds, false))
	printAdvice(w, ds)
}

// maxAdvised bounds the stacks whose advice is counted one by one.
const maxAdvised = 20

// printAdvice says how much advice there is for each stack, and about what.
func printAdvice(w io.Writer, ds fleet.Diagnostics) {
	type count struct {
		total  int
		byRule map[string]int
	}
	stacks := map[string]*count{}
	total := 0
	for _, d := range ds {
		entry, ok := rules.Lookup(d.Rule)
		if !ok || !entry.Advisory() || d.Severity != fleet.SeverityWarning {
			continue
		}
		c := stacks[d.Stack]
		if c == nil {
			c = &count{byRule: map[string]int{}}
			stacks[d.Stack] = c
		}
		c.total++
		c.byRule[d.Rule]++
		total++
	}
	if total == 0 {
		return
	}
	s := styleFor(w)
	if len(stacks) <= maxAdvised {
		for _, name := range slices.Sorted(maps.Keys(stacks)) {
			c := stacks[name]
			names := slices.SortedFunc(maps.Keys(c.byRule), func(a, b string) int {
				return cmp.Or(c.byRule[b]-c.byRule[a], strings.Compare(a, b))
			})
			for i, rule := range names {
				if c.byRule[rule] > 1 {
					names[i] = fmt.Sprintf("%s (%d)", rule, c.byRule[rule])
				}
			}
			fmt.Fprintf(w, "stack %s: %s: %s\n", s.bold(printable(name)),
				s.yellow(plural(c.total, "hardening or portability warning")), printable(strings.Join(names, ", ")))
		}
	}
	fmt.Fprintf(w, "%s in %s are summed up: --verbose lists them, varan explain RULE tells why, .varan.toml sets the rules\n",
		plural(total, "hardening and portability warning"), plural(len(stacks), "stack"))
}
