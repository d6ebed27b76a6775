package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// issuerConfig is mintConfig with the issuer in place of endpoint and authorization servers.
func issuerConfig(t testing.TB, idp *idp, token map[string]any) map[string]any {
	return patch(mintConfig(t, idp), map[string]any{
		"introspection_endpoint": nil, "authorization_servers": nil, "token_cache_seconds": 0, "token": token,
	})
}

// metadataSays makes the metadata name these members beside the issuer.
func (s *idp) metadataSays(issuer string, members map[string]any) {
	s.setMetadata(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, patch(map[string]any{"issuer": issuer}, members))
	})
}

// TestEndpointMovesWithTheMetadata: what the metadata says is asked about again in the
// background, and a request after that goes to the new place; while the metadata cannot
// be had, the old place goes on.
//
// Covers: AS-02, AS-04
func TestEndpointMovesWithTheMetadata(t *testing.T) {
	first, second := startIDP(t), startIDP(t)
	first.says(goodClaims(first))
	second.says(goodClaims(first))
	first.metadataSays(first.URL, map[string]any{"introspection_endpoint": first.URL + "/introspect"})
	p := startPlugin(t)
	route := p.instance(1, issuerConfig(t, first, map[string]any{"issuer": first.URL}))
	forwarded := func() {
		t.Helper()
		if got := route.do(bearer(testToken)); got.status != 0 {
			t.Fatalf("answer is %d; log:\n%s", got.status, p.log)
		}
	}
	forwarded()

	asked := make(chan struct{}, 10)
	first.setMetadata(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		http.Error(w, "marked-remote-body", http.StatusInternalServerError)
	})
	p.clock.Advance(11 * time.Minute)
	first.says(patch(goodClaims(first), map[string]any{"exp": p.clock.Now().Add(time.Hour).Unix()}))
	second.says(patch(goodClaims(first), map[string]any{"exp": p.clock.Now().Add(time.Hour).Unix()}))
	forwarded()
	<-asked
	forwarded()
	if n := second.calls.Load(); n != 0 {
		t.Errorf("the second endpoint was asked %d times before it was named, want none", n)
	}

	p.clock.Advance(time.Minute)
	first.metadataSays(first.URL, map[string]any{"introspection_endpoint": second.URL + "/introspect"})
	deadline := time.Now().Add(testTimeout)
	for second.calls.Load() == 0 {
		forwarded()
		if time.Now().After(deadline) {
			t.Fatalf("the new endpoint is never asked; log:\n%s", p.log)
		}
	}
	if strings.Contains(p.log.String(), "marked-remote-body") {
		t.Errorf("log quotes the remote side:\n%s", p.log)
	}
	noSecrets(t, p)
}

// TestIssuerBehindAnInternalAddress: the issuer has a public name that the gateway cannot
// reach; tokens and metadata carry that name.
//
// Covers: AS-03
func TestIssuerBehindAnInternalAddress(t *testing.T) {
	const public = "https://login.example.com"
	idp := startIDP(t)
	idp.says(patch(goodClaims(idp), map[string]any{"iss": public}))
	idp.metadataSays(public, map[string]any{"introspection_endpoint": public + "/introspect"})
	p := startPlugin(t)
	route := p.instance(1, issuerConfig(t, idp, map[string]any{"issuer": public, "internal_url": idp.URL}))
	if got := route.do(bearer(testToken)); got.status != 0 {
		t.Errorf("answer is %d; log:\n%s", got.status, p.log)
	}
	if got := route.do(httpRequest{method: http.MethodGet, target: "/.well-known/oauth-protected-resource/mcp"}); !strings.Contains(got.body, `"authorization_servers":["`+public+`"]`) {
		t.Errorf("metadata is %s, want the public issuer", got.body)
	}
}

// TestMetadataChoosesTheAuthentication: and a setting wins over it.
//
// Covers: AS-02
func TestMetadataChoosesTheAuthentication(t *testing.T) {
	for _, tt := range []struct{ name, configured, want string }{
		{"Metadata", "", "client_secret_post"},
		{"Setting", "client_secret_basic", "client_secret_basic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := startIDP(t)
			var method atomic.Value
			idp.setAnswer(func(w http.ResponseWriter, r *http.Request) {
				method.Store("client_secret_post")
				if _, _, basic := r.BasicAuth(); basic {
					method.Store("client_secret_basic")
				}
				writeJSON(w, goodClaims(idp))
			})
			idp.metadataSays(idp.URL, map[string]any{
				"introspection_endpoint": idp.URL + "/introspect", "token_endpoint_auth_methods_supported": []string{"client_secret_post"},
			})
			p := startPlugin(t)
			route := p.instance(1, patch(issuerConfig(t, idp, map[string]any{"issuer": idp.URL}), map[string]any{
				"introspection": map[string]any{"auth_method": tt.configured},
			}))
			if got := route.do(bearer(testToken)); got.status != 0 || method.Load() != tt.want {
				t.Errorf("answer is %d, authenticated by %v, want %s; log:\n%s", got.status, method.Load(), tt.want, p.log)
			}
		})
	}
}

// TestConfiguredEndpointNeedsNoMetadata: a provider without metadata works as before.
//
// Covers: AS-02
func TestConfiguredEndpointNeedsNoMetadata(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	idp.setMetadata(func(http.ResponseWriter, *http.Request) { t.Error("the metadata was asked for") })
	p := startPlugin(t)
	route := p.instance(1, patch(mintConfig(t, idp), map[string]any{"token": map[string]any{"issuer": idp.URL}}))
	if got := route.do(bearer(testToken)); got.status != 0 {
		t.Errorf("answer is %d; log:\n%s", got.status, p.log)
	}
}

// TestWhatTheMetadataLacksIsAskedForByName: 503 and a log line that says what to set.
//
// Covers: AS-02
func TestWhatTheMetadataLacksIsAskedForByName(t *testing.T) {
	exchange := map[string]any{
		"introspection_endpoint": nil,
		"phantom_token":          map[string]any{"mode": "exchange", "issuer": nil, "signing_key_file": nil, "claims": nil},
	}
	for _, tt := range []struct {
		name    string
		says    map[string]any
		changes map[string]any
		want    string
	}{
		{"Introspection", nil, nil, "has no introspection_endpoint; set introspection_endpoint"},
		{"TokenEndpoint", map[string]any{"introspection_endpoint": "URL/introspect"}, exchange, "has no token_endpoint; set phantom_token.token_endpoint"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := startIDP(t)
			idp.says(goodClaims(idp))
			says := map[string]any{}
			for name, v := range tt.says {
				says[name] = strings.Replace(v.(string), "URL", idp.URL, 1)
			}
			idp.metadataSays(idp.URL, says)
			p := startPlugin(t)
			route := p.instance(1, patch(issuerConfig(t, idp, map[string]any{"issuer": idp.URL}), tt.changes))
			if got := route.do(bearer(testToken)); got.status != http.StatusServiceUnavailable {
				t.Errorf("answer is %d, want 503; log:\n%s", got.status, p.log)
			}
			if !strings.Contains(p.log.String(), tt.want) {
				t.Errorf("log is\n%s\nwant %q", p.log, tt.want)
			}
		})
	}
}

func TestLocatedPartFollowsItsPlace(t *testing.T) {
	var place, ended []string
	var lost error
	l := &located[string, string]{
		find: func(context.Context) (string, error) { return place[0], lost },
		build: func(p string) (string, error) {
			if p == "" {
				return "", errors.New("no place")
			}
			return "part at " + p, nil
		},
		end: func(part string) { ended = append(ended, part) },
	}
	want := func(at, part string, endedSoFar int, fails bool) {
		t.Helper()
		place = []string{at}
		got, err := l.get(t.Context())
		if got != part || (err != nil) != fails || len(ended) != endedSoFar {
			t.Errorf("get = %q, %v after %d were ended, want %q after %d", got, err, len(ended), part, endedSoFar)
		}
	}
	want("", "", 0, true)
	want("a", "part at a", 0, false)
	want("a", "part at a", 0, false)
	want("b", "part at b", 1, false)
	want("", "", 1, true)
	want("b", "part at b", 1, false)
	lost = errors.New("lost")
	want("b", "", 1, true)
	lost = nil
	l.close()
	l.close()
	want("b", "", 2, true)
}
