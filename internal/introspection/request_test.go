package introspection_test

import (
	"encoding/base64"
	"io"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/internal/introspection"
)

// Covers: IN-01
func TestTokenTravelsInTheFormOnly(t *testing.T) {
	for _, tt := range []struct{ name, token string }{
		{name: "plain", token: "7f3a91c2"},
		{name: "RejectsLossOfReservedCharacters", token: "a+b/c=d&e==%2B~.-_"},
		{name: "RejectsInjectedParameters", token: "x&client_id=evil&token=y&token_type_hint=refresh_token#z?q"},
		{name: "RejectsInjectedHeader", token: "x\r\nX-Evil: 1"},
		{name: "not ASCII", token: "tökén\x00\xff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, json200(`{"active":true}`))
			c := newClient(t, introspection.Config{Endpoint: e.URL + "/introspect?tenant=a%20b", TokenTypeHint: true, AuthMethod: introspection.AuthPost})
			if _, err := c.Introspect(t.Context(), tt.token); err != nil {
				t.Fatalf("Introspect: %v", err)
			}
			r := e.asked()[0]
			if r.method != "POST" || r.uri != "/introspect?tenant=a%20b" {
				t.Errorf("got %s %s, want POST to the endpoint as configured", r.method, r.uri)
			}
			if got := r.header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
				t.Errorf("Content-Type: got %q, want application/x-www-form-urlencoded", got)
			}
			want := url.Values{"token": {tt.token}, "token_type_hint": {"access_token"}, "client_id": {clientID}, "client_secret": {clientSecret}}
			if got := r.form.Encode(); got != want.Encode() {
				t.Errorf("form: got %q, want %q", got, want.Encode())
			}
			if r.header.Get("X-Evil") != "" {
				t.Error("the token became a header")
			}
		})
	}
}

// Covers: IN-02
func TestTokenTypeHintCanBeSwitchedOff(t *testing.T) {
	e := start(t, json200(`{"active":true}`))
	for i, hint := range []bool{true, false} {
		c := newClient(t, introspection.Config{Endpoint: e.URL, TokenTypeHint: hint})
		if _, err := c.Introspect(t.Context(), "token"); err != nil {
			t.Fatalf("Introspect: %v", err)
		}
		got, sent := e.asked()[i].form["token_type_hint"]
		if sent != hint || hint && (len(got) != 1 || got[0] != "access_token") {
			t.Errorf("hint %v: got %q, want it to follow the setting", hint, got)
		}
	}
}

// Covers: IN-03, IN-04
func TestClientAuthentication(t *testing.T) {
	for _, tt := range []struct{ name, method, id, secret string }{
		{name: "basic by default", id: "gateway", secret: "secret"},
		{name: "basic with colon and percent", method: introspection.AuthBasic, id: "gate:way%20", secret: "p:a%3Ass+w ord&é=\"/"},
		{name: "post", method: introspection.AuthPost, id: "gateway", secret: "secret"},
		{name: "post with colon and percent", method: introspection.AuthPost, id: "gate:way%20", secret: "p:a%3Ass+w ord&é=\"/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, json200(`{"active":true}`))
			c := newClient(t, introspection.Config{Endpoint: e.URL, AuthMethod: tt.method, ClientID: tt.id, ClientSecret: tt.secret})
			const token = "token-under-inspection"
			if _, err := c.Introspect(t.Context(), token); err != nil {
				t.Fatalf("Introspect: %v", err)
			}
			r := e.asked()[0]
			authorization := r.header.Get("Authorization")
			if strings.Contains(authorization, token) || strings.HasPrefix(strings.ToLower(authorization), "bearer") {
				t.Errorf("Authorization: got %q, want never the token under inspection", authorization)
			}
			var id, secret string
			if tt.method == introspection.AuthPost {
				id, secret = r.form.Get("client_id"), r.form.Get("client_secret")
				if authorization != "" {
					t.Errorf("Authorization: got %q, want one way of authentication only (RFC 6749 §2.3)", authorization)
				}
			} else {
				id, secret = decodeBasic(t, authorization)
				if r.form.Has("client_id") || r.form.Has("client_secret") {
					t.Errorf("form: got %v, want no credentials beside Basic (RFC 6749 §2.3)", r.form)
				}
			}
			if id != tt.id || secret != tt.secret {
				t.Errorf("got %q, %q, want %q, %q", id, secret, tt.id, tt.secret)
			}
		})
	}
}

// decodeBasic reads the field as RFC 6749 §2.3.1 tells a server to.
func decodeBasic(t testing.TB, field string) (id, secret string) {
	t.Helper()
	b64, ok := strings.CutPrefix(field, "Basic ")
	data, err := base64.StdEncoding.DecodeString(b64)
	if !ok || err != nil {
		t.Fatalf("Authorization: got %q, want Basic and base64", field)
	}
	rawID, rawSecret, _ := strings.Cut(string(data), ":")
	if id, err = url.QueryUnescape(rawID); err != nil {
		t.Fatalf("id: %v", err)
	}
	if secret, err = url.QueryUnescape(rawSecret); err != nil {
		t.Fatalf("secret: %v", err)
	}
	return id, secret
}

// Keycloak compares the whole value: a list, a parameter or a wildcard gives no JWT.
//
// Covers: IN-15, IN-16, KC-05
func TestAcceptIsOneMediaTypeExactly(t *testing.T) {
	for accept, want := range map[introspection.Accept]string{
		introspection.AcceptJSON: "application/json",
		introspection.AcceptJWT:  "application/jwt",
	} {
		e := start(t, json200(`{"active":false}`))
		c := newClient(t, introspection.Config{Endpoint: e.URL, Accept: accept})
		if _, err := c.Introspect(t.Context(), "token"); err != nil {
			t.Fatalf("Introspect: %v", err)
		}
		if got := e.asked()[0].header["Accept"]; len(got) != 1 || got[0] != want {
			t.Errorf("Accept: got %q, want exactly %q", got, want)
		}
	}
}

func TestNewNamesEveryBadSetting(t *testing.T) {
	good := introspection.Config{Endpoint: "https://idp.example/introspect", ClientID: "id", ClientSecret: "secret"}
	for _, tt := range []struct {
		name string
		with func(*introspection.Config)
		want []string
	}{
		{name: "nothing set", with: func(c *introspection.Config) { *c = introspection.Config{} }, want: []string{"introspection_endpoint", "client_id", "client_secret"}},
		{name: "relative endpoint", with: func(c *introspection.Config) { c.Endpoint = "/introspect" }, want: []string{"introspection_endpoint"}},
		{name: "endpoint without host", with: func(c *introspection.Config) { c.Endpoint = "https:///introspect" }, want: []string{"introspection_endpoint"}},
		{name: "endpoint of another scheme", with: func(c *introspection.Config) { c.Endpoint = "file:///etc/passwd" }, want: []string{"introspection_endpoint"}},
		{name: "endpoint with user information", with: func(c *introspection.Config) { c.Endpoint = "https://u:CANARY@idp.example/" }, want: []string{"introspection_endpoint", "client_secret"}},
		{name: "endpoint with fragment", with: func(c *introspection.Config) { c.Endpoint += "#x" }, want: []string{"introspection_endpoint", "fragment"}},
		{name: "endpoint that is no URL", with: func(c *introspection.Config) { c.Endpoint = "https://idp.example/%zzCANARY" }, want: []string{"introspection_endpoint"}},
		{name: "unresolved secret", with: func(c *introspection.Config) { c.ClientSecret = "" }, want: []string{"client_secret", "resolves"}},
		{name: "unknown method", with: func(c *introspection.Config) { c.AuthMethod = "private_key_jwt" }, want: []string{"introspection.auth_method", "client_secret_basic", "client_secret_post", "private_key_jwt"}},
		{name: "unknown answer", with: func(c *introspection.Config) { c.Accept = 7 }, want: []string{"phantom_token.mode", "7"}},
		{name: "negative numbers", with: func(c *introspection.Config) { c.Timeout, c.MaxResponseBytes, c.MaxConcurrent = -1, -2, -3 },
			want: []string{"introspection.timeout_seconds", "introspection.max_response_bytes: ", "-2", "-3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.with(&cfg)
			c, err := introspection.New(cfg)
			if err == nil || c != nil {
				t.Fatalf("New: got %v, %v, want an error", c, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to name %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %q, want the endpoint not repeated: it may hold a secret", err)
			}
		})
	}
}

// Whatever the token and the credentials are, the provider reads them as they were.
func FuzzRequest(f *testing.F) {
	f.Add("token", "gateway", "secret", true)
	f.Add("a+b/c=d&e", "gate:way", "p%3Aa:s", false)
	f.Add("\x00\xff\r\n", "é", " ", true)
	f.Fuzz(func(t *testing.T, token, id, secret string, post bool) {
		if id == "" || secret == "" {
			return
		}
		cfg := introspection.Config{Endpoint: "http://127.0.0.1:1/", ClientID: id, ClientSecret: secret, TokenTypeHint: true}
		if post {
			cfg.AuthMethod = introspection.AuthPost
		}
		c := newClient(t, cfg)
		req, err := c.NewRequest(token)
		if err != nil {
			t.Fatalf("NewRequest: %v", err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatalf("form: %v", err)
		}
		want := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
		gotID, gotSecret := form.Get("client_id"), form.Get("client_secret")
		if post {
			want.Set("client_id", id)
			want.Set("client_secret", secret)
		} else {
			gotID, gotSecret = decodeBasic(t, req.Header.Get("Authorization"))
		}
		if gotID != id || gotSecret != secret || form.Encode() != want.Encode() {
			t.Errorf("got %q, %q, %q, want %q, %q, %q", gotID, gotSecret, form.Encode(), id, secret, want.Encode())
		}
	})
}
