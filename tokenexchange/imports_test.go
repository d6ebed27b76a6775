package tokenexchange_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImportsStandardLibraryAndACache keeps the promise of the package documentation: a
// program that imports this package gets nothing else with it.
func TestImportsStandardLibraryAndACache(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list -deps: %v\n%s", err, out)
	}
	want := []string{
		"github.com/hashicorp/golang-lru/v2/internal",
		"github.com/hashicorp/golang-lru/v2/simplelru",
		"phantomtoken/internal/flight",
		"phantomtoken/tokenexchange",
	}
	if got := strings.Fields(string(out)); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
		t.Errorf("packages outside the standard library: got %q, want %q", got, want)
	}
}
