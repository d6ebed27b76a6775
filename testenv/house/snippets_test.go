package house_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Go blocks of the documents are the middle of a function that has these names.
const (
	snippetHead = `package main

import (
	"context"
	"net/http"

	"phantomtoken/tokenexchange"
)

func main() {}

func _(ctx context.Context, secret, received string, call *http.Request) {
`
	snippetTail = "\n\t_ = err\n}\n"
)

func TestGoBlocksCompile(t *testing.T) {
	for name, doc := range documents(t) {
		for _, b := range blocks(doc) {
			if b.info != "go" {
				continue
			}
			dir := t.TempDir()
			source := filepath.Join(dir, "snippet.go")
			if err := os.WriteFile(source, []byte(snippetHead+b.text+snippetTail), 0o600); err != nil {
				t.Fatal(err)
			}
			// The compiler sees the file inside the module, nobody else does.
			place, err := filepath.Abs(filepath.Join(root, "testenv/house/snippet/main.go"))
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {place: source}})
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(list, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "-o", filepath.Join(dir, "snippet"), "./snippet")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", name, b.line, err, out)
			}
		}
	}
}
