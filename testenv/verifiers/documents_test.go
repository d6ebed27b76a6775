package verifiers_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	upstreamDocument = "../../docs/upstream-apis.md"
	sidecarDocument  = "../../docs/sidecar.md"
)

// A document shows the programs that the tests run, word for word, and no others.
func TestDocumentsQuoteThePrograms(t *testing.T) {
	for document, files := range map[string][]string{
		upstreamDocument: {
			"go/verifier.go", "node/verifier.mjs", "python/verifier.py", "java/src/main/java/example/Verifier.java", "java/pom.xml",
		},
		sidecarDocument: {
			"callers/policy.yaml",
			"callers/egress.sh", "callers/socket.sh", "callers/exchange.sh",
			"callers/egress/main.go", "callers/exchange/main.go", "callers/library/main.go",
			"callers/egress.ts", "callers/exchange.ts",
			"callers/egress.py", "callers/exchange.py",
		},
	} {
		var quoted []string
		for _, b := range blocks(t, document) {
			if !strings.Contains(b.name, "/") {
				continue
			}
			quoted = append(quoted, b.name)
			if !slices.Contains(files, b.name) {
				t.Errorf("%s: the block marked %s is no file that the tests run", document, b.name)
			} else if b.text != string(readFile(t, b.name)) {
				t.Errorf("%s: the block marked %s is not what testenv/verifiers/%s holds", document, b.name, b.name)
			}
		}
		for _, name := range files {
			if !slices.Contains(quoted, name) {
				t.Errorf("%s: expected a code block marked %s", document, name)
			}
		}
	}
}

// The tables of docs/sidecar.md name what the sidecar logs and counts: all of it, and nothing
// else.
func TestTablesNameWhatTheSidecarTells(t *testing.T) {
	for _, tt := range []struct {
		heading string
		sources []string
		pattern string
	}{
		{"The audit line", []string{"exchange/audit.go", "sts/token.go"}, `slog\.(?:String|Int|Int64|Bool|Any)\("([a-z_]+)"`},
		{"Metrics", []string{"telemetry/metrics.go"}, `Name: +"(token_exchange_[a-z_]+)"`},
	} {
		t.Run(tt.heading, func(t *testing.T) {
			var told []string
			for _, source := range tt.sources {
				for _, m := range regexp.MustCompile(tt.pattern).FindAllStringSubmatch(string(readFile(t, "../../sidecar/"+source)), -1) {
					told = append(told, m[1])
				}
			}
			documented := firstCells(string(readFile(t, sidecarDocument)), tt.heading)
			if len(told) == 0 || len(documented) == 0 {
				t.Fatalf("found %d names in the code and %d in the document", len(told), len(documented))
			}
			for _, name := range told {
				if !slices.Contains(documented, name) {
					t.Errorf("%s is not in the table", name)
				}
			}
			for _, name := range documented {
				if !slices.Contains(told, name) {
					t.Errorf("%s is in the table and not in the code", name)
				}
			}
		})
	}
}

// firstCells returns the code spans in the first column of the table under a heading.
func firstCells(document, heading string) []string {
	_, section, _ := strings.Cut(document, "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	var out []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				out = append(out, span[1])
			}
		}
	}
	return out
}

// block is a code block whose fence says more than a language: language, space, name.
type block struct{ name, text string }

func blocks(t *testing.T, document string) []block {
	t.Helper()
	var out []block
	inside := false
	for line := range strings.Lines(string(readFile(t, document))) {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && inside:
			inside = false
		case isFence:
			_, name, _ := strings.Cut(fence, " ")
			out = append(out, block{name: name})
			inside = true
		case inside:
			out[len(out)-1].text += line
		}
	}
	return slices.DeleteFunc(out, func(b block) bool { return b.name == "" })
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
