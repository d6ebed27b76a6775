package oauth

import (
	"fmt"
	"slices"
	"strings"
)

// Scopes is a set of scope tokens in the order they were given (RFC 6749 §3.3).
// The zero value is the empty set. Scope tokens are compared byte by byte.
type Scopes []string

// ParseScopes reads a space-delimited scope value. It refuses characters outside the
// scope-token alphabet (%x21 / %x23-5B / %x5D-7E) and more than 1000
// tokens, and drops repetitions.
func ParseScopes(s string) (Scopes, error) {
	var out Scopes
	seen := map[string]bool{}
	for tok := range strings.SplitSeq(s, " ") {
		if tok == "" {
			continue
		}
		for i := range len(tok) {
			if c := tok[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
				return nil, fmt.Errorf("scope token %q: expected printable ASCII without quote or backslash (RFC 6749 §3.3)", tok)
			}
		}
		if seen[tok] {
			continue
		}
		if len(out) == maxScopes {
			return nil, fmt.Errorf("expected at most %d scopes", maxScopes)
		}
		seen[tok] = true
		out = append(out, tok)
	}
	return out, nil
}

// maxScopes keeps the work that a hostile list causes small: sets are compared pairwise.
const maxScopes = 1000

// String joins the scopes by single spaces, the wire form.
func (s Scopes) String() string { return strings.Join(s, " ") }

// Contains reports whether every scope of want is in s.
func (s Scopes) Contains(want Scopes) bool {
	for _, w := range want {
		if !slices.Contains(s, w) {
			return false
		}
	}
	return true
}

// Union returns s followed by the scopes of other that s lacks.
func (s Scopes) Union(other Scopes) Scopes {
	out := slices.Clone(s)
	for _, o := range other {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// Intersect returns the scopes of s that other holds too, in the order of s.
func (s Scopes) Intersect(other Scopes) Scopes {
	var out Scopes
	for _, v := range s {
		if slices.Contains(other, v) {
			out = append(out, v)
		}
	}
	return out
}
