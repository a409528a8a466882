package compose

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/varanhq/varan/fleet"
)

// nowhere is the working directory of a stack that needs no file on disk. It must not
// exist; compose-go only joins paths to it.
const nowhere = "/nonexistent/varan"

func validProject(name string) bool {
	return name != "" && loader.NormalizeProjectName(name) == name
}

// loadProject runs compose-go over the files that passed. Paths stay relative to the
// run directory, environment and label files are left for the caller to merge.
func (l *load) loadProject(ctx context.Context) *types.Project {
	top, cleanup, err := l.materialise()
	if err != nil {
		l.fail("compose-invalid", l.req.Origin, err.Error(), "")
		return nil
	}
	defer cleanup()
	work := filepath.Join(top, filepath.FromSlash(l.dir))
	details := types.ConfigDetails{
		WorkingDir: filepath.Join(work, filepath.FromSlash(l.base)), Environment: types.Mapping(l.env.own).Clone(),
	}
	for _, rel := range l.mainFiles() {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{
			Filename: filepath.Join(work, filepath.FromSlash(rel)), Content: l.sources[rel].data,
		})
	}
	budget := &expansion{fallback: l.env.pool.get}
	project, err := loadSafely(ctx, details, func(o *loader.Options) {
		o.SetProjectName(l.req.Project, true)
		o.Profiles = l.profiles()
		o.ResolvePaths = false
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
		o.ResourceLoaders = []loader.ResourceLoader{l.gate(work)}
		o.Interpolate.Substitute = func(text string, lookup template.Mapping) (string, error) {
			return budget.substitute(text, l.standIn(text, lookup))
		}
		o.MaxNodeVisits = maxExpanded
	})
	if err != nil {
		l.reportLoad(err, top, work)
		return nil
	}
	project = project.WithoutUnresolvedOptionalDependencies().WithoutUnnecessaryResources()
	if len(project.Services) == 0 {
		l.fail("no-services", l.at("services"), "no service is left to run",
			"declare services, or enable the profiles they are in")
	}
	return project
}

// loadSafely turns a panic into an error: compose-go asserts types in places where its
// own validation has not looked yet, and the input is not ours.
func loadSafely(
	ctx context.Context, details types.ConfigDetails, option func(*loader.Options),
) (project *types.Project, err error) {
	defer func() {
		if r := recover(); r != nil {
			project, err = nil, fmt.Errorf("the Compose library gave up on this file: %v", r)
		}
	}()
	project, err = loader.LoadWithContext(ctx, details, option)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return project, nil
}

// mainFiles are the files of mains, each once, in order.
func (l *load) mainFiles() []string {
	var out []string
	for _, in := range l.mains {
		for rel, src := range l.sources {
			if src != nil && slices.Contains(src.docs, in.document) && !slices.Contains(out, rel) {
				out = append(out, rel)
			}
		}
	}
	return out
}

// materialise writes what compose-go reads by itself, extended and included files, to a
// private copy of the tree. Most stacks have none, and then nothing touches the disk.
func (l *load) materialise() (dir string, cleanup func(), err error) {
	if len(l.sources) == len(l.mainFiles()) && len(l.included) == 0 && !l.extendsFiles() {
		return nowhere, func() {}, nil
	}
	if dir, err = l.privateDir(); err != nil {
		return "", nil, err
	}
	cleanup = func() { _ = os.RemoveAll(dir) }
	write := func(rel string, data []byte) error {
		name := filepath.Join(dir, filepath.FromSlash(path.Join(l.dir, rel)))
		if mkErr := os.MkdirAll(filepath.Dir(name), 0o700); mkErr != nil {
			return fmt.Errorf("make a directory for %s: %w", rel, mkErr)
		}
		if writeErr := os.WriteFile(name, data, 0o600); writeErr != nil {
			return fmt.Errorf("copy %s: %w", rel, writeErr)
		}
		return nil
	}
	for rel, src := range l.sources {
		if src != nil {
			err = write(rel, src.data)
		}
		if err != nil {
			cleanup()
			return "", nil, err
		}
	}
	for rel, data := range l.includeEnv {
		if err = write(rel, data); err != nil {
			cleanup()
			return "", nil, err
		}
	}
	return dir, cleanup, nil
}

// extendsFiles reports whether some service extends one of a file.
func (l *load) extendsFiles() bool {
	for _, bases := range l.bases {
		for _, base := range bases {
			if !l.isLayer(base.layer) {
				return true
			}
		}
	}
	return false
}

// gate is the resource loader that compose-go asks first. It takes every reference that
// the pre-scan has not vetted, and refuses it: a second lock on the same door.
type gate struct{ vetted, dirs []string }

func (l *load) gate(work string) gate {
	g := gate{dirs: []string{filepath.Join(work, filepath.FromSlash(l.base))}}
	for rel := range l.sources {
		name := filepath.Join(work, filepath.FromSlash(rel))
		g.vetted = append(g.vetted, name)
		g.dirs = append(g.dirs, filepath.Dir(name))
	}
	for _, in := range l.included {
		g.dirs = append(g.dirs, filepath.Join(work, filepath.FromSlash(in.base)))
	}
	return g
}

// Accept implements loader.ResourceLoader.
func (g gate) Accept(ref string) bool {
	if filepath.IsAbs(ref) {
		return !slices.Contains(g.vetted, filepath.Clean(ref))
	}
	for _, dir := range g.dirs {
		if slices.Contains(g.vetted, filepath.Join(dir, ref)) {
			return false
		}
	}
	return true
}

// Load implements loader.ResourceLoader.
func (gate) Load(_ context.Context, ref string) (string, error) {
	return "", fmt.Errorf("%q is not a file of the run directory", ref)
}

// Dir implements loader.ResourceLoader.
func (gate) Dir(_ string) string { return "" }

// expansion bounds what interpolation may produce.
type expansion struct {
	spent int
	// fallback is asked for what a lookup does not have; it may be nil.
	fallback template.Mapping
}

// within is lookup until the bound is reached; from then on, everything is empty.
func (e *expansion) within(lookup template.Mapping) template.Mapping {
	return func(name string) (string, bool) {
		value, ok := lookup(name)
		if !ok && e.fallback != nil {
			value, ok = e.fallback(name)
		}
		if e.spent += len(value); e.spent > maxInterpolated {
			return "", ok
		}
		return value, ok
	}
}

func (e *expansion) err() error {
	if e.spent > maxInterpolated {
		return fmt.Errorf("variables expand to more than %d bytes", maxInterpolated)
	}
	return nil
}

func (e *expansion) substitute(text string, lookup template.Mapping) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	out, err := substitute(text, e.within(lookup))
	if err == nil {
		err = e.err()
	}
	return out, err
}

var (
	validating  = regexp.MustCompile(`^validating \S+: `)
	dottedPath  = regexp.MustCompile(`\b(?:services|volumes|networks|configs|secrets|models|include)\.[A-Za-z0-9_.\[\]-]+`)
	quotedThing = regexp.MustCompile(`\b(service|volume|network|config|secret)s? "([^"]+)"`)
	parserLine  = regexp.MustCompile(`line (\d+)`)
)

// reportLoad turns an error of compose-go, which names a path at best, into diagnostics
// at the places the paths were written.
func (l *load) reportLoad(err error, top, work string) {
	text := strings.NewReplacer(work+string(filepath.Separator), "", top+string(filepath.Separator), "").
		Replace(strings.TrimPrefix(err.Error(), "load: "))
	for line := range strings.Lines(text) {
		line = validating.ReplaceAllString(strings.TrimSpace(line), "")
		if line == "" {
			continue
		}
		if !l.reportUndefined(line) {
			l.fail(ruleOf(line), l.placeOf(line), line, "")
		}
		if strings.HasPrefix(line, "Circular reference") || strings.HasPrefix(line, "invalid interpolation") {
			return
		}
	}
}

func ruleOf(message string) string {
	switch {
	case strings.Contains(message, "cast to expected type"):
		return "wrong-type"
	case strings.Contains(message, "interpolat"), strings.Contains(message, "required variable"),
		strings.Contains(message, "variables expand to"):
		return "interpolation"
	case strings.Contains(message, "cycle"), strings.Contains(message, "ircular"):
		return "dependency-cycle"
	case strings.Contains(message, "neither an image nor a build"):
		return "missing-image"
	case strings.Contains(message, "undefined"), strings.Contains(message, "not found"):
		return "undefined-reference"
	case strings.Contains(message, " must be "), strings.Contains(message, "got "), strings.Contains(message, "unexpected type"):
		return "wrong-type"
	}
	return "compose-invalid"
}

// placeOf finds what a message of compose-go talks about.
func (l *load) placeOf(message string) fleet.Position {
	if m := dottedPath.FindString(message); m != "" {
		m = strings.NewReplacer("[", ".", "]", "").Replace(strings.TrimRight(m, "."))
		return l.at(l.splitPath(strings.Split(m, "."))...)
	}
	if m := quotedThing.FindStringSubmatch(message); m != nil {
		return l.at(m[1]+"s", m[2])
	}
	if m := parserLine.FindStringSubmatch(message); m != nil && len(l.mains) > 0 {
		pos := l.at()
		_, _ = fmt.Sscanf(m[1], "%d", &pos.Line)
		return pos
	}
	return l.at()
}

// splitPath puts names with dots in them together again.
func (l *load) splitPath(parts []string) []string {
	var out []string
	for i := 0; i < len(parts); {
		end := i + 1
		for j := len(parts); j > i+1; j-- {
			joined := append(slices.Clone(out), strings.Join(parts[i:j], "."))
			if l.find(joined...).depth == len(joined) {
				end = j
				break
			}
		}
		out = append(out, strings.Join(parts[i:end], "."))
		i = end
	}
	return out
}
