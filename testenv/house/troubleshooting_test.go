package house_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const troubleshootingDoc = "docs/troubleshooting.md"

// textColumns are the heads of the columns whose code spans quote the programs.
var textColumns = []string{"in the log", "the client reads", "reason"}

// quoted is a text that a document says the programs write.
type quoted struct {
	text string
	line int
}

// quotedTexts are the code spans in the text columns of a document's tables.
func quotedTexts(doc string) []quoted {
	var out []quoted
	var columns []int // of the table at hand
	inside := false
	for i, line := range prose(doc) {
		if !strings.HasPrefix(strings.TrimSpace(line), "|") {
			inside = false
			continue
		}
		cells := row(line)
		if !inside {
			inside, columns = true, nil
			for n, cell := range cells {
				if slices.Contains(textColumns, cell) {
					columns = append(columns, n)
				}
			}
			continue
		}
		for _, n := range columns {
			if n < len(cells) {
				for _, text := range code(cells[n]) {
					out = append(out, quoted{text, i + 1})
				}
			}
		}
	}
	return out
}

// refusals are the functions whose texts an operator or a client gets to see, by folder.
// The texts that they are called with must be in docs/troubleshooting.md.
var refusals = map[string][]string{
	"internal/gate":            {"unauthenticated", "malformed", "invalidToken", "unavailable", "denied", "misconfigured", "insufficientScope", "Debug", "Warn"},
	"internal/introspection":   {"failure", "Warn", "Error"},
	"internal/discovery":       {"New", "Errorf", "Warn"},
	"internal/keyring":         {"Warn"},
	"kong-plugin":              {"add", "Warn", "Error"},
	"kong-plugin/pluginserver": {"Warn", "Error"},
	"sidecar":                  {"New", "Errorf", "Warn", "Error"},
	"sidecar/sts":              {"refuse", "refuseStatus", "invalidClient", "invalidSubject", "problem"},
	"tokenexchange":            {"refuse"},
}

// refusalTexts are the arguments of such calls, each as the pieces of text it is made of.
// What only stands before another error (%w) does not count.
func refusalTexts(f *goFile) [][]string {
	var out [][]string
	names := refusals[f.dir()]
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !slices.Contains(names, called(call)) {
			return true
		}
		args := call.Args
		switch called(call) {
		case "Debug", "Warn", "Error":
			args = args[:min(1, len(args))] // of a log line: names and values follow
		}
		for _, arg := range args {
			var pieces []string
			ast.Inspect(arg, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok {
					if s, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(strings.TrimSpace(s), " ") && !strings.Contains(s, "%w") {
						pieces = append(pieces, s)
					}
				}
				return true
			})
			if len(pieces) > 0 {
				out = append(out, pieces)
			}
		}
		return true
	})
	return out
}

// called is the name of the function or method that is called.
func called(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

// Every text that docs/troubleshooting.md quotes can be seen, and every refusal that can be
// seen is there.
func TestTroubleshootingQuotesTheCode(t *testing.T) {
	texts := quotedTexts(read(t, troubleshootingDoc))
	if len(texts) == 0 {
		t.Fatalf("%s: no table quotes anything", troubleshootingDoc)
	}
	var found, written []string
	for _, f := range goFiles(t) {
		if f.test() || !f.inRoom("internal") && !f.inRoom("kong-plugin") && !f.inRoom("sidecar") && !f.inRoom("tokenexchange") {
			continue
		}
		written = append(written, stringLiterals(f)...)
		for _, pieces := range refusalTexts(f) {
			if !slices.ContainsFunc(texts, func(q quoted) bool {
				return slices.ContainsFunc(pieces, func(s string) bool { return strings.Contains(s, q.text) })
			}) {
				found = append(found, fmt.Sprintf("%s: %q is not in %s", f.path, strings.Join(pieces, "…"), troubleshootingDoc))
			}
		}
	}
	for _, q := range texts {
		if !slices.ContainsFunc(written, func(s string) bool { return strings.Contains(s, q.text) }) {
			found = append(found, fmt.Sprintf("%s:%d: nothing in the code writes %q", troubleshootingDoc, q.line, q.text))
		}
	}
	problems(t, found)
}

func TestQuotedTexts(t *testing.T) {
	doc := "| in the log | cause |\n|---|---|\n| `a` `b` | `c` |\n\n| x | the client reads |\n|---|---|\n| `d` | `e` |\n"
	var got []string
	for _, q := range quotedTexts(doc) {
		got = append(got, fmt.Sprintf("%d:%s", q.line, q.text))
	}
	if want := []string{"3:a", "3:b", "7:e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
