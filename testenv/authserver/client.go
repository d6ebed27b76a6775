package authserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"phantomtoken/internal/oauth"
)

// client is a client of any origin. Immutable.
type client struct {
	id   string
	name string
	// host is where the metadata document of the client came from; empty for others.
	host         string
	redirectURIs []string
	// authMethod is one method of RFC 7591 §2; empty is basic or post.
	authMethod  string
	secret      [sha256.Size]byte // digest; unused with authNone
	scopes      oauth.Scopes
	static      bool // configured: may introspect, is under no policy
	credentials bool // may use the client credentials grant
	exchange    bool // may exchange tokens
	claims      map[string]any
}

// dynamicClaims is the policy for clients that nobody configured.
func dynamicClaims() map[string]any {
	return map[string]any{"client_type": "mcp", "client_assurance_level": 1}
}

func staticClient(c Client, all oauth.Scopes) *client {
	cl := &client{
		id:           c.ID,
		name:         c.Name,
		redirectURIs: c.RedirectURIs,
		authMethod:   c.AuthMethod,
		secret:       sha256.Sum256([]byte(c.Secret)),
		scopes:       c.Scopes,
		static:       true,
		credentials:  c.ClientCredentials,
		exchange:     c.TokenExchange,
		claims:       c.Claims,
	}
	if cl.name == "" {
		cl.name = c.ID
	}
	if c.Secret == "" {
		cl.authMethod = authNone
	}
	if c.Scopes == nil {
		cl.scopes = all
	}
	return cl
}

// clientByID finds a client: configured, registered, or by its metadata document. The
// error may be shown to people.
func (s *Server) clientByID(ctx context.Context, id string) (*client, error) {
	if cl, ok := s.store.client(id); ok {
		return cl, nil
	}
	if isDocumentID(id) {
		return s.documents.client(ctx, id, s.now())
	}
	return nil, errors.New("its client_id is not registered here, or not any more; let it register again")
}

// credential is how a request says who sent it.
type credential struct {
	id, secret string
	method     string // authBasic, authPost or authNone
}

// readCredential finds the one credential of a request (RFC 6749 §2.3: a client MUST NOT
// use more than one authentication method in a request).
func readCredential(r *http.Request, form url.Values) (credential, *oauth.Error) {
	headers := r.Header.Values("Authorization")
	bodyID, bodySecret := form.Get("client_id"), form.Get("client_secret")
	if len(headers) == 0 {
		switch {
		case bodyID == "":
			return credential{}, invalidClient("expected client authentication, got none")
		case bodySecret == "":
			return credential{id: bodyID, method: authNone}, nil
		}
		return credential{id: bodyID, secret: bodySecret, method: authPost}, nil
	}
	if len(headers) > 1 || bodySecret != "" {
		return credential{}, badRequest(oauth.ErrorInvalidRequest, "expected one client credential, got two")
	}
	id, secret, ok := parseBasic(headers[0])
	if !ok {
		return credential{}, invalidClient("expected the Basic scheme with form-encoded id and secret")
	}
	if bodyID != "" && bodyID != id {
		return credential{}, badRequest(oauth.ErrorInvalidRequest, "client_id differs from the authenticated client")
	}
	return credential{id: id, secret: secret, method: authBasic}, nil
}

// parseBasic reads the form of RFC 6749 §2.3.1: id and secret are form-encoded before
// they are joined, so that either may hold a colon.
func parseBasic(header string) (id, secret string, ok bool) {
	scheme, encoded, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false
	}
	id, secret, found = strings.Cut(string(raw), ":")
	if !found {
		return "", "", false
	}
	if id, err = url.QueryUnescape(id); err != nil {
		return "", "", false
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return "", "", false
	}
	return id, secret, id != ""
}

// authenticate returns the client that sent the request. It accepts the method the
// client was registered with and no other.
func (s *Server) authenticate(r *http.Request, form url.Values) (*client, *oauth.Error) {
	cred, e := readCredential(r, form)
	if e != nil {
		return nil, e
	}
	const failed = "client authentication failed"
	cl, err := s.clientByID(r.Context(), cred.id)
	if err != nil {
		return nil, invalidClient(failed)
	}
	wanted := cl.authMethod
	if wanted == "" && cred.method != authNone {
		wanted = cred.method
	}
	if wanted != cred.method {
		return nil, invalidClient(failed)
	}
	if cred.method != authNone {
		got := sha256.Sum256([]byte(cred.secret))
		if subtle.ConstantTimeCompare(got[:], cl.secret[:]) != 1 {
			return nil, invalidClient(failed)
		}
	}
	return cl, nil
}
