package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

func testRing(t testing.TB) *keyring.Ring {
	t.Helper()
	key, err := keyring.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestProvidersJWTIsVerifiedBeforeItGoesUpstream runs phantom_token.mode introspection with
// an issuer: signature, issuer and audience of the JWT are checked with keys that are
// found when they are first needed. What cannot be verified is the provider's trouble, not
// the client's.
//
// Covers: IN-21
func TestProvidersJWTIsVerifiedBeforeItGoesUpstream(t *testing.T) {
	ring, foreign := testRing(t), testRing(t)
	for _, withJWKSURI := range []bool{false, true} {
		idp := startIDP(t)
		idp.setKeys(ring.JWKS())
		p := startPlugin(t)
		config := map[string]any{
			"introspection_endpoint": idp.URL + "/introspect",
			"client_id":              "gateway",
			"client_secret":          testSecret,
			"resource":               "http://127.0.0.1:8000/mcp",
			"authorization_servers":  []string{idp.URL},
			"token":                  map[string]any{"issuer": idp.URL},
			"token_cache_seconds":    0,
			"phantom_token":          map[string]any{"audience": "https://api.example"},
		}
		if withJWKSURI {
			config["token"] = map[string]any{"issuer": idp.URL, "jwks_uri": idp.URL + "/jwks.json"}
		}
		route := p.instance(1, config)

		mint := func(ring *keyring.Ring, issuer, audience string) string {
			token, err := ring.Mint(keyring.Token{
				Issuer: issuer, Subject: "john", ClientID: "c", Audience: []string{audience},
				IssuedAt: time.Now(), Expiry: time.Now().Add(time.Minute),
			})
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		good := mint(ring, idp.URL, "https://api.example")
		tests := []struct {
			name, jwt  string
			wantStatus int
		}{
			{name: "Good", jwt: good},
			{name: "RejectsSignatureOfAnotherKey", jwt: mint(foreign, idp.URL, "https://api.example"), wantStatus: 503},
			{name: "RejectsAnotherIssuer", jwt: mint(ring, "https://evil.example", "https://api.example"), wantStatus: 503},
			{name: "RejectsAudienceOfAnotherServer", jwt: mint(ring, idp.URL, "https://other.example"), wantStatus: 503},
			{name: "RejectsTamperedClaims", jwt: strings.Replace(good, ".e", ".f", 1), wantStatus: 503},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				claims := goodClaims(idp)
				claims["jwt"] = tt.jwt
				idp.says(claims)
				got := route.do(bearer(testToken))
				if got.status != tt.wantStatus {
					t.Errorf("answer is %d, want %d; log:\n%s", got.status, tt.wantStatus, p.log)
				}
				if tt.wantStatus == 0 && got.upstream["Authorization"] != "Bearer "+tt.jwt {
					t.Errorf("Authorization = %q, want the JWT of the provider", got.upstream["Authorization"])
				}
			})
		}
		noSecrets(t, p)
	}
}

// TestMissingJWTIsMinted: a provider that puts no JWT into its answer, as Keycloak does
// while the client is not set up for it, leaves the minting to a key of ours.
//
// Covers: IN-16
func TestMissingJWTIsMinted(t *testing.T) {
	ring := testRing(t)
	idp := startIDP(t)
	idp.setKeys(ring.JWKS())
	p := startPlugin(t)
	route := p.instance(1, patch(mintConfig(t, idp), map[string]any{
		"token":               map[string]any{"issuer": idp.URL},
		"phantom_token":       map[string]any{"mode": "introspection"},
		"token_cache_seconds": 0,
	}))
	theirs, err := ring.Mint(keyring.Token{
		Issuer: idp.URL, Subject: "john", ClientID: "c", Audience: []string{"https://mcp.internal.example"},
		IssuedAt: time.Now(), Expiry: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, withJWT := range []bool{true, false} {
		idp.setAnswer(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Values("Accept"); len(got) != 1 || got[0] != "application/jwt" {
				t.Errorf("Accept = %q, want exactly application/jwt", got)
			}
			claims := goodClaims(idp)
			if withJWT {
				claims["jwt"] = theirs
			}
			writeJSON(w, claims)
		})
		got := route.do(bearer(testToken))
		if got.status != 0 {
			t.Fatalf("with JWT %v: answer is %d; log:\n%s", withJWT, got.status, p.log)
		}
		token := strings.TrimPrefix(got.upstream["Authorization"], "Bearer ")
		if (token == theirs) != withJWT {
			t.Errorf("with JWT %v: the provider's JWT went upstream = %v", withJWT, token == theirs)
		}
		if !withJWT && jwtClaims(t, token)["iss"] != "http://127.0.0.1:8000/phantom" {
			t.Errorf("minted claims are %v", jwtClaims(t, token))
		}
	}
}
