package verifiers_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The verifier in Go, which needs nothing but Go.
func TestGoVerifier(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "verifier")
	build(t, binary, "./go")
	checkVerifier(t, exec.Command(binary))
}
