package house_test

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const conformanceDoc = "docs/conformance.md"

var ruleID = regexp.MustCompile(`^[A-Z]{2,3}-[0-9]{2}$`)

// coverage collects the rules that the "Covers:" lines of tests name: id → tests, as
// folder.Function. A line anywhere else is a problem: no test would stand behind it.
func coverage(gos []*goFile) (map[string][]string, []string) {
	covers := map[string][]string{}
	var found []string
	for _, f := range gos {
		owned := map[*ast.CommentGroup]string{}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if ok && f.test() && fn.Recv == nil && fn.Doc != nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				owned[fn.Doc] = f.dir() + "." + fn.Name.Name
			}
		}
		for _, group := range f.ast.Comments {
			for line := range strings.Lines(group.Text()) {
				list, ok := strings.CutPrefix(strings.TrimSpace(line), "Covers:")
				if !ok {
					continue
				}
				at := fmt.Sprintf("%s:%d", f.path, f.line(group.Pos()))
				test, ok := owned[group]
				if !ok {
					found = append(found, at+": a Covers line that belongs to no test function")
					continue
				}
				for _, id := range strings.Split(list, ",") {
					id = strings.TrimSpace(id)
					if id == "" { // the comma at the end of a line that goes on in the next
						continue
					}
					if !ruleID.MatchString(id) {
						found = append(found, fmt.Sprintf("%s: Covers %q: expected ids like MCP-01 between commas", at, id))
					} else if !slices.Contains(covers[id], test) {
						covers[id] = append(covers[id], test)
					}
				}
			}
		}
	}
	for id := range covers {
		slices.Sort(covers[id])
	}
	return covers, found
}

// conformanceProblems compares the two tables of the document with what tests cover and
// with the list of all rules.
func conformanceProblems(doc string, covers map[string][]string, rules []string) []string {
	var out []string
	count := map[string]int{}
	done := map[string]bool{}
	lines, first := section(doc, "Done")
	for i, line := range lines {
		cells := row(line)
		if len(cells) == 0 || !ruleID.MatchString(cells[0]) {
			continue
		}
		id := cells[0]
		count[id]++
		done[id] = true
		at := fmt.Sprintf("%s:%d: %s", conformanceDoc, first+i, id)
		switch {
		case len(cells) != 4:
			out = append(out, at+": expected the cells id, rule, section, test")
		case len(covers[id]) == 0:
			out = append(out, at+" is done and no test covers it: write one, or move the row to \"Not done yet\"")
		case cells[3] != testCell(covers[id]):
			out = append(out, at+": the test column is old; run: go test ./testenv/house -run TestConformance -update")
		}
	}
	lines, first = section(doc, "Not done yet")
	for i, line := range lines {
		cells := row(line)
		if len(cells) == 0 || !ruleID.MatchString(cells[0]) {
			continue
		}
		id := cells[0]
		count[id]++
		at := fmt.Sprintf("%s:%d: %s", conformanceDoc, first+i, id)
		if len(cells) != 3 || cells[2] == "" {
			out = append(out, at+": expected the cells id, rule, why or when")
		}
		if !done[id] && len(covers[id]) > 0 {
			out = append(out, fmt.Sprintf("%s is not done, but %s covers it: move the row to \"Done\"", at, covers[id][0]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(covers)) {
		if count[id] == 0 {
			out = append(out, fmt.Sprintf("%s names %s, which is not in %s", covers[id][0], id, conformanceDoc))
		}
	}
	for _, id := range rules {
		if count[id] == 0 {
			out = append(out, fmt.Sprintf("%s: rule %s is in neither table", conformanceDoc, id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(count)) {
		if count[id] > 1 {
			out = append(out, fmt.Sprintf("%s: %s stands there %d times", conformanceDoc, id, count[id]))
		}
	}
	return out
}

func testCell(tests []string) string {
	cells := make([]string, len(tests))
	for i, test := range tests {
		cells[i] = "`" + test + "`"
	}
	return strings.Join(cells, "<br>")
}

// fillTests returns doc with the test column of the done rows filled.
func fillTests(doc string, covers map[string][]string) string {
	lines, first := section(doc, "Done")
	all := strings.Split(doc, "\n")
	for i, line := range lines {
		if cells := row(line); len(cells) == 4 && ruleID.MatchString(cells[0]) {
			cells[3] = testCell(covers[cells[0]])
			all[first-1+i] = formatRow(cells)
		}
	}
	return strings.Join(all, "\n")
}

func TestConformance(t *testing.T) {
	covers, found := coverage(goFiles(t))
	doc := read(t, conformanceDoc)
	if *update {
		doc = fillTests(doc, covers)
		write(t, conformanceDoc, doc)
	}
	rules := strings.Fields(read(t, "testenv/house/testdata/rules.txt"))
	problems(t, append(found, conformanceProblems(doc, covers, rules)...))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, filepath.FromSlash(name)), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestConformanceProblemsAreFound(t *testing.T) {
	const head = "# C\n## Done\n### Part\n| id | rule | section | test |\n|---|---|---|---|\n"
	const between = "\n## Not done yet\n| id | rule | why |\n|---|---|---|\n"
	covers := map[string][]string{"AA-01": {"x.TestA"}}
	good := "| AA-01 | r | s | `x.TestA` |\n"
	tests := []struct {
		name, doc string
		want      string // part of the one problem; empty: none
	}{
		{"InStep", head + good + between + "| AA-02 | r | later |\n", ""},
		{"DoneWithoutTest", head + good + "| AA-02 | r | s | |\n", "no test covers it"},
		{"TestColumnIsOld", head + "| AA-01 | r | s | `x.TestOld` |\n" + between + "| AA-02 | r | later |\n", "is old"},
		{"CoveredButNotDone", head + between + "| AA-01 | r | later |\n| AA-02 | r | later |\n", "move the row to"},
		{"InBothTables", head + good + between + "| AA-01 | r | later |\n| AA-02 | r | later |\n", "2 times"},
		{"InNeitherTable", head + good, "AA-02 is in neither"},
		{"CoveredAndUnknown", head + between + "| AA-02 | r | later |\n", "x.TestA names AA-01"},
		{"NoReason", head + good + between + "| AA-02 | r | |\n", "why or when"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := conformanceProblems(tt.doc, covers, []string{"AA-02"})
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("Fill", func(t *testing.T) {
		doc := head + "| AA-01 | r | s | old |\n" + between
		if got := conformanceProblems(fillTests(doc, covers), covers, nil); len(got) > 0 {
			t.Errorf("after filling: %q", got)
		}
	})
}

func TestCoverageReadsTestComments(t *testing.T) {
	src := `package p
// TestA proves.
//
// Covers: AA-01,
// Covers: AA-02
func TestA(t *testing.T) {}

// Covers: AA-01
func helper() {}

// Covers: AA 03
func FuzzB(f *testing.F) {}
`
	covers, found := coverage([]*goFile{parseGo(t, "x/a_test.go", []byte(src))})
	if got := fmt.Sprint(covers); got != "map[AA-01:[x.TestA] AA-02:[x.TestA]]" {
		t.Errorf("covers %s", got)
	}
	if len(found) != 2 || !strings.Contains(found[0], "belongs to no test") || !strings.Contains(found[1], "expected ids") {
		t.Errorf("problems %q", found)
	}
}
