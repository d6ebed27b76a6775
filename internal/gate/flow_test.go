package gate_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// payload is the claims of a phantom token, verified as an upstream would.
func (w *world) payload(d gate.Decision) map[string]any {
	w.t.Helper()
	if d.Forward == nil {
		w.t.Fatalf("got %s, want forwarded; log: %s", wire(d.Answer), w.log.String())
	}
	token, ok := strings.CutPrefix(d.Forward.Authorization, "Bearer ")
	if !ok {
		w.t.Fatalf("Authorization = %q, want a bearer token", d.Forward.Authorization)
	}
	v, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer: issuerURL, Audiences: []string{upstreamAud}, Keys: w.ring, Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	verified, err := v.Verify(w.t.Context(), token)
	if err != nil {
		w.t.Fatalf("verifying the phantom token: %v", err)
	}
	return verified.Claims
}

// Covers: MCP-17, MCP-44, MCP-50, JW-02, JW-03, JW-04, JW-05, JW-06, JW-07, JW-08, JW-09, JW-10, JW-11, JW-12, JW-17
func TestPhantomToken(t *testing.T) {
	tests := []struct {
		name   string
		answer map[string]any
		change func(*gate.Config)
		want   map[string]string // member → JSON; "" means absent
	}{
		{
			name: "claims",
			answer: map[string]any{
				"acr": `"mfa"`, "auth_time": 1_799_999_000, "amr": `["pwd"]`, "act": `{"sub":"agent"}`, "may_act": `{"sub":"mcp-server"}`, "email": `"j@example.com"`,
			},
			want: map[string]string{
				"iss": `"` + issuerURL + `"`, "aud": `"` + upstreamAud + `"`, "sub": `"john.doe"`, "client_id": `"https://claude.ai/oauth/client"`,
				"iat": fmt.Sprint(start.Unix()), "exp": fmt.Sprint(start.Add(5 * time.Minute).Unix()), "scope": `"mcp:read"`, "region": `"USA"`,
				"acr": `"mfa"`, "auth_time": "1799999000", "amr": `["pwd"]`, "act": `{"sub":"agent"}`, "may_act": `{"sub":"mcp-server"}`,
				"email": "", "cnf": "", "username": "", "active": "", "token_type": "",
			},
		},
		{
			name:   "never outlives the access token",
			answer: map[string]any{"exp": start.Add(20 * time.Second).Unix()},
			want:   map[string]string{"exp": fmt.Sprint(start.Add(20 * time.Second).Unix())},
		},
		{
			name:   "without a user the subject is the client",
			answer: map[string]any{"sub": nil, "client_id": `"batch"`},
			change: func(c *gate.Config) { c.Token.AllowWithoutUser = true },
			want:   map[string]string{"sub": `"batch"`, "client_id": `"batch"`},
		},
		{
			name:   "subject from another member, nested claim",
			answer: map[string]any{"user": `{"id":"u-1","roles":["a","b"]}`},
			change: func(c *gate.Config) {
				mint := c.Phantom.(*gate.Mint)
				mint.SubjectClaim = "user.id"
				mint.Claims = map[string]string{"roles": "user.roles"}
			},
			want: map[string]string{"sub": `"u-1"`, "roles": `["a","b"]`, "region": ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.change)
			w.idp.answer[goodToken] = claims(tt.answer)
			got := w.payload(w.bearer(goodToken))
			if jti, _ := got["jti"].(string); len(jti) < 16 {
				t.Errorf("jti = %q, want at least 16 characters", jti)
			}
			for name, want := range tt.want {
				value, present := got[name]
				if want == "" {
					if present {
						t.Errorf("%s = %v, want absent", name, value)
					}
					continue
				}
				if b, err := json.Marshal(value); err != nil || string(b) != want {
					t.Errorf("%s = %s, want %s", name, b, want)
				}
			}
		})
	}
}

// Covers: MCP-17, BC-13, DP-17, JW-17, MCP-26
func TestForgedIdentityHeadersAreRemoved(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.ClearHeaders = []string{"X-Tenant-Id"} })
	forged := []string{
		"proxy-authorization", "dpop", "txn-token", "x-consumer-id", "x_consumer_id", "x-consumer_username", "x_consumer-custom-id",
		"x-consumer-groups", "x-credential-identifier", "x_credential_identifier", "x-anonymous-consumer", "x-authenticated-sub",
		"x-userinfo", "x_userinfo", "client-cert", "client_cert", "x-forwarded-user", "x-forwarded_access-token", "remote_user",
		"proxy_authorization", "x-tenant-id", "x_tenant_id", "x-auth-request-email", "x-original-authorization", "x_id_token",
	}
	kept := []string{
		"mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "mcp-param-region", "last-event-id", "accept", "origin",
		"host", "traceparent", "cookie", "x-forwarded-for", "x-request-id", "user-agent", "content-type",
	}
	r := request("/mcp", "authorization", "Bearer "+goodToken)
	for _, name := range slices.Concat(forged, kept) {
		r.Headers = append(r.Headers, gate.Header{Name: name, Value: "v"}, gate.Header{Name: name, Value: "again"})
	}
	d := w.decide(r)
	if d.Forward == nil {
		t.Fatalf("got %s, want forwarded", wire(d.Answer))
	}
	if got := slices.Sorted(slices.Values(d.Forward.Clear)); !slices.Equal(got, slices.Sorted(slices.Values(forged))) {
		t.Errorf("cleared %q, want %q", got, forged)
	}
	if strings.Contains(d.Forward.Authorization, goodToken) {
		t.Error("the access token goes upstream")
	}
}

// Covers: CA-01, CA-02, CA-04, CA-06, CA-09, CA-10
func TestCachedClaims(t *testing.T) {
	t.Run("asked once, decided every time", func(t *testing.T) {
		w := newWorld(t, nil)
		first := w.payload(w.bearer(goodToken))
		second := w.payload(w.bearer(goodToken))
		if n := w.idp.count(); n != 1 {
			t.Errorf("provider was asked %d times, want 1", n)
		}
		if first["jti"] != second["jti"] {
			t.Error("a second token was minted for the same claims, want the first one again")
		}
		strict := w.cfg
		strict.Token.Scopes = oauth.Scopes{"mcp:admin"}
		g, err := gate.New(strict)
		if err != nil {
			t.Fatal(err)
		}
		d := g.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
		if d.Answer == nil || d.Answer.Status != 403 {
			t.Errorf("route with another scope: got %+v, want 403 from the cached claims", d)
		}
		if n := w.idp.count(); n != 1 {
			t.Errorf("provider was asked %d times, want 1", n)
		}
	})
	t.Run("never after exp", func(t *testing.T) {
		w := newWorld(t, nil)
		w.idp.answer[goodToken] = claims(map[string]any{"exp": start.Add(2 * time.Second).Unix()})
		w.payload(w.bearer(goodToken))
		w.now = start.Add(2 * time.Second)
		if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != 401 {
			t.Errorf("at exp: got %+v, want 401", d)
		}
	})
	t.Run("inactive for a short time only", func(t *testing.T) {
		w := newWorld(t, nil)
		for range 3 {
			w.bearer("later")
		}
		if n := w.idp.count(); n != 1 {
			t.Errorf("provider was asked %d times about an inactive token, want 1", n)
		}
		w.idp.answer["later"] = claims(nil)
		w.now = start.Add(5 * time.Second)
		w.payload(w.bearer("later"))
	})
	t.Run("trouble is never cached", func(t *testing.T) {
		w := newWorld(t, nil)
		w.idp.err = errors.New("down")
		if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != 503 {
			t.Errorf("got %+v, want 503", d)
		}
		w.idp.err = nil
		w.payload(w.bearer(goodToken))
	})
	t.Run("a cached user goes on while the provider is down", func(t *testing.T) {
		w := newWorld(t, nil)
		w.payload(w.bearer(goodToken))
		w.idp.err = errors.New("down")
		w.payload(w.bearer(goodToken))
	})
	t.Run("switched off", func(t *testing.T) {
		w := newWorld(t, func(c *gate.Config) { c.CacheTTL = 0 })
		for range 3 {
			w.payload(w.bearer(goodToken))
		}
		if n := w.idp.count(); n != 3 {
			t.Errorf("provider was asked %d times, want 3", n)
		}
	})
	t.Run("without exp for a minute at most", func(t *testing.T) {
		w := newWorld(t, nil)
		w.idp.answer[goodToken] = claims(map[string]any{"exp": nil})
		w.payload(w.bearer(goodToken))
		w.now = start.Add(time.Minute)
		w.payload(w.bearer(goodToken))
		if n := w.idp.count(); n != 2 {
			t.Errorf("provider was asked %d times, want 2", n)
		}
	})
	t.Run("minted anew before it dies", func(t *testing.T) {
		w := newWorld(t, func(c *gate.Config) { c.CacheTTL = time.Hour })
		first := w.payload(w.bearer(goodToken))
		w.now = start.Add(4*time.Minute + 31*time.Second)
		if second := w.payload(w.bearer(goodToken)); first["jti"] == second["jti"] {
			t.Error("token with 29 s left was used again, want a new one")
		}
	})
	t.Run("routes of different audience do not share a token", func(t *testing.T) {
		w := newWorld(t, nil)
		w.payload(w.bearer(goodToken))
		other := w.cfg
		mint := *w.cfg.Phantom.(*gate.Mint)
		mint.Audience = "https://other.internal"
		other.Phantom = &mint
		g, err := gate.New(other)
		if err != nil {
			t.Fatal(err)
		}
		d := g.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
		if !strings.Contains(payloadText(d), "https://other.internal") {
			t.Errorf("payload = %s, want the other audience", payloadText(d))
		}
	})
}

func payloadText(d gate.Decision) string { return partText(d, 1) }
func headerText(d gate.Decision) string  { return partText(d, 0) }

func partText(d gate.Decision, part int) string {
	if d.Forward == nil {
		return wire(d.Answer)
	}
	parts := strings.Split(strings.TrimPrefix(d.Forward.Authorization, "Bearer "), ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Covers: CA-05
func TestConcurrentMissesAskOnce(t *testing.T) {
	w := newWorld(t, nil)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if d := w.gate.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{}); d.Forward == nil {
				t.Errorf("got %s, want forwarded", wire(d.Answer))
			}
		})
	}
	wg.Wait()
	if n := w.idp.count(); n != 1 {
		t.Errorf("provider was asked %d times, want 1", n)
	}
}

// Covers: IN-14
func TestTokenFishingIsLimitedPerAddress(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) {
		c.Failures = tokencache.NewLimiter(60, 20, 1000, c.Now)
	})
	fish := func(address string, i int) int {
		return w.decideAt(request("/mcp", "authorization", fmt.Sprintf("Bearer guess%d", i)), &kong{address: address}).Answer.Status
	}
	limited := 0
	for i := range 1000 {
		if fish("192.0.2.1", i) == 429 {
			limited++
		}
	}
	if n := w.idp.count(); n != 20 || limited != 980 {
		t.Errorf("provider was asked %d times and %d requests were limited, want 20 and 980", n, limited)
	}
	w.payload(w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{address: "192.0.2.2"}))
	w.payload(w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{address: "192.0.2.1"})) // cached by now
}

// Covers: IN-15, IN-16
func TestForwardsTheProvidersJWT(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.Phantom = &gate.Relay{} })
	if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != 500 {
		t.Errorf("no JWT and no key: got %+v, want 500", d)
	}
	w = newWorld(t, func(c *gate.Config) { c.Phantom = &gate.Relay{} })
	w.idp.jwt = "aaa.bbb.ccc"
	if d := w.bearer(goodToken); d.Forward == nil || d.Forward.Authorization != "Bearer aaa.bbb.ccc" {
		t.Errorf("got %+v, want the provider's JWT", d)
	}
	w = newWorld(t, func(c *gate.Config) { c.Phantom = &gate.Relay{Fallback: c.Phantom.(*gate.Mint)} })
	w.payload(w.bearer(goodToken)) // no JWT came: minted here
}
