package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const cookieName = "authserver_session"

// loginForm is one showing of the login page.
type loginForm struct {
	request       string
	session       session
	authorization authorizationRequest
	username      string
	alert         string
}

// login takes the login form.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	posted, ok := s.readPageForm(w, r)
	if !ok {
		return
	}
	page := loginForm{request: posted.id, session: posted.session, authorization: posted.request, username: posted.form.Get("username")}
	switch s.checkPassword(page.username, posted.form.Get("password")) {
	case passwordWrong:
		s.log.Info("login refused", "reason", "wrong user name or password")
		page.alert = "The user name or the password is wrong."
		s.loginPage(w, http.StatusForbidden, page)
		return
	case passwordLocked:
		s.log.Warn("login refused", "reason", "too many attempts")
		page.alert = "Too many attempts. Wait a minute and try again."
		w.Header().Set("Retry-After", "60")
		s.loginPage(w, http.StatusTooManyRequests, page)
		return
	}
	cookie, ok := s.store.signIn(posted.cookie, posted.id, page.username)
	if !ok {
		s.sessionEnded(w)
		return
	}
	s.setCookie(w, cookie)
	s.log.Info("user signed in", "username", page.username)
	h := w.Header()
	h.Set("Location", s.url(pathConsent)+"?"+url.Values{"request": {posted.id}}.Encode())
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}

// pageForm is a form that one of our pages sent.
type pageForm struct {
	form    url.Values
	cookie  string
	session session
	id      string // of the authorization request
	request authorizationRequest
}

// readPageForm accepts a form only from a page that this server gave to this browser:
// the CSRF token in the form must be the one of the session in the cookie. If it is not,
// the answer is written and ok is false.
func (s *Server) readPageForm(w http.ResponseWriter, r *http.Request) (_ pageForm, ok bool) {
	form, e := readForm(w, r)
	if e != nil {
		s.errorPage(w, e.Status, "The form cannot be read.")
		return pageForm{}, false
	}
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		s.sessionEnded(w)
		return pageForm{}, false
	}
	sess, ok := s.store.session(cookie.Value)
	if !ok {
		s.sessionEnded(w)
		return pageForm{}, false
	}
	if subtle.ConstantTimeCompare([]byte(form.Get("csrf")), []byte(sess.csrf)) != 1 {
		s.log.Warn("form refused", "reason", "csrf token differs")
		s.errorPage(w, http.StatusForbidden, "This form does not come from a page of this server. Start again from your application.")
		return pageForm{}, false
	}
	id := form.Get("request")
	req, ok := s.store.request(id, sess)
	if !ok {
		s.sessionEnded(w)
		return pageForm{}, false
	}
	return pageForm{form: form, cookie: cookie.Value, session: sess, id: id, request: req}, true
}

func (s *Server) sessionEnded(w http.ResponseWriter) {
	s.errorPage(w, http.StatusBadRequest, "This login is over, or your browser keeps no cookies for this server. Start again from your application.")
}

func (s *Server) browser(r *http.Request) (session, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return session{}, false
	}
	return s.store.session(cookie.Value)
}

// setCookie sets the session cookie. SameSite=Lax lets it come along when an application
// opens the authorization page, and keeps it back when a foreign page sends a form.
func (s *Server) setCookie(w http.ResponseWriter, value string) {
	http.SetCookie(w, &http.Cookie{
		Name:     cookieName,
		Value:    value,
		Path:     s.prefix + "/",
		HttpOnly: true,
		Secure:   strings.HasPrefix(s.issuer, "https://"),
		SameSite: http.SameSiteLaxMode,
	})
}

type passwordAnswer int

const (
	passwordRight passwordAnswer = iota
	passwordWrong
	passwordLocked
)

// checkPassword takes the same time for a user who does not exist.
func (s *Server) checkPassword(name, password string) passwordAnswer {
	if !s.attempts.allow(name) {
		return passwordLocked
	}
	user, known := s.users[name]
	want, got := sha256.Sum256([]byte(user.Password)), sha256.Sum256([]byte(password))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
		s.attempts.fail(name)
		return passwordWrong
	}
	return passwordRight
}

const (
	maxAttempts   = 5
	attemptWindow = time.Minute
)

// attempts counts wrong passwords by user name: after five, the name rests for a minute,
// whatever the password.
type attempts struct {
	now func() time.Time

	mu     sync.Mutex
	counts *expiring[int]
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, counts: newExpiring[int](10_000)}
}

func (a *attempts) allow(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, _ := a.counts.get(digestOf(name), a.now())
	return n < maxAttempts
}

func (a *attempts) fail(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	n, _ := a.counts.get(digestOf(name), now)
	a.counts.put(digestOf(name), n+1, now.Add(attemptWindow))
}
