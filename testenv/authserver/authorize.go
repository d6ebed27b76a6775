package authserver

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

const maxQueryBytes = 8 << 10

// authorize is the authorization endpoint (RFC 6749 §3.1). A valid request waits in the
// store while the user signs in and decides.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.RawQuery) > maxQueryBytes {
		s.errorPage(w, http.StatusRequestURITooLong, "The request of the application is too long.")
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.errorPage(w, http.StatusBadRequest, "The request of the application cannot be read.")
		return
	}
	req, prompt, problem := s.parseAuthorization(r.Context(), dropEmpty(query))
	if problem != nil {
		s.refuseAuthorization(w, req, problem)
		return
	}

	sess, ok := s.browser(r)
	if !ok {
		var cookie string
		cookie, sess = s.store.newSession()
		s.setCookie(w, cookie)
	}
	if slices.Contains(prompt, "none") {
		problem := &authorizationProblem{code: errConsentRequired, text: "the user must be asked"}
		if sess.user == "" {
			problem = &authorizationProblem{code: errLoginRequired, text: "the user must sign in"}
		}
		s.refuseAuthorization(w, req, problem)
		return
	}
	req.session = sess.id
	req.loginAgain = slices.Contains(prompt, "login") || slices.Contains(prompt, "select_account")
	id := s.store.addRequest(req)
	if sess.user == "" || req.loginAgain {
		s.loginPage(w, http.StatusOK, loginForm{request: id, session: sess, authorization: req})
		return
	}
	s.consentPage(w, id, sess, req)
}

// authorizationProblem is why a request is refused. With an empty code nothing about the
// request can be trusted, not even where it wants its answer: it is told to the user on a
// page and never redirected (RFC 6749 §4.1.2.1).
type authorizationProblem struct {
	code string
	text string
}

// refuseAuthorization answers on a page or by redirect, as the problem demands.
func (s *Server) refuseAuthorization(w http.ResponseWriter, req authorizationRequest, p *authorizationProblem) {
	if p.code == "" {
		s.log.Info("authorization request refused on a page", "reason", p.text)
		s.errorPage(w, http.StatusBadRequest, p.text)
		return
	}
	s.log.Info("authorization request refused", "client_id", req.client.id, "error", p.code, "reason", p.text)
	s.redirect(w, req, url.Values{"error": {p.code}, "error_description": {p.text}})
}

// redirect sends the browser back to the client, with state and iss (RFC 9207). Status
// 303, so that no browser sends a form, with a password in it, along (RFC 9700 §4.12).
func (s *Server) redirect(w http.ResponseWriter, req authorizationRequest, params url.Values) {
	if req.state != "" {
		params.Set("state", req.state)
	}
	params.Set("iss", s.issuer)
	h := w.Header()
	h.Set("Location", withQuery(req.redirectURI, params))
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

// parseAuthorization checks an authorization request. It returns as much of the request
// as a redirect needs, also beside a problem.
func (s *Server) parseAuthorization(ctx context.Context, q url.Values) (req authorizationRequest, prompt []string, _ *authorizationProblem) {
	if len(q["client_id"]) != 1 || len(q["redirect_uri"]) > 1 {
		return req, nil, &authorizationProblem{text: "The application did not say who it is: expected one client_id and one redirect_uri."}
	}
	cl, err := s.clientByID(ctx, q.Get("client_id"))
	if err != nil {
		return req, nil, &authorizationProblem{text: "This application cannot be let in: " + err.Error() + "."}
	}
	req.client = cl
	switch uri := q.Get("redirect_uri"); {
	case uri != "" && matchRedirectURI(cl.redirectURIs, uri):
		req.redirectURI, req.redirectURIGiven = uri, true
	case uri == "" && len(cl.redirectURIs) == 1:
		req.redirectURI = cl.redirectURIs[0]
	default:
		return req, nil, &authorizationProblem{text: "The application asked for an answer at an address that it has not registered."}
	}

	// From here on the answer goes to a registered address.
	if len(q["state"]) == 1 {
		req.state = q.Get("state")
	}
	if name := repeated(q); name != "" {
		return req, nil, &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "a parameter must not be sent twice"}
	}
	prompt = strings.Fields(q.Get("prompt"))
	for _, check := range []func(url.Values, *authorizationRequest) *authorizationProblem{
		checkResponse, checkPrompt, checkPKCE, s.requestedScopes, s.requestedResources,
	} {
		if p := check(q, &req); p != nil {
			return req, nil, p
		}
	}
	return req, prompt, nil
}

func checkResponse(q url.Values, _ *authorizationRequest) *authorizationProblem {
	switch {
	case q.Get("request") != "":
		return &authorizationProblem{code: errRequestNotSupported, text: "request objects are not supported"}
	case q.Get("request_uri") != "":
		return &authorizationProblem{code: errRequestURINotSupported, text: "request objects are not supported"}
	case q.Get("response_type") == "":
		return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected response_type"}
	case q.Get("response_type") != "code":
		return &authorizationProblem{code: errUnsupportedResponseType, text: "expected response_type code"}
	case q.Get("response_mode") != "" && q.Get("response_mode") != "query":
		return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected response_mode query"}
	}
	return nil
}

func checkPrompt(q url.Values, _ *authorizationRequest) *authorizationProblem {
	values := strings.Fields(q.Get("prompt"))
	for _, v := range values {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, v) || v == "none" && len(values) > 1 {
			return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected prompt none, login, consent or select_account"}
		}
	}
	return nil
}

// checkPKCE demands S256: without a method, plain is meant (RFC 7636 §4.3), and plain
// protects nothing once the request is seen.
func checkPKCE(q url.Values, req *authorizationRequest) *authorizationProblem {
	challenge := q.Get("code_challenge")
	switch {
	case challenge == "":
		return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected code_challenge (PKCE, RFC 7636)"}
	case q.Get("code_challenge_method") != "S256":
		return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected code_challenge_method S256"}
	case len(challenge) != 43 || !unreserved(challenge):
		return &authorizationProblem{code: oauth.ErrorInvalidRequest, text: "expected code_challenge to be a SHA-256 digest in base64url"}
	}
	req.challenge = challenge
	return nil
}

// unreserved reports whether s has only the characters of a code verifier (RFC 7636 §4.1).
func unreserved(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0) {
			return false
		}
	}
	return true
}

// requestedScopes reads scope. Without it the client gets what it registered: a
// pre-defined default of RFC 6749 §3.3, and the user sees it on the consent page.
func (s *Server) requestedScopes(q url.Values, req *authorizationRequest) *authorizationProblem {
	scopes, err := oauth.ParseScopes(q.Get("scope"))
	if err != nil {
		return &authorizationProblem{code: errInvalidScope, text: "expected scope tokens separated by spaces"}
	}
	scopes = withoutOpenID(scopes)
	if !req.client.scopes.Contains(scopes) {
		return &authorizationProblem{code: errInvalidScope, text: "the client may not ask for one of these scopes"}
	}
	if len(scopes) == 0 {
		scopes = req.client.scopes
	}
	req.scopes = scopes
	return nil
}

func (s *Server) requestedResources(q url.Values, req *authorizationRequest) *authorizationProblem {
	resources, ok := s.canonicalResources(q["resource"])
	if !ok {
		return &authorizationProblem{code: errInvalidTarget, text: "expected resource to be one that this server knows"}
	}
	if len(resources) == 0 && s.cfg.DefaultResource != "" {
		resources = []string{s.cfg.DefaultResource}
	}
	req.resources = resources
	return nil
}

// canonicalResources returns the configured form of every requested resource, each once.
func (s *Server) canonicalResources(requested []string) (resources []string, ok bool) {
	for _, r := range requested {
		i := slices.IndexFunc(s.resources, func(known oauth.Resource) bool { return known.Matches(r) })
		if i < 0 {
			return nil, false
		}
		if name := s.resources[i].String(); !slices.Contains(resources, name) {
			resources = append(resources, name)
		}
	}
	return resources, true
}
