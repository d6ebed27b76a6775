package oauth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"phantomtoken/internal/oauth"
)

// Covers: BT-08, CH-07
func TestParseScopes(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want oauth.Scopes
	}{
		{name: "empty", in: "", want: nil},
		{name: "blanks", in: "   ", want: nil},
		{name: "one", in: "mcp:read", want: oauth.Scopes{"mcp:read"}},
		{name: "order is kept", in: "b a", want: oauth.Scopes{"b", "a"}},
		{name: "blanks around", in: "  a   b  ", want: oauth.Scopes{"a", "b"}},
		{name: "repetition counts once", in: "a b a", want: oauth.Scopes{"a", "b"}},
		{name: "case matters", in: "Read read", want: oauth.Scopes{"Read", "read"}},
		{name: "edges of the alphabet", in: "! # [ ] ~ =,;'", want: oauth.Scopes{"!", "#", "[", "]", "~", "=,;'"}},
		{name: "URL", in: "https://api.example.com/stocks.read", want: oauth.Scopes{"https://api.example.com/stocks.read"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := oauth.ParseScopes(tt.in)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("ParseScopes(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
	for _, in := range []string{`a"b`, `a\b`, "a\tb", "a\nb", "a\x00", "\x7f", "é", "a\u00a0b"} {
		if got, err := oauth.ParseScopes(in); err == nil || got != nil {
			t.Errorf("ParseScopes(%q) = %q, %v; want an error alone", in, got, err)
		}
	}
}

// Covers: BT-08
func TestScopesContains(t *testing.T) {
	tests := []struct {
		have, want string
		contains   bool
	}{
		{have: "a b", want: "b a", contains: true},
		{have: "a b c", want: "b", contains: true},
		{have: "a", want: "", contains: true},
		{have: "", want: "", contains: true},
		{have: "a", want: "a b"},
		{have: "", want: "a"},
		{have: "read", want: "Read"},
		{have: "stocks/read", want: "stocks"},
		{have: "stocks", want: "stocks/read"},
		{have: "a,b", want: "a"},
	}
	for _, tt := range tests {
		have, want := parseScopes(t, tt.have), parseScopes(t, tt.want)
		if got := have.Contains(want); got != tt.contains {
			t.Errorf("%q contains %q = %t, want %t", have, want, got, tt.contains)
		}
	}
}

func TestScopesUnionAndIntersect(t *testing.T) {
	tests := []struct {
		a, b, union, intersect string
	}{
		{a: "a b", b: "b c", union: "a b c", intersect: "b"},
		{a: "b a", b: "a b", union: "b a", intersect: "b a"},
		{a: "", b: "a", union: "a", intersect: ""},
		{a: "a", b: "", union: "a", intersect: ""},
		{a: "", b: "", union: "", intersect: ""},
		{a: "a", b: "b", union: "a b", intersect: ""},
	}
	for _, tt := range tests {
		a, b := parseScopes(t, tt.a), parseScopes(t, tt.b)
		if got := a.Union(b).String(); got != tt.union {
			t.Errorf("union of %q and %q = %q, want %q", a, b, got, tt.union)
		}
		if got := a.Intersect(b).String(); got != tt.intersect {
			t.Errorf("intersection of %q and %q = %q, want %q", a, b, got, tt.intersect)
		}
		if a.String() != tt.a || b.String() != tt.b {
			t.Errorf("the sets were changed to %q and %q", a, b)
		}
	}
	// A set with room to grow is not written into.
	a := append(make(oauth.Scopes, 0, 8), "a")
	a.Union(oauth.Scopes{"b"})
	if other := a.Union(oauth.Scopes{"c"}); other.String() != "a c" || a[:2][1] != "" {
		t.Errorf("union writes into its argument: %q", a[:2])
	}
}

func parseScopes(t testing.TB, s string) oauth.Scopes {
	t.Helper()
	scopes, err := oauth.ParseScopes(s)
	if err != nil {
		t.Fatal(err)
	}
	return scopes
}

func FuzzParseScopes(f *testing.F) {
	for _, seed := range []string{"", "a", "a b a", "  a  ", "a\"", "a\\", "é", "a\x00b", "a=b,c"} {
		f.Add(seed, "a b")
	}
	f.Fuzz(func(t *testing.T, s, other string) {
		scopes, err := oauth.ParseScopes(s)
		if err != nil {
			if scopes != nil {
				t.Errorf("ParseScopes(%q): scopes beside an error", s)
			}
			return
		}
		// What is written is read back the same, and is a legal wire form.
		wire := scopes.String()
		if again := parseScopes(t, wire); !slices.Equal(again, scopes) {
			t.Errorf("%q reads as %q, its wire form as %q", s, scopes, again)
		}
		for i := range len(wire) {
			if c := wire[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("wire form %q has byte %#02x", wire, c)
			}
		}
		if strings.Contains(wire, "  ") || strings.HasPrefix(wire, " ") || strings.HasSuffix(wire, " ") {
			t.Errorf("wire form %q has superfluous blanks", wire)
		}
		// A token is in the set exactly if it stands in the text.
		for _, tok := range strings.Split(s, " ") {
			if tok != "" && !slices.Contains(scopes, tok) {
				t.Errorf("%q lost the token %q", s, tok)
			}
		}
		o, err := oauth.ParseScopes(other)
		if err != nil {
			return
		}
		union, both := scopes.Union(o), scopes.Intersect(o)
		if !union.Contains(scopes) || !union.Contains(o) || !scopes.Contains(both) || !o.Contains(both) {
			t.Errorf("sets %q and %q: union %q, intersection %q", scopes, o, union, both)
		}
		if len(union)+len(both) != len(scopes)+len(o) {
			t.Errorf("sets %q and %q: union %q and intersection %q do not add up", scopes, o, union, both)
		}
		if scopes.Contains(o) != (len(both) == len(o)) {
			t.Errorf("%q contains %q = %t, but the intersection is %q", scopes, o, scopes.Contains(o), both)
		}
	})
}

// A provider, or whoever writes its answers, must not keep a processor busy with a list.
func TestRejectsEndlessScopeList(t *testing.T) {
	list := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "s%d ", i)
		}
		return b.String()
	}
	if got, err := oauth.ParseScopes(list(1000)); err != nil || len(got) != 1000 {
		t.Errorf("1000 scopes: got %d, %v, want all", len(got), err)
	}
	if got, err := oauth.ParseScopes(list(1001)); err == nil || got != nil {
		t.Errorf("1001 scopes: got %d of them, want an error", len(got))
	}
}
