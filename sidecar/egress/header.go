package egress

import (
	"net/http"
	"strings"

	"phantomtoken/internal/oauth"
)

// isDropped reports whether a request field, or a trailer, does not reach an API: credentials,
// what tells an application about its user, which an API behind the same gateway would
// believe, what proxies tell about the client of the application, and what is between the
// application and this proxy.
func isDropped(name string) bool {
	return oauth.IsIdentityField(name) || oauth.IsForwardingField(name) ||
		oauth.FieldHasPrefix(name, "proxy-") || oauth.FieldHasPrefix(name, "http2-settings")
}

// clean removes from an outgoing header what does not reach an API. Hop-by-hop fields are
// gone already.
func clean(h http.Header, toolByMCP bool) {
	for name := range h {
		if isDropped(name) {
			delete(h, name)
		}
	}
	if toolByMCP {
		delete(h, HeaderMCPMethod)
		delete(h, HeaderMCPName)
	}
	// What flows after an upgrade is not seen here, so only the protocol that applications
	// need is offered; whoever is offered none goes on without (RFC 9110 §7.8).
	if upgrade, ok := h["Upgrade"]; ok && (len(upgrade) != 1 || !strings.EqualFold(upgrade[0], "websocket")) {
		delete(h, "Upgrade")
		delete(h, "Connection")
	}
}

// cleanAnswer removes from the API's answer what is not for the application.
func cleanAnswer(res *http.Response) {
	fields, ok := res.Header["Www-Authenticate"]
	cleanFields(res.Header)
	cleanFields(res.Trailer)
	if !ok && res.StatusCode != http.StatusUnauthorized {
		return
	}
	challenge := translate(fields)
	if challenge.Error == "" && len(challenge.Scope) == 0 {
		if res.StatusCode != http.StatusUnauthorized {
			return
		}
		challenge.Realm = realm // RFC 9110 §15.5.2 wants a challenge, RFC 6750 §3 a parameter
	}
	res.Header["Www-Authenticate"] = []string{challenge.String()}
}

// cleanFields removes from fields of the API what is not for the application: what this proxy
// alone says, other ways to the API, and whom the API wants tokens from.
func cleanFields(h http.Header) {
	for name := range h {
		if oauth.FieldHasPrefix(name, "phantom-") {
			delete(h, name)
		}
	}
	delete(h, "Alt-Svc")
	delete(h, "Www-Authenticate")
}

// realm stands in challenges that have nothing else.
const realm = "egress"

// translate makes a challenge for the application of the first Bearer challenge of an API:
// its error and scope. Everything else speaks to the client of the API, which the application
// is not. What cannot be read says nothing.
func translate(fields []string) oauth.Challenge {
	for _, field := range fields {
		params, ok := bearerParams(field)
		if !ok {
			continue
		}
		var c oauth.Challenge
		if e := params["error"]; e != "" && strings.Trim(e, "abcdefghijklmnopqrstuvwxyz_") == "" {
			c.Error = e
		}
		if scopes, err := oauth.ParseScopes(params["scope"]); err == nil {
			c.Scope = scopes
		}
		return c
	}
	return oauth.Challenge{}
}

// bearerParams reads the parameters of the first Bearer challenge of a WWW-Authenticate field
// (RFC 9110 §11.6.1), names in lower case. It reports false when there is none, or when the
// field up to its end cannot be read or has a parameter twice.
func bearerParams(field string) (map[string]string, bool) {
	const (
		before = iota // no Bearer challenge yet
		inside
		behind
	)
	var params map[string]string
	state := before
	for {
		field = strings.TrimLeft(field, " \t,")
		if field == "" {
			return params, state != before
		}
		var word string
		word, field = cutToken(field)
		if word == "" {
			return nil, false
		}
		rest := strings.TrimLeft(field, " \t")
		if !strings.HasPrefix(rest, "=") { // a scheme
			switch {
			case state == inside:
				state = behind
			case state == before && strings.EqualFold(word, oauth.SchemeBearer):
				state, params = inside, make(map[string]string)
			}
			continue
		}
		rest = strings.TrimLeft(rest[1:], " \t")
		if end := strings.TrimLeft(rest, "="); end == "" || end[0] == ',' { // token68, of Negotiate for example
			field = end
			continue
		}
		value, after, ok := cutValue(rest)
		if !ok {
			return nil, false
		}
		field = after
		if name := strings.ToLower(word); state == inside {
			if _, twice := params[name]; twice {
				return nil, false
			}
			params[name] = value
		}
	}
}

// cutToken cuts a token (RFC 9110 §5.6.2) off s. A slash counts as well: token68 has it.
func cutToken(s string) (token, rest string) {
	n := 0
	for n < len(s) && (isUnreserved(s[n]) || strings.IndexByte("!#$%&'*+^`|/", s[n]) >= 0) {
		n++
	}
	return s[:n], s[n:]
}

// cutValue cuts a token or a quoted string (RFC 9110 §5.6.4) off s.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = cutToken(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
