package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"phantomtoken/internal/oauth"
)

// Grant types of RFC 6749.
const (
	grantAuthorizationCode = "authorization_code"
	grantClientCredentials = "client_credentials"
)

// tokenAnswer is the response of RFC 6749 §5.1.
type tokenAnswer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type,omitempty"` // RFC 8693 §2.2.1, of an exchange
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	Scope           string `json:"scope"`
}

// token is the token endpoint (RFC 6749 §3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	form, e := readForm(w, r)
	if e != nil {
		s.refuseToken(w, r, "", e)
		return
	}
	cl, e := s.authenticate(r, form)
	if e != nil {
		s.refuseToken(w, r, form.Get("client_id"), e)
		return
	}
	var answer tokenAnswer
	switch form.Get("grant_type") {
	case grantAuthorizationCode:
		answer, e = s.redeemCode(cl, form)
	case grantClientCredentials:
		answer, e = s.clientCredentials(cl, form)
	case grantTokenExchange:
		s.exchange(w, r, cl, form)
		return
	case "":
		e = badRequest(oauth.ErrorInvalidRequest, "expected grant_type")
	default:
		e = badRequest(errUnsupportedGrantType, "expected grant_type authorization_code, client_credentials or token exchange")
	}
	if e != nil {
		s.refuseToken(w, r, cl.id, e)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("encoding token answer", "err", err)
		writeError(w, r, &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError})
		return
	}
	s.log.Info("token issued", "client_id", cl.id, "grant_type", form.Get("grant_type"), "scope", answer.Scope)
	writeJSON(w, http.StatusOK, body)
}

func (s *Server) refuseToken(w http.ResponseWriter, r *http.Request, clientID string, e *oauth.Error) {
	if len(clientID) > 200 { // a stranger's words
		clientID = clientID[:200]
	}
	s.log.Info("token request refused", "client_id", clientID, "error", e.Code, "reason", e.Description)
	writeError(w, r, e)
}

// redeemCode exchanges an authorization code (RFC 6749 §4.1.3). Everything that bound the
// code when it was made must come back: client, redirect URI, PKCE, resource.
func (s *Server) redeemCode(cl *client, form url.Values) (tokenAnswer, *oauth.Error) {
	value := form.Get("code")
	if value == "" {
		return tokenAnswer{}, badRequest(oauth.ErrorInvalidRequest, "expected code")
	}
	c, replayed, ok := s.store.useCode(value)
	if replayed {
		s.log.Warn("authorization code replayed, its token is revoked", "client_id", cl.id)
	}
	switch {
	case !ok:
		return tokenAnswer{}, badRequest(errInvalidGrant, "the code is unknown, used or expired")
	case c.request.client.id != cl.id:
		return tokenAnswer{}, badRequest(errInvalidGrant, "the code was issued to another client")
	case form.Get("redirect_uri") != c.request.redirectURI && (c.request.redirectURIGiven || form.Get("redirect_uri") != ""):
		return tokenAnswer{}, badRequest(errInvalidGrant, "redirect_uri differs from the one of the authorization request")
	}
	if e := checkVerifier(form.Get("code_verifier"), c.request.challenge); e != nil {
		return tokenAnswer{}, e
	}
	audience := c.request.resources
	if len(form["resource"]) > 0 {
		requested, known := s.canonicalResources(form["resource"])
		// Fewer than were granted is allowed (RFC 8707 §2.2), another one is not.
		if !known || slices.ContainsFunc(requested, func(r string) bool { return !slices.Contains(c.request.resources, r) }) {
			return tokenAnswer{}, badRequest(errInvalidTarget, "expected resource to be one of the authorization request")
		}
		audience = requested
	}
	return s.issue(&accessToken{
		clientID: cl.id,
		subject:  c.user,
		username: c.user,
		scopes:   c.request.scopes,
		audience: audience,
		authTime: c.authTime,
		session:  c.session,
		claims:   grantedClaims(s.users[c.user], cl),
	}, value)
}

// checkVerifier compares S256(verifier) with the challenge (RFC 7636 §4.6).
func checkVerifier(verifier, challenge string) *oauth.Error {
	if len(verifier) < 43 || len(verifier) > 128 || !unreserved(verifier) {
		return badRequest(errInvalidGrant, "expected code_verifier of 43 to 128 unreserved characters")
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) != 1 {
		return badRequest(errInvalidGrant, "code_verifier does not fit the code_challenge")
	}
	return nil
}

// clientCredentials issues a token without a user (RFC 6749 §4.4).
func (s *Server) clientCredentials(cl *client, form url.Values) (tokenAnswer, *oauth.Error) {
	if !cl.credentials {
		return tokenAnswer{}, badRequest(errUnauthorizedClient, "this client may not use the client credentials grant")
	}
	scopes, err := oauth.ParseScopes(form.Get("scope"))
	if err != nil || !cl.scopes.Contains(scopes) {
		return tokenAnswer{}, badRequest(errInvalidScope, "the client may not ask for one of these scopes")
	}
	if len(scopes) == 0 {
		scopes = cl.scopes
	}
	audience, ok := s.canonicalResources(form["resource"])
	if !ok {
		return tokenAnswer{}, badRequest(errInvalidTarget, "expected resource to be one that this server knows")
	}
	if len(audience) == 0 && s.cfg.DefaultResource != "" {
		audience = []string{s.cfg.DefaultResource}
	}
	return s.issue(&accessToken{
		clientID: cl.id,
		subject:  cl.id, // RFC 9068 §2.2
		username: "service-account-" + cl.id,
		scopes:   scopes,
		audience: audience,
		claims:   grantedClaims(User{}, cl),
	}, "")
}

// issue completes t, stores it and makes the answer.
func (s *Server) issue(t *accessToken, codeValue string) (tokenAnswer, *oauth.Error) {
	value, ok := s.store.addToken(s.complete(t, s.cfg.tokenLifetime()), codeValue)
	if !ok {
		return tokenAnswer{}, badRequest(errInvalidGrant, "the code is unknown, used or expired")
	}
	return tokenAnswer{
		AccessToken: value,
		TokenType:   oauth.SchemeBearer,
		ExpiresIn:   int64(s.cfg.tokenLifetime() / time.Second),
		Scope:       t.scopes.String(),
	}, nil
}

// complete gives t its identity and its dates, which the wire knows in whole seconds.
func (s *Server) complete(t *accessToken, lifetime time.Duration) *accessToken {
	t.id = rand.Text()
	t.issuedAt = s.now().Truncate(time.Second)
	t.expiry = s.now().Add(lifetime).Truncate(time.Second)
	return t
}

// grantedClaims are the claims of a token for user and client beside the registered ones.
// The client's come last: what the server says of a client no user may change.
func grantedClaims(user User, cl *client) map[string]any {
	claims := map[string]any{}
	for name, v := range user.Claims {
		claims[name] = v
	}
	if user.Region != "" {
		claims["region"] = user.Region
	}
	for name, v := range cl.claims {
		claims[name] = v
	}
	return claims
}
