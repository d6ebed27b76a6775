package sts_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// TestNeverMoreThanTheSubject is a property: whatever the subject token, the request and
// the configuration, what is issued has no scope that one of the three lacks, no target
// that was not asked for, no claim that is not listed, and does not live longer than the
// subject token. A scope that was asked for is there or the request is refused.
//
// Covers: TX-34, TX-41
func TestNeverMoreThanTheSubject(t *testing.T) {
	const seed = 20261121
	random := rand.New(rand.NewPCG(seed, seed))
	some := func(of []string) []string {
		var out []string
		for _, v := range of {
			if random.IntN(2) == 0 {
				out = append(out, v)
			}
		}
		random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
	scopes := []string{"a", "b", "c", "d"}
	claims := []string{"region", "tenant", "email"}
	targets := []string{"https://one.example", "https://two.example", "three"}

	type target struct {
		scopes, most oauth.Scopes
		claims       []string
	}

	const configurations, requests = 20, 100
	granted := 0
	for range configurations {
		configured := make(map[string]target)
		var audiences, reached strings.Builder
		for _, name := range targets[:1+random.IntN(len(targets))] {
			c := target{scopes: some(scopes), most: some(scopes), claims: some(claims)}
			// What the caller may have is within what anybody may have.
			c.most = slices.Concat(c.most, slices.DeleteFunc(slices.Clone(c.scopes), func(s string) bool { return slices.Contains(c.most, s) }))
			configured[name] = c
			fmt.Fprintf(&audiences, "  %s:\n    scopes: [%s]\n    claims: {", name, strings.Join(c.most, ", "))
			for i, claim := range c.claims {
				fmt.Fprintf(&audiences, "%s%s: %s", ", "[:2*min(i, 1)], claim, claim)
			}
			audiences.WriteString("}\n")
			fmt.Fprintf(&reached, "      %s: {scopes: [%s]}\n", name, strings.Join(c.scopes, ", "))
		}
		lifetime := time.Duration(10+random.IntN(600)) * time.Second
		w := newWorld(t, func(_ *world, p *parts) {
			p.policy = fmt.Sprintf("version: 1\nlimits: {token_lifetime: %s}\naudiences:\n%scallers:\n  mcp-server:\n    subject_audience: %s\n    authentication: {secret_variables: [MCP_SECRET]}\n    audiences:\n%s",
				lifetime, &audiences, mcpAudience, &reached)
		})
		for range requests {
			subject := w.subject()
			subject.Scope = some(scopes)
			subject.Expiry = w.now().Add(time.Duration(random.IntN(900)-30) * time.Second)
			if !subject.Expiry.After(subject.IssuedAt) {
				continue
			}
			subject.Extra = map[string]any{}
			for _, name := range some(claims) {
				subject.Extra[name] = "x"
			}
			audience, resource := some(targets), some(targets[:2])
			var asked []string
			if random.IntN(2) == 0 {
				asked = some(scopes)
			}
			body := url.Values{
				"grant_type":         {grantType},
				"subject_token":      {sign(t, w.gateway, subject)},
				"subject_token_type": {accessTokenType},
				"audience":           audience,
				"resource":           resource,
				"scope":              {strings.Join(asked, " ")},
			}.Encode()
			w.advance(time.Duration(random.IntN(1000)) * time.Millisecond)

			rec := httptest.NewRecorder()
			w.service.ServeHTTP(rec, w.request(body))
			if rec.Code != http.StatusOK {
				if rec.Code != http.StatusBadRequest {
					t.Fatalf("got %d %s", rec.Code, rec.Body)
				}
				continue
			}
			granted++
			var res struct {
				Token     string `json:"access_token"`
				ExpiresIn int64  `json:"expires_in"`
				Scope     string `json:"scope"`
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &res); err != nil {
				t.Fatal(err)
			}
			verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
				Issuer: w.url, Audiences: slices.Concat(audience, resource), Keys: w.own, Now: w.now,
			})
			if err != nil {
				t.Fatal(err)
			}
			verified, err := verifier.Verify(t.Context(), res.Token)
			if err != nil {
				t.Fatalf("verifying what was issued: %v", err)
			}
			got := verified.Introspection

			if got.Expiry.After(subject.Expiry) {
				t.Errorf("exp %s is after that of the subject token, %s", got.Expiry, subject.Expiry)
			}
			if end := w.now().Add(time.Duration(res.ExpiresIn) * time.Second); end.After(got.Expiry) || res.ExpiresIn < 1 {
				t.Errorf("expires_in %d promises more than exp", res.ExpiresIn)
			}
			if life := got.Expiry.Sub(got.IssuedAt); life > lifetime {
				t.Errorf("a life of %s is longer than the configured %s", life, lifetime)
			}
			if got.Subject != subject.Subject {
				t.Errorf("sub: got %q, want %q", got.Subject, subject.Subject)
			}
			want := slices.Compact(slices.Sorted(slices.Values(slices.Concat(audience, resource))))
			if have := slices.Sorted(slices.Values(got.Audience)); !slices.Equal(have, want) {
				t.Errorf("aud: got %q, want exactly %q", have, want)
			}
			allowed := subject.Scope
			for _, name := range want {
				allowed = allowed.Intersect(configured[name].scopes)
			}
			if !allowed.Contains(got.Scope) {
				t.Errorf("scope %q is wider than %q", got.Scope, allowed)
			}
			for _, name := range want {
				if floor := configured[name].scopes; len(floor) > 0 && len(floor.Intersect(got.Scope)) == 0 {
					t.Errorf("%s has scopes and gets a token with none of them, scope %q", name, got.Scope)
				}
			}
			if len(asked) > 0 && !slices.Equal(got.Scope, asked) {
				t.Errorf("scope: got %q, want what was asked for, %q, or a refusal", got.Scope, asked)
			}
			if effective := oauth.Scopes(strings.Fields(res.Scope)); len(asked) == 0 && !slices.Equal(effective, got.Scope) {
				t.Errorf("the answer speaks of scope %q, the token of %q", effective, got.Scope)
			}
			for _, claim := range claims {
				listed := !slices.ContainsFunc(want, func(name string) bool { return !slices.Contains(configured[name].claims, claim) })
				if got.Claims[claim] != nil && !listed {
					t.Errorf("claim %s is not listed for all of %q", claim, want)
				}
			}
		}
	}
	if granted < configurations*requests/20 {
		t.Errorf("only %d of %d requests were granted: the property was hardly tried", granted, configurations*requests)
	}
	t.Logf("seed %d: %d granted of %d", seed, granted, configurations*requests)
}
