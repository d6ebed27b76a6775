package exchange_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/exchange"
)

// FuzzSubjectClaims: whatever claims the gateway signs, JSON or not, the answer is a token that
// says no more than them, or a refusal that is no fault of ours.
func FuzzSubjectClaims(f *testing.F) {
	w := newWorld(f, usual, nil)
	private, ring := newPrivate(f)
	x, err := exchange.New(w.config(func(c *exchange.Config) { c.Subject.Keys, c.Logger = ring, nil }), parse(f, usual))
	if err != nil {
		f.Fatal(err)
	}
	good := func(change func(map[string]any)) string {
		claims := map[string]any{
			"iss": gateway, "sub": "john", "aud": server, "client_id": "dyn-123", "jti": "1", "scope": "read write",
			"iat": w.now().Unix(), "exp": w.now().Unix() + 240, "region": "USA",
		}
		if change != nil {
			change(claims)
		}
		data, err := json.Marshal(claims)
		if err != nil {
			f.Fatal(err)
		}
		return string(data)
	}
	f.Add(good(nil))
	f.Add(good(func(c map[string]any) { c["act"] = map[string]any{"sub": "a", "act": map[string]any{"client_id": "b"}} }))
	f.Add(good(func(c map[string]any) { c["may_act"] = map[string]any{"sub": "server", "iss": issuer} }))
	f.Add(good(func(c map[string]any) { c["act"] = []any{1} }))
	f.Add(good(func(c map[string]any) { c["aud"] = []any{server, 1} }))
	f.Add(good(func(c map[string]any) { c["exp"] = 1e300 }))
	f.Add(good(func(c map[string]any) { c["region"] = map[string]any{"a": []any{nil, 1e-9}} }))
	f.Add(good(nil)[:40])
	f.Add(`{"sub":"a","sub":"b"}`)

	f.Fuzz(func(t *testing.T, payload string) {
		token := sign(t, private, ring.SigningKeyID(), payload)
		issued, err := x.Exchange(t.Context(), &exchange.Request{Caller: "server", SubjectToken: token, Audience: []string{api}, Via: exchange.ViaEndpoint})
		if err != nil {
			var r *exchange.Refusal
			if !errors.As(err, &r) || r.Answer.Status != 400 {
				t.Fatalf("got %v, want a refusal with 400", err)
			}
			return
		}
		claims, err := oauth.ParseClaims([]byte(payload))
		if err != nil {
			t.Fatalf("a token for claims that cannot be read: %v", err)
		}
		subject, err := oauth.ClaimsIntrospection(claims)
		if err != nil {
			t.Fatalf("a token for claims that cannot be read: %v", err)
		}
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{api}, Keys: w.own, Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		verified, err := verifier.Verify(t.Context(), issued.Token)
		if err != nil {
			t.Fatalf("verifying what was issued: %v", err)
		}
		got := verified.Introspection
		// The rule of the policy adds one scope to one that is there.
		may := append(oauth.Scopes{"audit"}, subject.Scope...)
		if got.Subject != subject.Subject || got.Expiry.After(subject.Expiry) || !may.Contains(got.Scope) || claims["cnf"] != nil {
			t.Errorf("issued more than the subject has: %v for %s", got.Claims, payload)
		}
	})
}

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

// sign signs any payload with ES256.
func sign(t testing.TB, private *ecdsa.PrivateKey, kid, payload string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(fmt.Appendf(nil, `{"alg":"ES256","typ":"at+jwt","kid":%q}`, kid)) + "." + encode([]byte(payload))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}
