package rules_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/varanhq/varan/sync/rules"
)

// The id of a rule travels in things that are called rule: a parameter, a field, a
// variable. So that is where the sources are searched for literal ids.
type sources struct {
	fset  *token.FileSet
	files []*ast.File
	// params and fields say which argument of a function, and which element of a struct, is
	// a rule, by the name of the function and of the type.
	params, fields map[string][]int
	// used maps each id to the first place that uses it; begun are the beginnings of ids
	// that are put together.
	used  map[string]string
	begun []string
}

func readSources(t *testing.T, root string, dirs ...string) *sources {
	t.Helper()
	s := &sources{
		fset: token.NewFileSet(), params: map[string][]int{}, fields: map[string][]int{}, used: map[string]string{},
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			own := filepath.Base(filepath.Dir(path)) == "rules" && strings.HasPrefix(d.Name(), "registry")
			if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || own {
				return nil
			}
			file, err := parser.ParseFile(s.fset, path, nil, parser.SkipObjectResolution)
			s.files = append(s.files, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range s.files {
		ast.Inspect(f, s.declares)
	}
	for _, f := range s.files {
		ast.Inspect(f, s.uses)
	}
	return s
}

func isRule(name string) bool { return name == "rule" || name == "Rule" }

// chooses reports names such as ruleOf and RuleUnavailable, of what stands for one rule.
func chooses(name string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(name, "Rr"), "ule")
	return ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z'
}

// positions are the indexes at which a list of parameters or fields is called rule.
func positions(list *ast.FieldList) []int {
	var out []int
	i := 0
	for _, f := range list.List {
		for _, name := range f.Names {
			if isRule(name.Name) {
				out = append(out, i)
			}
			i++
		}
		if len(f.Names) == 0 {
			i++
		}
	}
	return out
}

func (s *sources) declares(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		s.add(s.params, n.Name.Name, positions(n.Type.Params))
		if chooses(n.Name.Name) && n.Body != nil { // ruleOf(message) string
			ast.Inspect(n.Body, func(inner ast.Node) bool {
				if result, ok := inner.(*ast.ReturnStmt); ok && len(result.Results) > 0 {
					s.note(result.Results[0])
				}
				return true
			})
		}
	case *ast.TypeSpec:
		if t, ok := n.Type.(*ast.StructType); ok {
			s.add(s.fields, n.Name.Name, positions(t.Fields))
		}
	case *ast.AssignStmt: // name := func(rule string) { ... }
		for i, value := range n.Rhs {
			literal, isFunc := value.(*ast.FuncLit)
			if name, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && isFunc {
				s.add(s.params, name.Name, positions(literal.Type.Params))
			}
			s.aliased(n, i, value)
		}
	}
	return true
}

// aliased notes `report := l.fail`: what report takes, fail takes.
func (s *sources) aliased(n *ast.AssignStmt, i int, value ast.Expr) {
	name, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident)
	if method, isMethod := value.(*ast.SelectorExpr); ok && isMethod {
		s.add(s.params, name.Name, s.params[method.Sel.Name])
	}
}

func (*sources) add(to map[string][]int, name string, positions []int) {
	for _, p := range positions {
		if !slices.Contains(to[name], p) {
			to[name] = append(to[name], p)
		}
	}
}

func (s *sources) uses(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		for _, i := range s.params[lastName(n.Fun)] {
			if i < len(n.Args) {
				s.note(n.Args[i])
			}
		}
	case *ast.CompositeLit:
		s.composite(n)
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && isRule(key.Name) {
			s.note(n.Value)
		}
	case *ast.AssignStmt:
		for i, target := range n.Lhs {
			if isRule(lastName(target)) && len(n.Lhs) == len(n.Rhs) {
				s.note(n.Rhs[i])
			}
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if (isRule(name.Name) || chooses(name.Name)) && i < len(n.Values) {
				s.note(n.Values[i])
			}
		}
	}
	return true
}

// composite notes the rules in literals without keys: refusal{"symlink", ...}, and in
// tables of an anonymous struct.
func (s *sources) composite(n *ast.CompositeLit) {
	at := s.fields[lastName(n.Type)]
	for _, i := range at {
		if i < len(n.Elts) {
			s.note(n.Elts[i])
		}
	}
	var inner []int
	switch list := n.Type.(type) {
	case *ast.ArrayType:
		if t, ok := list.Elt.(*ast.StructType); ok {
			inner = positions(t.Fields)
		} else {
			inner = s.fields[lastName(list.Elt)]
		}
	case *ast.MapType:
		inner = s.fields[lastName(list.Value)]
	}
	for _, e := range n.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			e = pair.Value
		}
		element, ok := e.(*ast.CompositeLit)
		for _, i := range inner {
			if ok && element.Type == nil && i < len(element.Elts) {
				s.note(element.Elts[i])
			}
		}
	}
}

// lastName is the name by which a function, a type or a variable is called.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.StarExpr:
		return lastName(e.X)
	case *ast.IndexExpr:
		return lastName(e.X)
	}
	return ""
}

func (s *sources) note(e ast.Expr) {
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD { // "unknown-" + kind
		if first, ok := sum.X.(*ast.BasicLit); ok && first.Kind == token.STRING {
			s.begun = append(s.begun, strings.Trim(first.Value, `"`))
		}
		return
	}
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return
	}
	id, err := strconv.Unquote(literal.Value)
	if err != nil || strings.Trim(id, "-") == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return
	}
	if _, known := s.used[id]; !known {
		s.used[id] = s.fset.Position(literal.Pos()).String()
	}
}

func TestEveryRuleThatIsReportedIsInTheRegistry(t *testing.T) {
	t.Parallel()
	s := readSources(t, "../..", "fleet", "sync", "core", "reconciler", "cmd")
	if len(s.used) < 100 {
		t.Fatalf("only %d rules are found: this test has gone blind", len(s.used))
	}
	for id, place := range s.used {
		if _, ok := rules.Lookup(id); !ok {
			t.Errorf("%s: the rule %q has no entry.\n\tAdd one to the file of its group, sync/rules/registry_*.go: a title, why it "+
				"matters, a bad and a good example. Then run `go generate ./sync/rules` for docs/rules.md.", place, id)
		}
	}
	for _, e := range rules.All() {
		begins := func(prefix string) bool { return strings.HasPrefix(e.ID, prefix) }
		if _, ok := s.used[e.ID]; !ok && !slices.ContainsFunc(s.begun, begins) {
			t.Errorf("nothing reports the rule %q any more: remove its entry from sync/rules/registry_*.go and run "+
				"`go generate ./sync/rules`.\n\tIf something does, pass it in a parameter, field or variable called rule.", e.ID)
		}
	}
}
