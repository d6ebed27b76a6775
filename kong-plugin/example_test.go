package main

import (
	"os"
	"strings"
	"testing"
)

// compareExample compares the block "text NAME" of README.md with what a command said, or
// writes it. The working directory must be the package's.
func compareExample(t *testing.T, name, got string) {
	t.Helper()
	doc, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(doc), "```text "+name+"\n")
	want, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("README.md has no block \"text %s\"", name)
	}
	if *update {
		text := before + "```text " + name + "\n" + got + "```\n" + after
		if err := os.WriteFile("../README.md", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("README.md, block \"text %s\": got\n%swant\n%s(run the test with -update if that is meant)", name, got, want)
	}
}
