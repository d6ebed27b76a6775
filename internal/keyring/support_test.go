package keyring_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// The world of these tests: one issuer, one audience, one instant.
const (
	issuer   = "https://gw.example.com/phantom"
	audience = "https://mcp.internal.example"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func algorithms() []string {
	return []string{keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA}
}

// clock is a clock that moves when told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rawKeys are keys of package crypto, made once because RSA keys take their time.
var rawKeys = sync.OnceValue(func() map[string]crypto.Signer {
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err2 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		return nil
	}
	return map[string]crypto.Signer{keyring.ES256: ec, keyring.RS256: rs, keyring.PS256: rs, keyring.EdDSA: ed}
})

func rawKey(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	k := rawKeys()[alg]
	if k == nil {
		t.Fatalf("no key for %s", alg)
	}
	return k
}

func pkcs8(t testing.TB, private crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// testKey is rawKey as a Key.
func testKey(t testing.TB, alg string) *keyring.Key {
	t.Helper()
	k, err := keyring.Parse(pkcs8(t, rawKey(t, alg)), alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRing(t testing.TB, keys ...*keyring.Key) *keyring.Ring {
	t.Helper()
	r, err := keyring.NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func generate(t testing.TB, alg string) *keyring.Key {
	t.Helper()
	k, err := keyring.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// plainToken is a token with nothing special about it.
func plainToken() keyring.Token {
	return keyring.Token{
		Issuer:   issuer,
		Subject:  "john.doe@demo.example",
		Audience: []string{audience},
		ClientID: "https://client.example/metadata.json",
		IssuedAt: start,
		Expiry:   start.Add(5 * time.Minute),
		Scope:    oauth.Scopes{"stocks/read", "stocks/trade"},
	}
}

func mint(t testing.TB, r *keyring.Ring, tok keyring.Token) string {
	t.Helper()
	s, err := r.Mint(tok)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// object is a JSON object under construction.
type object map[string]any

// with returns a copy with the given members set; a nil value removes the member.
func (o object) with(pairs ...any) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if pairs[i+1] == nil {
			delete(out, name)
		} else {
			out[name] = pairs[i+1]
		}
	}
	return out
}

func (o object) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// forge puts a token together from bytes, as an attacker would, and signs it with sign.
func forge(header, payload []byte, sign func(signed []byte) []byte) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(sign([]byte(signed)))
}

// signWith is a signature by the standard library, independent of the code under test.
func signWith(t testing.TB, alg string, private crypto.Signer) func([]byte) []byte {
	t.Helper()
	return func(signed []byte) []byte {
		t.Helper()
		sum := sha256.Sum256(signed)
		switch alg {
		case keyring.ES256:
			key, _ := private.(*ecdsa.PrivateKey)
			r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			size := (key.Curve.Params().BitSize + 7) / 8
			out := make([]byte, 2*size)
			r.FillBytes(out[:size])
			s.FillBytes(out[size:])
			return out
		case keyring.RS256:
			return signDigest(t, private, sum[:], crypto.SHA256)
		case keyring.PS256:
			return signDigest(t, private, sum[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash})
		default:
			return signDigest(t, private, signed, crypto.Hash(0))
		}
	}
}

func signDigest(t testing.TB, private crypto.Signer, digest []byte, opts crypto.SignerOpts) []byte {
	t.Helper()
	sig, err := private.Sign(rand.Reader, digest, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// decode reads header and claims of a token without checking anything.
func decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("token has %d parts, want 3", len(parts))
	}
	for i, dst := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, dst); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}
