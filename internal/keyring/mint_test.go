package keyring_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"phantomtoken/internal/keyring"
)

// Header and claims exactly as in appendix A10.
//
// Covers: JW-01, JW-02, JW-08
func TestMint(t *testing.T) {
	for _, alg := range algorithms() {
		t.Run(alg, func(t *testing.T) {
			k := testKey(t, alg)
			tok := plainToken()
			tok.ID = "id-1"
			header, claims := decode(t, mint(t, newRing(t, k), tok))
			if want := map[string]any{"typ": "at+jwt", "alg": alg, "kid": k.ID()}; !maps.Equal(header, want) {
				t.Errorf("header = %v, want %v", header, want)
			}
			want := map[string]any{
				"iss": issuer, "sub": "john.doe@demo.example", "aud": audience, "client_id": "https://client.example/metadata.json",
				"iat": float64(start.Unix()), "exp": float64(start.Unix() + 300), "jti": "id-1", "scope": "stocks/read stocks/trade",
			}
			if !reflect.DeepEqual(claims, want) {
				t.Errorf("claims = %v, want %v", claims, want)
			}
		})
	}
}

// Two other libraries agree: go-jose, and the bare operations of package crypto.
//
// Covers: JW-13
func TestMintedTokensVerifyElsewhere(t *testing.T) {
	for _, alg := range algorithms() {
		t.Run(alg, func(t *testing.T) {
			r := newRing(t, testKey(t, alg))
			token := mint(t, r, plainToken())

			var set jose.JSONWebKeySet
			if err := json.Unmarshal(r.JWKS(), &set); err != nil {
				t.Fatal(err)
			}
			parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			var claims jwt.Claims
			if err := parsed.Claims(set, &claims); err != nil {
				t.Errorf("go-jose: %v", err)
			}
			if err := claims.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: start}, 0); err != nil {
				t.Errorf("go-jose: %v", err)
			}

			dot := strings.LastIndexByte(token, '.')
			sig, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
			if err != nil {
				t.Fatal(err)
			}
			if !verifyBare(alg, rawKey(t, alg).Public(), token[:dot], sig) {
				t.Error("package crypto: the signature is bad")
			}
			if verifyBare(alg, rawKey(t, alg).Public(), token[:dot-1], sig) {
				t.Error("package crypto: a shortened token verifies")
			}
		})
	}
}

func verifyBare(alg string, public crypto.PublicKey, signed string, sig []byte) bool {
	sum := sha256.Sum256([]byte(signed))
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return len(sig) == 64 && ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	case *rsa.PublicKey:
		if alg == keyring.PS256 {
			return rsa.VerifyPSS(key, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, []byte(signed), sig)
	default:
		return false
	}
}

func TestMintClaims(t *testing.T) {
	r := newRing(t, testKey(t, keyring.EdDSA))
	tests := []struct {
		name   string
		change func(*keyring.Token)
		want   object // members of the claims; nil: absent
	}{
		{name: "one audience is a string", change: func(*keyring.Token) {}, want: object{"aud": audience}},
		{name: "several audiences are an array", change: func(tok *keyring.Token) { tok.Audience = []string{"a", "b"} }, want: object{"aud": []any{"a", "b"}}},
		{name: "no scope is no claim", change: func(tok *keyring.Token) { tok.Scope = nil }, want: object{"scope": nil}},
		{name: "actor", change: func(tok *keyring.Token) {
			tok.Actor = map[string]any{"sub": "sidecar", "act": map[string]any{"sub": "gateway"}}
		}, want: object{"act": map[string]any{"sub": "sidecar", "act": map[string]any{"sub": "gateway"}}}},
		{name: "actor out of an incoming token", change: func(tok *keyring.Token) {
			tok.Extra = map[string]any{"act": map[string]any{"sub": "gateway"}}
		}, want: object{"act": map[string]any{"sub": "gateway"}}},
		{name: "extra claims keep their JSON types", change: func(tok *keyring.Token) {
			tok.Extra = map[string]any{"region": "USA", "level": json.Number("2"), "groups": []any{"a"}, "big": json.Number("9007199254740993"), "ok": true}
		}, want: object{"region": "USA", "level": 2.0, "groups": []any{"a"}, "ok": true}},
		{name: "neither nbf nor cnf", change: func(*keyring.Token) {}, want: object{"nbf": nil, "cnf": nil}},
		// A source that expires within the second must not live on in our token.
		{name: "times are cut, not rounded", change: func(tok *keyring.Token) {
			tok.IssuedAt = start.Add(900 * time.Millisecond)
			tok.Expiry = start.Add(30*time.Second + 999*time.Millisecond)
		}, want: object{"iat": float64(start.Unix()), "exp": float64(start.Unix() + 30)}},
		{name: "a client without user", change: func(tok *keyring.Token) { tok.Subject = tok.ClientID }, want: object{"sub": "https://client.example/metadata.json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tok := plainToken()
			tt.change(&tok)
			_, claims := decode(t, mint(t, r, tok))
			for name, want := range tt.want {
				if got := claims[name]; !reflect.DeepEqual(got, want) {
					t.Errorf("%s = %v, want %v", name, got, want)
				}
			}
		})
	}
}

func TestMintKeepsLargeNumbers(t *testing.T) {
	tok := plainToken()
	tok.Extra = map[string]any{"account": json.Number("9007199254740993")}
	token := mint(t, newRing(t, testKey(t, keyring.EdDSA)), tok)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if want := `"account":9007199254740993`; !strings.Contains(string(payload), want) {
		t.Errorf("payload %s, want it to hold %s", payload, want)
	}
}

// Covers: JW-07
func TestMintedIDsAreFresh(t *testing.T) {
	r := newRing(t, testKey(t, keyring.EdDSA))
	seen := map[any]bool{}
	for range 100 {
		_, claims := decode(t, mint(t, r, plainToken()))
		id, _ := claims["jti"].(string)
		if len(id) < 26 { // base32 of 128 bits
			t.Fatalf("jti = %q, want at least 128 bits of text", id)
		}
		if seen[id] {
			t.Fatalf("jti %q occurs twice", id)
		}
		seen[id] = true
	}
}

// Covers: JW-11
func TestMintRefuses(t *testing.T) {
	r := newRing(t, testKey(t, keyring.EdDSA))
	extra := func(name string) func(*keyring.Token) {
		return func(tok *keyring.Token) { tok.Extra = map[string]any{name: "sesame"} }
	}
	tests := []struct {
		name   string
		change func(*keyring.Token)
		want   string
	}{
		{name: "NoIssuer", change: func(tok *keyring.Token) { tok.Issuer = "" }, want: "iss"},
		{name: "NoSubject", change: func(tok *keyring.Token) { tok.Subject = "" }, want: "sub"},
		{name: "NoClient", change: func(tok *keyring.Token) { tok.ClientID = "" }, want: "client_id"},
		{name: "NoAudience", change: func(tok *keyring.Token) { tok.Audience = nil }, want: "aud"},
		{name: "EmptyAudience", change: func(tok *keyring.Token) { tok.Audience = []string{audience, ""} }, want: "aud"},
		{name: "NoExpiry", change: func(tok *keyring.Token) { tok.Expiry = time.Time{} }, want: "exp"},
		{name: "NoIssuedAt", change: func(tok *keyring.Token) { tok.IssuedAt = time.Time{} }, want: "iat"},
		{name: "ExpiredSource", change: func(tok *keyring.Token) { tok.Expiry = tok.IssuedAt }, want: "exp"},
		{name: "ExpiresWithinTheSecond", change: func(tok *keyring.Token) { tok.Expiry = tok.IssuedAt.Add(time.Second / 2) }, want: "exp"},
		{name: "ActorTwice", change: func(tok *keyring.Token) {
			tok.Actor = map[string]any{"sub": "a"}
			tok.Extra = map[string]any{"act": map[string]any{"sub": "b"}}
		}, want: "act once"},
		{name: "ExtraThatIsNoJSON", change: func(tok *keyring.Token) { tok.Extra = map[string]any{"x": make(chan int)} }, want: "JSON"},
		{name: "ExtraNumberThatIsNone", change: func(tok *keyring.Token) { tok.Extra = map[string]any{"x": json.Number("sesame")} }, want: "JSON"},
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf"} {
		tests = append(tests, struct {
			name   string
			change func(*keyring.Token)
			want   string
		}{name: "ExtraOverrides_" + name, change: extra(name), want: "got " + name})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tok := plainToken()
			tt.change(&tok)
			token, err := r.Mint(tok)
			if err == nil || token != "" {
				t.Fatalf("got a token and error %v, want an error alone", err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("error %q, want it to say %q and no value", err, tt.want)
			}
		})
	}
}

func TestMintReportsAllProblems(t *testing.T) {
	_, err := newRing(t, testKey(t, keyring.EdDSA)).Mint(keyring.Token{})
	for _, want := range []string{"iss", "sub", "client_id", "aud", "iat and exp"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name %s", err, want)
		}
	}
}

// The token of a caller is not changed by minting.
func TestMintLeavesTokenAlone(t *testing.T) {
	tok := plainToken()
	tok.Extra = map[string]any{"region": "USA"}
	mint(t, newRing(t, testKey(t, keyring.EdDSA)), tok)
	if !maps.Equal(tok.Extra, map[string]any{"region": "USA"}) || !slices.Equal(tok.Audience, []string{audience}) {
		t.Errorf("token was changed: %v", tok)
	}
}
