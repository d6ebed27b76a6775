package authserver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

// TestPageHeaders checks every page for what keeps it out of frames, caches and scripts.
func TestPageHeaders(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	b := s.browser()
	login := b.authorize(authorization(id))
	wrong := b.submit(login, url.Values{"username": {john}, "password": {"x"}})
	consent := b.signIn(login)
	failure := b.authorize(url.Values{})
	nonces := map[string]bool{}
	for name, page := range map[string]answer{"login": login, "wrong password": wrong, "consent": consent, "failure": failure} {
		t.Run(name, func(t *testing.T) {
			csp := page.header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "} {
				if !strings.Contains(csp, want) {
					t.Errorf("CSP %q lacks %q", csp, want)
				}
			}
			nonce := regexp.MustCompile(`'nonce-([^']+)'`).FindStringSubmatch(csp)
			if nonce == nil || !strings.Contains(page.body, `<style nonce="`+nonce[1]+`">`) || nonces[nonce[1]] {
				t.Errorf("style nonce: got %v", nonce)
			} else {
				nonces[nonce[1]] = true
			}
			for header, want := range map[string]string{
				"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
				"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "same-origin",
			} {
				if got := page.header.Get(header); got != want {
					t.Errorf("%s: got %q, want %q", header, got, want)
				}
			}
			if strings.Contains(page.body, "<script") || regexp.MustCompile(`(?i)\son[a-z]+=|style=`).MatchString(page.body) {
				t.Error("the page needs a script or an inline style")
			}
			if !strings.Contains(page.body, `<html lang="en">`) || !strings.Contains(page.body, "<title>") || strings.Count(page.body, "<h1>") != 1 {
				t.Error("the page lacks a language, a title or one heading")
			}
			for _, field := range regexp.MustCompile(`<input type="(?:text|password)" id="([^"]+)"`).FindAllStringSubmatch(page.body, -1) {
				if !strings.Contains(page.body, `<label for="`+field[1]+`">`) {
					t.Errorf("field %s has no label", field[1])
				}
			}
		})
	}
	if !strings.Contains(wrong.body, `role="alert"`) || wrong.status != http.StatusForbidden || strings.Contains(wrong.body, `value="x"`) {
		t.Errorf("wrong password: got %d, want 403 with an alert and without the password", wrong.status)
	}
}

func TestSessionCookie(t *testing.T) {
	tests := []struct {
		name   string
		issuer string
		path   string
		secure bool
	}{
		{name: "loopback", path: "/"},
		{name: "issuer with a path", issuer: "/realms/demo", path: "/realms/demo/"},
		{name: "https", issuer: "https://idp.example", path: "/", secure: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := baseConfig()
			cfg.Issuer = tt.issuer
			cfg.Clients = append(cfg.Clients, authserver.Client{ID: "app", RedirectURIs: []string{callback}})
			listener := freeAddress(t)
			cfg.Listen = listener
			s, err := authserver.Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			prefix := strings.TrimSuffix(tt.path, "/")
			a := do(t, client(nil), request(t, http.MethodGet, "http://"+listener+prefix+"/authorize?"+authorization("app").Encode(), nil))
			cookies := (&http.Response{Header: a.header}).Cookies()
			if len(cookies) != 1 {
				t.Fatalf("got %d cookies, want 1\n%s", len(cookies), a.body)
			}
			c := cookies[0]
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != tt.secure || c.Path != tt.path || c.Domain != "" {
				t.Errorf("got %v", c)
			}
		})
	}
}

// TestCSRF sends the forms as a foreign page would make a browser send them.
func TestCSRF(t *testing.T) {
	s := start(t)
	id := s.publicClient()

	t.Run("RejectsLoginWithoutCookie", func(t *testing.T) {
		page := s.browser().authorize(authorization(id))
		wantPage(t, s.browser().submit(page, url.Values{"username": {john}, "password": {johnsPassword}}), http.StatusBadRequest)
	})
	t.Run("RejectsLoginWithoutToken", func(t *testing.T) {
		b := s.browser()
		page := b.authorize(authorization(id))
		wantPage(t, b.submit(page, url.Values{"csrf": {""}, "username": {john}, "password": {johnsPassword}}), http.StatusForbidden)
	})
	t.Run("RejectsConsentWithoutToken", func(t *testing.T) {
		b := s.browser()
		page := b.signIn(b.authorize(authorization(id)))
		wantPage(t, b.submit(page, url.Values{"csrf": {""}, "accept": {"yes"}}), http.StatusForbidden)
	})
	t.Run("RejectsConsentWithTokenOfAnotherSession", func(t *testing.T) {
		victim, attacker := s.browser(), s.browser()
		page := victim.signIn(victim.authorize(authorization(id)))
		_, stolen := hidden(t, attacker.signIn(attacker.authorize(authorization(id))))
		wantPage(t, victim.submit(page, url.Values{"csrf": stolen["csrf"], "accept": {"yes"}}), http.StatusForbidden)
	})
	t.Run("RejectsConsentForRequestOfAnotherSession", func(t *testing.T) {
		victim, attacker := s.browser(), s.browser()
		page := victim.signIn(victim.authorize(authorization(id)))
		_, planted := hidden(t, attacker.authorize(authorization(id)))
		wantPage(t, victim.submit(page, url.Values{"request": planted["request"], "accept": {"yes"}}), http.StatusBadRequest)
		wantPage(t, victim.open(s.Issuer()+"/consent?request="+planted.Get("request")), http.StatusBadRequest)
	})
	t.Run("RejectsConsentBeforeLogin", func(t *testing.T) {
		b := s.browser()
		page := b.authorize(authorization(id))
		_, fields := hidden(t, page)
		fields.Set("accept", "yes")
		wantPage(t, b.send(s.Issuer()+"/consent", fields), http.StatusBadRequest)
	})
	t.Run("RejectsConsentByGet", func(t *testing.T) {
		b := s.browser()
		_, fields := hidden(t, b.signIn(b.authorize(authorization(id))))
		a := b.open(s.Issuer() + "/consent?accept=yes&" + fields.Encode())
		if a.status != http.StatusOK || a.header.Get("Location") != "" {
			t.Errorf("got %d %q, want the page again", a.status, a.header.Get("Location"))
		}
	})
	t.Run("RejectsParametersInURL", func(t *testing.T) {
		b := s.browser()
		_, fields := hidden(t, b.signIn(b.authorize(authorization(id))))
		wantPage(t, b.send(s.Issuer()+"/consent?accept=yes", fields), http.StatusBadRequest)
	})
	t.Run("RejectsFixedSession", func(t *testing.T) {
		b := s.browser()
		page := b.authorize(authorization(id))
		u, _ := url.Parse(s.Issuer())
		planted := b.c.Jar.Cookies(u)
		b.signIn(page)
		thief := s.browser()
		thief.c.Jar.SetCookies(u, planted)
		if a := thief.authorize(authorization(id)); !strings.Contains(a.body, `name="password"`) {
			t.Error("the cookie from before the login is signed in")
		}
	})
}

func TestConsent(t *testing.T) {
	s := start(t)
	id := s.publicClient()

	t.Run("deny", func(t *testing.T) {
		b := s.browser()
		got := location(t, b.submit(b.signIn(b.authorize(authorization(id))), url.Values{"cancel": {"yes"}}))
		if got.Get("error") != "access_denied" || got.Has("code") || got.Get("state") != "af0ifjsldkj" || got.Get("iss") != s.Issuer() {
			t.Errorf("got %v", got)
		}
	})
	t.Run("deny is what the enter key finds first", func(t *testing.T) {
		b := s.browser()
		page := b.signIn(b.authorize(authorization(id)))
		if deny, allow := strings.Index(page.body, `name="cancel"`), strings.Index(page.body, `name="accept"`); deny < 0 || allow < deny {
			t.Errorf("got cancel at %d and accept at %d", deny, allow)
		}
	})
	for name, filled := range map[string]url.Values{"no answer": {}, "both answers": {"accept": {"yes"}, "cancel": {"yes"}}} {
		t.Run(name, func(t *testing.T) {
			b := s.browser()
			wantPage(t, b.submit(b.signIn(b.authorize(authorization(id))), filled), http.StatusBadRequest)
		})
	}
	t.Run("answered once", func(t *testing.T) {
		b := s.browser()
		page := b.signIn(b.authorize(authorization(id)))
		location(t, b.submit(page, url.Values{"accept": {"yes"}}))
		wantPage(t, b.submit(page, url.Values{"accept": {"yes"}}), http.StatusBadRequest)
	})
	t.Run("page can be loaded again", func(t *testing.T) {
		b := s.browser()
		page := b.signIn(b.authorize(authorization(id)))
		_, fields := hidden(t, page)
		again := b.open(s.Issuer() + "/consent?request=" + fields.Get("request"))
		location(t, b.submit(again, url.Values{"accept": {"yes"}}))
	})
	t.Run("signed in already: asked all the same", func(t *testing.T) {
		b := s.browser()
		b.allow(authorization(id))
		page := b.authorize(authorization(id))
		if strings.Contains(page.body, `name="password"`) || !strings.Contains(page.body, `name="accept"`) {
			t.Errorf("expected the consent page\n%s", page.body)
		}
		if got := location(t, b.authorize(with(authorization(id), "prompt", "none"))); got.Get("error") != "consent_required" {
			t.Errorf("prompt none: got %v", got)
		}
		if page := b.authorize(with(authorization(id), "prompt", "login")); !strings.Contains(page.body, `name="password"`) {
			t.Error("prompt login: expected the login page")
		}
	})
	t.Run("RejectsSkippingTheSecondLogin", func(t *testing.T) {
		b := s.browser()
		b.allow(authorization(id))
		_, fields := hidden(t, b.authorize(with(authorization(id), "prompt", "login")))
		if page := b.open(s.Issuer() + "/consent?request=" + fields.Get("request")); !strings.Contains(page.body, `name="password"`) {
			t.Error("expected the login page")
		}
		fields.Set("accept", "yes")
		wantPage(t, b.send(s.Issuer()+"/consent", fields), http.StatusBadRequest)
	})
	t.Run("another user is another session", func(t *testing.T) {
		b := s.browser()
		sid := func(code string) any {
			token := s.post("/token", redemption(id, code)).object(t)["access_token"].(string)
			return s.introspect(token).object(t)["sid"]
		}
		first := sid(b.allow(authorization(id)).Get("code"))
		second := sid(b.allow(authorization(id)).Get("code"))
		page := b.authorize(with(authorization(id), "prompt", "login"))
		a := b.submit(page, url.Values{"username": {"jane.roe@demo.example"}, "password": {"battery staple"}})
		page = b.open(a.header.Get("Location"))
		third := sid(location(t, b.submit(page, url.Values{"accept": {"yes"}})).Get("code"))
		if first != second || first == third {
			t.Errorf("sid: got %v, %v, %v; want the same for one user and another for the other", first, second, third)
		}
	})
	t.Run("the login is over after ten minutes", func(t *testing.T) {
		b := s.browser()
		page := b.authorize(authorization(id))
		s.clock.Step(10 * time.Minute)
		wantPage(t, b.submit(page, url.Values{"username": {john}, "password": {johnsPassword}}), http.StatusBadRequest)
	})
	t.Run("the session is over after an hour", func(t *testing.T) {
		b := s.browser()
		page := b.signIn(b.authorize(authorization(id)))
		s.clock.Step(time.Hour)
		wantPage(t, b.submit(page, url.Values{"accept": {"yes"}}), http.StatusBadRequest)
		if page := b.authorize(authorization(id)); !strings.Contains(page.body, `name="password"`) {
			t.Error("expected the login page")
		}
	})
}

func TestWrongPasswords(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	b := s.browser()
	page := b.authorize(authorization(id))
	try := func(user, password string) int {
		return b.submit(page, url.Values{"username": {user}, "password": {password}}).status
	}
	if unknown, wrong := b.submit(page, url.Values{"username": {"nobody"}, "password": {"x"}}), b.submit(page, url.Values{"username": {john}, "password": {"x"}}); unknown.status != wrong.status || !strings.Contains(unknown.body, "user name or the password is wrong") {
		t.Errorf("unknown user got %d, wrong password %d: want the same", unknown.status, wrong.status)
	}
	for i := range 4 {
		if got := try(john, fmt.Sprint(i)); got != http.StatusForbidden {
			t.Fatalf("attempt %d: got %d, want 403", i, got)
		}
	}
	if got := try(john, johnsPassword); got != http.StatusTooManyRequests {
		t.Errorf("right password after five wrong ones: got %d, want 429", got)
	}
	if got := try("", ""); got != http.StatusForbidden {
		t.Errorf("no user name: got %d, want 403", got)
	}
	s.clock.Step(time.Minute)
	if got := try(john, johnsPassword); got != http.StatusSeeOther {
		t.Errorf("after a minute: got %d, want 303", got)
	}
}

// TestNamesAreEscaped has a client call itself what would take the page over.
func TestNamesAreEscaped(t *testing.T) {
	for _, name := range []string{
		`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `"><form action=https://evil.example>`, `</title><base href=//evil.example>`, `{{.CSRF}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			reg := s.register(fmt.Sprintf(`{"client_name":%q,"redirect_uris":[%q],"token_endpoint_auth_method":"none"}`, name, callback)).object(t)
			b := s.browser()
			login := b.authorize(authorization(reg["client_id"].(string)))
			for _, page := range []answer{login, b.signIn(login)} {
				if strings.ContainsAny(name, "<>") && strings.Contains(page.body, name) {
					t.Errorf("the name is in the page as it is\n%s", page.body)
				}
				if strings.Contains(name, "CSRF") && !strings.Contains(page.body, name) {
					t.Error("the name was taken for a template")
				}
			}
		})
	}
	t.Run("user name", func(t *testing.T) {
		s := start(t)
		b := s.browser()
		a := b.submit(b.authorize(authorization(s.publicClient())), url.Values{"username": {`"><script>`}, "password": {"x"}})
		if strings.Contains(a.body, "<script>") {
			t.Errorf("the user name is in the page as it is\n%s", a.body)
		}
	})
}

func TestWhoAsks(t *testing.T) {
	s := start(t, func(c *authserver.Config) {
		c.Clients = append(c.Clients, authserver.Client{ID: "portal", Name: "Customer portal", RedirectURIs: []string{callback, "https://portal.example/cb"}})
	})
	page := func(q url.Values) string { return s.browser().authorize(q).body }
	if body := page(authorization(s.publicClient())); !strings.Contains(body, "Not verified") {
		t.Error("a registered client is shown as if its name were checked")
	}
	if body := page(authorization("portal")); !strings.Contains(body, "Customer portal") || strings.Contains(body, "Not verified") {
		t.Error("a configured client is shown as if its name were not checked")
	}
	b := s.browser()
	if body := b.signIn(b.authorize(with(authorization("portal"), "redirect_uri", "https://portal.example/cb"))).body; !strings.Contains(body, "portal.example") || strings.Contains(body, "your own computer") {
		t.Error("the consent page does not say where the answer goes")
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		15 * time.Minute: "15 minutes", time.Hour: "1 hour", 90 * time.Second: "90 seconds", time.Minute: "1 minute", 2 * time.Hour: "2 hours", 1500 * time.Millisecond: "2s",
	} {
		if got := authserver.Words(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
