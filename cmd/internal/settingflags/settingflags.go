// Package settingflags gives a table of settings its flags, and reads it from them, the
// environment and a file. Only packages below cmd may import it.
package settingflags

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/settings"
)

// Config says which table a command has.
type Config struct {
	// Table is a pointer to a struct of settings.
	Table any
	// Variable names the file in the environment, Path is where it is otherwise. That one
	// need not exist.
	Variable, Path string
	// Defaults and Ignored are those of settings.Source.
	Defaults map[string]string
	Ignored  []string
	// Shared are the flags that subcommands have too.
	Shared []string
}

// Flags are the flags of a table, with --config and --print-config.
type Flags struct {
	cfg    Config
	file   string
	print  bool
	values map[string]*value
}

// Register adds the flags of a table to those of a command. shared are its persistent ones.
func Register(own, shared *pflag.FlagSet, cfg Config) *Flags {
	f := &Flags{cfg: cfg, values: map[string]*value{}}
	shared.StringVar(&f.file, "config", "", fmt.Sprintf("TOML file with settings ($%s; default %s, if it is there)", cfg.Variable, cfg.Path))
	own.BoolVar(&f.print, "print-config", false, "print every setting with where it comes from, and exit")
	for _, r := range settings.Rows(cfg.Table) {
		set := own
		if slices.Contains(cfg.Shared, r.Flag) {
			set = shared
		}
		f.add(set, r, r.Flag, usage(r, cfg.Defaults[r.Key]))
		f.add(set, r, r.FileFlag, "file with: "+fileUsage(r))
	}
	return f
}

func (f *Flags) add(set *pflag.FlagSet, r settings.Row, name, usage string) {
	if name == "" {
		return
	}
	v := &value{row: r}
	f.values[name] = v
	flag := set.VarPF(v, name, "", usage)
	if r.Boolean {
		flag.NoOptDefVal = "true"
	}
}

func usage(r settings.Row, fallback string) string {
	var notes []string
	if r.Repeated {
		notes = append(notes, "repeatable")
	}
	for _, name := range r.Env {
		notes = append(notes, "$"+name)
		break // the others are those of other programs
	}
	if fallback == "" {
		fallback = r.Default
	}
	if fallback != "" {
		notes = append(notes, "default "+fallback)
	}
	if len(notes) == 0 {
		return r.Doc
	}
	return r.Doc + " (" + strings.Join(notes, "; ") + ")"
}

// fileUsage is what a flag that names a secret's file says.
func fileUsage(r settings.Row) string {
	env := slices.Clone(r.Env)
	for i := range env {
		env[i] += "_FILE"
	}
	r.Env = env
	return usage(r, "")
}

// value collects what a flag is set to. It is looked at later, with everything else.
type value struct {
	row   settings.Row
	texts []string
}

// String implements pflag.Value.
func (v *value) String() string { return strings.Join(v.texts, ",") }

// Set implements pflag.Value.
func (v *value) Set(text string) error {
	if !v.row.Repeated {
		v.texts = v.texts[:0]
	}
	v.texts = append(v.texts, text)
	return nil
}

// Type implements pflag.Value.
func (v *value) Type() string {
	switch {
	case v.row.Boolean:
		return "bool"
	case v.row.Repeated:
		return "stringArray"
	case v.row.Type == "number", v.row.Type == "duration":
		return v.row.Type
	}
	return "string"
}

// Load reads the settings. It may be called again, to read a file that has changed.
func (f *Flags) Load(table any) (*settings.Values, error) {
	file, err := f.path()
	if err != nil {
		return nil, err
	}
	values, err := settings.Load(table, settings.Source{
		File: file, Env: os.Getenv, Defaults: f.cfg.Defaults, Ignored: f.cfg.Ignored,
		Flags: func(name string) ([]string, bool) {
			v, ok := f.values[name]
			return v.texts, ok && len(v.texts) > 0
		},
	})
	if found, ok := errors.AsType[fleet.Diagnostics](err); ok && onlyFlags(found) {
		return nil, &exit.Error{Code: exit.Usage, Err: errors.New(found[0].Message), Hint: found[0].Hint}
	}
	return values, err
}

// path is that of the file, or empty.
func (f *Flags) path() (string, error) {
	for _, name := range []string{f.file, os.Getenv(f.cfg.Variable)} {
		if name != "" {
			return name, nil
		}
	}
	_, err := os.Stat(f.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", &exit.Error{Code: exit.Config, Err: fmt.Errorf("read the configuration: %w", err)}
	}
	return f.cfg.Path, nil
}

func onlyFlags(found fleet.Diagnostics) bool {
	return !slices.ContainsFunc(found, func(d fleet.Diagnostic) bool { return d.Rule != settings.FlagRule })
}

// Print writes the settings if --print-config asks for it.
func (f *Flags) Print(w io.Writer, values *settings.Values, asJSON bool) (printed bool, err error) {
	if !f.print {
		return false, nil
	}
	if !asJSON {
		return true, values.Print(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(values.List()); err != nil {
		return true, fmt.Errorf("write the configuration: %w", err)
	}
	return true, nil
}
