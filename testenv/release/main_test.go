package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckStatic(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	goBuild := func(name string, flags ...string) *os.File {
		file := filepath.Join(dir, name)
		cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-o", file}, flags...), source)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	static := goBuild("static")
	if err := checkStatic(static, elf.EM_AARCH64); err != nil {
		t.Errorf("a static binary: %v", err)
	}
	if err := checkStatic(static, elf.EM_X86_64); err == nil || !strings.Contains(err.Error(), "EM_X86_64") {
		t.Errorf("for another machine: got %v", err)
	}
	// A position-independent one has an interpreter even without C.
	if err := checkStatic(goBuild("pie", "-buildmode=pie"), elf.EM_AARCH64); err == nil || !strings.Contains(err.Error(), "static") {
		t.Errorf("with an interpreter: got %v", err)
	}
	if err := checkStatic(strings.NewReader("#!/bin/sh\n"), elf.EM_AARCH64); err == nil {
		t.Error("a script: got nil, want an error")
	}
}
