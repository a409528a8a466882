package plan

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/varanhq/varan/fleet"
)

// RenderOptions choose how a plan is shown to people.
type RenderOptions struct {
	// Color uses ANSI colours.
	Color bool
	// Verbose also shows what stays as it is, and every cause.
	Verbose bool
	// Width is the width of the terminal in columns; zero does not limit lines.
	Width int
}

// fewCauses is how many causes of one service are shown when not verbose.
const fewCauses = 6

// style is an ANSI colour.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
	cyan   style = "36"
)

// Render writes the plan for people: by server and stack, what happens and why, what can
// not happen and what to do about it, and one line of totals.
func (p Plan) Render(w io.Writer, opts RenderOptions) error {
	r := &renderer{plan: p, opts: opts}
	r.header()
	r.resources()
	r.servers()
	r.rollouts()
	r.gates()
	r.notices()
	r.last()
	if _, err := io.WriteString(w, strings.TrimLeft(r.out.String(), "\n")); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

type renderer struct {
	plan Plan
	opts RenderOptions
	out  strings.Builder
}

// block is one stack on its way to the page.
type block struct {
	address
	op      *Op
	blocked *Blocked
	state   *StackState
}

// row is one line: a sign, a name, what happens, and where that is written.
type row struct {
	indent     int
	sign       string
	signStyle  style
	name       string
	text       string
	textStyle  style
	origin     string
	emphasized bool
	// aside rows stand below a name, out of the columns.
	aside bool
}

func (r *renderer) header() {
	p := &r.plan
	if p.Empty() && !r.opts.Verbose {
		return
	}
	r.put(bold, cmp.Or(p.Sync, "plan"))
	r.put(plain, " at ")
	r.put(cyan, p.Commit.Short())
	if p.Commit.Subject != "" {
		r.put(plain, ": "+clean(clip(p.Commit.Subject)))
	}
	if p.Commit.Author != "" {
		name, _, _ := strings.Cut(p.Commit.Author, " <")
		r.put(dim, " ("+clean(name)+")")
	}
	r.out.WriteString("\n")
}

// servers writes one paragraph per server.
func (r *renderer) servers() {
	var rows []row
	server := ""
	for _, b := range r.blocks() {
		if b.server != server {
			r.table(rows)
			rows = nil
			server = b.server
			r.out.WriteString("\n")
			r.put(bold, server)
			r.out.WriteString("\n")
		}
		rows = append(rows, r.stack(b)...)
	}
	r.table(rows)
}

func (r *renderer) blocks() []block {
	var list []block
	shown := map[address]bool{}
	add := func(b block) {
		list = append(list, b)
		shown[b.address] = true
	}
	for i := range r.plan.Ops {
		op := &r.plan.Ops[i]
		add(block{address: address{op.Server, op.Stack}, op: op})
	}
	for i := range r.plan.Blocked {
		op := &r.plan.Blocked[i].Op
		add(block{address: address{op.Server, op.Stack}, op: op, blocked: &r.plan.Blocked[i]})
	}
	if r.opts.Verbose {
		for i := range r.plan.Stacks {
			s := &r.plan.Stacks[i]
			if at := (address{s.Server, s.Stack}); !shown[at] {
				add(block{address: at, state: s})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b block) int { return compareAddress(a.address, b.address) })
	return list
}

// stack makes the rows of one stack.
func (r *renderer) stack(b block) []row {
	if b.state != nil {
		text := string(b.state.Sync) + ", " + string(b.state.Health) + prefixed(": ", b.state.Text)
		return []row{{indent: 2, sign: "=", signStyle: dim, name: b.stack, text: text, textStyle: dim}}
	}
	head := row{indent: 2, name: b.stack, origin: b.op.Origin.String(), emphasized: true}
	head.sign, head.signStyle = opSign(b.op.Kind)
	head.text = headline(b.op)
	if b.blocked != nil {
		head.sign, head.signStyle = "!", red
		head.text, head.textStyle = "blocked: "+b.blocked.Text, red
		rows := []row{head}
		if b.blocked.Hint != "" {
			rows = append(rows, row{indent: 10, aside: true, text: "hint: " + b.blocked.Hint, textStyle: dim})
		}
		if !r.opts.Verbose {
			return rows
		}
		return append(rows, r.services(b.op)...)
	}
	rows := append([]row{head}, r.services(b.op)...)
	if len(b.op.After) > 0 {
		rows = append(rows, row{indent: 10, aside: true, text: "after " + strings.Join(b.op.After, ", "), textStyle: dim})
	}
	for _, g := range b.op.Gates {
		rows = append(rows, row{indent: 10, aside: true, text: "waits for approval: " + g, textStyle: yellow})
	}
	return rows
}

// headline says why the op exists, unless its services say it below.
func headline(op *Op) string {
	parts := make([]string, 0, len(op.Causes)+1)
	if op.Kind == OpHeal || op.Kind == OpRestart {
		parts = append(parts, string(op.Kind))
	}
	for _, c := range op.Causes {
		if !strings.HasPrefix(c.Field, servicePrefix) {
			parts = append(parts, c.String())
		}
	}
	return strings.Join(parts, "; ")
}

// services makes the rows of an op's services. Those that share a fate and have nothing
// to explain share a line.
func (r *renderer) services(op *Op) []row {
	var rows []row
	var quiet []string
	for _, s := range op.Services {
		if s.Action == ActionKeep {
			if r.opts.Verbose {
				text := "unchanged"
				if len(s.Causes) > 0 {
					text = s.Causes[0].String()
				}
				rows = append(rows, row{indent: 6, sign: "=", signStyle: dim, name: s.Service, text: text, textStyle: dim})
			}
			continue
		}
		if len(s.Causes) == 0 && !r.opts.Verbose {
			quiet = append(quiet, s.Service)
			continue
		}
		rows = append(rows, r.service(s)...)
	}
	if len(quiet) > 0 {
		sign, color := actionSign(ActionCreate)
		if op.Kind == OpRemove {
			sign, color = actionSign(ActionRemove)
		}
		rows = append(rows, row{indent: 6, sign: sign, signStyle: color, name: strings.Join(quiet, ", ")})
	}
	return rows
}

func (r *renderer) service(s ServiceChange) []row {
	sign, color := actionSign(s.Action)
	rows := []row{{indent: 6, sign: sign, signStyle: color, name: s.Service}}
	for i, c := range s.Causes {
		if i == fewCauses && len(s.Causes) > fewCauses+1 && !r.opts.Verbose {
			rows = append(rows, row{indent: 6, text: fmt.Sprintf("and %d more", len(s.Causes)-i), textStyle: dim})
			break
		}
		if i > 0 {
			rows = append(rows, row{indent: 6})
		}
		last := &rows[len(rows)-1]
		last.text, last.origin = c.String(), c.Origin.String()
	}
	return rows
}

// signWidth is the room for the longest sign, "-/+".
const signWidth = 3

// table writes rows with their columns in line.
func (r *renderer) table(rows []row) {
	names, texts := 0, 0
	for _, row := range rows {
		if row.sign != "" && row.text != "" {
			names = max(names, row.indent+signWidth+1+width(row.name))
		}
		if row.origin != "" {
			texts = max(texts, width(row.text))
		}
	}
	names = min(names, 40)
	texts = min(texts, 60)
	for _, row := range rows {
		r.row(row, names, texts)
	}
}

func (r *renderer) row(row row, names, texts int) {
	var line strings.Builder
	used := row.indent
	line.WriteString(strings.Repeat(" ", row.indent))
	put := func(s style, text string) {
		used += width(text)
		line.WriteString(r.paint(s, text))
	}
	pad := func(to int) { put(plain, strings.Repeat(" ", max(to-used, 0))) }
	if row.sign != "" {
		put(row.signStyle, fmt.Sprintf("%*s", signWidth, row.sign))
		name := plain
		if row.emphasized {
			name = bold
		}
		put(name, " "+clean(row.name))
	}
	var wrapped []string
	if row.text != "" {
		if !row.aside {
			pad(names)
			put(plain, "  ")
		}
		wrapped = r.wrap(clean(row.text), used)
		put(row.textStyle, wrapped[0])
		wrapped = wrapped[1:]
	}
	if row.origin != "" {
		pad(names + 2 + texts)
		if origin := "  " + clean(row.origin); r.opts.Width == 0 || used+width(origin) <= r.opts.Width {
			put(dim, origin)
		}
	}
	r.out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	column := names + 2
	if row.aside {
		column = row.indent
	}
	for _, more := range wrapped {
		r.out.WriteString(strings.Repeat(" ", column) + r.paint(row.textStyle, more) + "\n")
	}
}

// wrap breaks text into lines of what is left of the width. A line too narrow to be of
// use is not broken, nor is a word.
func (r *renderer) wrap(text string, used int) []string {
	room := r.opts.Width - used
	if r.opts.Width == 0 || room < 20 || width(text) <= room {
		return []string{text}
	}
	var wrapped []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && width(line)+1+width(word) > room {
			wrapped = append(wrapped, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(wrapped, line)
}

func (r *renderer) gates() {
	if len(r.plan.Gates) == 0 {
		return
	}
	r.out.WriteString("\n")
	r.put(yellow, "Approval needed")
	r.out.WriteString("\n")
	for _, g := range r.plan.Gates {
		r.put(plain, "  "+clean(g.Text)+"\n")
		r.put(dim, "      ops: "+clean(strings.Join(g.Ops, ", ")))
		r.out.WriteString("\n")
		r.put(plain, "      varan apply --approve '"+clean(g.ID)+"'")
		r.out.WriteString("\n")
		if g.Kind == GateVolume {
			r.put(plain, "      varan apply --approve '"+clean(KeepApproval(g.ID))+"'")
			r.put(dim, "   (applies the rest, keeps the volume and its data)")
			r.out.WriteString("\n")
		}
	}
}

func (r *renderer) notices() {
	if len(r.plan.Notices) == 0 {
		return
	}
	r.out.WriteString("\n")
	names, kinds := 0, 0
	for _, n := range r.plan.Notices {
		kinds = max(kinds, width(n.Kind))
		names = max(names, width(n.where()))
	}
	for _, n := range r.plan.Notices {
		r.put(yellow, fmt.Sprintf("%-*s", kinds, n.Kind))
		r.put(plain, fmt.Sprintf("  %-*s  ", min(names, 40), clean(n.where())))
		indent := kinds + min(names, 40) + 4
		r.put(plain, strings.Join(r.wrap(clean(n.Text), indent), "\n"+strings.Repeat(" ", indent))+"\n")
	}
}

// last writes the line people look at first.
func (r *renderer) last() {
	if r.out.Len() > 0 {
		r.out.WriteString("\n")
	}
	t := r.plan.Totals
	if !r.plan.Empty() {
		r.put(bold, t.String())
		r.out.WriteString("\n")
		return
	}
	synced := 0
	for _, s := range r.plan.Stacks {
		if s.Sync == fleet.Synced {
			synced++
		}
	}
	text := fmt.Sprintf("Nothing to do: %s as %s says.", plural(t.Unchanged, "stack"), r.plan.Commit.Short())
	if apart := len(r.plan.Stacks) - synced; apart > 0 {
		text = fmt.Sprintf("Nothing to do: %s in sync, %d left as found.", plural(synced, "stack"), apart)
	}
	r.put(green, text)
	r.out.WriteString("\n")
}

func (r *renderer) put(s style, text string) { r.out.WriteString(r.paint(s, text)) }

func (r *renderer) paint(s style, text string) string {
	if !r.opts.Color || s == plain || strings.TrimSpace(text) == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func opSign(k OpKind) (string, style) {
	switch k {
	case OpCreate:
		return "+", green
	case OpUpdate, OpHeal, OpRestart:
		return "~", yellow
	case OpRemove:
		return "-", red
	}
	return "?", plain
}

func actionSign(a Action) (string, style) {
	switch a {
	case ActionCreate:
		return a.Sign(), green
	case ActionRecreate, ActionStart, ActionRestart, ActionScale:
		return a.Sign(), yellow
	case ActionRemove:
		return a.Sign(), red
	case ActionKeep:
		return a.Sign(), dim
	}
	return a.Sign(), plain
}

func width(text string) int { return utf8.RuneCountInString(text) }
