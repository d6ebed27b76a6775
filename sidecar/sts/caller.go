package sts

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"phantomtoken/tokenexchange"
)

// authenticate finds out who asks (RFC 6749 §2.3.1). An unknown id and a wrong secret take
// the same path and get the same answer.
func (s *Service) authenticate(r *http.Request, form url.Values) (*client, error) {
	id, secret, err := credentials(r.Header.Values("Authorization"), form)
	if err != nil {
		return nil, err
	}
	known, ok := s.clients[id]
	if !ok {
		known = s.nobody
	}
	digest := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(digest[:], known.secret[:]) != 1 || !ok {
		return nil, invalidClient("expected the id and secret of a configured client (TOKEN_EXCHANGE_CLIENTS_n_ID, TOKEN_EXCHANGE_CLIENTS_n_SECRET); with client_secret_basic both are form-encoded before base64")
	}
	return known, nil
}

func invalidClient(description string) error {
	return refuseStatus(http.StatusUnauthorized, reasonClient, tokenexchange.ErrorInvalidClient, description)
}

// credentials reads id and secret of exactly one authentication method: with two, whoever
// reads the request next might believe the other one (RFC 6749 §2.3).
func credentials(authorization []string, form url.Values) (id, secret string, err error) {
	for _, name := range []string{"client_id", "client_secret", "client_assertion", "client_assertion_type"} {
		if len(form[name]) > 1 {
			return "", "", refuse(reasonClientTwice, tokenexchange.ErrorInvalidRequest, "parameter '"+name+"': expected once, got it repeatedly")
		}
	}
	inBody := form.Get("client_secret") != ""
	asserted := form.Get("client_assertion") != "" || form.Get("client_assertion_type") != ""
	methods := len(authorization)
	if inBody {
		methods++
	}
	if asserted {
		methods++
	}
	switch {
	case methods > 1:
		return "", "", refuse(reasonClientTwice, tokenexchange.ErrorInvalidRequest, "expected one method of client authentication, got several")
	case asserted:
		return "", "", invalidClient("expected client_secret_basic or client_secret_post, got a client_assertion")
	case methods == 0:
		return "", "", invalidClient("expected client authentication by client_secret_basic or client_secret_post, got none")
	case inBody:
		return form.Get("client_id"), form.Get("client_secret"), nil
	}
	if id, secret, err = basic(authorization[0]); err != nil {
		return "", "", err
	}
	// A client_id beside Basic is no second method, but it must not name somebody else.
	if named := form.Get("client_id"); named != "" && named != id {
		return "", "", refuse(reasonClientTwice, tokenexchange.ErrorInvalidRequest, "parameter 'client_id': expected the id of the Authorization field, got another")
	}
	return id, secret, nil
}

// basic reads client_secret_basic: the halves of RFC 7617 are form-encoded (RFC 6749
// §2.3.1).
func basic(field string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(field, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", invalidClient("expected the Authorization scheme Basic, got another")
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
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
