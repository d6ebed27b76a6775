package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

// fuzzed starts a server whose handler is called without a network.
func fuzzed(f *testing.F) http.Handler {
	f.Helper()
	cfg := baseConfig()
	cfg.MaxRegistrations = 1 << 30
	cfg.Clients = append(cfg.Clients, authserver.Client{ID: "app", RedirectURIs: []string{callback, "https://app.example/cb?x=1"}})
	s, err := authserver.Start(f.Context(), cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	return s.Handler()
}

// FuzzRegister: whatever is sent, the answer is a client with safe redirect URIs, or an
// error of RFC 7591 §3.2.2.
func FuzzRegister(f *testing.F) {
	for _, seed := range []string{
		`{"redirect_uris":["http://127.0.0.1/"],"client_name":"x","token_endpoint_auth_method":"none"}`,
		`{"redirect_uris":["com.example.app:/cb","https://app.example/"],"scope":"stocks/read offline_access","grant_types":["authorization_code","refresh_token"]}`,
		`{"redirect_uris":["javascript:alert(1)"]}`, `{"redirect_uris":null}`, `[]`, `{`, `{"a":1,"a":2}`, "\xff", ``,
	} {
		f.Add(seed)
	}
	h := fuzzed(f)
	f.Fuzz(func(t *testing.T, body string) {
		req := httptest.NewRequest(http.MethodPost, "/register", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		var got struct {
			Error        string   `json:"error"`
			ClientID     string   `json:"client_id"`
			RedirectURIs []string `json:"redirect_uris"`
			GrantTypes   []string `json:"grant_types"`
			Scope        string   `json:"scope"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatalf("answer %d is no JSON: %v", rec.Code, err)
		}
		if rec.Code != http.StatusCreated {
			if rec.Code < 400 || rec.Code > 499 || got.Error != "invalid_client_metadata" && got.Error != "invalid_redirect_uri" {
				t.Errorf("got %d %q", rec.Code, got.Error)
			}
			return
		}
		if got.ClientID == "" || len(got.RedirectURIs) == 0 || !slices.Equal(got.GrantTypes, []string{"authorization_code"}) {
			t.Errorf("got %+v", got)
		}
		for _, s := range strings.Fields(got.Scope) {
			if s != "stocks/read" && s != "stocks/trade" {
				t.Errorf("got scope %q", s)
			}
		}
		for _, uri := range got.RedirectURIs {
			u, err := url.Parse(uri)
			if err != nil || strings.ContainsAny(uri, "#* \r\n\\") || u.User != nil {
				t.Errorf("registered %q", uri)
				continue
			}
			host := strings.ToLower(u.Hostname())
			switch {
			case u.Scheme == "https" && host != "":
			case u.Scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "::1"):
			case u.Scheme != "http" && u.Scheme != "https" && strings.Contains(u.Scheme, "."):
			default:
				t.Errorf("registered %q", uri)
			}
		}
	})
}

// FuzzAuthorize: whatever is asked, the answer is a page, or a redirect to a URI that is
// registered, with our iss and without a code.
func FuzzAuthorize(f *testing.F) {
	good := authorization("app")
	f.Add(good.Encode())
	f.Add(with(good, "redirect_uri", "https://evil.example/").Encode())
	f.Add(with(good, "redirect_uri", "http://127.0.0.1:1@evil.example/callback").Encode())
	f.Add(with(good, "redirect_uri", "https://app.example/cb?x=1").Encode() + "&scope=nope")
	f.Add(with(good, "code_challenge_method", "plain").Encode())
	f.Add("client_id=app&client_id=app&%zz")
	h := fuzzed(f)
	f.Fuzz(func(t *testing.T, query string) {
		req := httptest.NewRequest(http.MethodGet, "/authorize", nil)
		req.URL.RawQuery = query
		if id := req.URL.Query().Get("client_id"); strings.HasPrefix(id, "http") {
			return // would be fetched
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		target := rec.Header().Get("Location")
		if rec.Code != http.StatusSeeOther {
			if target != "" || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") || rec.Code >= 500 {
				t.Errorf("got %d %q %q", rec.Code, target, rec.Header().Get("Content-Type"))
			}
			return
		}
		u, err := url.Parse(target)
		if err != nil {
			t.Fatalf("redirect to %q", target)
		}
		loopback := u.Scheme == "http" && u.Hostname() == "127.0.0.1" && u.Path == "/callback"
		web := strings.HasPrefix(target, "https://app.example/cb?x=1&")
		if !loopback && !web || u.User != nil {
			t.Errorf("redirect to %q", target)
		}
		if q := u.Query(); q.Get("error") == "" || q.Get("iss") == "" || q.Has("code") {
			t.Errorf("redirect with %v", q)
		}
	})
}

// FuzzRedirectMatch: a URI that is not registered byte by byte matches only if nothing
// but its port differs, on loopback.
func FuzzRedirectMatch(f *testing.F) {
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:5/cb")
	f.Add("http://[::1]:1/cb?x", "http://[::1]/cb?x")
	f.Add("https://app.example/cb", "https://app.example:444/cb")
	f.Add("http://127.0.0.1/", "http://127.0.0.1:1@evil.example/")
	f.Fuzz(func(t *testing.T, registered, uri string) {
		if authserver.CheckRedirectURI(registered, nil) != nil || registered == uri {
			return
		}
		if !authserver.MatchRedirectURI([]string{registered}, uri) {
			return
		}
		if err := authserver.CheckRedirectURI(uri, nil); err != nil {
			t.Fatalf("%q matches %q but could not be registered: %v", uri, registered, err)
		}
		a, _ := url.Parse(registered)
		b, _ := url.Parse(uri)
		a.Host, b.Host = a.Hostname(), b.Hostname()
		if a.Scheme != "http" || a.String() != b.String() {
			t.Errorf("%q matches %q", uri, registered)
		}
	})
}

// FuzzBasic: what is encoded as RFC 6749 §2.3.1 says comes back, and nothing panics.
func FuzzBasic(f *testing.F) {
	f.Add("client", "secret")
	f.Add("a:b", "c%:+ é\x00")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, id, secret string) {
		authserver.ParseBasic(id)
		gotID, gotSecret, ok := authserver.ParseBasic(basic(id, secret))
		if ok != (id != "") || ok && (gotID != id || gotSecret != secret) {
			t.Errorf("got %q, %q, %t; want %q, %q", gotID, gotSecret, ok, id, secret)
		}
	})
}
