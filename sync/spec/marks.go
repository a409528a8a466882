package spec

import (
	"strconv"
	"strings"

	"github.com/varanhq/varan/fleet"
)

// marks remembers where a resource and its fields were written. It is small: a mark
// a field that is set, and one an item of a list.
type marks struct { //nolint:recvcheck // only place sets them; copies answer too
	file string
	list []mark
}

// mark places one field, or one item of it. The first mark of a resource is its table.
type mark struct {
	field     string
	item      int32 // -1: the field itself
	line, col int32
}

// place tells a resource where it was written.
func (m *marks) place(from marks) { *m = from }

// Parse is the same for values of one declaration that come from one parse of its file, and
// differs otherwise: what was made from one holds for the other.
func (m marks) Parse() any {
	if len(m.list) == 0 {
		return nil
	}
	return &m.list[0]
}

// At is the position of a field: "name", "config.server", "config.file_paths[1]". A
// field that is not set has the position of its table, and so has the empty name.
// Fields are named by where they belong, also when they were written in short form.
func (m marks) At(field string) fleet.Position {
	name, item := splitItem(field)
	at := mark{}
	for i, k := range m.list {
		switch {
		case i == 0:
			at = k
		case k.field != name:
		case k.item == item:
			return m.position(k)
		case k.item < 0:
			at = k
		}
	}
	return m.position(at)
}

func (m marks) position(k mark) fleet.Position {
	return fleet.Position{File: m.file, Line: int(k.line), Col: int(k.col)}
}

// has reports whether the field is set in the file.
func (m marks) has(field string) bool {
	for _, k := range m.list {
		if k.field == field {
			return true
		}
	}
	return false
}

// splitItem splits "after[2]" into "after" and 2, and "after" into itself and -1.
func splitItem(field string) (name string, item int32) {
	name, index, ok := strings.Cut(field, "[")
	if !ok {
		return field, -1
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(index, "]"), 10, 32)
	if err != nil {
		return field, -1
	}
	return name, int32(n)
}
