package sts_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"

	"phantomtoken/internal/keyring"
)

// newPrivate is a key that can sign what keyring never mints, and the ring that trusts it.
func newPrivate(t testing.TB) (*ecdsa.PrivateKey, *keyring.Ring) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyring.Parse(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return private, ring
}

// signClaims signs any claims at all with ES256.
func signClaims(t testing.TB, private *ecdsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	return signTyped(t, private, map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": kid}, claims)
}

// signTyped does, under any header.
func signTyped(t testing.TB, private *ecdsa.PrivateKey, header, claims map[string]any) string {
	t.Helper()
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := encode(header) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// forge is a token that says what it likes, with a signature of rubbish.
func forge(header, claims map[string]any, signature string) string {
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	return encode(header) + "." + encode(claims) + "." + base64.RawURLEncoding.EncodeToString([]byte(signature))
}
