package verifiers_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const audience = "https://api.example.com"

// issuer is a service that issues tokens, whose keys and tokens the tests choose: unlike the
// real one it also signs what must not be accepted.
type issuer struct {
	url string

	mu      sync.Mutex
	key     *signingKey
	fetches int
	down    bool
}

type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func newKey(t *testing.T, id string) *signingKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signingKey{id, private}
}

func (k *signingKey) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "ES256", Use: "sig"}
}

// pem is the public key as its owner would publish it in a file.
func (k *signingKey) pem(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func startIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{key: newKey(t, "first")}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL + "/sidecar"
	mux.HandleFunc("GET /sidecar/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.serve(w, map[string]any{"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("GET /sidecar/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		i.fetches++
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.public()}}
		i.mu.Unlock()
		i.serve(w, set)
	})
	return i
}

func (i *issuer) serve(w http.ResponseWriter, document any) {
	i.mu.Lock()
	down := i.down
	i.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document)
}

func (i *issuer) setDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// keyFetches is how often the key set was asked for.
func (i *issuer) keyFetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *issuer) rotate(t *testing.T, id string) {
	t.Helper()
	next := newKey(t, id)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = next
}

// change overrides members of a header or of claims; nil removes one.
type change map[string]any

func (c change) of(members map[string]any) map[string]any {
	maps.Copy(members, c)
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	return members
}

func (i *issuer) header(c change) map[string]any {
	return c.of(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": i.key.id})
}

// claims are those of a token that the sidecar issues, without actors.
func (i *issuer) claims(c change) map[string]any {
	now := time.Now()
	return c.of(map[string]any{
		"iss": i.url, "aud": audience, "sub": "john", "client_id": "mcp-server", "scope": "stocks/read orders/read",
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(),
	})
}

// token is a good token but for what is changed.
func (i *issuer) token(t *testing.T, header, claims change) string {
	t.Helper()
	return i.key.sign(t, i.header(header), i.claims(claims))
}

func (k *signingKey) sign(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	input := encode(t, header) + "." + encode(t, claims)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// hmacToken is the classic confusion: the public key as the secret of HS256.
func (i *issuer) hmacToken(t *testing.T, secret []byte) string {
	t.Helper()
	input := encode(t, i.header(change{"alg": "HS256"})) + "." + encode(t, i.claims(nil))
	mac := hmac.New(crypto.SHA256.New, secret)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// selfSigned is a certificate with its key, in PEM.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private := newKey(t, "").private
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{"token-exchange.mcp.svc"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
