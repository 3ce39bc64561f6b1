package cmd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// docs/cli.md and docs/errors.md are written from the code, so that neither can be out of date.
func TestGeneratedDocsAreUpToDate(t *testing.T) {
	t.Parallel()
	compareFile(t, filepath.Join("..", "docs", "cli.md"), CommandsPage())
	compareFile(t, filepath.Join("..", "docs", "errors.md"), ErrorsPage())
}

// constants reads the values of a string type's constants from source: the set that exists, not the one
// that somebody remembered to list.
func constants(t *testing.T, file, typ string) []string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typ {
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, text)
				}
			}
		}
		return true
	})
	if len(all) < 10 {
		t.Fatalf("found only %d constants of type %s in %s", len(all), typ, file)
	}
	return all
}

func TestEveryErrorCodeIsExplained(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "errors.md")
	codes := constants(t, "../internal/fault/code.go", "Code")
	for _, code := range codes {
		if text, ok := explain(code); !ok || !strings.Contains(text, "What to do: ") {
			t.Errorf("godeploy help %s: nothing to say", code)
		}
		if !strings.Contains(page, "\n## "+code+"\n") {
			t.Errorf("docs/errors.md has no paragraph for %s", code)
		}
	}
	if n := len(explanations()); n != len(codes) {
		t.Errorf("%d explanations for %d codes", n, len(codes))
	}
}

func TestEveryExitCodeHasItsLine(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "exit-codes.md")
	for _, code := range []int{exitDone, exitUnexpected, 2, exitDifferences, exitUnreachable, exitWholeOnOld, exitMixed, exitLockHeld,
		exitFindings, exitUsage, exitInterrupt, exitTerminated, exitNoConnection} {
		if !strings.Contains(page, "| "+strconv.Itoa(code)+" |") {
			t.Errorf("docs/exit-codes.md has no line for %d", code)
		}
	}
}

// The table in docs/exit-codes.md names for each fault what codeOfFault gives.
func TestExitCodeOfEveryFaultIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "exit-codes.md")
	for _, code := range constants(t, "../internal/fault/code.go", "Code") {
		got := codeOfFault(fault.Code(code))
		row := ""
		for line := range strings.Lines(page) {
			if strings.Contains(line, "`"+code+"`") {
				row = line
			}
		}
		if got == exitUnexpected {
			if row != "" && !strings.HasPrefix(row, "| 1 |") {
				t.Errorf("%s gives 1, but stands in %q", code, row)
			}
			continue
		}
		if !strings.HasPrefix(row, "| "+strconv.Itoa(got)+" |") {
			t.Errorf("%s gives %d, but docs/exit-codes.md has it in %q", code, got, row)
		}
	}
}

func TestEveryEventTypeAndFieldHasItsLine(t *testing.T) {
	t.Parallel()
	page := readDoc(t, "json.md")
	for _, typ := range append(constants(t, "../internal/event/event.go", "Type"), "hello") {
		if !strings.Contains(page, "\n| `"+typ+"` |") {
			t.Errorf("docs/json.md has no line for the type %s", typ)
		}
	}
	for _, v := range []any{event.Event{}, jsonLine{}, hello{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(page, "\n| `"+name+"` |") {
				t.Errorf("docs/json.md has no line for the field %s", name)
			}
		}
	}
}
