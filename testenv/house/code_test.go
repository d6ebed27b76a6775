package house_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// emptyNames say nothing about what a package holds.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "types"}

// banned are calls and values by their written form, and where they may stand.
var banned = []struct {
	names  []string
	reason string
	except func(*goFile) bool
}{
	{[]string{"t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "b.SkipNow", "tb.Skip", "tb.Skipf", "f.Skip", "f.Skipf"}, "a skipped test proves nothing", nil},
	{[]string{"time.Sleep"}, "wait for what happens (a channel, testing/synctest), not for a time", nil},
	{[]string{"log.Fatal", "log.Fatalf", "log.Fatalln", "os.Exit"}, "only main ends the process", func(f *goFile) bool { return f.test() || f.ast.Name.Name == "main" }},
	{[]string{"http.DefaultClient", "http.Get", "http.Head", "http.Post", "http.PostForm"}, "the default client has no timeout; use one of your own", (*goFile).test},
}

// codeProblems says what f holds that no file here may hold.
func codeProblems(f *goFile) []string {
	var out []string
	add := func(p token.Pos, format string, args ...any) {
		out = append(out, fmt.Sprintf("%s:%d: ", f.path, f.line(p))+fmt.Sprintf(format, args...))
	}
	if slices.Contains(emptyNames, strings.TrimSuffix(f.ast.Name.Name, "_test")) {
		add(f.ast.Name.Pos(), "package %s: name it after what it holds", f.ast.Name.Name)
	}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			for _, word := range []string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"} {
				if strings.Contains(c.Text, word) {
					add(c.Pos(), "comment says %s: do it, or write down the limit", word)
				}
			}
		}
	}
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && fn.Recv == nil && fn.Name.Name == "init" {
			add(fn.Pos(), "func init: build things where they are used")
		}
		mayPanic := f.test() || ok && strings.Contains(fn.Doc.Text(), "panics")
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && name.Name == "panic" && !mayPanic {
					add(n.Pos(), "panic in a function whose comment does not say that it panics: return an error")
				}
			case *ast.SelectorExpr:
				left, ok := n.X.(*ast.Ident)
				if !ok {
					return true
				}
				written := left.Name + "." + n.Sel.Name
				for _, b := range banned {
					if slices.Contains(b.names, written) && (b.except == nil || !b.except(f)) {
						add(n.Pos(), "%s: %s", written, b.reason)
					}
				}
			}
			return true
		})
		if !f.test() && f.ast.Name.Name != "main" {
			for _, name := range undocumented(decl) {
				add(name.Pos(), "%s is exported and has no comment", name.Name)
			}
		}
	}
	return out
}

// methodsOfInterfaces mean what their interface in the standard library says.
var methodsOfInterfaces = []string{"Error", "String", "Unwrap", "Is"}

// undocumented returns the exported names of a declaration that no comment explains. A
// comment on a group of constants, variables or types covers the group.
func undocumented(decl ast.Decl) []*ast.Ident {
	var out []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && (d.Recv == nil || !slices.Contains(methodsOfInterfaces, d.Name.Name)) {
			out = append(out, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil && s.Comment == nil {
					out = append(out, s.Name)
				}
			case *ast.ValueSpec:
				if s.Doc != nil || d.Doc != nil || s.Comment != nil {
					continue
				}
				for _, name := range s.Names {
					if name.IsExported() {
						out = append(out, name)
					}
				}
			}
		}
	}
	return out
}

func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil || len(fn.Recv.List) != 1 {
		return true
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

func TestCode(t *testing.T) {
	var found []string
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		found = append(found, codeProblems(f)...)
		if !strings.HasSuffix(f.ast.Name.Name, "_test") {
			documented[f.dir()] = documented[f.dir()] || f.ast.Doc != nil
		}
	}
	for dir, ok := range documented {
		if !ok {
			found = append(found, dir+": the package has no comment that says what it is")
		}
	}
	slices.Sort(found)
	problems(t, found)
}

func TestCodeProblemsAreFound(t *testing.T) {
	tests := []struct {
		name, path, src string
		want            string // part of the one problem; empty: none
	}{
		{"EmptyPackageName", "a/a.go", "package util", "name it after"},
		{"Init", "a/a.go", "package a\nfunc init() {}", "func init"},
		{"MethodCalledInit", "a/a.go", "package a\ntype x int\nfunc (x) init() {}", ""},
		{"Panic", "a/a.go", "package a\nfunc f() { panic(1) }", "panic"},
		{"PanicInClosure", "a/a.go", "package a\nvar f = func() { panic(1) }", "panic"},
		{"PanicThatIsDocumented", "a/a.go", "package a\n// f panics when asked to.\nfunc f() { panic(1) }", ""},
		{"PanicInTest", "a/a_test.go", "package a\nfunc f() { panic(1) }", ""},
		{"Skip", "a/a_test.go", "package a\nfunc f() { t.Skip() }", "t.Skip"},
		{"Sleep", "a/a_test.go", "package a\nfunc f() { time.Sleep(1) }", "time.Sleep"},
		{"ExitInLibrary", "a/a.go", "package a\nfunc f() { os.Exit(1) }", "os.Exit"},
		{"ExitInMain", "a/a.go", "package main\nfunc main() { os.Exit(1) }", ""},
		{"DefaultClient", "a/a.go", "package a\nvar c = http.DefaultClient", "http.DefaultClient"},
		{"Unfinished", "a/a.go", "package a\n// TO" + "DO: later", "comment says"},
		{"ExportedFunc", "a/a.go", "package a\nfunc F() {}", "F is exported"},
		{"ExportedMethod", "a/a.go", "package a\n// T is one.\ntype T int\nfunc (T) F() {}", "F is exported"},
		{"ExportedMethodOfHiddenType", "a/a.go", "package a\ntype t int\nfunc (t) F() {}", ""},
		{"MethodOfErrorInterface", "a/a.go", "package a\n// T is one.\ntype T int\nfunc (T) Error() string { return \"\" }", ""},
		{"ExportedConstant", "a/a.go", "package a\nconst C = 1", "C is exported"},
		{"DocumentedGroup", "a/a.go", "package a\n// Both.\nconst (\nC = 1\nD = 2\n)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := codeProblems(parseGo(t, tt.path, []byte(tt.src)))
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
