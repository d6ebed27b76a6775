package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

func TestTokenRefuses(t *testing.T) {
	s := start(t)
	id, other := s.publicClient(), s.publicClient()
	tests := []struct {
		name   string
		change func(url.Values) url.Values
		header []string
		status int
		code   string
	}{
		{name: "no grant type", change: func(f url.Values) url.Values { return with(f, "grant_type") }, status: 400, code: "invalid_request"},
		{name: "RejectsPasswordGrant", change: func(f url.Values) url.Values { return with(f, "grant_type", "password") }, status: 400, code: "unsupported_grant_type"},
		{name: "RejectsRefreshGrant", change: func(f url.Values) url.Values { return with(f, "grant_type", "refresh_token") }, status: 400, code: "unsupported_grant_type"},
		{name: "no code", change: func(f url.Values) url.Values { return with(f, "code") }, status: 400, code: "invalid_request"},
		{name: "unknown code", change: func(f url.Values) url.Values { return with(f, "code", "guess") }, status: 400, code: "invalid_grant"},
		{name: "no client", change: func(f url.Values) url.Values { return with(f, "client_id") }, status: 401, code: "invalid_client"},
		{name: "unknown client", change: func(f url.Values) url.Values { return with(f, "client_id", "nobody") }, status: 401, code: "invalid_client"},
		{name: "RejectsCodeOfAnotherClient", change: func(f url.Values) url.Values { return with(f, "client_id", other) }, status: 400, code: "invalid_grant"},
		{name: "RejectsSecretOfPublicClient", change: func(f url.Values) url.Values { return with(f, "client_secret", "x") }, status: 401, code: "invalid_client"},
		{name: "RejectsBasicOfPublicClient", change: func(f url.Values) url.Values { return f }, header: []string{"Authorization", basic(id, "")}, status: 401, code: "invalid_client"},
		{name: "no redirect URI", change: func(f url.Values) url.Values { return with(f, "redirect_uri") }, status: 400, code: "invalid_grant"},
		{name: "RejectsOtherRedirectURI", change: func(f url.Values) url.Values { return with(f, "redirect_uri", "http://127.0.0.1:1/callback") }, status: 400, code: "invalid_grant"},
		{name: "RejectsMissingVerifier", change: func(f url.Values) url.Values { return with(f, "code_verifier") }, status: 400, code: "invalid_grant"},
		{name: "RejectsWrongVerifier", change: func(f url.Values) url.Values { return with(f, "code_verifier", strings.Repeat("a", 43)) }, status: 400, code: "invalid_grant"},
		{name: "RejectsChallengeAsVerifier", change: func(f url.Values) url.Values { return with(f, "code_verifier", challenge(verifier)) }, status: 400, code: "invalid_grant"},
		{name: "short verifier", change: func(f url.Values) url.Values { return with(f, "code_verifier", "short") }, status: 400, code: "invalid_grant"},
		{name: "long verifier", change: func(f url.Values) url.Values { return with(f, "code_verifier", strings.Repeat("a", 129)) }, status: 400, code: "invalid_grant"},
		{name: "RejectsSecondCode", change: func(f url.Values) url.Values { return with(f, "code", f.Get("code"), "x") }, status: 400, code: "invalid_request"},
		{name: "RejectsSecondCredential", change: func(f url.Values) url.Values { return with(f, "client_secret", "x") }, header: []string{"Authorization", basic(id, "x")}, status: 400, code: "invalid_request"},
		{name: "RejectsTwoAuthorizationHeaders", change: func(f url.Values) url.Values { return f }, header: []string{"Authorization", basic(id, "x"), "Authorization", basic(id, "y")}, status: 400, code: "invalid_request"},
		{name: "RejectsOtherClientBesideCredential", change: func(f url.Values) url.Values { return with(f, "client_id", other) }, header: []string{"Authorization", basic("backend", "backend-secret")}, status: 400, code: "invalid_request"},
		{name: "bearer as credential", change: func(f url.Values) url.Values { return f }, header: []string{"Authorization", "Bearer x"}, status: 401, code: "invalid_client"},
		{name: "Basic without base64", change: func(f url.Values) url.Values { return f }, header: []string{"Authorization", "Basic ???"}, status: 401, code: "invalid_client"},
		{name: "very large", change: func(f url.Values) url.Values { return with(f, "x", strings.Repeat("a", 70<<10)) }, status: 413, code: "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.post("/token", tt.change(redemption(id, s.code(id))), tt.header...)
			wantError(t, a, tt.status, tt.code)
			if got := a.header.Get("WWW-Authenticate"); (got != "") != (tt.status == 401 && tt.header != nil) {
				t.Errorf("WWW-Authenticate: got %q (RFC 6749 §5.2)", got)
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		a := do(t, client(nil), request(t, http.MethodPost, s.Issuer()+"/token", strings.NewReader(`{}`), "Content-Type", "application/json"))
		wantError(t, a, http.StatusBadRequest, "invalid_request")
	})
	t.Run("undecodable", func(t *testing.T) {
		a := do(t, client(nil), request(t, http.MethodPost, s.Issuer()+"/token", strings.NewReader(`a=%zz`), "Content-Type", "application/x-www-form-urlencoded"))
		wantError(t, a, http.StatusBadRequest, "invalid_request")
	})
	t.Run("RejectsParametersInURL", func(t *testing.T) {
		wantError(t, s.post("/token?code="+s.code(id), redemption(id, "")), http.StatusBadRequest, "invalid_request")
	})
}

func TestCode(t *testing.T) {
	t.Run("RejectsCodeReplay", func(t *testing.T) {
		s := start(t)
		id := s.publicClient()
		code := s.code(id)
		token := s.post("/token", redemption(id, code)).object(t)["access_token"].(string)
		if !s.active(token) {
			t.Fatal("the token is not active")
		}
		wantError(t, s.post("/token", redemption(id, code)), http.StatusBadRequest, "invalid_grant")
		if s.active(token) {
			t.Error("the token outlived the replay of its code (RFC 6749 §4.1.2)")
		}
	})
	t.Run("RejectsLateCodeReplay", func(t *testing.T) {
		s := start(t)
		id := s.publicClient()
		code := s.code(id)
		token := s.post("/token", redemption(id, code)).object(t)["access_token"].(string)
		s.clock.Step(10 * time.Minute)
		wantError(t, s.post("/token", redemption(id, code)), http.StatusBadRequest, "invalid_grant")
		if s.active(token) {
			t.Error("the token outlived the replay of its code")
		}
	})
	t.Run("RejectsSecondGuessOfVerifier", func(t *testing.T) {
		s := start(t)
		id := s.publicClient()
		code := s.code(id)
		wantError(t, s.post("/token", with(redemption(id, code), "code_verifier", strings.Repeat("a", 43))), http.StatusBadRequest, "invalid_grant")
		wantError(t, s.post("/token", redemption(id, code)), http.StatusBadRequest, "invalid_grant")
	})
	t.Run("good for 60 seconds", func(t *testing.T) {
		s := start(t)
		id := s.publicClient()
		first, second := s.code(id), s.code(id)
		s.clock.Step(59 * time.Second)
		if a := s.post("/token", redemption(id, first)); a.status != http.StatusOK {
			t.Errorf("after 59 s: got %d\n%s", a.status, a.body)
		}
		s.clock.Step(time.Second)
		wantError(t, s.post("/token", redemption(id, second)), http.StatusBadRequest, "invalid_grant")
	})
	t.Run("RejectsParallelRedemption", func(t *testing.T) {
		s := start(t)
		id := s.publicClient()
		code := s.code(id)
		var won atomic.Int32
		var token atomic.Pointer[string]
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if a := s.post("/token", redemption(id, code)); a.status == http.StatusOK {
					won.Add(1)
					value := a.object(t)["access_token"].(string)
					token.Store(&value)
				}
			})
		}
		wg.Wait()
		if won.Load() > 1 {
			t.Errorf("%d requests got a token for one code", won.Load())
		}
		if value := token.Load(); value != nil && s.active(*value) {
			t.Error("the token outlived the replays of its code")
		}
	})
}

func TestClientCredentials(t *testing.T) {
	s := start(t)
	ask := func(id, secret string, form url.Values) answer {
		return s.post("/token", with(form, "grant_type", "client_credentials"), "Authorization", basic(id, secret))
	}
	a := ask("backend", "backend-secret", url.Values{"resource": {resource}})
	if a.status != http.StatusOK {
		t.Fatalf("got %d\n%s", a.status, a.body)
	}
	got := s.introspect(a.object(t)["access_token"].(string)).object(t)
	for name, want := range map[string]any{
		"active": true, "sub": "backend", "client_id": "backend", "username": "service-account-backend",
		"aud": resource, "scope": "stocks/read", "client_assurance_level": 2.0,
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	for _, name := range []string{"auth_time", "sid", "region", "client_type"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s: got %v, want nothing for a token without a user", name, got[name])
		}
	}
	wantError(t, ask("backend", "backend-secret", url.Values{"scope": {"stocks/trade"}}), http.StatusBadRequest, "invalid_scope")
	wantError(t, ask("backend", "backend-secret", url.Values{"resource": {"https://elsewhere.example"}}), http.StatusBadRequest, "invalid_target")
	wantError(t, ask("backend", "guess", nil), http.StatusUnauthorized, "invalid_client")
	wantError(t, ask("api-gateway-client", "s3cret:with%odd+chars", nil), http.StatusBadRequest, "unauthorized_client")

	reg := s.register(`{"redirect_uris":["` + callback + `"]}`).object(t)
	wantError(t, ask(reg["client_id"].(string), reg["client_secret"].(string), nil), http.StatusBadRequest, "unauthorized_client")
	wantError(t, s.post("/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {s.publicClient()}}), http.StatusBadRequest, "unauthorized_client")
}

func TestTokenLifetime(t *testing.T) {
	s := start(t, func(c *authserver.Config) { c.TokenLifetime = time.Minute })
	id := s.publicClient()
	grant := s.post("/token", redemption(id, s.code(id))).object(t)
	if grant["expires_in"] != 60.0 {
		t.Errorf("expires_in: got %v, want 60", grant["expires_in"])
	}
	token := grant["access_token"].(string)
	s.clock.Step(59 * time.Second)
	if !s.active(token) {
		t.Error("inactive before its time")
	}
	s.clock.Step(time.Second)
	if s.active(token) {
		t.Error("active at exp")
	}
}

func TestRevocation(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	token := s.IssueToken(authserver.Grant{ClientID: id})

	wantError(t, s.post("/revoke", url.Values{"token": {token}}), http.StatusUnauthorized, "invalid_client")
	wantError(t, s.post("/revoke", url.Values{"client_id": {id}}), http.StatusBadRequest, "invalid_request")
	t.Run("RejectsRevocationByAnotherClient", func(t *testing.T) {
		wantError(t, s.post("/revoke", url.Values{"client_id": {s.publicClient()}, "token": {token}}), http.StatusBadRequest, "unauthorized_client")
		if !s.active(token) {
			t.Error("another client revoked the token")
		}
	})
	for range 2 { // the second time the token is unknown, which is as good as revoked
		if a := s.post("/revoke", url.Values{"client_id": {id}, "token": {token}, "token_type_hint": {"refresh_token"}}); a.status != http.StatusOK {
			t.Errorf("got %d, want 200\n%s", a.status, a.body)
		}
	}
	if s.active(token) {
		t.Error("the token is active after its revocation")
	}
}
