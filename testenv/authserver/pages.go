package authserver

import (
	"bytes"
	"crypto/rand"
	"embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed pages/*.html
var pageFiles embed.FS

func parsePages() (*template.Template, error) {
	return template.ParseFS(pageFiles, "pages/*.html")
}

// page is what every template may use. What comes from strangers is escaped by
// html/template; nothing here is a template.HTML.
type page struct {
	Title   string
	Nonce   string // allows the one inline style sheet
	Action  string
	Request string
	CSRF    string

	Client       string // name, as the client gave it
	ClientHost   string // where its metadata document came from; empty for others
	ClientStatic bool   // the name was configured, not claimed
	Resources    []string
	ReturnTo     string // host of the redirect URI, or its private-use scheme
	ReturnLocal  bool   // a program on the user's own computer

	Username string
	Alert    string // what went wrong
	Scopes   []pageScope
	Lifetime string
}

type pageScope struct{ Name, Description string }

func (s *Server) requestPage(id string, sess session, req authorizationRequest) page {
	p := page{
		Request:      id,
		CSRF:         sess.csrf,
		Client:       req.client.name,
		ClientHost:   req.client.host,
		ClientStatic: req.client.static,
		Resources:    req.resources,
	}
	p.ReturnTo, p.ReturnLocal = returnAddress(req.redirectURI)
	return p
}

func (s *Server) loginPage(w http.ResponseWriter, status int, form loginForm) {
	p := s.requestPage(form.request, form.session, form.authorization)
	p.Title = "Sign in"
	p.Action = s.url(pathLogin)
	p.Username = form.username
	p.Alert = form.alert
	s.writePage(w, status, "login.html", p, "'self'")
}

func (s *Server) consentPage(w http.ResponseWriter, id string, sess session, req authorizationRequest) {
	p := s.requestPage(id, sess, req)
	p.Title = "Allow access?"
	p.Action = s.url(pathConsent)
	p.Username = sess.user
	p.Lifetime = words(s.cfg.tokenLifetime())
	for _, sc := range s.cfg.Scopes {
		if req.scopes.Contains([]string{sc.Name}) {
			p.Scopes = append(p.Scopes, pageScope{sc.Name, sc.Description})
		}
	}
	s.writePage(w, http.StatusOK, "consent.html", p, formTargets(req.redirectURI))
}

func (s *Server) errorPage(w http.ResponseWriter, status int, text string) {
	s.writePage(w, status, "error.html", page{Title: "This did not work", Alert: text}, "'none'")
}

// writePage renders a page with the headers that keep it out of frames, caches and the
// reach of scripts. formAction are the sources of the CSP directive of that name.
func (s *Server) writePage(w http.ResponseWriter, status int, name string, p page, formAction string) {
	p.Nonce = rand.Text()
	var body bytes.Buffer
	if err := s.templates.ExecuteTemplate(&body, name, p); err != nil {
		s.log.Error("rendering page", "page", name, "err", err)
		http.Error(w, "server error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+p.Nonce+"'; form-action "+formAction+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Frame-Options", "DENY") // for what does not know frame-ancestors
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// formTargets are the places where sending the consent form may end: browsers apply
// form-action to every redirect that follows, and where the client sends the user after
// its callback is the client's business. So schemes are named, not hosts.
func formTargets(redirectURI string) string {
	scheme, _, _ := strings.Cut(redirectURI, ":")
	if scheme == "https" {
		return "'self' https:"
	}
	return "'self' https: " + scheme + ":"
}

// returnAddress is what the user may judge of a redirect URI.
func returnAddress(redirectURI string) (name string, local bool) {
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil:
		return "", false
	case u.Scheme != "https" && u.Scheme != "http":
		return u.Scheme + ":", true
	case isLoopbackRedirect(u):
		return u.Host, true
	}
	if host, port, err := net.SplitHostPort(u.Host); err == nil && port == "443" {
		return host, false
	}
	return u.Host, false
}

// words says a duration as people do: "15 minutes", "1 hour", "90 seconds".
func words(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= unit.length && d%unit.length == 0 {
			n := int64(d / unit.length)
			if n == 1 {
				return "1 " + unit.name
			}
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return d.Round(time.Second).String()
}
