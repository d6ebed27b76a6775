package keyring_test

import (
	"errors"
	"strings"
	"testing"

	"phantomtoken/internal/keyring"
)

// Whatever comes in, a token is accepted only if it is one that was minted, and every
// refusal is ErrInvalidToken.
func FuzzVerify(f *testing.F) {
	ring := newRing(f, testKey(f, keyring.ES256), testKey(f, keyring.EdDSA))
	v := newVerifier(f, ring, nil)
	good := mint(f, ring, plainToken())
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for _, seed := range []string{
		good, "", ".", "..", "...", "a.b.c", good + ".", good + "=", " " + good, header + "." + payload, header + "." + payload + ".",
		b64([]byte(`{"alg":"none"}`)) + "." + payload + ".",
		b64([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"x"}`)) + "." + payload + "." + signature,
		b64([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"`+ring.SigningKeyID()+`","crit":[]}`)) + "." + payload + "." + signature,
		b64([]byte(`[]`)) + "." + payload + "." + signature, b64([]byte("{\"\xff\":1}")) + "." + payload + "." + signature,
		header + "." + b64([]byte(`{}`)) + "." + signature, header + "." + payload + "." + b64(make([]byte, 64)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		switch {
		case err == nil && token != good:
			t.Errorf("accepted %q: %v", token, got.Claims)
		case err != nil && token == good:
			t.Errorf("refused a good token: %v", err)
		case err != nil && !errors.Is(err, keyring.ErrInvalidToken):
			t.Errorf("error = %v, want ErrInvalidToken", err)
		case err != nil && got != nil:
			t.Error("claims beside an error")
		}
	})
}

// What is read as a private key signs tokens that verify; what is not is refused without
// being quoted.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{ecJWK, edJWK, rsaPublicJWK, `{"kty":"oct","k":"AAAA"}`, `{"keys":[]}`, "", "{", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", string(pkcs8(f, rawKey(f, keyring.ES256))), string(pkcs8(f, rawKey(f, keyring.RS256)))} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), keyring.PS256)
	}
	f.Fuzz(func(t *testing.T, data []byte, alg string) {
		k, err := keyring.Parse(data, alg)
		if err != nil {
			return
		}
		if alg != "" && k.Algorithm() != alg {
			t.Errorf("algorithm %q, want the one asked for, %q", k.Algorithm(), alg)
		}
		r := newRing(t, k)
		if _, err := newVerifier(t, r, nil).Verify(t.Context(), mint(t, r, plainToken())); err != nil {
			t.Errorf("a token of the key: %v", err)
		}
	})
}

// What is read as public keys is complete, and goes through a key set unchanged.
func FuzzParsePublic(f *testing.F) {
	set := newRing(f, testKey(f, keyring.ES256), testKey(f, keyring.PS256), testKey(f, keyring.EdDSA)).JWKS()
	for _, seed := range []string{string(set), ecJWK, edJWK, rsaPublicJWK, `{"keys":[` + rsaPublicJWK + `,{}]}`, `{"keys":1}`, "", "[]", string(publicPEM(f, rawKey(f, keyring.RS256)))} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := keyring.ParsePublic(data)
		if err != nil {
			return
		}
		if len(keys) == 0 {
			t.Error("no key and no error")
		}
		for _, k := range keys {
			if k.ID == "" || k.Key == nil {
				t.Errorf("incomplete key %+v", k)
			}
			switch k.Algorithm {
			case keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA:
			default:
				t.Errorf("algorithm %q", k.Algorithm)
			}
			if same, err := keys.Keys(t.Context(), k.ID); err != nil || len(same) == 0 {
				t.Errorf("key %q is not found by its id: %v", k.ID, err)
			}
		}
	})
}
