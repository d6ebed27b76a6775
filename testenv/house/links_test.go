package house_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var link = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)

// anchors returns the fragment of every heading, as GitHub makes them.
func anchors(doc string) []string {
	var out []string
	seen := map[string]int{}
	for _, line := range prose(doc) {
		level, title := heading(line)
		if level == 0 {
			continue
		}
		var b strings.Builder
		for _, r := range strings.ToLower(link.ReplaceAllString(title, "")) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				b.WriteRune(r)
			}
		}
		slug := b.String()
		if n := seen[slug]; n > 0 {
			slug = fmt.Sprintf("%s-%d", slug, n)
		}
		seen[b.String()]++
		out = append(out, slug)
	}
	return out
}

// linkProblems says which links of the document called name lead nowhere. exists reports
// whether the project has a file or folder.
func linkProblems(name, doc string, documents map[string]string, exists func(string) bool) []string {
	var out []string
	for i, line := range prose(doc) {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			switch other, isDocument := documents[file]; {
			case !exists(file):
				out = append(out, fmt.Sprintf("%s:%d: %s: there is no %s", name, i+1, m[1], file))
			case fragment != "" && isDocument && !slices.Contains(anchors(other), fragment):
				out = append(out, fmt.Sprintf("%s:%d: %s: %s has no such heading", name, i+1, m[1], file))
			}
		}
	}
	return out
}

func TestLinksResolve(t *testing.T) {
	all := map[string]bool{}
	for _, name := range files(t) {
		for p := name; p != "."; p = path.Dir(p) {
			all[p] = true
		}
	}
	docs := documents(t)
	var found []string
	for name, doc := range docs {
		found = append(found, linkProblems(name, doc, docs, func(p string) bool { return all[p] })...)
	}
	slices.Sort(found)
	problems(t, found)
}

func TestLinkProblemsAreFound(t *testing.T) {
	docs := map[string]string{"README.md": "# A `b` & c\n## Twice\n## Twice\n", "docs/x.md": "# X\n"}
	exists := func(p string) bool { _, ok := docs[p]; return ok || p == "docs" }
	tests := []struct {
		name, doc string
		want      int
	}{
		{"File", "[x](../README.md)", 0},
		{"Folder", "[x](../docs)", 0},
		{"Heading", "[x](../README.md#a-b--c) [y](../README.md#twice-1) [z](x.md#x)", 0},
		{"Elsewhere", "[x](https://example.com/nothing)", 0},
		{"MissingFile", "[x](nothing.md)", 1},
		{"MissingHeading", "[x](../README.md#nothing)", 1},
		{"MissingHeadingHere", "[x](#nothing)", 1},
		{"InCode", "```\n[x](nothing.md)\n```", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs := map[string]string{"README.md": docs["README.md"], "docs/x.md": "# X\n" + tt.doc + "\n"}
			if got := linkProblems("docs/x.md", docs["docs/x.md"], docs, exists); len(got) != tt.want {
				t.Errorf("got %q, want %d problems", got, tt.want)
			}
		})
	}
}
