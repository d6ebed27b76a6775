package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"phantomtoken/internal/policy"
)

// fill is a file of about a MiB: head, then as many lines as fit, then tail.
func fill(head string, line func(i int) string, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; ; i++ {
		next := line(i)
		if b.Len()+len(next)+len(tail) > 1<<20 {
			return b.String() + tail
		}
		b.WriteString(next)
	}
}

// half is what is written in half of such a file.
func half(line func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < 1<<19; i++ {
		b.WriteString(line(i))
	}
	return b.String()
}

// costly are files that would keep a parser busy for minutes, or fill the memory, if the
// work were that of each part with each other.
func costly() []struct{ name, text string } {
	const start = "version: 1\n"
	const caller = "{subject_audience: s, authentication: {secret_variables: [A]}, audiences: {a: {scopes: [r]}}}"
	long := strings.Repeat("a", 240)
	scopes := half(func(i int) string { return fmt.Sprintf("    - %s%04d\n", long, i) })
	callers := func(value string) func(int) string {
		return func(i int) string { return fmt.Sprintf("  c%d: %s\n", i, value) }
	}
	return []struct{ name, text string }{
		{"LongNamesThatNearlyFit", fill(start+"audiences:\n  a:\n    scopes:\n"+scopes+"callers:\n  c:\n    subject_audience: s\n    authentication: {secret_variables: [A]}\n    audiences:\n      a: &t\n        scopes:\n",
			func(i int) string { return fmt.Sprintf("        - %s%04db\n", long[1:], i) }, "")},
		{"NamesThatNearlyFit", fill(start+"audiences:\n"+half(func(i int) string { return fmt.Sprintf("  %s%05d: {}\n", long[:50], i) })+"callers:\n  c:\n    subject_audience: s\n    audiences:\n",
			func(i int) string { return fmt.Sprintf("      %s%05db: {}\n", long[:50], i) }, "")},
		{"UnknownKeysByAlias", fill(start+"audiences:\n  a: &a\n"+half(func(i int) string { return fmt.Sprintf("    k%d: 1\n", i) }),
			func(i int) string { return fmt.Sprintf("  b%d: *a\n", i) }, "callers: {}\n")},
		{"LongTextByAlias", fill(start+"audiences:\n  a: {scopes: [&x "+strings.Repeat("a", 1<<19)+"]}\ncallers:\n",
			callers("{subject_audience: *x, actors: [*x]}"), "")},
		{"LongKeyByAlias", fill(start+"audiences:\n  ? &x "+strings.Repeat("a", 1<<19)+"\n  : {}\ncallers:\n",
			callers("{subject_audience: s, audiences: {*x : {}}}"), "")},
		{"LongKeyAbovePaths", fill(start+"callers:\n  ? "+strings.Repeat("a", 1<<19)+"\n  :\n    audiences:\n",
			func(i int) string { return fmt.Sprintf("      k%d: {}\n", i) }, "")},
		{"LongTextsByAlias", fill(start+"callers:\n  a: {subject_audience: s, authentication: {secret_files: &x [b"+half(func(i int) string { return fmt.Sprintf(", %d%s", i, strings.Repeat("é", 4000)) })+"]}}\n",
			callers("{subject_audience: s, authentication: {secret_files: *x}}"), "")},
		{"ToolsOfManyCallers", fill(start+"audiences: {a: {scopes: [r]}}\ncallers:\n  x: &c "+caller+"\n"+half(callers("*c"))+"tools:\n",
			func(i int) string { return fmt.Sprintf("  t%d: {audiences: {a: [r]}}\n", i) }, "")},
		{"ResourcesOfManyCallers", fill(start+"audiences:\n  a:\n    scopes: [r]\n    resources:\n"+half(func(i int) string { return fmt.Sprintf("    - r%d\n", i) })+"callers:\n  x: &c "+caller+"\n",
			callers("*c"), "")},
		{"RoutesOfManyScopes", fill(start+"audiences:\n  a:\n    scopes: &s [r"+manyScopes()[:4500]+"]\ncallers:\n  x: {subject_audience: s, audiences: {a: {scopes: *s}}}\negress:\n  caller: x\n  routes:\n",
			func(i int) string {
				return fmt.Sprintf("  - {host: h%d, upstream: \"https://a\", audience: a, scopes: [r]}\n", i)
			}, "")},
		{"Comments", fill(start, func(int) string { return "#\n" }, "")},
		{"CommentedKeys", fill(start, func(i int) string { return fmt.Sprintf("#\nk%d: 1 #\n#\n", i) }, "")},
		{"CommentedEntries", fill(start+"a:\n", func(i int) string { return "- #\n" }, "")},
		{"Brackets", fill(start+"a: ", func(int) string { return "[" }, "")},
		{"Dashes", fill(start+"a:\n", func(int) string { return "- " }, "")},
		{"QuestionMarks", fill(start, func(int) string { return "? " }, "")},
		{"Anchors", fill(start+"a:\n", func(i int) string { return fmt.Sprintf("- &a%d {}\n", i) }, "")},
		{"EmptyKeys", fill(start+"a: {", func(int) string { return ":," }, "}")},
		{"Documents", fill(start, func(int) string { return "---\n" }, "")},
	}
}

// TestCostlyFilesAreBounded has no clock: without the bounds it would not end. See
// BenchmarkParse.
func TestCostlyFilesAreBounded(t *testing.T) {
	for _, tt := range costly() {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.text) > 1<<20 {
				t.Fatalf("%d bytes: the size is refused before the rest is looked at", len(tt.text))
			}
			if _, err := policy.Parse([]byte(tt.text)); err != nil && len(err.Error()) > 100*4096 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bm := range append(costly(), struct{ name, text string }{"baseline", full}) {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = policy.Parse([]byte(bm.text))
			}
		})
	}
}
