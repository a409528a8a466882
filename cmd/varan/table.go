package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/varanhq/varan/fleet"
)

// style colours words when the output is a terminal that wants it.
type style struct{ on bool }

func styleFor(w io.Writer) style {
	f, ok := w.(*os.File)
	return style{on: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s style) paint(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string   { return s.paint("1", t) }
func (s style) dim(t string) string    { return s.paint("2", t) }
func (s style) red(t string) string    { return s.paint("31", t) }
func (s style) green(t string) string  { return s.paint("32", t) }
func (s style) yellow(t string) string { return s.paint("33", t) }
func (s style) cyan(t string) string   { return s.paint("36", t) }

func (s style) sync(state fleet.SyncState) string {
	switch state {
	case fleet.Synced:
		return s.green(string(state))
	case fleet.OutOfSync:
		return s.yellow(string(state))
	case fleet.SyncBlocked:
		return s.red(string(state))
	case fleet.SyncUnknown:
	}
	return s.dim(string(state))
}

func (s style) health(state fleet.HealthState) string {
	switch state {
	case fleet.Healthy:
		return s.green(string(state))
	case fleet.Progressing, fleet.Suspended:
		return s.yellow(string(state))
	case fleet.Degraded, fleet.Missing:
		return s.red(string(state))
	case fleet.HealthUnknown:
	}
	return s.dim(string(state))
}

// minColumns is the narrowest terminal that anything is fitted to.
const minColumns = 20

// columns is the width of the terminal that w is; zero means it is none, and lines may be
// as long as they like.
func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < minColumns {
		return 80
	}
	return width
}

// table aligns columns, colour codes not counted. The last column is never padded. On a
// terminal too narrow for it each row becomes a paragraph.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer, s style) { t.fit(w, s, columns(w)) }

// fit writes the table for a terminal of that width; zero is any.
func (t *table) fit(w io.Writer, s style, width int) {
	widths := make([]int, len(t.head))
	all := append([][]string{t.head}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], visible(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	// The last column is text that a terminal may wrap, as long as its start is seen.
	if last := widths[len(widths)-1]; width > 0 && total-last+min(last, minColumns) > width {
		t.paragraphs(w, s)
		return
	}
	for n, row := range all {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell + strings.Repeat(" ", widths[i]-visible(cell)))
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = s.bold(text)
		}
		fmt.Fprintln(w, text)
	}
}

// paragraphs writes each row as its first cell and, below it, the others with their heads.
func (t *table) paragraphs(w io.Writer, s style) {
	label := 0
	for _, head := range t.head[1:] {
		label = max(label, visible(head))
	}
	for _, row := range t.rows {
		fmt.Fprintln(w, s.bold(row[0]))
		for i, cell := range row[1:] {
			if cell == "" || cell == "-" {
				continue
			}
			head := strings.ToLower(t.head[i+1])
			fmt.Fprintf(w, "  %s%s  %s\n", s.dim(head), strings.Repeat(" ", label-visible(head)), cell)
		}
	}
}

// visible is the width of a cell on screen: its runes without escape sequences.
func visible(cell string) int {
	n := utf8.RuneCountInString(cell)
	for rest := cell; ; {
		start := strings.Index(rest, "\x1b[")
		if start < 0 {
			return n
		}
		end := strings.IndexByte(rest[start:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		rest = rest[start+end+1:]
	}
}

// ago is a rough age: "12s", "5m", "3h", "2d", or "-" when unknown.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func orDash(s string) string { return firstOf(s, "-") }

// printable drops control characters, so that text that came from a host or a
// commit cannot move the cursor or forge lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || (r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f)) {
			return r
		}
		return -1
	}, s)
}
