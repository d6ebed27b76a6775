package authserver

import (
	"net/http"
	"net/url"

	"phantomtoken/internal/oauth"
)

// showConsent shows the consent page after the login. The request stays in the store:
// the page may be loaded again.
func (s *Server) showConsent(w http.ResponseWriter, r *http.Request) {
	sess, ok := s.browser(r)
	if !ok {
		s.sessionEnded(w)
		return
	}
	id := r.URL.Query().Get("request")
	req, ok := s.store.request(id, sess)
	if !ok {
		s.sessionEnded(w)
		return
	}
	if sess.user == "" || req.loginAgain {
		s.loginPage(w, http.StatusOK, loginForm{request: id, session: sess, authorization: req})
		return
	}
	s.consentPage(w, id, sess, req)
}

// consent takes the answer of the user: the button accept or the button cancel.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) {
	posted, ok := s.readPageForm(w, r)
	if !ok {
		return
	}
	if posted.session.user == "" || posted.request.loginAgain {
		s.sessionEnded(w)
		return
	}
	accept, cancel := posted.form.Has("accept"), posted.form.Has("cancel")
	if accept == cancel {
		s.errorPage(w, http.StatusBadRequest, "Expected one answer: allow or deny.")
		return
	}
	req, ok := s.store.takeRequest(posted.id, posted.session)
	if !ok { // answered in another tab meanwhile
		s.sessionEnded(w)
		return
	}
	if cancel {
		s.refuseAuthorization(w, req, &authorizationProblem{code: oauth.ErrorAccessDenied, text: "the user denied access"})
		return
	}
	value := s.store.addCode(code{
		request:  req,
		user:     posted.session.user,
		authTime: posted.session.authTime,
		session:  posted.session.id,
	})
	s.log.Info("access allowed", "username", posted.session.user, "client_id", req.client.id, "scope", req.scopes.String())
	s.redirect(w, req, url.Values{"code": {value}})
}
