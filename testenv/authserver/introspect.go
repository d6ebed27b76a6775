package authserver

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	"phantomtoken/internal/oauth"
)

const mediaTypeJWT = "application/jwt"

// wireAnswer is an answer before it is written, so that Trouble can spoil it.
type wireAnswer struct {
	status      int
	contentType string
	body        []byte
}

// introspect is the introspection endpoint (RFC 7662 §2).
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	s.introspections.Add(1)
	t := s.trouble.Load()
	if t.before(w, r) {
		return
	}
	answer, e := s.introspection(w, r, t.Rewrite)
	if e != nil {
		s.log.Info("introspection refused", "error", e.Code, "reason", e.Description)
		if t.harmless() {
			writeError(w, r, e)
			return
		}
		answer = wireAnswer{e.Status, "application/json", e.Body()}
	}
	t.write(w, r, answer)
}

func (s *Server) introspection(w http.ResponseWriter, r *http.Request, rewrite func(map[string]any)) (wireAnswer, *oauth.Error) {
	form, e := readForm(w, r)
	if e != nil {
		return wireAnswer{}, e
	}
	cl, e := s.authenticate(r, form)
	if e != nil {
		return wireAnswer{}, e
	}
	if !cl.static || cl.authMethod == authNone {
		// Whoever registers itself must not be able to try out tokens (RFC 7662 §4).
		return wireAnswer{}, &oauth.Error{Code: errUnauthorizedClient, Description: "this client may not introspect tokens", Status: http.StatusForbidden}
	}
	value := form.Get("token")
	if value == "" {
		return wireAnswer{}, badRequest(oauth.ErrorInvalidRequest, "expected token")
	}
	token, active := s.store.token(value)
	answer, err := s.describe(token, active, r.Header.Get("Accept"), rewrite)
	if err != nil {
		s.log.Error("encoding introspection", "err", err)
		return wireAnswer{}, &oauth.Error{Code: oauth.ErrorServerError, Status: http.StatusInternalServerError}
	}
	s.log.Debug("token introspected", "client_id", cl.id, "active", active)
	return answer, nil
}

// describe makes the answer in the form that was configured and asked for. An inactive
// token is active=false and nothing more (RFC 7662 §2.2).
func (s *Server) describe(t *accessToken, active bool, accept string, rewrite func(map[string]any)) (wireAnswer, error) {
	claims := map[string]any{}
	if active {
		claims = s.claimsOf(t)
	}
	if s.cfg.JWTIntrospection == JWTCurity && accepts(accept, mediaTypeJWT) {
		if !active {
			return wireAnswer{status: http.StatusNoContent}, nil
		}
		if rewrite != nil {
			rewrite(claims)
		}
		signed, err := s.signer.sign("JWT", claims)
		return wireAnswer{http.StatusOK, mediaTypeJWT, []byte(signed)}, err
	}

	claims["active"] = active
	if rewrite != nil {
		rewrite(claims)
	}
	if s.cfg.JWTIntrospection == JWTKeycloak && active && accept == mediaTypeJWT {
		inner := map[string]any{"typ": "Bearer"}
		for name, v := range claims {
			if name != "active" {
				inner[name] = v
			}
		}
		signed, err := s.signer.sign("JWT", inner)
		if err != nil {
			return wireAnswer{}, err
		}
		claims["jwt"] = signed
	}
	body, err := json.Marshal(claims)
	return wireAnswer{http.StatusOK, "application/json", body}, err
}

func (s *Server) claimsOf(t *accessToken) map[string]any {
	claims := map[string]any{}
	for name, v := range t.claims {
		claims[name] = v
	}
	claims["iss"] = s.issuer
	claims["sub"] = t.subject
	claims["username"] = t.username
	claims["client_id"] = t.clientID
	claims["scope"] = t.scopes.String()
	claims["token_type"] = oauth.SchemeBearer
	claims["jti"] = t.id
	claims["iat"] = t.issuedAt.Unix()
	claims["nbf"] = t.issuedAt.Unix()
	claims["exp"] = t.expiry.Unix()
	switch len(t.audience) {
	case 0:
	case 1:
		claims["aud"] = t.audience[0]
	default:
		claims["aud"] = t.audience
	}
	if t.session != "" {
		claims["sid"] = t.session
		claims["auth_time"] = t.authTime.Unix()
	}
	for name, v := range t.override {
		if v == nil {
			delete(claims, name)
			continue
		}
		claims[name] = v
	}
	return claims
}

// accepts reports whether an Accept header names mediaType itself.
func accepts(header, mediaType string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if kind, _, err := mime.ParseMediaType(part); err == nil && kind == mediaType {
			return true
		}
	}
	return false
}
