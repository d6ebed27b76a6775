package sts_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// serve has the service answer without a network, so that a test need not care for https.
func (w *world) serve(method, path string) []byte {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.service.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	if rec.Code != http.StatusOK {
		w.t.Fatalf("%s: got %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes()
}

// slowKeys says when it is asked and answers when it may.
type slowKeys struct {
	keyring.KeySource
	asked   chan<- struct{}
	proceed <-chan struct{}
}

func (s slowKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.proceed
	return s.KeySource.Keys(ctx, kid)
}

// changingKeys is a Keys whose ring changes.
type changingKeys struct{ ring atomic.Pointer[keyring.Ring] }

func (k *changingKeys) Ring() *keyring.Ring { return k.ring.Load() }

func (k *changingKeys) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	return k.Ring().Keys(ctx, kid)
}

// TestActorToken: the parameters arrive at the decision, whose tests have the rest, and their
// types are looked at.
//
// Covers: TX-32, TX-42
func TestActorToken(t *testing.T) {
	w := newWorld(t, func(_ *world, p *parts) {
		p.policy = strings.Replace(usual, "    audiences:\n", "    actors: [robot]\n    audiences:\n", 1)
	})
	robot := func(f url.Values) {
		f.Set("actor_token", w.mint(func(k *keyring.Token) { k.Subject, k.ClientID = "robot", "robot" }))
		f.Set("actor_token_type", accessTokenType)
	}
	want := map[string]any{
		"sub": "robot", "iss": w.phantom, "client_id": mcpServer,
		"act": map[string]any{"sub": "dyn-123", "iss": w.phantom},
	}
	if got := w.issued(w.form(robot))["act"]; !reflect.DeepEqual(got, want) {
		t.Errorf("act: got %v\nwant %v", got, want)
	}
	for _, tc := range []struct{ tokenType, text string }{
		{jwtType, ""},
		{"urn:ietf:params:oauth:token-type:id_token", "parameter 'actor_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:id_token'"},
		{"urn:ietf:params:oauth:token-type:refresh_token", "parameter 'actor_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:refresh_token'"},
		{"", "parameter 'actor_token_type' is missing: it is required with actor_token"},
	} {
		a := w.post(w.form(func(f url.Values) { robot(f); f.Set("actor_token_type", tc.tokenType) }))
		if tc.text == "" {
			if a.status != 200 {
				t.Errorf("%s: got %d %s, want 200", tc.tokenType, a.status, a.body)
			}
			continue
		}
		if a.status != 400 || a.err.Code != "invalid_request" || a.err.Description != tc.text {
			t.Errorf("%s: got %d %s\nwant invalid_request: %s", tc.tokenType, a.status, a.body, tc.text)
		}
	}
}

// TestToolNarrows: the parameter tool can only take away.
func TestToolNarrows(t *testing.T) {
	w := newWorld(t, func(_ *world, p *parts) {
		p.policy = usual + "tools:\n  get_stock_prices:\n    requires: [stocks/read]\n    audiences: {https://api.demo.example: [stocks/read]}\n"
	})
	both := func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/read", "stocks/trade"} }
	ask := func(tool, audience, scope string) answer {
		return w.post(w.form(func(f url.Values) {
			f.Set("subject_token", w.mint(both))
			f.Set("tool", tool)
			f.Set("audience", audience)
			f.Set("scope", scope)
		}))
	}
	for _, tc := range []struct{ name, tool, audience, scope, want, code, text string }{
		{name: "no tool", audience: apiAudience, want: "stocks/read stocks/trade"},
		{name: "tool", tool: "get_stock_prices", audience: apiAudience, want: "stocks/read"},
		{name: "RejectsScopeThatTheToolLacks", tool: "get_stock_prices", audience: apiAudience, scope: "stocks/trade", code: "invalid_scope",
			text: "scope 'stocks/trade' is not configured for tool 'get_stock_prices': expected one of 'stocks/read'; a new one goes into tools.get_stock_prices.audiences['https://api.demo.example'] (line 30)"},
		{name: "RejectsTargetThatTheToolLacks", tool: "get_stock_prices", audience: ordersURI, code: "invalid_target",
			text: "target 'https://ORDERS.example/v1/' is not configured for tool 'get_stock_prices': expected one of 'https://api.demo.example'; a new one goes into tools.get_stock_prices.audiences (line 30)"},
		{name: "RejectsUnknownTool", tool: "drop table", audience: apiAudience, code: "invalid_target",
			text: "tool 'drop table' is not configured: expected one of tools (line 27)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := ask(tc.tool, tc.audience, tc.scope)
			if tc.code != "" {
				if a.status != 400 || a.err.Code != tc.code || a.err.Description != tc.text {
					t.Errorf("got  %d %s\nwant %s: %s", a.status, a.body, tc.code, tc.text)
				}
				return
			}
			if a.status != 200 || claimsOf(t, a.ok.AccessToken)["scope"] != tc.want {
				t.Errorf("got %d %s, want scope %q", a.status, a.body, tc.want)
			}
		})
	}
	if a := w.post(w.form(func(f url.Values) { f["tool"] = []string{"get_stock_prices", "x"} })); a.status != 400 || a.err.Code != "invalid_request" {
		t.Errorf("two tools: got %d %s, want 400 invalid_request", a.status, a.body)
	}
}

// TestRepeatedTargets: audience and resource may occur more than once, in any mixture; the
// token is for exactly those.
//
// Covers: RI-01, RI-04
func TestRepeatedTargets(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		name               string
		audience, resource []string
		want               any
	}{
		{name: "two audiences", audience: []string{apiAudience, ordersURI}, want: []any{apiAudience, ordersURI}},
		{name: "two resources", resource: []string{ordersURI, apiAudience}, want: []any{ordersURI, apiAudience}},
		{name: "one of each", audience: []string{apiAudience}, resource: []string{ordersURI}, want: []any{apiAudience, ordersURI}},
		{name: "the same four times", audience: []string{apiAudience, apiAudience}, resource: []string{apiAudience, apiAudience}, want: apiAudience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := w.issued(w.form(func(f url.Values) { f["audience"], f["resource"] = tc.audience, tc.resource }))
			if !reflect.DeepEqual(claims["aud"], tc.want) {
				t.Errorf("aud: got %v, want %v", claims["aud"], tc.want)
			}
		})
	}
}

// TestCachedAnswer: who asks again gets the same token, and is told the life that is left of
// it; the audit line says so.
//
// Covers: TX-36, TX-41
func TestCachedAnswer(t *testing.T) {
	w := newWorld(t, nil)
	form := w.form(nil)
	first := w.post(form)
	if first.ok.ExpiresIn != 240 {
		t.Fatalf("got %d %s", first.status, first.body)
	}
	for _, tc := range []struct {
		after time.Duration
		want  int64
	}{{0, 240}, {1500 * time.Millisecond, 238}, {100 * time.Second, 138}, {127 * time.Second, 11}} {
		w.advance(tc.after)
		if again := w.post(form); again.ok.AccessToken != first.ok.AccessToken || again.ok.ExpiresIn != tc.want {
			t.Errorf("%s later: got %s, want the same token and expires_in %d", tc.after, again.body, tc.want)
		}
	}
	for i, line := range w.lines() {
		if line["cached"] != (i > 0) || line["jti"] != claimsOf(t, first.ok.AccessToken)["jti"] {
			t.Errorf("audit line %d: got %v", i, line)
		}
	}
	w.advance(2 * time.Second)
	last := w.post(form)
	if last.ok.AccessToken == first.ok.AccessToken || last.ok.ExpiresIn != 9 {
		t.Errorf("shortly before the end: got %s, want another token", last.body)
	}
}

// TestCachedAnswerHasItsOwnWords: two requests that differ in requested_token_type share a
// token, and each is answered as it asked.
func TestCachedAnswerHasItsOwnWords(t *testing.T) {
	w := newWorld(t, nil)
	form := w.form(nil)
	first := w.post(form)
	form.Set("requested_token_type", jwtType)
	second := w.post(form)
	if first.ok.AccessToken != second.ok.AccessToken || first.ok.IssuedTokenType != accessTokenType || second.ok.IssuedTokenType != jwtType {
		t.Errorf("got %s\nand %s", first.body, second.body)
	}
}

// TestCacheKnowsCallers: what one caller was given is not another's, even for the same
// subject token.
func TestCacheKnowsCallers(t *testing.T) {
	w := newWorld(t, nil)
	form := w.form(nil)
	if a := w.post(form); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	r := w.request(form.Encode())
	setBasic(r, otherServer, otherSecret)
	if a := w.do(r); a.status != 400 {
		t.Errorf("another caller with the same request: got %d %s, want 400", a.status, a.body)
	}
	r = w.request(form.Encode())
	setBasic(r, mcpServer, "wrong")
	if a := w.do(r); a.status != 401 {
		t.Errorf("the same request without the secret: got %d %s, want 401", a.status, a.body)
	}
}

// TestKeysAreReplacedWhileItWorks: documents and tokens follow at once; what the old key
// signed is verified as long as it is published.
//
// Covers: AS-06
func TestKeysAreReplacedWhileItWorks(t *testing.T) {
	newKey := func(alg string) *keyring.Key {
		key, err := keyring.Generate(alg)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	ring := func(keys ...*keyring.Key) *keyring.Ring {
		r, err := keyring.NewRing(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	old, next := newKey(keyring.ES256), newKey(keyring.EdDSA)
	keys := new(changingKeys)
	keys.ring.Store(ring(old, next))
	w := newWorld(t, func(_ *world, p *parts) { p.exchange.Keys, p.service.Keys = keys, keys })
	form := w.form(nil)
	verify := func(token string) error {
		provider, err := oidc.NewProvider(t.Context(), w.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = provider.Verifier(&oidc.Config{ClientID: apiAudience, Now: w.now}).Verify(t.Context(), token)
		return err
	}
	kid := func(a answer) any { return part(t, a.ok.AccessToken, 0)["kid"] }

	before := w.post(form)
	keys.ring.Store(ring(next, old))
	after := w.post(form)
	if kid(before) != old.ID() || kid(after) != next.ID() {
		t.Errorf("kid: got %v and %v, want %s and %s", kid(before), kid(after), old.ID(), next.ID())
	}
	if got := string(w.serve(http.MethodGet, "/jwks.json")); got != string(keys.Ring().JWKS()) {
		t.Errorf("keys: got %s", got)
	}
	var metadata struct {
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := json.Unmarshal(w.serve(http.MethodGet, "/.well-known/openid-configuration"), &metadata); err != nil || !reflect.DeepEqual(metadata.Algorithms, []string{"EdDSA", "ES256"}) {
		t.Errorf("algorithms: got %q, %v", metadata.Algorithms, err)
	}
	for name, a := range map[string]answer{"old": before, "new": after} {
		if err := verify(a.ok.AccessToken); err != nil {
			t.Errorf("the %s token: %v", name, err)
		}
	}
	// A key that has to go at once: no answer is signed by it any more.
	replacement := newKey(keyring.ES256)
	keys.ring.Store(ring(replacement))
	if a := w.post(form); kid(a) != replacement.ID() || verify(a.ok.AccessToken) != nil {
		t.Errorf("after the old keys are gone: got kid %v, want %s", kid(a), replacement.ID())
	}
	if err := verify(after.ok.AccessToken); err == nil {
		t.Error("a token of a key that is gone was verified")
	}
}
