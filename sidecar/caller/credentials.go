package caller

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// maxBasic bounds an Authorization field: the longest secret, each byte of it percent
// encoded, in base64, and room for the id.
const maxBasic = 20 << 10

// strictBase64 knows one text for every value.
var strictBase64 = base64.StdEncoding.Strict()

// presented is what a request says of its sender. Exactly one method is in it; without any
// of the form or the header it is the certificate's, and id is what client_id says.
type presented struct {
	method     string
	id, secret string
	assertion  string
}

// read finds the one method of a request: with two, whoever reads the request next might
// believe the other one (RFC 6749 §2.3).
func read(r *http.Request, form url.Values) (presented, error) {
	for _, name := range [...]string{"client_id", "client_secret", "client_assertion", "client_assertion_type"} {
		if len(form[name]) > 1 {
			return presented{}, invalidRequest(ReasonSeveral, "parameter '%s': expected once, got it repeatedly", name)
		}
	}
	authorization := r.Header["Authorization"]
	p := presented{id: form.Get("client_id"), secret: form.Get("client_secret"), assertion: form.Get("client_assertion")}
	kind := form.Get("client_assertion_type")
	asserted := p.assertion != "" || kind != ""
	methods := len(authorization)
	if p.secret != "" {
		methods++
	}
	if asserted {
		methods++
	}
	switch {
	case methods > 1:
		return presented{}, invalidRequest(ReasonSeveral, "expected one method of client authentication, got several")
	case methods == 0:
		p.method = oauth.AuthTLS
		return p, nil
	case asserted:
		if p.assertion == "" || kind == "" {
			return presented{}, invalidRequest(ReasonNotAuthenticated, "expected client_assertion and client_assertion_type, got one of them")
		}
		if kind != tokenexchange.ClientAssertionTypeJWT {
			return presented{}, invalidClient("parameter 'client_assertion_type': expected %s, got another", tokenexchange.ClientAssertionTypeJWT)
		}
		p.method = oauth.AuthPrivateKeyJWT
		return p, nil
	case p.secret != "":
		p.method = oauth.AuthPost
		return p, nil
	}
	named := p.id
	var err error
	if p.id, p.secret, err = basic(authorization[0]); err != nil {
		return presented{}, err
	}
	// A client_id beside Basic is no second method, but it must not name somebody else.
	if named != "" && named != p.id {
		return presented{}, invalidRequest(ReasonSeveral, "parameter 'client_id': expected the id of the Authorization field, got another")
	}
	p.method = oauth.AuthBasic
	return p, nil
}

// basic reads client_secret_basic: the halves of RFC 7617 are form-encoded (RFC 6749
// §2.3.1).
func basic(field string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(field, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", invalidClient("expected the Authorization scheme Basic, got another")
	}
	encoded = strings.TrimLeft(encoded, " ")
	if len(encoded) > maxBasic {
		return "", "", invalidClient("expected Basic credentials of at most %d bytes", maxBasic)
	}
	var in, out [256]byte // on the stack; more costs allocations
	decoded, err := strictBase64.AppendDecode(out[:0], append(in[:0], encoded...))
	rawID, rawSecret, found := strings.Cut(string(decoded), ":")
	if err != nil || !found {
		return "", "", invalidClient("expected Basic credentials as base64 of id:secret")
	}
	id, errID := url.QueryUnescape(rawID)
	secret, errSecret := url.QueryUnescape(rawSecret)
	if errID != nil || errSecret != nil {
		return "", "", invalidClient("expected id and secret form-encoded before base64 (RFC 6749 section 2.3.1)")
	}
	return id, secret, nil
}
