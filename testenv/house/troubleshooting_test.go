package house_test

import (
	"fmt"
	"go/ast"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const troubleshootingDoc = "docs/troubleshooting.md"

// textColumns are the heads of the columns whose code spans quote the programs.
var textColumns = []string{"in the log", "the client reads", "the caller reads", "the application reads", "the error says", "reason"}

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

// refusals are the functions, methods and types whose texts an operator or a client gets to
// see, by folder or file. The texts that they are called with must be in
// docs/troubleshooting.md. What the policy file has in it is refused in words that need no
// more; docs/policy.md says why.
var refusals = map[string][]string{
	"internal/breaker":             {"Sprintf"},
	"internal/delegation":          {"errors.New", "Errorf", "Sprintf", "Warn", "Config", "Error"},
	"internal/discovery":           {"errors.New", "Errorf", "Warn"},
	"internal/gate":                {"unauthenticated", "malformed", "invalidToken", "unavailable", "denied", "misconfigured", "insufficientScope", "Debug", "Warn"},
	"internal/introspection":       {"failure", "Warn", "Error", "Config"},
	"internal/keyring":             {"Warn", "say"},
	"internal/keyring/file.go":     {"errors.New", "Errorf"},
	"internal/keyring/keyfile.go":  {"errors.New", "Errorf"},
	"internal/keyring/remote.go":   {"errors.New", "Errorf"},
	"internal/keyring/rotate.go":   {"errors.New", "Errorf"},
	"internal/keyring/schedule.go": {"errors.New", "Errorf"},
	"internal/policy":              {"Refusal"},
	"kong-plugin":                  {"add", "Warn", "Error"},
	"kong-plugin/pluginserver":     {"Warn", "Error"},
	"sidecar":                      {"errors.New", "Errorf", "Warn", "Error", "writeStatus"},
	"sidecar/caller":               {"errors.New", "Errorf", "Warn", "Error", "invalidClient", "invalidRequest", "unavailable", "problem", "at"},
	"sidecar/egress":               {"errors.New", "Errorf", "LogAttrs", "refuse", "malformed", "unauthenticated", "misconfigured", "unreachable", "denied", "ambiguous", "problem"},
	"sidecar/exchange":             {"errors.New", "Errorf", "LogAttrs", "refuse", "refused", "invalidSubject", "unavailable", "problem"},
	"sidecar/sts":                  {"errors.New", "Errorf", "refuse", "refuseStatus"},
	"sidecar/telemetry":            {"errors.New", "Errorf", "Warn"},
	"tokenexchange":                {"errors.New", "Errorf", "refuse", "problem", "flaw"},
}

// refusalTexts are the arguments of such calls, each as the pieces of text it is made of.
// Values of a struct count like arguments. What only stands before another error (%w) does
// not count.
func refusalTexts(f *goFile) [][]string {
	var out [][]string
	names := append(slices.Clip(refusals[f.dir()]), refusals[f.path]...)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		var of ast.Expr
		var args []ast.Expr
		switch n := n.(type) {
		case *ast.CallExpr:
			of, args = n.Fun, n.Args
		case *ast.CompositeLit:
			of, args = n.Type, n.Elts
		}
		name, full := nameOf(of)
		if !slices.Contains(names, name) && !slices.Contains(names, full) {
			return true
		}
		switch name { // of a log line: names and values follow
		case "Debug", "Warn", "Error":
			if _, call := n.(*ast.CallExpr); call {
				args = args[:min(1, len(args))]
			}
		case "LogAttrs":
			args = args[min(2, len(args)):min(3, len(args))]
		}
		for _, arg := range args {
			var pieces []string
			ast.Inspect(arg, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok {
					if s, err := strconv.Unquote(lit.Value); err == nil && shown(s) {
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

// shown reports whether s is a text of several words that somebody gets to see.
func shown(s string) bool {
	words := strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
	return len(words) > 1 && strings.Contains(strings.TrimSpace(s), " ") && !strings.Contains(s, "%w") &&
		!slices.ContainsFunc(unseen, func(begin string) bool { return strings.HasPrefix(s, begin) })
}

// nameOf is the name of the function, method or type that e stands for, and the one with
// the package or variable before it.
func nameOf(e ast.Expr) (name, full string) {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name, e.Name
	case *ast.SelectorExpr:
		before, _ := nameOf(e.X)
		return e.Sel.Name, before + "." + e.Sel.Name
	}
	return "", ""
}

// unseen are the beginnings of texts that nobody gets to see unless our own code forgets what
// a constructor needs, and of errors that are only compared.
var unseen = []string{
	"making the exchange endpoint: expected",
	"making exchanger: expected",
	"making token service: expected",
	"expected the names of all settings",
	"expected a memory for used client assertions",
	"expected a source of tokens in Tokens",
	"expected a Unix listener",
	"client assertion was used before",
	"body not taken by the API",
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

func TestRefusalTexts(t *testing.T) {
	f := parseGo(t, "internal/delegation/x.go", []byte(`package delegation
func x() error {
	log.Warn("calls are paused", "some key", 1)
	_ = rand.New("no errors here")
	_ = fmt.Errorf("calling the provider: %w", err)
	_ = errors.New("expected the names of all settings, got an empty one")
	return &Error{Kind: KindSubject, Text: "the " + s.Subject + " names no user"}
}`))
	var got []string
	for _, pieces := range refusalTexts(f) {
		got = append(got, strings.Join(pieces, "…"))
	}
	if want := []string{"calls are paused", " names no user"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
