package plan

import "strings"

// resources writes the changes of what core keeps. What an op below tells is left out, and
// new ones of a kind share a line.
func (r *renderer) resources() {
	var rows []row
	var created []string
	kind := ""
	flush := func() {
		if len(created) > 0 {
			sign, color := actionSign(ActionCreate)
			rows = append(rows, row{indent: 2, sign: sign, signStyle: color, name: spoken(kind), text: strings.Join(created, ", ")})
		}
		created = nil
	}
	for i := range r.plan.Resources {
		c := &r.plan.Resources[i]
		if r.plan.Covers(*c) && !r.opts.Verbose {
			continue
		}
		if c.Kind != kind || c.Action != ResourceCreate || c.Blocked != "" || r.opts.Verbose {
			flush()
		}
		kind = c.Kind
		if c.Action == ResourceCreate && c.Blocked == "" && !r.opts.Verbose {
			created = append(created, c.Name)
			continue
		}
		rows = append(rows, r.resource(c)...)
	}
	flush()
	if len(rows) == 0 {
		return
	}
	r.out.WriteString("\n")
	r.put(bold, "core")
	r.out.WriteString("\n")
	r.table(rows)
}

func (*renderer) resource(c *ResourceChange) []row {
	head := row{indent: 2, name: resourceText(c.Kind, c.Name), origin: c.Origin.String()}
	switch c.Action {
	case ResourceCreate:
		head.sign, head.signStyle = "+", green
	case ResourceUpdate:
		head.sign, head.signStyle = "~", yellow
	case ResourceDelete:
		head.sign, head.signStyle, head.text, head.origin = "-", red, "no longer declared", ""
	}
	if c.Blocked != "" {
		head.sign, head.signStyle, head.text, head.textStyle = "!", red, "blocked: "+c.Blocked, red
		return []row{head}
	}
	rows := []row{head}
	for _, f := range c.Fields {
		last := &rows[len(rows)-1]
		if last.text != "" {
			rows = append(rows, row{indent: 2})
			last = &rows[len(rows)-1]
		}
		last.text = f.String()
		if !f.Origin.IsZero() {
			last.origin = f.Origin.String()
		}
	}
	for _, g := range c.Gates {
		rows = append(rows, row{indent: 10, aside: true, text: "waits for approval: " + g, textStyle: yellow})
	}
	return rows
}

// spoken is a kind as people write it.
func spoken(kind string) string { return strings.ReplaceAll(kind, "_", " ") }
