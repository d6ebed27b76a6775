package house_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "fill the generated cells of the documents")

// root is the folder of go.mod, seen from this package.
const root = "../.."

// goFile is one parsed Go file. Paths are relative to the module and use slashes.
type goFile struct {
	path string
	fset *token.FileSet
	ast  *ast.File
}

func (f *goFile) dir() string           { return path.Dir(f.path) }
func (f *goFile) test() bool            { return strings.HasSuffix(f.path, "_test.go") }
func (f *goFile) line(p token.Pos) int  { return f.fset.Position(p).Line }
func (f *goFile) inRoom(r string) bool  { return within(f.dir(), r) }
func within(dir string, in string) bool { return dir == in || strings.HasPrefix(dir, in+"/") }

func parseGo(t *testing.T, name string, src []byte) *goFile {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return &goFile{path: name, fset: fset, ast: file}
}

// files returns the paths of all files of the project: what is in the folder and not in
// .gitignore.
func files(t *testing.T) []string {
	t.Helper()
	ignored := ignorePatterns(t)
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case rel == ".git" || ignored(rel):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular():
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ignorePatterns understands the two forms that .gitignore uses here: /folder/ and *.suffix.
func ignorePatterns(t *testing.T) func(rel string) bool {
	t.Helper()
	var folders, names []string
	for line := range strings.Lines(read(t, ".gitignore")) {
		switch line = strings.TrimSpace(line); {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "/"):
			folders = append(folders, strings.Trim(line, "/"))
		case strings.ContainsRune(line, '/'):
			t.Fatalf(".gitignore: %q: expected /folder/ or a name; teach this test the new form", line)
		default:
			names = append(names, line)
		}
	}
	return func(rel string) bool {
		for _, f := range folders {
			if rel == f {
				return true
			}
		}
		for _, n := range names {
			if ok, err := path.Match(n, path.Base(rel)); err == nil && ok {
				return true
			}
		}
		return false
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// goFiles parses every Go file of the project.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	var out []*goFile
	for _, name := range files(t) {
		if strings.HasSuffix(name, ".go") && !strings.Contains("/"+name, "/testdata/") {
			out = append(out, parseGo(t, name, []byte(read(t, name))))
		}
	}
	return out
}

// documents returns the Markdown files of the project.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range files(t) {
		if strings.HasSuffix(name, ".md") {
			out[name] = read(t, name)
		}
	}
	return out
}

// problems fails the test once for everything that was found.
func problems(t *testing.T, found []string) {
	t.Helper()
	if len(found) > 0 {
		t.Errorf("%d problems:\n  %s", len(found), strings.Join(found, "\n  "))
	}
}
