package policy_test

import (
	_ "embed"
	"strings"
	"testing"

	"phantomtoken/internal/policy"
)

// full has every key of the format.
//
//go:embed testdata/full.yaml
var full string

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse:\n%v", err)
	}
	return p
}

// change replaces one piece of the full file.
func change(t testing.TB, old, with string) string {
	t.Helper()
	if n := strings.Count(full, old); n != 1 {
		t.Fatalf("%q is %d times in the file", old, n)
	}
	return strings.Replace(full, old, with, 1)
}
