package house_test

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// docs/performance.md must say what each benchmark measures, and name none that is gone.
func TestBenchmarksAreDocumented(t *testing.T) {
	var named []string
	lines, _ := section(read(t, "docs/performance.md"), "What is measured")
	for _, line := range lines {
		if cells := row(line); len(cells) == 3 && len(code(cells[0])) == 1 {
			named = append(named, code(cells[0])[0])
		}
	}
	var existing []string
	for _, f := range goFiles(t) {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.test() && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Benchmark") {
				existing = append(existing, f.dir()+"."+fn.Name.Name)
			}
		}
	}
	for _, b := range existing {
		if !slices.Contains(named, b) {
			t.Errorf("docs/performance.md: %s is not in the table under \"What is measured\"", b)
		}
	}
	for _, b := range named {
		if !slices.Contains(existing, b) {
			t.Errorf("docs/performance.md: there is no %s", b)
		}
	}
}
