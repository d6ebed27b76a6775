package sts_test

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/sts"
)

func (w *world) get(path string) (status int, header http.Header, body string) {
	w.t.Helper()
	res, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(data)
}

// TestMetadata is the RFC 8414 document of the service.
//
// Covers: AS-06
func TestMetadata(t *testing.T) {
	w := newWorld(t, nil)
	want := map[string]any{
		"issuer":                                w.url,
		"token_endpoint":                        w.url + "/token",
		"jwks_uri":                              w.url + "/jwks.json",
		"grant_types_supported":                 []any{"urn:ietf:params:oauth:grant-type:token-exchange"},
		"token_endpoint_auth_methods_supported": []any{"client_secret_basic", "client_secret_post"},
		"response_types_supported":              []any{"none"},
		"subject_types_supported":               []any{"public"},
		"id_token_signing_alg_values_supported": []any{"ES256"},
	}
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		status, header, body := w.get(path)
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %d %s\nwant %v", path, status, body, want)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Access-Control-Allow-Origin": "*",
			"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", path, name, got, want)
			}
		}
	}
}

// TestDocuments: both key sets and the gateway's metadata are there; all else is 404, and
// documents are only read.
func TestDocuments(t *testing.T) {
	w := newWorld(t, nil)
	for path, want := range map[string]string{"/jwks.json": string(w.own.JWKS()), "/phantom/jwks.json": string(w.gateway.JWKS())} {
		if status, _, body := w.get(path); status != 200 || body != want || strings.Contains(body, `"d"`) {
			t.Errorf("%s: got %d %s, want the public keys %s", path, status, body, want)
		}
	}
	for _, path := range []string{
		"/.well-known/oauth-authorization-server/phantom", "/.well-known/openid-configuration/phantom",
		"/phantom/.well-known/oauth-authorization-server", "/phantom/.well-known/openid-configuration",
	} {
		if status, _, body := w.get(path); status != 200 || !strings.Contains(body, `"issuer":"`+w.phantom+`"`) {
			t.Errorf("%s: got %d %s, want the metadata of %s", path, status, body, w.phantom)
		}
	}
	for _, path := range []string{"/", "/token/", "/jwks", "/phantom", "/register", "/.well-known/oauth-protected-resource", "/%6Awks.json"} {
		if status, header, body := w.get(path); status != 404 || body != `{"error":"not_found"}` || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s, want 404 not_found as JSON", path, status, body)
		}
	}
	res, err := http.Post(w.url+"/jwks.json", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /jwks.json: got %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
	if res, err = http.Head(w.url + "/jwks.json"); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("HEAD /jwks.json: got %d", res.StatusCode)
	}
}

// TestIssuerWithPath serves the endpoint and the documents below the path of the issuer,
// whose characters have no meaning of their own.
func TestIssuerWithPath(t *testing.T) {
	w := newWorld(t, func(w *world, p *parts) {
		p.service.Issuer = w.url + "/a%7Bb%7D/sts/"
		p.exchange.Issuer = p.service.Issuer
	})
	r := w.request(w.form(nil).Encode())
	r.URL.Path, r.URL.RawPath = "/a{b}/sts/token", "/a%7Bb%7D/sts/token"
	if a := w.do(r); a.status != 200 || claimsOf(t, a.ok.AccessToken)["iss"] != w.url+"/a%7Bb%7D/sts/" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if status, _, _ := w.get("/.well-known/oauth-authorization-server/a%7Bb%7D/sts"); status != 200 {
		t.Errorf("metadata: got %d", status)
	}
	if a := w.post(w.form(nil)); a.status != 404 {
		t.Errorf("/token: got %d, want 404", a.status)
	}
}

// TestVerifiedByOIDCLibrary: an API that knows only the issuer verifies the exchanged token
// with go-oidc, and the phantom token through the copy of the gateway's documents.
//
// Covers: AS-06
func TestVerifiedByOIDCLibrary(t *testing.T) {
	for _, alg := range []string{keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA} {
		t.Run(alg, func(t *testing.T) {
			w := newWorld(t, func(w *world, p *parts) {
				w.own = newRing(t, alg)
				p.exchange.Keys, p.service.Keys = w.own, w.own
			})
			a := w.post(w.form(nil))
			for _, tc := range []struct{ issuer, audience, token string }{
				{w.url, apiAudience, a.ok.AccessToken},
				{w.phantom, mcpAudience, w.mint(nil)},
			} {
				provider, err := oidc.NewProvider(t.Context(), tc.issuer)
				if err != nil {
					t.Fatalf("discovering %s: %v", tc.issuer, err)
				}
				verified, err := provider.Verifier(&oidc.Config{ClientID: tc.audience, Now: w.now}).Verify(t.Context(), tc.token)
				if err != nil {
					t.Fatalf("verifying a token of %s: %v", tc.issuer, err)
				}
				if verified.Subject != "john.doe@demo.example" {
					t.Errorf("sub: got %q", verified.Subject)
				}
				if _, err := provider.Verifier(&oidc.Config{ClientID: otherAPI, Now: w.now}).Verify(t.Context(), tc.token); err == nil {
					t.Errorf("a token of %s was accepted for another audience", tc.issuer)
				}
			}
		})
	}
}

// TestRefusesCollidingDocuments: two issuers at one path cannot both be served.
func TestRefusesCollidingDocuments(t *testing.T) {
	ring := newRing(t, keyring.ES256)
	documents, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: "https://gw.example/sts"}, ring)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	cfg := w.parts.service
	cfg.Issuer, cfg.SubjectDocuments = "https://sts.example/sts", documents
	_, err = sts.New(cfg)
	if err == nil || !strings.Contains(err.Error(), "TOKEN_EXCHANGE_ISSUER") || !strings.Contains(err.Error(), "/.well-known/oauth-authorization-server/sts") {
		t.Errorf("got error %v, want one that names the variable and the path", err)
	}
}
