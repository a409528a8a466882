package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/cmd/internal/findings"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/sync/compose"
	"github.com/varanhq/varan/sync/render"
	"github.com/varanhq/varan/sync/rules"
	"github.com/varanhq/varan/sync/spec"
)

// maxEdited bounds a single file; no reader takes a larger one.
const maxEdited = 1 << 20

// readEdited reads a file of usual size.
func readEdited(name string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() || info.Size() > maxEdited {
		return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("%s is not a file of at most %d bytes", name, maxEdited)}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, &exit.Error{Code: exit.Config, Err: fmt.Errorf("read %s: %w", name, plainPathError(err))}
	}
	return data, nil
}

// addFile checks one file on its own. What it refers to may be in others, so that a
// reference that leads nowhere is no more than a note.
func addFile(ctx context.Context, report *findings.Report, name string, data []byte, lenient bool) error {
	report.Files = append(report.Files, name)
	var found fleet.Diagnostics
	switch ext := path.Ext(name); {
	case path.Base(name) == spec.RulesFile:
		_, found = rules.Parse(name, data)
	case ext == ".toml":
		var decls spec.Declarations
		var err error
		if decls, found, err = loadAlone(name, data, lenient); err != nil {
			return err
		}
		report.Servers += len(decls.Servers)
		report.Stacks += len(decls.Stacks)
		countOthers(report, &decls.Resources)
	case ext == ".yaml" || ext == ".yml":
		var err error
		if found, err = loadComposeFile(ctx, name, data); err != nil {
			return err
		}
		report.Stacks++
	default:
		return &exit.Error{
			Code: exit.Usage, Err: fmt.Errorf("%s is neither a resource file nor a Compose file", name),
			Hint: "resource files end in .toml, Compose files in .yaml or .yml",
		}
	}
	report.Diagnostics = append(report.Diagnostics, found...)
	return nil
}

// loadAlone reads one resource file as if it were the whole tree.
func loadAlone(name string, data []byte, lenient bool) (spec.Declarations, fleet.Diagnostics, error) {
	const alone = "file.toml"
	tree, err := render.MemTree(map[string][]byte{alone: data}, nil)
	if err != nil {
		return spec.Declarations{}, nil, fmt.Errorf("read %s: %w", name, err)
	}
	decls, found := spec.Load(tree, spec.Options{Offline: true, Lenient: lenient})
	for i := range found {
		d := &found[i]
		if d.Severity == fleet.SeverityError && aboutOthers(d.Rule) {
			d.Severity = fleet.SeverityNote
			d.Message += " in this file"
		}
		d.File = name
		d.Message = strings.ReplaceAll(d.Message, alone, name)
	}
	return decls, found, nil
}

// aboutOthers reports rules that other files of the tree decide.
func aboutOthers(rule string) bool {
	entry, ok := rules.Lookup(rule)
	return ok && entry.Group == rules.GroupResources && strings.HasPrefix(rule, "unknown-") &&
		!slices.Contains([]string{"unknown-key", "unknown-field"}, rule)
}

// overlay is a directory in which one file has another content: that of an editor.
type overlay struct {
	compose.Tree
	name string
	data []byte
}

// ReadFile implements fs.ReadFileFS.
func (o overlay) ReadFile(name string) ([]byte, error) {
	if name == o.name {
		return slices.Clone(o.data), nil
	}
	return o.Tree.ReadFile(name) //nolint:wrapcheck // it says what and which
}

// loadComposeFile checks a Compose file as a stack of its own. Its variables are unknown.
func loadComposeFile(ctx context.Context, name string, data []byte) (fleet.Diagnostics, error) {
	dir := filepath.Dir(filepath.FromSlash(name))
	base := path.Base(name)
	tree, err := render.DirTree(dir)
	if err != nil {
		return nil, &exit.Error{Code: exit.Config, Err: err}
	}
	defer func() { _ = tree.Close() }()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, as its documentation says
	req := compose.Request{
		Tree: overlay{tree, base, data}, Stack: "file", Server: "none", Project: "file", Key: key,
		Origin: fleet.Position{File: base}, FilePaths: []string{base}, Offline: true,
	}
	result, found := compose.Load(ctx, req)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	found = slices.Concat(found, result.Advice)
	return findings.Within(filepath.ToSlash(dir), found), nil
}
