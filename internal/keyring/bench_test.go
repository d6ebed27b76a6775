package keyring_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"phantomtoken/internal/keyring"
)

// Each benchmark runs beside its limit, the bare operation of package crypto on the same
// bytes: the rest is what this package adds.

func BenchmarkMint(b *testing.B) {
	for _, alg := range algorithms() {
		ring := newRing(b, testKey(b, alg))
		tok := plainToken()
		tok.Extra = map[string]any{"region": "USA", "client_type": "mcp"}
		token := mint(b, ring, tok)
		signed := []byte(token[:strings.LastIndexByte(token, '.')])
		sign := signWith(b, alg, rawKey(b, alg))
		b.Run(alg+"/baseline", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sign(signed)
			}
		})
		b.Run(alg+"/mint", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ring.Mint(tok); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range algorithms() {
		ring := newRing(b, testKey(b, alg))
		tok := plainToken()
		tok.Extra = map[string]any{"region": "USA", "client_type": "mcp"}
		token := mint(b, ring, tok)
		dot := strings.LastIndexByte(token, '.')
		sig, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
		if err != nil {
			b.Fatal(err)
		}
		public := rawKey(b, alg).Public()
		v := newVerifier(b, ring, nil)
		b.Run(alg+"/baseline", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !verifyBare(alg, public, token[:dot], sig) {
					b.Fatal("bad signature")
				}
			}
		})
		b.Run(alg+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefuse is the price of tokens that are worth nothing: no signature is checked
// for most of them.
func BenchmarkRefuse(b *testing.B) {
	ring := newRing(b, testKey(b, keyring.ES256))
	v := newVerifier(b, ring, nil)
	good := mint(b, ring, plainToken())
	for _, bb := range []struct{ name, token string }{
		{name: "Opaque", token: strings.Repeat("x", 40)},
		{name: "Oversize", token: strings.Repeat("x", 20<<10)},
		{name: "UnknownKey", token: b64([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"x"}`)) + good[strings.IndexByte(good, '.'):]},
		{name: "BadSignature", token: good[:strings.LastIndexByte(good, '.')+1] + b64(make([]byte, 64))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), bb.token); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
