package sts_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// TestSuccess compares the answer and the issued token with golden ones.
//
// Covers: TX-36, TX-41
func TestSuccess(t *testing.T) {
	w := newWorld(t, nil)
	a := w.post(w.form(nil))

	token := a.ok.AccessToken
	const wantBody = `{"access_token":"TOKEN","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":240}`
	if got := strings.ReplaceAll(a.body, token, "TOKEN"); a.status != 200 || got != wantBody {
		t.Errorf("got  %d %s\nwant 200 %s", a.status, got, wantBody)
	}
	a.header.Del("Date")
	a.header.Del("Content-Length")
	a.header.Del("Connection")
	wantHeader := http.Header{
		"Content-Type":           {"application/json"},
		"Cache-Control":          {"no-store"},
		"Pragma":                 {"no-cache"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if !reflect.DeepEqual(a.header, wantHeader) {
		t.Errorf("header: got %v\nwant %v", a.header, wantHeader)
	}

	if got, want := part(t, token, 0), (map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": w.own.SigningKeyID()}); !reflect.DeepEqual(got, want) {
		t.Errorf("token header: got %v, want %v", got, want)
	}
	claims := claimsOf(t, token)
	if id, _ := claims["jti"].(string); len(id) < 22 {
		t.Errorf("jti: got %q, want at least 128 random bits", id)
	}
	delete(claims, "jti")
	want := map[string]any{
		"iss":       w.url,
		"sub":       "john.doe@demo.example",
		"aud":       apiAudience,
		"client_id": mcpServer,
		"iat":       float64(w.now().Unix()),
		"exp":       float64(w.now().Add(4 * time.Minute).Unix()),
		"scope":     "stocks/read",
		"act": map[string]any{
			"sub": mcpServer, "iss": w.url,
			"act": map[string]any{"sub": "dyn-123", "iss": w.phantom},
		},
		"region": "USA", "client_type": "mcp", "client_assurance_level": float64(1),
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("claims: got %v\nwant %v", claims, want)
	}
}

// TestVariants are requests that succeed, and what of them shows in the result.
//
// Covers: TX-30, TX-34, TX-36, TX-37, TX-38, TX-41, TX-42, RI-01, RI-04
func TestVariants(t *testing.T) {
	type result struct {
		aud     any
		scope   any // claim; nil when absent
		member  any // scope member of the answer; nil when absent
		expires int64
		issued  string
	}
	usual := result{aud: apiAudience, scope: "stocks/read", expires: 240, issued: accessTokenType}
	with := func(change func(*result)) result {
		r := usual
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name   string
		mint   func(*keyring.Token)
		change func(url.Values)
		want   result
		claims map[string]any // further claims to find; nil value: absent
	}{
		{name: "scope absent", change: func(f url.Values) { f.Del("scope") },
			want: with(func(r *result) { r.member = "stocks/read" })},
		{name: "scope empty is absent", change: func(f url.Values) { f.Set("scope", "") },
			want: with(func(r *result) { r.member = "stocks/read" })},
		{name: "unknown parameter", change: func(f url.Values) { f.Set("foo", "1") }, want: usual},
		{name: "two scopes in another order",
			mint:   func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/read", "stocks/trade"} },
			change: func(f url.Values) { f.Set("scope", "stocks/trade stocks/read") },
			want:   with(func(r *result) { r.scope = "stocks/trade stocks/read" })},
		{name: "scope repeated", change: func(f url.Values) { f.Set("scope", "stocks/read  stocks/read") }, want: usual},
		{name: "target as resource", change: func(f url.Values) { f.Del("audience"); f.Set("resource", apiAudience) }, want: usual},
		{name: "target as both", change: func(f url.Values) { f.Set("resource", apiAudience) }, want: usual},
		{name: "target twice", change: func(f url.Values) { f["audience"] = []string{apiAudience, "", apiAudience} }, want: usual},
		{name: "resource byte by byte", change: func(f url.Values) { f.Del("audience"); f.Set("resource", ordersURI) },
			want:   with(func(r *result) { r.aud = ordersURI }),
			claims: map[string]any{"region": "USA", "client_type": nil, "client_assurance_level": nil, "email": nil}},
		{name: "two targets have what both may have",
			mint:   func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/read", "stocks/trade", "orders/write"} },
			change: func(f url.Values) { f.Set("resource", ordersURI); f.Del("scope") },
			want: with(func(r *result) {
				r.aud, r.member = []any{apiAudience, ordersURI}, "stocks/read"
			}),
			claims: map[string]any{"region": "USA", "client_type": nil}},
		{name: "target without scopes", change: func(f url.Values) { f.Set("audience", "reports"); f.Del("scope") },
			want:   with(func(r *result) { r.aud, r.scope = "reports", nil }),
			claims: map[string]any{"region": nil}},
		{name: "JWT asked for", change: func(f url.Values) { f.Set("requested_token_type", jwtType) },
			want: with(func(r *result) { r.issued = jwtType })},
		{name: "subject called a JWT", change: func(f url.Values) { f.Set("subject_token_type", jwtType) }, want: usual},
		{name: "long subject gives the configured life", mint: func(k *keyring.Token) { k.Expiry = k.Expiry.Add(time.Hour) },
			want: with(func(r *result) { r.expires = 300 })},
		{name: "subject for several", mint: func(k *keyring.Token) { k.Audience = []string{"x", mcpAudience} }, want: usual},
		{name: "claim is null", mint: func(k *keyring.Token) { k.Extra["region"] = nil }, want: usual, claims: map[string]any{"region": nil}},
		{name: "claim is an object", mint: func(k *keyring.Token) { k.Extra["region"] = map[string]any{"a": []any{"b", 1.5}} }, want: usual,
			claims: map[string]any{"region": map[string]any{"a": []any{"b", 1.5}}}},
		{name: "may_act names the caller", mint: func(k *keyring.Token) { k.Extra["may_act"] = map[string]any{"sub": mcpServer, "iss": "SELF"} }, want: usual},
		{name: "may_act names the caller as client", mint: func(k *keyring.Token) {
			k.Extra["may_act"] = map[string]any{"client_id": mcpServer, "sub": mcpServer, "iss": "SELF"}
		}, want: usual},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			form := w.form(func(f url.Values) {
				f.Set("subject_token", w.mint(func(k *keyring.Token) {
					if tc.mint != nil {
						tc.mint(k)
					}
					if may, ok := k.Extra["may_act"].(map[string]any); ok && may["iss"] == "SELF" {
						may["iss"] = w.url
					}
				}))
			})
			if tc.change != nil {
				tc.change(form)
			}
			a := w.post(form)
			if a.status != 200 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			claims := claimsOf(t, a.ok.AccessToken)
			got := result{aud: claims["aud"], scope: claims["scope"], expires: a.ok.ExpiresIn, issued: a.ok.IssuedTokenType}
			if a.ok.Scope != nil {
				got.member = *a.ok.Scope
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v\nwant %+v", got, tc.want)
			}
			if life := claims["exp"].(float64) - claims["iat"].(float64); int64(life) != tc.want.expires {
				t.Errorf("life of the token: got %v s, want %d", life, tc.want.expires)
			}
			for name, want := range tc.claims {
				if !reflect.DeepEqual(claims[name], want) {
					t.Errorf("claim %s: got %v, want %v", name, claims[name], want)
				}
			}
		})
	}
}

// TestActorChain follows a token through three hops: an agent asked a planner, which asked
// the MCP server. The exchanged token says so, outermost first.
//
// Covers: TX-37
func TestActorChain(t *testing.T) {
	w := newWorld(t, nil)
	claims := w.issued(w.form(func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) {
			k.Actor = map[string]any{
				"sub": "planner", "iss": "https://one.example", "exp": 1, "nbf": 1, "aud": "x",
				"act": map[string]any{"sub": "agent", "iss": "https://two.example", "exp": 2},
			}
		}))
	}))
	want := map[string]any{
		"sub": mcpServer, "iss": w.url,
		"act": map[string]any{
			"sub": "planner", "iss": "https://one.example",
			"act": map[string]any{"sub": "agent", "iss": "https://two.example"},
		},
	}
	if !reflect.DeepEqual(claims["act"], want) {
		t.Errorf("act: got %v\nwant %v", claims["act"], want)
	}
}

// TestCallerIsTheActor: there is no impersonation. Without actor_token the authenticated
// caller is the actor, and the audit line has both parties.
func TestCallerIsTheActor(t *testing.T) {
	w := newWorld(t, nil)
	claims := w.issued(w.form(nil))
	if act, _ := claims["act"].(map[string]any); act["sub"] != mcpServer || claims["sub"] != "john.doe@demo.example" {
		t.Errorf("got sub %v, act %v, want the user and the caller", claims["sub"], claims["act"])
	}
	line := w.lines()[0]
	if line["caller"] != mcpServer || line["subject_fingerprint"] == nil {
		t.Errorf("audit line %v does not name both parties", line)
	}
}

// TestEveryAlgorithm issues with each algorithm and accepts subjects of each.
func TestEveryAlgorithm(t *testing.T) {
	for _, alg := range []string{keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA} {
		t.Run(alg, func(t *testing.T) {
			w := newWorld(t, func(w *world, p *parts) {
				w.gateway, w.own = newRing(t, alg), newRing(t, alg)
				p.exchange.Subject.Keys, p.exchange.Keys, p.service.Keys, p.service.SubjectDocuments = w.gateway, w.own, w.own, nil
			})
			a := w.post(w.form(nil))
			if a.status != 200 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
				Issuer: w.url, Audiences: []string{apiAudience}, Keys: w.own, Algorithms: []string{alg},
				Now: w.now,
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := verifier.Verify(t.Context(), a.ok.AccessToken); err != nil {
				t.Errorf("verifying what was issued: %v", err)
			}
		})
	}
}

// TestClientAuthentication are the two methods with credentials that need encoding.
func TestClientAuthentication(t *testing.T) {
	w := newWorld(t, nil)
	form := w.form(func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Audience = []string{otherAudience} }))
		f.Set("audience", otherAPI)
	})
	for _, tc := range []struct {
		name   string
		change func(*http.Request, url.Values)
	}{
		{"basic", func(r *http.Request, _ url.Values) { setBasic(r, otherServer, otherSecret) }},
		{"basic in lower case", func(r *http.Request, _ url.Values) {
			setBasic(r, otherServer, otherSecret)
			r.Header.Set("Authorization", "basic  "+strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
		}},
		{"basic with the same client_id in the body", func(r *http.Request, f url.Values) {
			setBasic(r, otherServer, otherSecret)
			f.Set("client_id", otherServer)
		}},
		{"post", func(r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_id", otherServer)
			f.Set("client_secret", otherSecret)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			probe := w.request("")
			f := url.Values{}
			for k, v := range form {
				f[k] = v
			}
			tc.change(probe, f)
			r := w.request(f.Encode())
			r.Header = probe.Header
			if a := w.do(r); a.status != 200 {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
}
