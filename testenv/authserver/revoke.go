package authserver

import (
	"net/http"

	"phantomtoken/internal/oauth"
)

// revoke is the revocation endpoint (RFC 7009 §2). A token that is unknown, or not alive
// any more, is as revoked as it can be: 200.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	form, e := readForm(w, r)
	if e != nil {
		writeError(w, r, e)
		return
	}
	cl, e := s.authenticate(r, form)
	if e != nil {
		writeError(w, r, e)
		return
	}
	value := form.Get("token")
	if value == "" {
		writeError(w, r, badRequest(oauth.ErrorInvalidRequest, "expected token"))
		return
	}
	if t, ok := s.store.token(value); ok {
		if t.clientID != cl.id {
			writeError(w, r, badRequest(errUnauthorizedClient, "the token was issued to another client"))
			return
		}
		s.store.revoke(value)
		s.log.Info("token revoked", "client_id", cl.id, "jti", t.id)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}
