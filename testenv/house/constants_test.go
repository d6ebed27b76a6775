package house_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// once are the strings of the RFCs that may be written in one file only. Tests and testenv
// spell them out, so that a typo in the constant is noticed.
var once = []string{
	"urn:ietf:params:oauth:grant-type:token-exchange",
	"urn:ietf:params:oauth:token-type:access_token",
	"urn:ietf:params:oauth:token-type:refresh_token",
	"urn:ietf:params:oauth:token-type:id_token",
	"urn:ietf:params:oauth:token-type:jwt",
	"/.well-known/oauth-protected-resource",
	"/.well-known/oauth-authorization-server",
	"/.well-known/openid-configuration",
	"resource_metadata",
	"insufficient_scope",
	"invalid_token",
	"invalid_target",
	"unauthorized_client",
	"not_found",
}

func TestConstantsAreWrittenOnce(t *testing.T) {
	where := map[string]map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test() || f.inRoom("testenv") {
			continue
		}
		for _, s := range stringLiterals(f) {
			for _, c := range once {
				if strings.TrimSuffix(s, "/") == c {
					if where[c] == nil {
						where[c] = map[string]bool{}
					}
					where[c][f.path] = true
				}
			}
		}
	}
	var found []string
	for _, c := range once {
		if n := len(where[c]); n != 1 {
			found = append(found, fmt.Sprintf("%q is written in %q, want one file", c, slices.Sorted(maps.Keys(where[c]))))
		}
	}
	problems(t, found)
}

// stringLiterals returns the values of all string literals of f.
func stringLiterals(f *goFile) []string {
	var out []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, s)
			}
		}
		return true
	})
	return out
}

// JSON-RPC codes from -32000 to -32099 belong to the protocol: MCP 2026-07-28 defines some
// of them and reserves the rest, and a gateway that answers in HTTP statuses needs none.
//
// Covers: MCP-32
func TestNoJSONRPCErrorCodesAreInvented(t *testing.T) {
	var found []string
	for _, f := range goFiles(t) {
		if f.test() || f.inRoom("testenv") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.INT {
				if v, err := strconv.ParseInt(lit.Value, 0, 64); err == nil && v >= 32000 && v <= 32099 {
					found = append(found, fmt.Sprintf("%s:%d: %s: a reserved JSON-RPC error code", f.path, f.line(lit.Pos()), lit.Value))
				}
			}
			return true
		})
	}
	problems(t, found)
}
