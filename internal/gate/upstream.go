package gate

import (
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// identityHeaders returns the names, as received, of the request headers that must not go
// upstream: those that say who is calling, and further ones.
func identityHeaders(headers []Header, further []string) []string {
	var out []string
	for i := range headers {
		name := headers[i].Name
		if name == "authorization" { // replaced by the phantom token
			continue
		}
		if isIdentity(name, further) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// dashed is a header name as CGI and WSGI see it: one spelling for all.
func dashed(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

func isIdentity(name string, further []string) bool {
	canonical := dashed(name)
	return oauth.IsIdentityField(canonical) ||
		// Kong itself sets them in this spelling. In another one they come from the client.
		name != canonical && oauth.IsForwardingField(canonical) ||
		slices.ContainsFunc(further, func(f string) bool { return dashed(f) == canonical })
}
