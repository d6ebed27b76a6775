package egress

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"phantomtoken/internal/oauth"
)

// Header fields by which the application names the tool that it calls for.
const (
	// HeaderTool names the MCP tool that a request is made for. It comes before HeaderMCPName
	// and never reaches an API.
	HeaderTool = "Phantom-Tool"
	// HeaderMCPMethod and HeaderMCPName are what an MCP client sends beside its message
	// (MCP 2026-07-28). With the method tools/call the name is that of the tool.
	HeaderMCPMethod = "Mcp-Method"
	HeaderMCPName   = "Mcp-Name"
)

const methodToolsCall = "tools/call"

// bearer finds the one phantom token of a request (RFC 6750 §2.1).
func bearer(r *http.Request) (string, *refusal) {
	fields := r.Header["Authorization"]
	switch {
	case len(fields) == 0:
		return "", unauthenticated("no Authorization field")
	case len(fields) > 1:
		return "", malformed("several Authorization fields", "send one Authorization header field")
	}
	scheme, token, _ := strings.Cut(strings.Trim(fields[0], " \t"), " ")
	token = strings.Trim(token, " ")
	switch {
	case !strings.EqualFold(scheme, oauth.SchemeBearer):
		return "", unauthenticated("authentication scheme other than Bearer")
	case !isB64Token(token):
		return "", malformed("no b64token after Bearer", "expected one token of the characters of RFC 6750 section 2.1 after Bearer")
	}
	return token, nil
}

// isB64Token reports whether s is 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
func isB64Token(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if c := body[i]; !isUnreserved(c) && c != '+' && c != '/' {
			return false
		}
	}
	return body != ""
}

// leaks reports whether the phantom token stands in a part of the request that would reach
// the API, as it is or percent-encoded. It would be a credential in the wrong hands there,
// whatever the API does with it.
func leaks(r *http.Request, token string) bool {
	if quotes(r.Method, token) || quotes(r.URL.EscapedPath(), token) || quotes(r.URL.RawQuery, token) {
		return true
	}
	for name := range r.Trailer { // their values come with the end of the body
		if names(name, token) {
			return true
		}
	}
	for name, values := range r.Header {
		if name == "Authorization" {
			continue
		}
		if names(name, token) {
			return true
		}
		for _, value := range values {
			if quotes(value, token) {
				return true
			}
		}
	}
	return false
}

// names reports whether the token is in the name of a field, which has another case here than
// it was sent in.
func names(field, token string) bool {
	return len(field) >= len(token) && strings.Contains(strings.ToLower(field), strings.ToLower(token))
}

func quotes(s, token string) bool {
	if len(s) < len(token) {
		return false
	}
	return strings.Contains(s, token) || strings.IndexByte(s, '%') >= 0 && strings.Contains(decoded(s), token)
}

// decoded decodes every escape that is one and leaves the rest.
func decoded(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c, ok := unhex(s[i:])
		if ok {
			i += 2
		} else {
			c = s[i]
		}
		b.WriteByte(c)
	}
	return b.String()
}

// tool is the tool that the application names, and whether MCP's own fields named it: then
// they are no part of the call to the API. What an MCP server could read as a call of a tool
// must not pass as a call without one.
func tool(h http.Header) (name string, byMCP bool, _ *refusal) {
	methods, names := h[HeaderMCPMethod], h[HeaderMCPName]
	if len(methods) > 1 || len(names) > 1 {
		return "", false, malformed("several Mcp-Method or Mcp-Name fields", "send one Mcp-Method and one Mcp-Name header field")
	}
	values := h[HeaderTool]
	if len(values) == 0 {
		if len(methods) == 0 && len(names) == 0 {
			return "", false, nil
		}
		method, ok := mcpMethod(methods)
		switch {
		case !ok:
			return "", false, malformed("no readable Mcp-Method", "expected one method of MCP in the Mcp-Method header field beside Mcp-Name")
		case method != methodToolsCall:
			return "", false, nil
		}
		values, byMCP = names, true
	}
	if len(values) != 1 {
		return "", false, malformed("no or several fields that name the tool", "name the tool in one Phantom-Tool field, or in one Mcp-Name field beside Mcp-Method")
	}
	name, ok := plainName(values[0])
	if !ok {
		return "", false, malformed("malformed name of a tool", "the name of the tool is empty, too long or has characters that are not allowed")
	}
	return name, byMCP, nil
}

// mcpMethod reads a method like tools/call. Any other character may be a separator to someone.
func mcpMethod(fields []string) (string, bool) {
	if len(fields) != 1 {
		return "", false
	}
	method, ok := plainName(strings.Trim(fields[0], " \t"))
	return method, ok && !strings.ContainsFunc(method, func(c rune) bool {
		return c != '/' && (c > unicode.MaxASCII || !isUnreserved(byte(c)))
	})
}

// maxTool is the most bytes of a tool's name (MCP advises 128 characters).
const maxTool = 256

// plainName decodes a header value as MCP encodes what is not printable ASCII:
// =?base64?…?= (MCP 2026-07-28, value encoding).
func plainName(value string) (string, bool) {
	const start, end = "=?base64?", "?="
	if inner, ok := strings.CutPrefix(value, start); ok {
		if inner, ok = strings.CutSuffix(inner, end); ok {
			data, err := base64.StdEncoding.DecodeString(inner)
			if err != nil {
				return "", false
			}
			value = string(data)
		}
	}
	if value == "" || len(value) > maxTool || !utf8.ValidString(value) {
		return "", false
	}
	return value, !strings.ContainsFunc(value, func(c rune) bool { return c < 0x20 || c == 0x7f })
}
