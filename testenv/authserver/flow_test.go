package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

// TestFlow is the whole way of a client that knows nothing: registration, login, consent,
// token, introspection, revocation.
func TestFlow(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	b := s.browser()

	page := b.authorize(authorization(id))
	if page.status != http.StatusOK || !strings.Contains(page.body, "MCP Inspector") {
		t.Fatalf("login page: got %d, want 200 with the client's name\n%s", page.status, page.body)
	}
	page = b.signIn(page)
	for _, want := range []string{"MCP Inspector", "Read stock prices of your region", resource, john, "15 minutes", "127.0.0.1:33418"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("consent page lacks %q", want)
		}
	}
	if strings.Contains(page.body, "Place stock orders") {
		t.Error("consent page names a scope that was not asked for")
	}
	back := b.submit(page, url.Values{"accept": {"yes"}})
	if target := back.header.Get("Location"); !strings.HasPrefix(target, callback+"?") {
		t.Fatalf("redirect: got %q, want one to %s", target, callback)
	}
	params := location(t, back)
	if got, want := params.Get("state"), "af0ifjsldkj"; got != want {
		t.Errorf("state: got %q, want %q", got, want)
	}
	if got := params.Get("iss"); got != s.Issuer() {
		t.Errorf("iss: got %q, want %q", got, s.Issuer())
	}

	a := s.post("/token", redemption(id, params.Get("code")))
	if a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
		t.Fatalf("token: got %d %v\n%s", a.status, a.header, a.body)
	}
	grant := a.object(t)
	token, _ := grant["access_token"].(string)
	if len(token) != 43 || strings.Contains(token, ".") {
		t.Errorf("access token: got %d characters, want 43 that say nothing", len(token))
	}
	if grant["token_type"] != "Bearer" || grant["expires_in"] != 900.0 || grant["scope"] != "stocks/read" {
		t.Errorf("token answer: got %v", grant)
	}
	if _, ok := grant["refresh_token"]; ok {
		t.Error("a dynamic client got a refresh token")
	}

	now := float64(s.clock.Now().Unix())
	got := s.introspect(token).object(t)
	for name, want := range map[string]any{
		"active": true, "iss": s.Issuer(), "sub": john, "username": john, "client_id": id, "aud": resource,
		"scope": "stocks/read", "token_type": "Bearer", "iat": now, "nbf": now, "exp": now + 900, "auth_time": now,
		"region": "USA", "org_id": "acme", "client_type": "mcp", "client_assurance_level": 1.0,
	} {
		if got[name] != want {
			t.Errorf("introspection %s: got %v, want %v", name, got[name], want)
		}
	}
	for _, name := range []string{"jti", "sid"} {
		if v, _ := got[name].(string); v == "" || strings.Contains(token, v) {
			t.Errorf("introspection %s: got %q", name, v)
		}
	}

	if a := s.post("/revoke", url.Values{"client_id": {id}, "token": {token}}); a.status != http.StatusOK || a.body != "" {
		t.Errorf("revocation: got %d %q, want 200 without body", a.status, a.body)
	}
	if s.active(token) {
		t.Error("the token is active after its revocation")
	}
	if s.Introspections() != 2 {
		t.Errorf("introspections: got %d, want 2", s.Introspections())
	}
}

// TestConfidentialClients runs the flow with every way to authenticate, and with each
// wrong one.
func TestConfidentialClients(t *testing.T) {
	tests := []struct {
		name   string
		method string
	}{
		{name: "default is basic", method: ""},
		{name: "basic", method: "client_secret_basic"},
		{name: "post", method: "client_secret_post"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t)
			reg := s.register(`{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"` + tt.method + `"}`).object(t)
			id, secret := reg["client_id"].(string), reg["client_secret"].(string)
			code := s.code(id)
			form := with(redemption(id, code), "client_id")
			asBasic := func() answer { return s.post("/token", form, "Authorization", basic(id, secret)) }
			asPost := func() answer {
				return s.post("/token", with(with(form, "client_id", id), "client_secret", secret))
			}
			right, wrong := asBasic, asPost
			if tt.method == "client_secret_post" {
				right, wrong = asPost, asBasic
			}
			wantError(t, s.post("/token", redemption(id, code)), http.StatusUnauthorized, "invalid_client")
			wantError(t, wrong(), http.StatusUnauthorized, "invalid_client")
			wantError(t, s.post("/token", form, "Authorization", basic(id, "guess")), http.StatusUnauthorized, "invalid_client")
			if a := right(); a.status != http.StatusOK { // the code is still good: nobody authenticated before
				t.Errorf("got %d, want 200\n%s", a.status, a.body)
			}
		})
	}
}

func TestIssueToken(t *testing.T) {
	s := start(t)
	tests := []struct {
		name  string
		grant authserver.Grant
		want  map[string]any // nil: inactive
	}{
		{name: "defaults", grant: authserver.Grant{}, want: map[string]any{"sub": john, "client_id": "mcp-client", "scope": "", "region": "USA", "client_type": "mcp"}},
		{name: "resource and scope", grant: authserver.Grant{Scope: "stocks/read stocks/trade", Resource: resource}, want: map[string]any{"aud": resource, "scope": "stocks/read stocks/trade"}},
		{name: "other user", grant: authserver.Grant{User: "jane.roe@demo.example"}, want: map[string]any{"sub": "jane.roe@demo.example", "region": "Europe"}},
		{name: "no user", grant: authserver.Grant{NoUser: true, ClientID: "backend"}, want: map[string]any{"sub": "backend", "username": "service-account-backend", "client_assurance_level": 2.0}},
		{name: "lying claims", grant: authserver.Grant{Claims: map[string]any{"aud": "https://elsewhere.example", "x": 1}}, want: map[string]any{"aud": "https://elsewhere.example", "x": 1.0}},
		{name: "expired", grant: authserver.Grant{Lifetime: -time.Second}, want: nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.introspect(s.IssueToken(tt.grant)).object(t)
			if tt.want == nil {
				if len(got) != 1 || got["active"] != false {
					t.Errorf("got %v, want active=false and nothing else", got)
				}
				return
			}
			for name, want := range tt.want {
				if got[name] != want {
					t.Errorf("%s: got %v, want %v", name, got[name], want)
				}
			}
		})
	}
	t.Run("members taken away", func(t *testing.T) {
		got := s.introspect(s.IssueToken(authserver.Grant{Claims: map[string]any{"sub": nil, "exp": nil}})).object(t)
		if _, ok := got["sub"]; ok || got["exp"] != nil {
			t.Errorf("got %v, want neither sub nor exp", got)
		}
	})
	t.Run("two audiences", func(t *testing.T) {
		got := s.introspect(s.IssueToken(authserver.Grant{Resource: resource, Resources: []string{otherResource}})).object(t)
		if aud, _ := got["aud"].([]any); len(aud) != 2 || aud[0] != resource || aud[1] != otherResource {
			t.Errorf("aud: got %v, want both", got["aud"])
		}
	})
	t.Run("expires by the clock", func(t *testing.T) {
		token := s.IssueToken(authserver.Grant{Lifetime: time.Minute})
		s.clock.Step(59 * time.Second)
		if !s.active(token) {
			t.Error("inactive before its time")
		}
		s.clock.Step(time.Second)
		if s.active(token) {
			t.Error("active at exp")
		}
	})
	t.Run("revoked", func(t *testing.T) {
		token := s.IssueToken(authserver.Grant{})
		s.Revoke(token)
		if s.active(token) {
			t.Error("active after Revoke")
		}
	})
}

// TestNoSecretInLogs runs a flow and looks for everything secret in the log.
func TestNoSecretInLogs(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	code := s.code(id)
	token := s.post("/token", redemption(id, code)).object(t)["access_token"].(string)
	s.introspect(token)
	s.post("/token", redemption(id, code))
	log := s.log.String()
	if !strings.Contains(log, "token issued") {
		t.Fatalf("the log lacks the flow:\n%s", log)
	}
	for name, secret := range map[string]string{
		"code": code, "token": token, "password": johnsPassword, "client secret": "s3cret", "verifier": verifier,
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s:\n%s", name, log)
		}
	}
}
