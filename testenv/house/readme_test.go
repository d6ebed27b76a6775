package house_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commands are the lines of the documents' sh blocks that do not call make, and the tests
// that run them.
var commands = map[string]string{
	"bin/token-exchange-sidecar check policy.yaml": "sidecar.TestCheckCommand",
	"bin/token-exchange-sidecar explain -policy policy.yaml -caller mcp-server -audience https://api.example.com -scope stocks/read": "sidecar.TestExplainCommand",
	"bin/phantom-token keys rotate -dir keys -every 720h":                                                                            "kong-plugin.TestRotateKeysCommand",
	"bin/phantom-token keys list -dir keys":                                                                                          "kong-plugin.TestListKeysCommand",
	"bin/phantom-token keys -out key.json":                                                                                           "kong-plugin.TestKeysCommandMakesAKeyOnce",
	"bin/phantom-token check kong.yml -env-file kong.env":                                                                            "kong-plugin.TestCheckCommandLine",
	"bin/phantom-token doctor -url https://gw.example.com/mcp":                                                                       "kong-plugin.TestDoctorCommandLine",
}

var makeTarget = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)

// commandProblems says which commands of a document nobody has tried: the lines of its sh
// blocks, and calls of make in its text.
func commandProblems(name, doc string, targets []string, tests map[string]bool) []string {
	var out []string
	unknownTargets := func(at string, words []string) {
		for _, word := range words {
			if !strings.Contains(word, "=") && !slices.Contains(targets, word) {
				out = append(out, fmt.Sprintf("%s: the Makefile has no target %s", at, word))
			}
		}
	}
	for i, line := range prose(doc) {
		for _, span := range code(line) {
			if words := strings.Fields(span); len(words) > 0 && words[0] == "make" {
				unknownTargets(fmt.Sprintf("%s:%d: %s", name, i+1, span), words[1:])
			}
		}
	}
	for _, b := range blocks(doc) {
		if b.info != "sh" {
			continue
		}
		for i, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
			line = strings.TrimSpace(strings.Split(line, " # ")[0])
			at := fmt.Sprintf("%s:%d: %s", name, b.line+1+i, line)
			words := strings.Fields(line)
			switch {
			case len(words) == 0 || words[0] == "#":
			case words[0] == "make":
				unknownTargets(at, words[1:])
			case commands[line] == "":
				out = append(out, at+": no test runs this command; add it to the list in readme_test.go together with one")
			case !tests[commands[line]]:
				out = append(out, fmt.Sprintf("%s: there is no test %s", at, commands[line]))
			}
		}
	}
	return out
}

func TestCommandsOfDocumentsRun(t *testing.T) {
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	tests := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && f.test() {
				tests[f.dir()+"."+fn.Name.Name] = true
			}
		}
	}
	var found []string
	for name, doc := range documents(t) {
		found = append(found, commandProblems(name, doc, targets, tests)...)
	}
	slices.Sort(found)
	problems(t, found)
}

func TestCommandProblemsAreFound(t *testing.T) {
	tests := []struct {
		name, doc string
		want      int
	}{
		{"Target", "```sh\nmake demo ARGS=-serve\n```\n", 0},
		{"TargetThatIsMissing", "```sh\nmake nothing\n```\n", 1},
		{"CommandNobodyRuns", "```sh\ncurl http://127.0.0.1:8000/mcp\n```\n", 1},
		{"Comment", "```sh\n# make nothing\n```\n", 0},
		{"BlockThatIsNoShell", "```\nmake nothing\n```\n", 0},
		{"TargetInText", "Use `make demo`.\n", 0},
		{"TargetInTextThatIsMissing", "Use `make nothing`.\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := commandProblems("x.md", tt.doc, []string{"demo"}, nil); len(got) != tt.want {
				t.Errorf("got %q, want %d problems", got, tt.want)
			}
		})
	}
}

// TestErrorTable compares the tables of error codes in the README with the code: every
// code that a client can meet is listed. Texts are in docs/troubleshooting.md.
func TestErrorTable(t *testing.T) {
	readme := read(t, "README.md")
	known := map[string]bool{} // every code there is a constant for → sent by us
	gos := goFiles(t)
	for _, f := range gos {
		if f.test() {
			continue
		}
		switch f.dir() {
		case "internal/oauth":
			for _, value := range errorCodes(f) {
				known[value] = true
			}
		case "tokenexchange": // knows what other services send, too
			for name, value := range errorCodes(f) {
				known[value] = known[value] || mentions(gos, "sidecar", "tokenexchange", name)
			}
		}
	}
	listed := map[string]bool{}
	lines, first := section(readme, "Errors and what to do")
	for i, line := range lines {
		if cells := row(line); len(cells) == 4 && len(code(cells[1])) == 1 {
			c := code(cells[1])[0]
			listed[c] = true
			if _, ok := known[c]; !ok {
				t.Errorf("README.md:%d: error %s is no constant of internal/oauth or tokenexchange", first+i, c)
			}
		}
	}
	for c, sent := range known {
		if sent && !listed[c] {
			t.Errorf("README.md: error %s is in no table", c)
		}
	}
}

// mentions reports whether code of a room, tests aside, names pkg.name.
func mentions(gos []*goFile, room, pkg, name string) bool {
	found := false
	for _, f := range gos {
		if f.test() || !f.inRoom(room) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
				left, ok := sel.X.(*ast.Ident)
				found = found || ok && left.Name == pkg
			}
			return !found
		})
	}
	return found
}

// errorCodes returns the constants called Error... of a file: name → value.
func errorCodes(f *goFile) map[string]string {
	out := map[string]string{}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if strings.HasPrefix(name.Name, "Error") && i < len(spec.Values) {
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok {
					out[name.Name] = strings.Trim(lit.Value, `"`)
				}
			}
		}
		return true
	})
	return out
}

// Files that the layout of README.md and docs/architecture.md name must exist; links are
// checked in links_test.go, so this looks at plain text.
func TestNamedFilesExist(t *testing.T) {
	named := regexp.MustCompile("`((?:internal|kong-plugin|sidecar|tokenexchange|testenv|docs)(?:/[a-z0-9_.-]+)+)`")
	all := map[string]bool{}
	for _, name := range files(t) {
		for p := name; p != "."; p = path.Dir(p) {
			all[p] = true
		}
	}
	var found []string
	for name, doc := range documents(t) {
		if name == conformanceDoc {
			continue // names tests, which its own test knows
		}
		for i, line := range prose(doc) {
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				// `internal/oauth.Error` names something in a package.
				file := m[1]
				if !all[file] && !all[strings.TrimSuffix(file, path.Ext(file))] {
					found = append(found, fmt.Sprintf("%s:%d: there is no %s", name, i+1, file))
				}
			}
		}
	}
	slices.Sort(found)
	problems(t, found)
}
