package spec

import "errors"

// Plain reads a resource file without understanding it, as schema checkers want it.
func Plain(src []byte) (any, error) {
	rep := &report{file: "plain.toml", lines: newlines(src)}
	s := scanner{src: src}
	s.scan()
	root, failure := buildTree(rep, src, s.escapes)
	if failure != nil || len(rep.diags) > 0 {
		return nil, errors.New("not TOML")
	}
	return value{kind: kindTable, table: root}.plain(), nil
}
