package tokenexchange_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImportsStandardLibraryOnly keeps the promise of the package documentation: a program
// that imports this package gets nothing else with it.
func TestImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list -deps: %v\n%s", err, out)
	}
	if got, want := strings.Fields(string(out)), "phantomtoken/tokenexchange"; len(got) != 1 || got[0] != want {
		t.Errorf("packages outside the standard library: got %q, want only %q", got, want)
	}
}
