package keyring_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"phantomtoken/internal/keyring"
)

// Covers: JW-14
func TestRingJWKS(t *testing.T) {
	keys := []*keyring.Key{generate(t, keyring.EdDSA), testKey(t, keyring.ES256), testKey(t, keyring.RS256)}
	r := newRing(t, keys...)
	if again := newRing(t, keys...); !bytes.Equal(r.JWKS(), again.JWKS()) {
		t.Error("two rings of the same keys give different bytes")
	}

	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	public := map[string][]string{
		"EC": {"alg", "crv", "kid", "kty", "use", "x", "y"}, "RSA": {"alg", "e", "kid", "kty", "n", "use"}, "OKP": {"alg", "crv", "kid", "kty", "use", "x"},
	}
	for i, k := range keys {
		got := set.Keys[i]
		if got["kid"] != k.ID() || got["alg"] != k.Algorithm() || got["use"] != "sig" {
			t.Errorf("key %d is %s %s %s, want %s %s sig", i, got["kid"], got["alg"], got["use"], k.ID(), k.Algorithm())
		}
		var members []string
		for name := range got {
			members = append(members, name)
		}
		slices.Sort(members)
		if want := public[got["kty"]]; !slices.Equal(members, want) {
			t.Errorf("key %d has members %v, want %v: nothing private, nothing empty", i, members, want)
		}
	}

	// A second library reads the same keys.
	var foreign jose.JSONWebKeySet
	if err := json.Unmarshal(r.JWKS(), &foreign); err != nil {
		t.Fatal(err)
	}
	for i, k := range foreign.Keys {
		if !k.Valid() || !k.IsPublic() || k.KeyID != keys[i].ID() {
			t.Errorf("go-jose reads key %d as valid %t, public %t, id %s; want a public key %s", i, k.Valid(), k.IsPublic(), k.KeyID, keys[i].ID())
		}
	}

	r.JWKS()[0] = 'x'
	if r.JWKS()[0] != '{' {
		t.Error("a caller can change the ring through JWKS")
	}
}

func TestNewRing(t *testing.T) {
	ec, ed := testKey(t, keyring.ES256), testKey(t, keyring.EdDSA)
	r := newRing(t, ec, ed, ec)
	if got := r.SigningKeyID(); got != ec.ID() {
		t.Errorf("SigningKeyID() = %s, want the first key %s", got, ec.ID())
	}
	if got, want := r.Algorithms(), []string{keyring.ES256, keyring.EdDSA}; !slices.Equal(got, want) {
		t.Errorf("Algorithms() = %v, want %v", got, want)
	}
	if n := bytes.Count(r.JWKS(), []byte(`"kid"`)); n != 2 {
		t.Errorf("%d keys are published, want 2: a key given twice counts once", n)
	}
	for _, tt := range []struct {
		name string
		keys []*keyring.Key
	}{
		{name: "NoKey"},
		{name: "NilKey", keys: []*keyring.Key{ec, nil}},
		{name: "OneKeyTwoAlgorithms", keys: []*keyring.Key{testKey(t, keyring.RS256), testKey(t, keyring.PS256)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := keyring.NewRing(tt.keys...); err == nil {
				t.Error("want an error")
			}
		})
	}
}

// The steps of a rotation, with a verifier that looks at the published set only: publish
// the next key, sign with it, withdraw the old one. No token of a live key is refused.
//
// Covers: JW-15
func TestRotation(t *testing.T) {
	before, after := generate(t, ""), generate(t, "")
	rings := []*keyring.Ring{
		newRing(t, before), newRing(t, before, after), newRing(t, after, before), newRing(t, after),
	}
	tokens := make([]string, len(rings))
	for i, r := range rings {
		tokens[i] = mint(t, r, plainToken())
	}
	for i, published := range rings {
		keys, err := keyring.ParsePublic(published.JWKS())
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, keys, nil)
		// A verifier may hold the set of the step before; a token may be of the step before.
		for j := max(0, i-1); j <= min(len(rings)-1, i+1); j++ {
			if _, err := v.Verify(t.Context(), tokens[j]); err != nil {
				t.Errorf("set of step %d refuses the token of step %d: %v", i, j, err)
			}
		}
	}
	keys, err := keyring.ParsePublic(rings[3].JWKS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newVerifier(t, keys, nil).Verify(t.Context(), tokens[0]); err == nil {
		t.Error("a token of the withdrawn key is accepted")
	}
}
