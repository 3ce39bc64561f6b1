package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module      = "godeploy"
	maxFile     = 500
	maxFunction = 80
	maxMedian   = 15
)

// The house keeps its floors, and its functions and files their size. The files are read here and not
// by go list, so that every build tag's files count.
func TestFloors(t *testing.T) {
	t.Parallel()
	h := inspect(t, "..")
	for _, finding := range h.findings {
		t.Error(finding)
	}
	if h.files < 100 {
		t.Errorf("only %d Go files were found: the test looks in the wrong place", h.files)
	}
}

// house collects what an inspection found.
type house struct {
	plan     map[string]room
	fset     *token.FileSet
	findings []string
	files    int
	lengths  []int // of the product's functions, in lines
}

// source is one file and its place in the house.
type source struct {
	name string // relative to the root
	pkg  string // folder, relative to the root
	test bool
	file *ast.File
}

// inspect reads every Go file of the module below root.
func inspect(t *testing.T, root string) *house {
	t.Helper()
	h := &house{plan: houseplan(), fset: token.NewFileSet()}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); rel != "." && (base == "testdata" || strings.HasPrefix(base, ".") || rel == "tools" || rel == "dist") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(rel, ".go") {
			return h.read(name, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.checkMedian()
	return h
}

func (h *house) read(name, rel string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(h.fset, rel, text, parser.ParseComments)
	if err != nil {
		return err
	}
	h.files++
	s := source{name: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), file: file}
	if lines := strings.Count(string(text), "\n"); lines > maxFile {
		h.find("%s has %d lines, more than %d", rel, lines, maxFile)
	}
	if _, ok := h.plan[s.pkg]; !ok {
		h.find("%s: package %s is not on the plan (e2e/plan_test.go)", rel, s.pkg)
		return nil
	}
	h.checkImports(s)
	h.checkFunctions(s)
	h.checkCalls(s)
	if !s.test {
		h.checkState(s)
	}
	return nil
}

func (h *house) find(format string, args ...any) {
	h.findings = append(h.findings, fmt.Sprintf(format, args...))
}

func (h *house) at(n ast.Node) token.Position { return h.fset.Position(n.Pos()) }

func (h *house) checkImports(s source) {
	for _, spec := range s.file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has accepted it
		}
		if ours, ok := strings.CutPrefix(target, module+"/"); ok {
			h.checkOurs(s, spec, ours)
		} else if first, _, _ := strings.Cut(target, "/"); strings.Contains(first, ".") {
			h.checkOutside(s, spec, target)
		}
	}
}

// checkOurs: imports go down only.
func (h *house) checkOurs(s source, spec *ast.ImportSpec, target string) {
	if target == "sync" && (spec.Name == nil || spec.Name.Name != "filesync") {
		h.find("%v: godeploy/sync is imported without the name filesync", h.at(spec))
	}
	from, to := h.plan[s.pkg], h.plan[target]
	if _, ok := h.plan[target]; !ok {
		h.find("%v: imports %s, which is not on the plan", h.at(spec), target)
		return
	}
	switch {
	case target == s.pkg && s.test: // an external test of the package itself
	case testRoom(target) && s.test:
	case target == "internal/sshtest" && s.pkg != "cmd" && !s.test:
		h.find("%v: %s imports internal/sshtest, which is for tests and the demo", h.at(spec), s.pkg)
	case from.floor > to.floor || slices.Contains(from.beside, target):
	default:
		h.find("%v: %s imports %s, which is not below it", h.at(spec), s.pkg, target)
	}
}

// checkOutside: a module is used where it is meant to be, and nowhere else.
func (h *house) checkOutside(s source, spec *ast.ImportSpec, target string) {
	uses := func(m string) bool { return target == m || strings.HasPrefix(target, m+"/") }
	for _, part := range moduleNames(target) {
		if everyModule(part) || s.test && testModule(part) {
			return
		}
	}
	if !slices.ContainsFunc(h.plan[s.pkg].outside, uses) {
		h.find("%v: %s imports %s, which is not meant for it", h.at(spec), s.pkg, target)
	}
}

// moduleNames gives an import path and all paths above it: one of them is the module.
func moduleNames(target string) []string {
	var names []string
	for ; target != "." && target != "/"; target = path.Dir(target) {
		names = append(names, target)
	}
	return names
}

func (h *house) checkFunctions(s source) {
	for _, decl := range s.file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := h.fset.Position(fn.End()).Line - h.at(fn.Type).Line + 1
		if lines > maxFunction {
			h.find("%v: function %s has %d lines, more than %d", h.at(fn), fn.Name.Name, lines, maxFunction)
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			h.find("%v: func init", h.at(fn))
		}
		if !s.test {
			h.lengths = append(h.lengths, lines)
		}
	}
}

func (h *house) checkMedian() {
	if len(h.lengths) == 0 {
		return
	}
	slices.Sort(h.lengths)
	if median := h.lengths[len(h.lengths)/2]; median >= maxMedian {
		h.find("the median function has %d lines, not under %d", median, maxMedian)
	}
}

// checkCalls: only mains end the process, only cmd prints.
func (h *house) checkCalls(s source) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name, ok := sel.X.(*ast.Ident)
		if !ok || name.Obj != nil {
			return true
		}
		switch whole := name.Name + "." + sel.Sel.Name; {
		case whole == "os.Exit" && !isMain(s.pkg) && !s.test:
			h.find("%v: os.Exit outside the mains", h.at(sel))
		case strings.HasPrefix(whole, "fmt.Print") && !prints(s.pkg) && !s.test:
			h.find("%v: %s outside cmd", h.at(sel), whole)
		case (whole == "os.Stdout" || whole == "os.Stderr") && !prints(s.pkg) && !s.test:
			h.find("%v: %s outside cmd", h.at(sel), whole)
		}
		return true
	})
}

// checkState: what a package declares is fixed. Errors, patterns, tables and embedded files are;
// a variable without a value, or one that is assigned to later, is state.
func (h *house) checkState(s source) {
	for _, decl := range s.file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			if !fixed(v) && !embedded(gen, v) {
				h.find("%v: %s is package state", h.at(v), v.Names[0].Name)
			}
			h.checkAssigned(s, v)
		}
	}
}

func embedded(gen *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{gen.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// fixed tells a constant in all but name by the look of its value.
func fixed(v *ast.ValueSpec) bool {
	if len(v.Names) == 1 && v.Names[0].Name == "_" {
		return true // a check for the compiler
	}
	return len(v.Values) > 0 && !slices.ContainsFunc(v.Values, func(e ast.Expr) bool { return !fixedValue(e) })
}

func fixedValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit, *ast.BasicLit:
		return true
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := sel.X.(*ast.Ident)
		return ok && slices.Contains([]string{"errors.New", "fmt.Errorf", "regexp.MustCompile", "template.Must", "strings.NewReplacer"}, pkg.Name+"."+sel.Sel.Name)
	}
	return false
}

// checkAssigned looks for assignments in the file that declares the variable.
func (h *house) checkAssigned(s source, v *ast.ValueSpec) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		var targets []ast.Expr
		switch n := n.(type) {
		case *ast.AssignStmt:
			targets = n.Lhs
		case *ast.IncDecStmt:
			targets = []ast.Expr{n.X}
		}
		for _, target := range targets {
			if id := root(target); id != nil && id.Obj != nil && id.Obj.Decl == v {
				h.find("%v: %s is assigned to: package state", h.at(target), id.Name)
			}
		}
		return true
	})
}

// root gives the variable that an assignment's left side changes.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// A check that finds nothing anywhere would pass TestFloors too.
func TestFloorsSeeEachBreach(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\t_ = 1\n", 81)
	for want, file := range map[string][2]string{
		"sync imports sshx, which is not below it": {"sync/x.go", `import _ "godeploy/sshx"`},
		"hooks imports deploy, which is not below": {"hooks/x.go", `import _ "godeploy/deploy"`},
		"hooks imports inventory, which is not":    {"hooks/x.go", `import _ "godeploy/inventory"`},
		"is not on the plan":                       {"util/x.go", ""},
		"imports util, which is not on":            {"cmd/x.go", `import _ "godeploy/util"`},
		"imports github.com/urfave/cli/v2":         {"deploy/x.go", `import _ "github.com/urfave/cli/v2"`},
		"imports github.com/BurntSushi/toml":       {"cmd/x.go", `import _ "github.com/BurntSushi/toml"`},
		"imports pgregory.net/rapid":               {"sync/x.go", `import _ "pgregory.net/rapid"`},
		"imports example.com/new":                  {"sync/x_test.go", `import _ "example.com/new/thing"`},
		"without the name filesync":                {"deploy/x.go", `import "godeploy/sync"`},
		"for tests and the demo":                   {"sshx/x.go", `import _ "godeploy/internal/sshtest"`},
		"function f has 83 lines":                  {"sync/x.go", "func f() {\n" + long + "}"},
		"median function has":                      {"sync/x.go", "func f() {\n" + strings.Repeat("\t_ = 1\n", 14) + "}"},
		"has 503 lines":                            {"sync/x_test.go", strings.Repeat("\n", 500)},
		"os.Exit outside":                          {"cmd/x.go", "import \"os\"\nfunc f() { os.Exit(1) }"},
		"fmt.Println outside":                      {"deploy/x.go", "import \"fmt\"\nfunc f() { fmt.Println() }"},
		"os.Stdout outside":                        {"deploy/x.go", "import \"os\"\nvar _ = os.Stdout"},
		"func init":                                {"deploy/x.go", "func init() {}"},
		"n is package state":                       {"deploy/x.go", "var n int"},
		"m is package state":                       {"deploy/x.go", "var m = make(map[string]int)"},
		"table is assigned to":                     {"deploy/x.go", "var table = map[string]int{}\nfunc f() { table[\"a\"]++ }"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			got := inspectOne(t, file[0], file[1])
			if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, want) }) {
				t.Errorf("%s with %q: found %q, want %q", file[0], tailOf(file[1]), got, want)
			}
		})
	}
	if got := inspectOne(t, "deploy/x.go", "import (\n\tfilesync \"godeploy/sync\"\n\t\"godeploy/internal/fault\"\n)\nvar _ = filesync.X\nvar _ = fault.New"); len(got) > 0 {
		t.Errorf("good code is blamed: %q", got)
	}
}

func inspectOne(t *testing.T, name, body string) []string {
	t.Helper()
	root := t.TempDir()
	file := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte("package x\n\n"+body+"\n"), 0o644))
	return inspect(t, root).findings
}

func tailOf(text string) string { return text[max(0, len(text)-60):] }
