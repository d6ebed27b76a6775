package gate

import (
	"net/url"
	"strings"

	"phantomtoken/internal/oauth"
)

// credential finds the one bearer token of a request (RFC 6750 §2.1). Only the
// Authorization header carries it: a token in the query is refused, and refused as
// malformed when it stands beside a header (§2, MCP token requirements).
func credential(req *Request, maxLength int) (token string, _ *refusal) {
	if stripsAuthorization(req) {
		return "", malformed("Connection names Authorization", "The Connection header must not name the Authorization header")
	}
	fields := req.count("authorization")
	_, query := req.path()
	inQuery := hasAccessToken(query)
	switch {
	case fields > 1:
		return "", malformed("several Authorization fields", "Send one Authorization header field")
	case fields == 1 && inQuery:
		return "", malformed("credentials in header and query", "Send the access token in the Authorization header only")
	case fields == 0 && inQuery:
		return "", unauthenticated("access token in the query")
	case fields == 0:
		return "", unauthenticated("")
	}
	return bearer(req.first("authorization"), maxLength)
}

// stripsAuthorization reports whether the request makes Authorization a hop-by-hop field
// (RFC 9110 §7.6.1). Kong removes such fields after its plugins have run, and with them
// the phantom token: the caller would reach the upstream as nobody.
func stripsAuthorization(req *Request) bool {
	for i := range req.Headers {
		if h := &req.Headers[i]; h.Name == "connection" {
			for option := range strings.SplitSeq(h.Value, ",") {
				if dashed(strings.Trim(option, " \t")) == "authorization" {
					return true
				}
			}
		}
	}
	return false
}

// bearer reads an Authorization value. The scheme is compared in any case (RFC 9110
// §11.1); other schemes are no credentials of ours.
func bearer(value string, maxLength int) (string, *refusal) {
	for i := range len(value) {
		if c := value[i]; c < 0x20 && c != '\t' || c >= 0x7f {
			return "", malformed("control or non-ASCII byte in Authorization", "The Authorization header holds characters that are not allowed")
		}
	}
	scheme, rest, _ := strings.Cut(strings.Trim(value, " \t"), " ")
	if !strings.EqualFold(scheme, oauth.SchemeBearer) {
		// A comma right after a scheme-like word hides a second credential.
		if strings.ContainsRune(value, ',') && containsBearer(value) {
			return "", malformed("several credentials in one Authorization field", "Send one credential in the Authorization header")
		}
		return "", unauthenticated("authentication scheme other than Bearer")
	}
	token := strings.Trim(rest, " ")
	switch {
	case token == "":
		return "", malformed("Bearer without a token", "The Authorization header holds no access token")
	case maxLength > 0 && len(token) > maxLength:
		return "", invalidToken("access token longer than token.max_length")
	case strings.ContainsAny(token, ", \t"):
		return "", malformed("several credentials in one Authorization field", "Send one credential in the Authorization header")
	case !isB64Token(token):
		return "", malformed("access token outside the alphabet of RFC 6750 section 2.1", "The access token holds characters that are not allowed")
	}
	return token, nil
}

func containsBearer(value string) bool {
	return strings.Contains(strings.ToLower(value), strings.ToLower(oauth.SchemeBearer)+" ")
}

// isB64Token reports whether s is 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
func isB64Token(s string) bool {
	body := strings.TrimRight(s, "=")
	if body == "" {
		return false
	}
	for i := range len(body) {
		switch c := body[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return true
}

// hasAccessToken reports whether a raw query has a parameter access_token (RFC 6750
// §2.3), however its name is escaped.
func hasAccessToken(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if unescaped, err := url.QueryUnescape(name); err == nil {
			name = unescaped
		}
		if name == "access_token" {
			return true
		}
	}
	return false
}
