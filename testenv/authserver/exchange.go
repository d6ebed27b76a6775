package authserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// Identifiers of RFC 8693, spelled out here and nowhere taken from what is tested.
const (
	grantTokenExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
)

// exchangedLifetime is the life of an exchanged token. As at Keycloak it is the
// requester's own and not bounded by the subject token's: whoever uses the token has to.
const exchangedLifetime = 5 * time.Minute

// ExchangeTrouble makes token exchange misbehave from the next request on;
// ExchangeTrouble(Trouble{}) heals it. Rewrite gets the claims before they are signed.
func (s *Server) ExchangeTrouble(t Trouble) { s.exchangeTrouble.Store(&t) }

// Exchanges is the number of token exchange requests of known clients so far, whatever
// they got.
func (s *Server) Exchanges() int { return int(s.exchanges.Load()) }

// exchange is the token exchange grant (RFC 8693). What it refuses, it refuses as Keycloak
// does, whose words and codes differ from the RFC's in places.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request, cl *client, form url.Values) {
	s.exchanges.Add(1)
	t := s.exchangeTrouble.Load()
	if t.before(w, r) {
		return
	}
	answer, e := s.exchanged(cl, form, t.Rewrite)
	if e != nil {
		s.log.Info("token exchange refused", "client_id", cl.id, "error", e.Code, "reason", e.Description)
		t.write(w, r, wireAnswer{e.Status, "application/json", e.Body()})
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		s.log.Error("encoding token answer", "err", err)
		writeError(w, r, &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError})
		return
	}
	s.log.Info("token exchanged", "client_id", cl.id, "scope", answer.Scope)
	t.write(w, r, wireAnswer{http.StatusOK, "application/json", body})
}

func (s *Server) exchanged(cl *client, form url.Values, rewrite func(map[string]any)) (tokenAnswer, *oauth.Error) {
	if e := checkExchange(cl, form); e != nil {
		return tokenAnswer{}, e
	}
	subject, active := s.store.token(form.Get("subject_token"))
	switch {
	case !active:
		return tokenAnswer{}, badRequest(oauth.ErrorInvalidRequest, "Invalid token")
	case subject.clientID != cl.id && !slices.Contains(subject.audience, cl.id):
		return tokenAnswer{}, &oauth.Error{Code: oauth.ErrorAccessDenied, Description: "Client is not within the token audience", Status: http.StatusForbidden}
	}
	scopes, err := oauth.ParseScopes(form.Get("scope"))
	if err != nil {
		return tokenAnswer{}, badRequest(errInvalidScope, "Invalid scopes")
	}
	if !subject.scopes.Contains(scopes) || !cl.scopes.Contains(scopes) {
		return tokenAnswer{}, badRequest(errInvalidScope, "Scopes not present in the initial access token")
	}
	audience, e := s.exchangeAudience(cl, subject, scopes, form["audience"])
	if e != nil {
		return tokenAnswer{}, e
	}
	return s.issueExchanged(cl, subject, scopes, audience, rewrite)
}

// checkExchange checks what can be said of a request without looking at the token.
func checkExchange(cl *client, form url.Values) *oauth.Error {
	kind, requested := form.Get("subject_token_type"), form.Get("requested_token_type")
	switch {
	case !cl.exchange:
		return badRequest(oauth.ErrorInvalidRequest, "Standard token exchange is not enabled for the requested client")
	case form.Get("subject_token") == "":
		return badRequest(oauth.ErrorInvalidRequest, "Parameter 'subject_token' required for standard token exchange")
	case kind == "":
		return badRequest(oauth.ErrorInvalidRequest, "Parameter 'subject_token_type' required for standard token exchange")
	case kind != tokenTypeAccessToken:
		return badRequest(oauth.ErrorInvalidRequest, "Parameter 'subject_token' supports access tokens only")
	case requested != "" && requested != tokenTypeAccessToken:
		return badRequest(oauth.ErrorInvalidRequest, "requested_token_type unsupported")
	case form.Get("actor_token") != "" || form.Get("actor_token_type") != "":
		return badRequest(oauth.ErrorInvalidRequest, "Parameter 'actor_token' is not supported") // Keycloak would ignore it
	case len(form["resource"]) > 0:
		return badRequest(errInvalidTarget, "targets are known by audience here, not by resource") // Keycloak would ignore it
	}
	return nil
}

// exchangeAudience is the aud of the new token: what was asked for, if the scopes lead
// there, or else all that they lead to.
func (s *Server) exchangeAudience(cl *client, subject *accessToken, scopes oauth.Scopes, requested []string) ([]string, *oauth.Error) {
	var available []string
	for _, scope := range s.cfg.Scopes {
		if slices.Contains(scopes, scope.Name) {
			available = append(available, scope.Audiences...)
		}
	}
	available = append(available, subject.audience...)
	for _, name := range requested {
		switch {
		case slices.Contains(available, name):
		case s.knowsAudience(name):
			return nil, badRequest(oauth.ErrorInvalidRequest, "Requested audience not available: "+name)
		default:
			return nil, badRequest(errInvalidClient, "Audience not found")
		}
	}
	if len(requested) > 0 {
		return requested, nil
	}
	return slices.Compact(slices.Sorted(slices.Values(append(available, cl.id)))), nil
}

func (s *Server) knowsAudience(name string) bool {
	_, known := s.store.client(name)
	return known || slices.Contains(s.cfg.Resources, name) ||
		slices.ContainsFunc(s.cfg.Scopes, func(scope Scope) bool { return slices.Contains(scope.Audiences, name) })
}

// issueExchanged makes a JWT, which can be introspected and exchanged further like any
// other token here. The claims hang on the scopes: without scope there are none.
func (s *Server) issueExchanged(cl *client, subject *accessToken, scopes oauth.Scopes, audience []string, rewrite func(map[string]any)) (tokenAnswer, *oauth.Error) {
	t := s.complete(&accessToken{
		clientID: cl.id,
		subject:  subject.subject,
		username: subject.username,
		scopes:   scopes,
		audience: audience,
		authTime: subject.authTime,
		session:  subject.session,
	}, exchangedLifetime)
	if len(scopes) > 0 {
		t.claims = subject.claims
	}
	claims := s.claimsOf(t)
	for _, name := range []string{"username", "client_id", "token_type"} {
		delete(claims, name)
	}
	claims["azp"], claims["typ"] = cl.id, "Bearer"
	if rewrite != nil {
		rewrite(claims)
	}
	signed, err := s.signer.sign("JWT", claims)
	if err != nil {
		s.log.Error("signing exchanged token", "err", err)
		return tokenAnswer{}, &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError}
	}
	s.store.addExchanged(signed, t)
	return tokenAnswer{
		AccessToken:     signed,
		IssuedTokenType: tokenTypeAccessToken,
		TokenType:       oauth.SchemeBearer,
		ExpiresIn:       int64(exchangedLifetime / time.Second),
		Scope:           strings.Join(scopes, " "),
	}, nil
}
