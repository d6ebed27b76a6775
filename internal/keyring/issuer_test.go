package keyring_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// serveIssuer serves the documents of an issuer at path over real HTTP, as the gateway
// and the sidecar do, and returns the issuer's URL.
func serveIssuer(t *testing.T, path string, rings ...keyring.Keys) string {
	t.Helper()
	var documents *keyring.Issuer
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := documents.Document(r.URL.EscapedPath())
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	documents = newIssuer(t, oauth.IssuerMetadata{Issuer: srv.URL + path}, rings...)
	return srv.URL + path
}

func newIssuer(t *testing.T, metadata oauth.IssuerMetadata, rings ...keyring.Keys) *keyring.Issuer {
	t.Helper()
	i, err := keyring.NewIssuer(metadata, rings...)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestPublicIssuer: without private keys the documents are the same, byte for byte.
func TestPublicIssuer(t *testing.T) {
	const issuer = "https://gw.example.com/phantom"
	es, ed := testKey(t, keyring.ES256), generate(t, keyring.EdDSA)
	ring := newRing(t, es, ed)
	keys, err := keyring.ParsePublic(ring.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	keys = append(keys, keys[0]) // each key once, in how many files it may be
	public, err := keyring.NewPublicIssuer(oauth.IssuerMetadata{Issuer: issuer}, keys)
	if err != nil {
		t.Fatal(err)
	}
	private := newIssuer(t, oauth.IssuerMetadata{Issuer: issuer}, ring)
	for _, path := range []string{"/phantom/jwks.json", "/.well-known/oauth-authorization-server/phantom", "/phantom/.well-known/openid-configuration"} {
		want, _ := private.Document(path)
		if got, ok := public.Document(path); !ok || string(got) != string(want) {
			t.Errorf("%s: got %s\nwant %s", path, got, want)
		}
	}

	stranger := keys[1]
	stranger.ID = keys[0].ID
	for name, keys := range map[string]keyring.PublicKeys{"no key": nil, "RejectsTwoKeysOfOneID": {keys[0], stranger}} {
		if got, err := keyring.NewPublicIssuer(oauth.IssuerMetadata{Issuer: issuer}, keys); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
	if !keys[0].Same(stranger) || !keys[1].Same(stranger) || keys[0].Same(keys[1]) {
		t.Error("Same: want true for one id or one key, false for neither")
	}
}

// An upstream needs the issuer's URL and an OpenID Connect library, nothing else.
//
// Covers: JW-14, JW-13
func TestOpenIDConnectLibraryVerifiesMintedTokens(t *testing.T) {
	for _, alg := range algorithms() {
		for _, path := range []string{"", "/phantom", "/a/b/"} {
			t.Run(alg+" at "+path, func(t *testing.T) {
				// The signing key has a neighbour of another algorithm.
				ring := newRing(t, testKey(t, alg), generate(t, keyring.EdDSA))
				url := serveIssuer(t, path, ring)
				provider, err := oidc.NewProvider(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				tok := plainToken()
				tok.Issuer = url
				token := mint(t, ring, tok)
				now := start
				check := func(audience string) error {
					_, err := provider.Verifier(&oidc.Config{ClientID: audience, Now: func() time.Time { return now }}).Verify(t.Context(), token)
					return err
				}
				if err := check(audience); err != nil {
					t.Errorf("go-oidc refuses the token: %v", err)
				}
				if err := check("https://other.internal.example"); err == nil {
					t.Error("go-oidc accepts the token for another audience")
				}
				now = start.Add(5*time.Minute + time.Second)
				if err := check(audience); err == nil {
					t.Error("go-oidc accepts the token after its expiry")
				}
			})
		}
	}
}

func TestIssuerDocuments(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.ES256), testKey(t, keyring.PS256))
	older := newRing(t, testKey(t, keyring.EdDSA), testKey(t, keyring.ES256))
	const (
		document = iota + 1
		jwks
	)
	tests := []struct {
		name   string
		issuer string
		paths  map[string]int
	}{
		{name: "root", issuer: "https://gw.example.com", paths: map[string]int{
			"/.well-known/oauth-authorization-server": document, "/.well-known/openid-configuration": document, "/jwks.json": jwks,
			"": 0, "/": 0, "/jwks.json/": 0, "/.well-known/oauth-authorization-server/": 0, "/.well-known/jwks.json": 0,
		}},
		{name: "root with slash", issuer: "https://gw.example.com/", paths: map[string]int{
			"/.well-known/oauth-authorization-server": document, "/.well-known/openid-configuration": document, "/jwks.json": jwks, "//jwks.json": 0,
		}},
		{name: "path", issuer: "https://gw.example.com/phantom", paths: map[string]int{
			"/.well-known/oauth-authorization-server/phantom": document, "/.well-known/openid-configuration/phantom": document,
			"/phantom/.well-known/oauth-authorization-server": document, "/phantom/.well-known/openid-configuration": document,
			"/phantom/jwks.json": jwks, "/jwks.json": 0, "/.well-known/openid-configuration": 0, "/.well-known/openid-configuration/phantom2": 0,
			"/phantom": 0, "/phantom/../phantom/jwks.json": 0, "/Phantom/jwks.json": 0,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := newIssuer(t, oauth.IssuerMetadata{Issuer: tt.issuer}, ring, older)
			if i.URL() != tt.issuer {
				t.Errorf("URL() = %q, want %q", i.URL(), tt.issuer)
			}
			for path, want := range tt.paths {
				body, ok := i.Document(path)
				switch want {
				case 0:
					if ok || body != nil {
						t.Errorf("Document(%q) = %s, want none", path, body)
					}
				case document:
					var md struct {
						Issuer     string   `json:"issuer"`
						JWKSURI    string   `json:"jwks_uri"`
						Algorithms []string `json:"id_token_signing_alg_values_supported"`
					}
					if err := json.Unmarshal(body, &md); err != nil {
						t.Fatalf("Document(%q): %v", path, err)
					}
					if md.Issuer != tt.issuer {
						t.Errorf("Document(%q): issuer = %q, want %q byte for byte", path, md.Issuer, tt.issuer)
					}
					if len(md.Algorithms) != 3 || md.Algorithms[0] != keyring.ES256 {
						t.Errorf("Document(%q): algorithms = %v, want the three of both rings", path, md.Algorithms)
					}
				case jwks:
					keys, err := keyring.ParsePublic(body)
					if err != nil {
						t.Fatalf("Document(%q): %v", path, err)
					}
					if n := bytes.Count(body, []byte(`"kid"`)); n != 3 {
						t.Errorf("Document(%q) has %d keys, want the key of both rings once", path, n)
					}
					if len(keys) != 3 || keys[0].ID != ring.SigningKeyID() {
						t.Errorf("Document(%q) has %d keys, first %s; want 3, first %s", path, len(keys), keys[0].ID, ring.SigningKeyID())
					}
				}
			}
		})
	}
}

// The whole document, byte by byte: golden.
func TestIssuerMetadataBytes(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.ES256))
	got, _ := newIssuer(t, oauth.IssuerMetadata{Issuer: "https://gw.example.com/phantom"}, ring).Document("/.well-known/openid-configuration/phantom")
	const want = `{"issuer":"https://gw.example.com/phantom","jwks_uri":"https://gw.example.com/phantom/jwks.json","response_types_supported":["none"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if string(got) != want {
		t.Errorf("document\n got %s\nwant %s", got, want)
	}
	got[0] = 'x'
	if again, _ := newIssuer(t, oauth.IssuerMetadata{Issuer: "https://gw.example.com/phantom"}, ring).Document("/.well-known/openid-configuration/phantom"); again[0] != '{' {
		t.Error("a caller can change the document")
	}
	given := oauth.IssuerMetadata{
		Issuer: "https://sts.example.com", JWKSURI: "https://keys.example.com/set", TokenEndpoint: "https://sts.example.com/token",
		ResponseTypesSupported: []string{"token"}, SubjectTypesSupported: []string{"pairwise"}, IDTokenAlgorithms: []string{"RS256"},
	}
	got, _ = newIssuer(t, given, ring).Document("/.well-known/openid-configuration")
	var back oauth.IssuerMetadata
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if back.JWKSURI != given.JWKSURI || back.TokenEndpoint != given.TokenEndpoint || back.ResponseTypesSupported[0] != "token" || back.SubjectTypesSupported[0] != "pairwise" || back.IDTokenAlgorithms[0] != "RS256" {
		t.Errorf("given members were changed: %s", got)
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.ES256))
	for _, tt := range []struct {
		name   string
		issuer string
		rings  []keyring.Keys
	}{
		{name: "NoIssuer", issuer: "", rings: []keyring.Keys{ring}},
		{name: "Relative", issuer: "/phantom", rings: []keyring.Keys{ring}},
		{name: "NoHost", issuer: "https:///phantom", rings: []keyring.Keys{ring}},
		{name: "OtherScheme", issuer: "ftp://gw.example.com", rings: []keyring.Keys{ring}},
		{name: "UserInfo", issuer: "https://user:pass@gw.example.com", rings: []keyring.Keys{ring}},
		{name: "Query", issuer: "https://gw.example.com/?a=b", rings: []keyring.Keys{ring}},
		{name: "EmptyQuery", issuer: "https://gw.example.com/?", rings: []keyring.Keys{ring}},
		{name: "Fragment", issuer: "https://gw.example.com/#", rings: []keyring.Keys{ring}},
		{name: "Control", issuer: "https://gw.example.com/\n", rings: []keyring.Keys{ring}},
		{name: "NoRing", issuer: "https://gw.example.com"},
		{name: "OneKeyTwoAlgorithms", issuer: "https://gw.example.com", rings: []keyring.Keys{newRing(t, testKey(t, keyring.RS256)), newRing(t, testKey(t, keyring.PS256))}},
		{name: "NilRing", issuer: "https://gw.example.com", rings: []keyring.Keys{nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: tt.issuer}, tt.rings...); err == nil {
				t.Error("want an error")
			}
		})
	}
}

// The other direction: our verifier reads the set of a real issuer over HTTP.
func TestVerifierWithIssuerOverHTTP(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.RS256))
	url := serveIssuer(t, "/phantom", ring)
	keys, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: url + keyring.JWKSPath})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	v := newVerifier(t, keys, func(c *keyring.VerifierConfig) { c.Issuer = url })
	tok := plainToken()
	tok.Issuer = url
	if _, err := v.Verify(context.Background(), mint(t, ring, tok)); err != nil {
		t.Error(err)
	}
}
