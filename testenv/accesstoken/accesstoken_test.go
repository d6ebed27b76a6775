package accesstoken_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/accesstoken"
	"phantomtoken/testenv/issuertest"
)

const audience = "https://api.example"

// Tokens of our keyring hold for a verifier written by others.
//
// Covers: JW-13, JW-14
func TestVerifyAcceptsMintedTokens(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "PS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			key, err := keyring.Generate(alg)
			if err != nil {
				t.Fatal(err)
			}
			ring, err := keyring.NewRing(key)
			if err != nil {
				t.Fatal(err)
			}
			var documents *keyring.Issuer
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				doc, ok := documents.Document(r.URL.Path)
				if !ok {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(doc)
			}))
			t.Cleanup(server.Close)
			issuer := server.URL + "/phantom"
			if documents, err = keyring.NewIssuer(oauth.IssuerMetadata{Issuer: issuer}, ring); err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			token, err := ring.Mint(keyring.Token{
				Issuer: issuer, Subject: "john", Audience: []string{audience}, ClientID: "c",
				IssuedAt: now, Expiry: now.Add(time.Minute), Scope: oauth.Scopes{"a", "b"},
				Extra: map[string]any{"region": "USA"},
			})
			if err != nil {
				t.Fatal(err)
			}
			v := newVerifier(t, accesstoken.Config{Issuer: issuer, Audience: audience})
			got, err := v.Verify(t.Context(), token)
			if err != nil {
				t.Fatalf("Verify: %v", err)
			}
			if got.Subject != "john" || got.ClientID != "c" || strings.Join(got.Scopes, " ") != "a b" {
				t.Errorf("got subject %q, client %q, scopes %q; want john, c, [a b]", got.Subject, got.ClientID, got.Scopes)
			}
			var claims struct{ Region string }
			if err := got.Claims(&claims); err != nil || claims.Region != "USA" {
				t.Errorf("region: got %q, %v; want USA", claims.Region, err)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	issuer := issuertest.Start(t)
	other := issuertest.Start(t)
	now := time.Now()
	good := issuer.Token(t, keyring.Token{Audience: []string{audience}})
	v := newVerifier(t, accesstoken.Config{Issuer: issuer.URL(), Audience: audience})
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	parts := strings.Split(good, ".")
	tests := []struct {
		name  string
		token string
	}{
		{"Garbage", "not-a-token"},
		{"Empty", ""},
		{"AudienceOfOtherService", issuer.Token(t, keyring.Token{Audience: []string{"https://other.example"}})},
		{"Expired", issuer.Token(t, keyring.Token{Audience: []string{audience}, IssuedAt: now.Add(-time.Hour), Expiry: now.Add(-time.Second)})},
		{"IssuerOfOthers", other.Token(t, keyring.Token{Audience: []string{audience}})},
		{"IssuerNameWithForeignKey", other.Token(t, keyring.Token{Audience: []string{audience}, Issuer: issuer.URL()})},
		{"TamperedPayload", parts[0] + "." + parts[1] + "x." + parts[2]},
		{"AlgorithmNone", encode(`{"alg":"none","typ":"at+jwt"}`) + "." + parts[1] + "."},
	}
	for _, tt := range tests {
		t.Run("Rejects"+tt.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), tt.token)
			if !errors.Is(err, accesstoken.ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
			if tt.token != "" && err != nil && strings.Contains(err.Error(), tt.token) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
}

// An ID token of the same issuer, key and audience is not an access token.
func TestVerifyRejectsOtherTypes(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/jwks.json"})
	})
	mux.HandleFunc("GET /jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	v := newVerifier(t, accesstoken.Config{Issuer: server.URL, Audience: audience})
	for _, tt := range []struct {
		typ string
		ok  bool
	}{
		{"at+jwt", true}, {"application/at+jwt", true}, {"AT+JWT", true},
		{"JWT", false}, {"", false}, {"dpop+jwt", false}, {"token-introspection+jwt", false},
	} {
		t.Run("typ="+tt.typ, func(t *testing.T) {
			opts := (&jose.SignerOptions{}).WithHeader("kid", "k")
			if tt.typ != "" {
				opts = opts.WithType(jose.ContentType(tt.typ))
			}
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, opts)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := json.Marshal(map[string]any{
				"iss": server.URL, "aud": audience, "sub": "john", "client_id": "c",
				"exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(),
			})
			if err != nil {
				t.Fatal(err)
			}
			jws, err := signer.Sign(payload)
			if err != nil {
				t.Fatal(err)
			}
			token, err := jws.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(t.Context(), token)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, accesstoken.ErrInvalid) {
				t.Errorf("got %v, want accepted=%t", err, tt.ok)
			}
		})
	}
}

func TestVerifyWithoutItsIssuer(t *testing.T) {
	issuer := issuertest.Start(t)
	token := issuer.Token(t, keyring.Token{Audience: []string{audience}})
	v := newVerifier(t, accesstoken.Config{Issuer: issuer.URL(), Audience: audience})

	issuer.Down(true)
	if _, err := v.Verify(t.Context(), token); !errors.Is(err, accesstoken.ErrUnavailable) {
		t.Errorf("issuer down: got %v, want ErrUnavailable", err)
	}
	issuer.Down(false)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("issuer back: got %v, want nil", err)
	}
	issuer.Down(true)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("issuer down, keys known: got %v, want nil", err)
	}
	unknown := issuertest.Start(t).Token(t, keyring.Token{Audience: []string{audience}, Issuer: issuer.URL()})
	if _, err := v.Verify(t.Context(), unknown); !errors.Is(err, accesstoken.ErrUnavailable) {
		t.Errorf("issuer down, unknown key: got %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, unknown); !errors.Is(err, context.Canceled) {
		t.Errorf("caller gone: got %v, want context.Canceled", err)
	}
}

func TestVerifyRefusesAnIssuerOfAnotherName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"issuer": "https://issuer.example", "jwks_uri": "https://issuer.example/jwks.json"})
	}))
	t.Cleanup(server.Close)
	v := newVerifier(t, accesstoken.Config{Issuer: server.URL, Audience: audience})
	if _, err := v.Verify(t.Context(), "a.b.c"); !errors.Is(err, accesstoken.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestNewNeedsIssuerAndAudience(t *testing.T) {
	for _, cfg := range []accesstoken.Config{{}, {Issuer: "https://a.example"}, {Audience: audience}} {
		if _, err := accesstoken.New(cfg); err == nil {
			t.Errorf("New(%+v): got nil, want an error", cfg)
		}
	}
}

func newVerifier(t *testing.T, cfg accesstoken.Config) *accesstoken.Verifier {
	t.Helper()
	v, err := accesstoken.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.CloseIdleConnections)
	return v
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
