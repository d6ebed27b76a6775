package keyring_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"phantomtoken/internal/keyring"
)

func newVerifier(t testing.TB, keys keyring.KeySource, change func(*keyring.VerifierConfig)) *keyring.Verifier {
	t.Helper()
	cfg := keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: keys, Now: newClock().Now}
	if change != nil {
		change(&cfg)
	}
	v, err := keyring.NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// goodHeader and goodClaims make a token that passes; every attack changes one thing.
func goodHeader(k *keyring.Key) object {
	return object{"alg": k.Algorithm(), "kid": k.ID(), "typ": "at+jwt"}
}

func goodClaims() object {
	return object{
		"iss": issuer, "sub": "john.doe@demo.example", "aud": audience, "client_id": "client-1", "jti": "id-1",
		"iat": start.Unix(), "exp": start.Add(5 * time.Minute).Unix(), "scope": "stocks/read",
	}
}

// refused fails the test unless err says that the token is bad, in words that hold want
// and nothing of the token.
func refused(t *testing.T, token string, got *keyring.Verified, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("the token was accepted: %v", got.Claims)
	}
	if got != nil {
		t.Errorf("got claims %v beside the error", got.Claims)
	}
	if !errors.Is(err, keyring.ErrInvalidToken) || errors.Is(err, keyring.ErrKeysUnavailable) {
		t.Errorf("error %v is not ErrInvalidToken alone", err)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to say %q", err, want)
	}
	if len(err.Error()) > 400 {
		t.Errorf("error has %d bytes", len(err.Error()))
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 20 && strings.Contains(err.Error(), part[:20]) {
			t.Errorf("error %q quotes the token", err)
		}
	}
}

// Covers: JW-18
func TestVerify(t *testing.T) {
	for _, alg := range algorithms() {
		t.Run(alg, func(t *testing.T) {
			k := testKey(t, alg)
			sign := signWith(t, alg, rawKey(t, alg))
			v := newVerifier(t, newRing(t, k), nil)
			claims := goodClaims().with("account", json.Number("9007199254740993"), "azp", "other")
			got, err := v.Verify(t.Context(), forge(goodHeader(k).bytes(t), claims.bytes(t), sign))
			if err != nil {
				t.Fatal(err)
			}
			if got.Type != "at+jwt" || got.KeyID != k.ID() || got.Algorithm != alg {
				t.Errorf("header is %q %q %q, want at+jwt %q %q", got.Type, got.KeyID, got.Algorithm, k.ID(), alg)
			}
			in := got.Introspection
			if in.Subject != "john.doe@demo.example" || in.ClientID != "client-1" || in.Scope.String() != "stocks/read" || in.ID != "id-1" || !in.Expiry.Equal(start.Add(5*time.Minute)) {
				t.Errorf("typed view is %+v", in)
			}
			if in.Active {
				t.Error("typed view is active; a signature does not tell")
			}
			if got.Claims["account"] != json.Number("9007199254740993") {
				t.Errorf("account = %v, want the number digit by digit", got.Claims["account"])
			}
		})
	}
}

func TestVerifyAccepts(t *testing.T) {
	k := testKey(t, keyring.EdDSA)
	sign := signWith(t, keyring.EdDSA, rawKey(t, keyring.EdDSA))
	header, claims := goodHeader(k), goodClaims()
	tests := []struct {
		name   string
		header object
		claims object
		change func(*keyring.VerifierConfig)
	}{
		{name: "typ in capitals", header: header.with("typ", "AT+JWT"), claims: claims},
		{name: "typ as media type", header: header.with("typ", "application/at+jwt"), claims: claims},
		{name: "aud array that names us", header: header, claims: claims.with("aud", []string{"https://x.example", audience})},
		{name: "any one of our audiences", header: header, claims: claims.with("aud", "https://two.example"), change: func(c *keyring.VerifierConfig) { c.Audiences = []string{audience, "https://two.example"} }},
		{name: "client named by azp as Keycloak does", header: header, claims: claims.with("client_id", nil, "azp", "client-1")},
		{name: "unknown header members", header: header.with("x5t", "abc", "cty", "x", "vendor", object{"a": 1}), claims: claims},
		{name: "unknown claims", header: header, claims: claims.with("realm_access", object{"roles": []string{"a"}}, "nonce", "n")},
		{name: "fractional dates", header: header, claims: claims.with("iat", 1763000000.5, "exp", float64(start.Unix())+0.75), change: func(c *keyring.VerifierConfig) { c.Leeway = time.Second }},
		{name: "nbf now", header: header, claims: claims.with("nbf", start.Unix())},
		{name: "last second of life", header: header, claims: claims.with("exp", start.Unix()+1)},
		{name: "typ JWT by configuration", header: header.with("typ", "JWT"), claims: claims, change: func(c *keyring.VerifierConfig) { c.Types = []string{"at+jwt", "JWT"} }},
		{name: "Keycloak access token", header: header.with("typ", "JWT"), claims: claims.with("typ", "Bearer", "client_id", nil, "azp", "c"), change: func(c *keyring.VerifierConfig) { c.Types = []string{"jwt"} }},
		{name: "Curity access token", header: header.with("typ", "JWT"), claims: claims.with("purpose", "access_token", "client_id", nil), change: func(c *keyring.VerifierConfig) { c.Types = []string{"jwt"} }},
		{name: "no typ by configuration", header: header.with("typ", nil), claims: claims, change: func(c *keyring.VerifierConfig) { c.Types = []string{""} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, newRing(t, k), tt.change)
			if _, err := v.Verify(t.Context(), forge(tt.header.bytes(t), tt.claims.bytes(t), sign)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Attacks on the header and on the choice of the key. Each token is well signed by the
// real key where the attack leaves that possible.
//
// Covers: BC-01, BC-02, BC-04, BC-05, BC-06
func TestVerifyRefusesHeader(t *testing.T) {
	keys := map[string]*keyring.Key{}
	for _, alg := range []string{keyring.ES256, keyring.RS256, keyring.EdDSA} {
		keys[alg] = testKey(t, alg)
	}
	ring := newRing(t, keys[keyring.ES256], keys[keyring.RS256], keys[keyring.EdDSA])
	es, rs := keys[keyring.ES256], keys[keyring.RS256]
	signES, signRS := signWith(t, keyring.ES256, rawKey(t, keyring.ES256)), signWith(t, keyring.RS256, rawKey(t, keyring.RS256))
	none := func([]byte) []byte { return nil }
	hs256 := func(secret []byte) func([]byte) []byte {
		return func(signed []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(signed)
			return mac.Sum(nil)
		}
	}
	rsaPublic, _ := rawKey(t, keyring.RS256).Public().(*rsa.PublicKey)
	rsaDER, err := x509.MarshalPKIXPublicKey(rsaPublic)
	if err != nil {
		t.Fatal(err)
	}
	rsaJWK, err := json.Marshal(jose.JSONWebKey{Key: rsaPublic})
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signAttacker := signWith(t, keyring.ES256, attacker)
	attackerJWK := jose.JSONWebKey{Key: attacker.Public(), KeyID: "attacker", Algorithm: keyring.ES256}

	raw := func(s string) func(*testing.T) []byte { return func(*testing.T) []byte { return []byte(s) } }
	object := func(o object) func(*testing.T) []byte { return func(t *testing.T) []byte { return o.bytes(t) } }
	header := goodHeader(es)
	tests := []struct {
		name   string
		header func(*testing.T) []byte
		sign   func([]byte) []byte
		want   string
	}{
		{name: "AlgNoneWithoutSignature", header: object(header.with("alg", "none")), sign: none, want: "part 3"},
		{name: "AlgNoneWithSignature", header: object(header.with("alg", "none")), sign: signES, want: `got "none"`},
		{name: "AlgNoneCapitals", header: object(header.with("alg", "nOnE")), sign: signES, want: `got "nOnE"`},
		{name: "AlgMissing", header: object(header.with("alg", nil)), sign: signES, want: "header alg"},
		{name: "AlgEmpty", header: object(header.with("alg", "")), sign: signES, want: "header alg"},
		{name: "AlgNumber", header: object(header.with("alg", 256)), sign: signES, want: "header alg"},
		{name: "AlgArray", header: object(header.with("alg", []string{"ES256"})), sign: signES, want: "header alg"},
		{name: "AlgLowerCase", header: object(header.with("alg", "es256")), sign: signES, want: "header alg"},
		{name: "HS256WithPublicKeyPEM", header: object(goodHeader(rs).with("alg", "HS256")), sign: hs256(publicPEM(t, rawKey(t, keyring.RS256))), want: `got "HS256"`},
		{name: "HS256WithPublicKeyDER", header: object(goodHeader(rs).with("alg", "HS256")), sign: hs256(rsaDER), want: `got "HS256"`},
		{name: "HS256WithPublicKeyJWK", header: object(goodHeader(rs).with("alg", "HS256")), sign: hs256(rsaJWK), want: `got "HS256"`},
		{name: "HS256WithModulus", header: object(goodHeader(rs).with("alg", "HS256")), sign: hs256(rsaPublic.N.Bytes()), want: `got "HS256"`},
		{name: "HS256WithEmptySecret", header: object(header.with("alg", "HS256")), sign: hs256(nil), want: `got "HS256"`},
		{name: "HMACUnderNameRS256", header: object(goodHeader(rs)), sign: hs256(publicPEM(t, rawKey(t, keyring.RS256))), want: "signature"},
		{name: "AlgOfOtherKeyType", header: object(goodHeader(rs).with("alg", "ES256")), sign: signES, want: "algorithm of key"},
		{name: "PS256WithKeyOfRS256", header: object(goodHeader(rs).with("alg", "PS256")), sign: signWith(t, keyring.PS256, rawKey(t, keyring.RS256)), want: "algorithm of key"},
		{name: "RS512", header: object(goodHeader(rs).with("alg", "RS512")), sign: signRS, want: `got "RS512"`},
		{name: "PSSSignatureUnderNameRS256", header: object(goodHeader(rs)), sign: signWith(t, keyring.PS256, rawKey(t, keyring.RS256)), want: "signature"},

		{name: "KidMissing", header: object(header.with("kid", nil)), sign: signES, want: "header kid"},
		{name: "KidEmpty", header: object(header.with("kid", "")), sign: signES, want: "header kid"},
		{name: "KidNumber", header: object(header.with("kid", 1)), sign: signES, want: "header kid"},
		{name: "KidUnknown", header: object(header.with("kid", "x")), sign: signES, want: `unknown kid "x"`},
		{name: "KidPath", header: object(header.with("kid", "../../../../dev/null")), sign: signES, want: "unknown kid"},
		{name: "KidSQL", header: object(header.with("kid", "x' UNION SELECT 'secret")), sign: signES, want: "unknown kid"},
		{name: "KidLong", header: object(header.with("kid", strings.Repeat("k", 8000))), sign: signES, want: "unknown kid"},
		{name: "KidOfOtherKey", header: object(header.with("kid", rs.ID())), sign: signES, want: "algorithm of key"},
		{name: "KidOfOtherKeyAndItsAlg", header: object(goodHeader(rs)), sign: signES, want: "signature"},

		{name: "EmbeddedKey", header: object(header.with("kid", "attacker", "jwk", attackerJWK)), sign: signAttacker, want: "unknown kid"},
		{name: "EmbeddedKeyUnderOurKid", header: object(header.with("jwk", jose.JSONWebKey{Key: attacker.Public(), KeyID: es.ID(), Algorithm: keyring.ES256})), sign: signAttacker, want: "signature"},
		{name: "EmbeddedCertificate", header: object(header.with("x5c", []string{selfSigned(t, attacker)})), sign: signAttacker, want: "signature"},

		{name: "Crit", header: object(header.with("crit", []string{"x"}, "x", true)), sign: signES, want: "without crit"},
		{name: "CritOfKnownMember", header: object(header.with("crit", []string{"exp"}, "exp", 1)), sign: signES, want: "without crit"},
		{name: "CritEmpty", header: object(header.with("crit", []string{})), sign: signES, want: "without crit"},
		{name: "CritNull", header: raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + es.ID() + `","crit":null}`), sign: signES, want: "without crit"},
		{name: "UnencodedPayload", header: object(header.with("b64", false, "crit", []string{"b64"})), sign: signES, want: "without crit"},
		{name: "UnencodedPayloadNotCritical", header: object(header.with("b64", false)), sign: signES, want: "without b64"},
		{name: "EncodedPayloadSaidAloud", header: object(header.with("b64", true)), sign: signES, want: "without b64"},
		{name: "Zip", header: object(header.with("zip", "DEF")), sign: signES, want: "without zip"},
		{name: "EncryptedInThreeParts", header: object(header.with("enc", "A256GCM")), sign: signES, want: "without enc"},

		{name: "DuplicateAlg", header: raw(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"` + es.ID() + `"}`), sign: signES, want: "twice"},
		{name: "DuplicateKidByEscape", header: raw(`{"alg":"ES256","typ":"at+jwt","kid":"x","k\u0069d":"` + es.ID() + `"}`), sign: signES, want: "twice"},
		{name: "HeaderArray", header: raw(`["ES256"]`), sign: signES, want: "header"},
		{name: "HeaderNull", header: raw(`null`), sign: signES, want: "header"},
		{name: "HeaderTrailingGarbage", header: raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + es.ID() + `"}{}`), sign: signES, want: "header"},
		{name: "HeaderNotUTF8", header: raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + es.ID() + `","x":"` + "\xff" + `"}`), sign: signES, want: "header"},
		{name: "HeaderNestedDeeply", header: raw(`{"alg":"ES256","typ":"at+jwt","kid":"` + es.ID() + `","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`), sign: signES, want: "header"},

		{name: "SignatureDER", header: object(header), sign: signDER(t), want: "signature"},
		{name: "SignatureZero", header: object(header), sign: func([]byte) []byte { return make([]byte, 64) }, want: "signature"},
		{name: "SignatureShort", header: object(header), sign: func(b []byte) []byte { return signES(b)[:63] }, want: "signature"},
		{name: "SignatureLong", header: object(header), sign: func(b []byte) []byte { return append(signES(b), 0) }, want: "signature"},
		{name: "SignatureOfOtherKey", header: object(header), sign: signAttacker, want: "signature"},
		{name: "SignatureOfOtherBytes", header: object(header), sign: func(b []byte) []byte { return signES(b[1:]) }, want: "signature"},
	}
	v := newVerifier(t, ring, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := forge(tt.header(t), goodClaims().bytes(t), tt.sign)
			got, err := v.Verify(t.Context(), token)
			refused(t, token, got, err, tt.want)
		})
	}
}

func signDER(t testing.TB) func([]byte) []byte {
	return func(signed []byte) []byte {
		sum := sha256.Sum256(signed)
		return signDigest(t, rawKey(t, keyring.ES256), sum[:], crypto.SHA256)
	}
}

func selfSigned(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return b64(der)
}

// A token that names places to get keys from: none of them is asked, and a good
// signature of a known key is not made bad by them.
//
// Covers: BC-02, BC-16
func TestVerifyNeverFollowsURLsOfTheToken(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := keyring.Parse(pkcs8(t, private), "")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = w.Write(newRing(t, attacker).JWKS())
	}))
	t.Cleanup(canary.Close)
	set := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(newRing(t, testKey(t, keyring.ES256)).JWKS())
	}))
	t.Cleanup(set.Close)
	remote, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: set.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)

	k := testKey(t, keyring.ES256)
	v := newVerifier(t, remote, nil)
	sign := signWith(t, keyring.ES256, rawKey(t, keyring.ES256))
	urls := []any{"jku", canary.URL, "x5u", canary.URL}
	if _, err := v.Verify(t.Context(), forge(goodHeader(k).with(urls...).bytes(t), goodClaims().bytes(t), sign)); err != nil {
		t.Errorf("a good token with jku: %v", err)
	}
	for _, tt := range []struct {
		name  string
		token string
	}{
		{name: "KeyOfJKU", token: forge(goodHeader(attacker).with(urls...).bytes(t), goodClaims().bytes(t), signWith(t, keyring.ES256, private))},
		{name: "IssuerURL", token: forge(goodHeader(k).bytes(t), goodClaims().with("iss", canary.URL).bytes(t), sign)},
		{name: "KidURL", token: forge(goodHeader(k).with("kid", canary.URL).bytes(t), goodClaims().bytes(t), sign)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), tt.token)
			refused(t, tt.token, got, err, "expected")
		})
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the canary was called %d times, want 0", n)
	}
}

// Attacks on the text of the token.
//
// Covers: BC-05, BC-08
func TestVerifyRefusesSyntax(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.ES256))
	v := newVerifier(t, ring, nil)
	good := mint(t, ring, plainToken())
	p := strings.Split(good, ".")
	header, payload, signature := p[0], p[1], p[2]
	tampered := b64(goodClaims().with("sub", "admin").bytes(t))
	jwe, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 32)}, &jose.EncrypterOptions{Compression: jose.DEFLATE})
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := jwe.Encrypt([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	jweText, err := encrypted.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	unsignedBit := signature[:len(signature)-1] + nextBase64(signature[len(signature)-1])

	tests := []struct {
		name  string
		token string
		want  string
	}{
		{name: "Empty", token: "", want: "3 parts"},
		{name: "Opaque", token: "_0XBPWQQ_6ec1f7a1", want: "3 parts"},
		{name: "Dots", token: "..", want: "part 1"},
		{name: "TwoParts", token: header + "." + payload, want: "3 parts"},
		{name: "NoSignature", token: header + "." + payload + ".", want: "part 3"},
		{name: "NoPayload", token: header + ".." + signature, want: "part 2"},
		{name: "NoHeader", token: "." + payload + "." + signature, want: "part 1"},
		{name: "FourParts", token: good + ".x", want: "3 parts"},
		{name: "TrailingDot", token: good + ".", want: "3 parts"},
		{name: "TrailingGarbage", token: good + "AAAA", want: "signature"},
		{name: "TrailingNewline", token: good + "\n", want: "base64url text"},
		{name: "LeadingBlank", token: " " + good, want: "base64url text"},
		{name: "NewlineInside", token: header + "." + payload[:9] + "\n" + payload[9:] + "." + signature, want: "base64url text"},
		{name: "CarriageReturnInside", token: header + "\r." + payload + "." + signature, want: "base64url text"},
		{name: "NUL", token: good + "\x00", want: "base64url text"},
		{name: "NotASCII", token: good + "é", want: "base64url text"},
		{name: "Padding", token: good + "==", want: "base64url text"},
		{name: "StandardBase64", token: header + "." + payload + "." + "+/" + signature[2:], want: "base64url text"},
		{name: "SignatureWithSpareBits", token: header + "." + payload + "." + unsignedBit, want: "part 3"},
		{name: "TamperedPayload", token: header + "." + tampered + "." + signature, want: "signature"},
		{name: "TamperedHeader", token: b64(goodHeader(testKey(t, keyring.ES256)).with("x", 1).bytes(t)) + "." + payload + "." + signature, want: "signature"},
		{name: "JSONSerialization", token: `{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`, want: "base64url text"},
		{name: "JWE", token: jweText, want: "got 5"},
		{name: "Oversize", token: header + "." + strings.Repeat("A", 16<<10) + "." + signature, want: "at most 16384 bytes"},
		{name: "ManyDots", token: strings.Repeat(".", 16<<10), want: "3 parts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), tt.token)
			refused(t, tt.token, got, err, tt.want)
		})
	}
	// Every single character of a good token counts.
	for i := range good {
		if good[i] == '.' {
			continue
		}
		changed := good[:i] + nextBase64(good[i]) + good[i+1:]
		if got, err := v.Verify(t.Context(), changed); err == nil {
			t.Fatalf("accepted with character %d changed: %v", i, got.Claims)
		}
	}
}

// nextBase64 is the character that follows c in the base64url alphabet: as the last one
// of a text it has the same data bits but, for even c, spare bits that are not zero.
func nextBase64(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[(strings.IndexByte(alphabet, c)+1)%len(alphabet)])
}

// Attacks by claims under a good signature.
//
// Covers: BC-07, BC-08, JW-18
func TestVerifyRefusesClaims(t *testing.T) {
	k := testKey(t, keyring.EdDSA)
	sign := signWith(t, keyring.EdDSA, rawKey(t, keyring.EdDSA))
	v := newVerifier(t, newRing(t, k), nil)
	object := func(o object) func(*testing.T) []byte { return func(t *testing.T) []byte { return o.bytes(t) } }
	raw := func(s string) func(*testing.T) []byte { return func(*testing.T) []byte { return []byte(s) } }
	good := goodClaims()
	open := strings.TrimSuffix(string(good.bytes(t)), "}")
	tests := []struct {
		name   string
		claims func(*testing.T) []byte
		want   string
	}{
		{name: "WrongIssuer", claims: object(good.with("iss", "https://evil.example")), want: "expected issuer"},
		{name: "IssuerWithSlash", claims: object(good.with("iss", issuer+"/")), want: "expected issuer"},
		{name: "IssuerInCapitals", claims: object(good.with("iss", strings.ToUpper(issuer))), want: "expected issuer"},
		{name: "IssuerPrefix", claims: object(good.with("iss", "https://gw.example.com")), want: "expected issuer"},
		{name: "NoIssuer", claims: object(good.with("iss", nil)), want: "expected issuer"},
		{name: "IssuerArray", claims: object(good.with("iss", []string{issuer})), want: `member "iss"`},
		{name: "IssuerLong", claims: object(good.with("iss", strings.Repeat("i", 9000))), want: "expected issuer"},

		{name: "WrongAudience", claims: object(good.with("aud", "https://other.internal.example")), want: "expected audience"},
		{name: "AudiencesOfOthers", claims: object(good.with("aud", []string{"a", "b"})), want: "expected audience"},
		{name: "AudiencePrefix", claims: object(good.with("aud", audience+"/x")), want: "expected audience"},
		{name: "AudienceWithSlash", claims: object(good.with("aud", audience+"/")), want: "expected audience"},
		{name: "AudiencesInOneString", claims: object(good.with("aud", audience+" https://other.example")), want: "expected audience"},
		{name: "NoAudience", claims: object(good.with("aud", nil)), want: "expected audience"},
		{name: "EmptyAudience", claims: object(good.with("aud", "")), want: "expected audience"},
		{name: "EmptyAudienceArray", claims: object(good.with("aud", []string{})), want: "expected audience"},
		{name: "NullAudience", claims: raw(strings.Replace(string(good.bytes(t)), `"`+audience+`"`, "null", 1)), want: "expected audience"},
		{name: "AudienceArrayOfOtherTypes", claims: object(good.with("aud", []any{audience, 1})), want: `member "aud"`},
		{name: "AudienceObject", claims: object(good.with("aud", map[string]any{audience: true})), want: `member "aud"`},
		{name: "AudienceStar", claims: object(good.with("aud", "*")), want: "expected audience"},
		{name: "LongAudience", claims: object(good.with("aud", strings.Repeat("a", 9000))), want: "expected audience"},

		{name: "Expired", claims: object(good.with("exp", start.Unix()-1)), want: "has not expired"},
		{name: "ExpiresNow", claims: object(good.with("exp", start.Unix())), want: "has not expired"},
		{name: "NoExpiry", claims: object(good.with("exp", nil)), want: "claim exp"},
		{name: "NullExpiry", claims: raw(open + `,"x":1,"exp":null}`), want: "twice"},
		{name: "ExpiryText", claims: object(good.with("exp", "2036-01-01")), want: `member "exp"`},
		{name: "ExpiryTextNumber", claims: object(good.with("exp", "99999999999")), want: `member "exp"`},
		{name: "ExpiryNegative", claims: object(good.with("exp", -1)), want: `member "exp"`},
		{name: "ExpiryHuge", claims: object(good.with("exp", json.Number("1e300"))), want: `member "exp"`},
		{name: "ExpiryBeyondFloat", claims: object(good.with("exp", json.Number("1e999"))), want: `member "exp"`},
		{name: "ExpiryManyDigits", claims: object(good.with("exp", json.Number(strings.Repeat("9", 5000)))), want: `member "exp"`},
		{name: "ExpiryInMilliseconds", claims: object(good.with("exp", start.UnixMilli())), want: `member "exp"`},
		{name: "ExpiryTrue", claims: object(good.with("exp", true)), want: `member "exp"`},

		{name: "NotYetValid", claims: object(good.with("nbf", start.Unix()+1)), want: "valid already"},
		{name: "NotBeforeText", claims: object(good.with("nbf", "now")), want: `member "nbf"`},
		{name: "IssuedInFuture", claims: object(good.with("iat", start.Unix()+1)), want: "issued in the past"},
		{name: "NoIssuedAt", claims: object(good.with("iat", nil)), want: "claim iat"},

		{name: "NoSubject", claims: object(good.with("sub", nil)), want: "claim sub"},
		{name: "EmptySubject", claims: object(good.with("sub", "")), want: "claim sub"},
		{name: "SubjectNumber", claims: object(good.with("sub", 7)), want: `member "sub"`},
		{name: "NoClient", claims: object(good.with("client_id", nil)), want: "claim client_id"},
		{name: "NoID", claims: object(good.with("jti", nil)), want: "claim jti"},
		{name: "ScopeArray", claims: object(good.with("scope", []string{"stocks/read"})), want: `member "scope"`},
		{name: "ScopeWithQuote", claims: object(good.with("scope", `a"b`)), want: "scope"},

		{name: "DuplicateAudience", claims: raw(open + `,"aud":"https://other.example"}`), want: "twice"},
		{name: "DuplicateAudienceByEscape", claims: raw(open + `,"\u0061ud":"https://other.example"}`), want: "twice"},
		{name: "DuplicateNested", claims: raw(open + `,"act":{"sub":"a","sub":"b"}}`), want: "twice"},
		{name: "NotUTF8", claims: raw(open + `,"x":"` + "\xc3\x28" + `"}`), want: "claims"},
		{name: "Array", claims: raw(`[` + string(good.bytes(t)) + `]`), want: "claims"},
		{name: "Null", claims: raw(`null`), want: "claims"},
		{name: "NotJSON", claims: raw(`sub=admin`), want: "claims"},
		{name: "TrailingGarbage", claims: raw(string(good.bytes(t)) + `{}`), want: "claims"},
		{name: "NestedDeeply", claims: raw(open + `,"x":` + strings.Repeat(`{"a":`, 900) + "1" + strings.Repeat("}", 900) + `}`), want: "claims"},
		// A token inside a token is not unwrapped.
		{name: "NestedToken", claims: raw(mint(t, newRing(t, k), plainToken())), want: "claims"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := forge(goodHeader(k).bytes(t), tt.claims(t), sign)
			got, err := v.Verify(t.Context(), token)
			refused(t, token, got, err, tt.want)
		})
	}
}

// Types are mutually exclusive: what is one kind of token is no other (RFC 8725 §3.11).
//
// Covers: BC-09, JW-01, JW-18, JW-19
func TestVerifyTypes(t *testing.T) {
	k := testKey(t, keyring.EdDSA)
	sign := signWith(t, keyring.EdDSA, rawKey(t, keyring.EdDSA))
	strict := newVerifier(t, newRing(t, k), nil)
	compatible := newVerifier(t, newRing(t, k), func(c *keyring.VerifierConfig) { c.Types = []string{"at+jwt", "jwt", ""} })
	access := goodClaims()
	missing := goodHeader(k).with("typ", nil)
	typed := func(typ any) object { return goodHeader(k).with("typ", typ) }
	tests := []struct {
		name       string
		header     object
		claims     object
		compatible bool // accepted with the switch for JWT
	}{
		{name: "JWT", header: typed("JWT"), claims: access, compatible: true},
		{name: "NoType", header: missing, claims: access, compatible: true},
		{name: "TypeEmpty", header: typed(""), claims: access, compatible: true},
		{name: "TypeNumber", header: typed(1), claims: access},
		{name: "TypeArray", header: typed([]string{"at+jwt"}), claims: access},
		{name: "TypeWithBlank", header: typed("at+jwt "), claims: access},
		{name: "TypeWithParameter", header: typed("at+jwt; v=1"), claims: access},
		{name: "TypeTwiceApplication", header: typed("application/application/at+jwt"), claims: access},

		{name: "DPoPProof", header: typed("dpop+jwt"), claims: access},
		{name: "IntrospectionAnswer", header: typed("token-introspection+jwt"), claims: access},
		{name: "LogoutToken", header: typed("logout+jwt"), claims: access},
		{name: "IdentityAssertion", header: typed("oauth-id-jag+jwt"), claims: access},
		{name: "TransactionToken", header: typed("txntoken+jwt"), claims: access},
		{name: "StatusList", header: typed("statuslist+jwt"), claims: access},
		{name: "SecurityEvent", header: typed("secevent+jwt"), claims: access},
		{name: "ClientAssertion", header: typed("client-authentication+jwt"), claims: access},
		{name: "IDTokenType", header: typed("id_token+jwt"), claims: access},
		{name: "JWE", header: typed("JWE"), claims: access},

		{name: "IDTokenWithNonce", header: typed("JWT"), claims: access.with("nonce", "n-1")},
		{name: "IDTokenWithAccessTokenHash", header: typed("JWT"), claims: access.with("at_hash", "x")},
		{name: "IDTokenWithCodeHash", header: missing, claims: access.with("c_hash", "x")},
		{name: "KeycloakIDToken", header: typed("JWT"), claims: access.with("typ", "ID")},
		{name: "KeycloakRefreshToken", header: typed("JWT"), claims: access.with("typ", "Refresh")},
		{name: "KeycloakOfflineToken", header: typed("JWT"), claims: access.with("typ", "Offline")},
		{name: "KeycloakLogoutToken", header: typed("JWT"), claims: access.with("events", object{"http://schemas.openid.net/event/backchannel-logout": object{}})},
		{name: "CognitoIDToken", header: missing, claims: access.with("token_use", "id")},
		{name: "CurityIDToken", header: typed("JWT"), claims: access.with("purpose", "id")},
		{name: "ClaimTypeOfOtherKind", header: typed("JWT"), claims: access.with("typ", []string{"Bearer"})},
		{name: "IDTokenForUs", header: typed("JWT"), claims: access.with("nonce", "n", "aud", []string{audience, "client-1"}, "azp", "client-1")},
		{name: "CognitoAccessToken", header: missing, claims: access.with("token_use", "access"), compatible: true},
		{name: "KeycloakAccessToken", header: typed("JWT"), claims: access.with("typ", "Bearer", "jti", nil), compatible: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := forge(tt.header.bytes(t), tt.claims.bytes(t), sign)
			got, err := strict.Verify(t.Context(), token)
			refused(t, token, got, err, "typ")
			got, err = compatible.Verify(t.Context(), token)
			if !tt.compatible {
				refused(t, token, got, err, "expected")
			} else if err != nil {
				t.Errorf("with types at+jwt, jwt and none: %v", err)
			}
		})
	}
}

// Covers: BC-17
func TestVerifyLeeway(t *testing.T) {
	k := testKey(t, keyring.EdDSA)
	sign := signWith(t, keyring.EdDSA, rawKey(t, keyring.EdDSA))
	ago := func(d time.Duration) int64 { return start.Add(-d).Unix() }
	const s = time.Second
	tests := []struct {
		name   string
		claims object
		want   bool
	}{
		{name: "expired 59 s ago", claims: goodClaims().with("iat", ago(600*s), "exp", ago(59*s)), want: true},
		{name: "expired 60 s ago", claims: goodClaims().with("iat", ago(600*s), "exp", ago(60*s))},
		{name: "expired 61 s ago", claims: goodClaims().with("iat", ago(600*s), "exp", ago(61*s))},
		{name: "valid in 59 s", claims: goodClaims().with("nbf", ago(-59*s)), want: true},
		{name: "valid in 60 s", claims: goodClaims().with("nbf", ago(-60*s)), want: true},
		{name: "valid in 61 s", claims: goodClaims().with("nbf", ago(-61*s))},
		{name: "issued in 59 s", claims: goodClaims().with("iat", ago(-59*s)), want: true},
		{name: "issued in 61 s", claims: goodClaims().with("iat", ago(-61*s))},
	}
	v := newVerifier(t, newRing(t, k), func(c *keyring.VerifierConfig) { c.Leeway = time.Minute })
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), forge(goodHeader(k).bytes(t), tt.claims.bytes(t), sign))
			if got := err == nil; got != tt.want {
				t.Errorf("accepted = %t (%v), want %t", got, err, tt.want)
			}
		})
	}
}

// The key of one issuer signs a token in the name of another.
//
// Covers: BC-07
func TestVerifyRefusesKeyOfOtherIssuer(t *testing.T) {
	ours, theirs := newRing(t, generate(t, "")), newRing(t, generate(t, ""))
	a := newVerifier(t, ours, nil)
	b := newVerifier(t, theirs, func(c *keyring.VerifierConfig) { c.Issuer = "https://b.example" })
	signedByB := mint(t, theirs, plainToken()) // iss says us
	got, err := a.Verify(t.Context(), signedByB)
	refused(t, signedByB, got, err, "unknown kid")
	got, err = b.Verify(t.Context(), signedByB)
	refused(t, signedByB, got, err, "expected issuer")
}

// sourceFunc is a KeySource that does as the test says.
type sourceFunc func(ctx context.Context, kid string) ([]keyring.PublicKey, error)

func (f sourceFunc) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	return f(ctx, kid)
}

func TestVerifyTellsTroubleFromBadTokens(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.ES256))
	token := mint(t, ring, plainToken())
	cause := errors.New("disk on fire")
	for _, wrapped := range []error{cause, fmt.Errorf("%w: %w", keyring.ErrKeysUnavailable, cause)} {
		v := newVerifier(t, sourceFunc(func(context.Context, string) ([]keyring.PublicKey, error) { return nil, wrapped }), nil)
		_, err := v.Verify(t.Context(), token)
		if !errors.Is(err, keyring.ErrKeysUnavailable) || errors.Is(err, keyring.ErrInvalidToken) || !errors.Is(err, cause) {
			t.Errorf("error = %v, want ErrKeysUnavailable with its cause", err)
		}
		// What is bad by itself is bad without any key.
		if _, err := v.Verify(t.Context(), "x.y.z"); !errors.Is(err, keyring.ErrInvalidToken) {
			t.Errorf("error = %v, want ErrInvalidToken", err)
		}
	}
}

// A source that is not of this package cannot bring weak or foreign keys in.
//
// Covers: BC-01, BC-06
func TestVerifyRefusesBadKeysOfASource(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	good := testKey(t, keyring.ES256).Public()
	tests := []struct {
		name string
		alg  string
		key  keyring.PublicKey
		sign func([]byte) []byte
	}{
		{name: "RSA1024", alg: keyring.RS256, key: keyring.PublicKey{ID: "k", Algorithm: keyring.RS256, Key: short.Public()}, sign: signWith(t, keyring.RS256, short)},
		{name: "P384AsES256", alg: keyring.ES256, key: keyring.PublicKey{ID: "k", Algorithm: keyring.ES256, Key: p384.Public()}, sign: signWith(t, keyring.ES256, p384)},
		{name: "SharedSecretAsES256", alg: keyring.ES256, key: keyring.PublicKey{ID: "k", Algorithm: keyring.ES256, Key: secret}, sign: signWith(t, keyring.ES256, rawKey(t, keyring.ES256))},
		{name: "NilKey", alg: keyring.ES256, key: keyring.PublicKey{ID: "k", Algorithm: keyring.ES256}, sign: signWith(t, keyring.ES256, rawKey(t, keyring.ES256))},
		{name: "OtherID", alg: keyring.ES256, key: good, sign: signWith(t, keyring.ES256, rawKey(t, keyring.ES256))},
		{name: "NoAlgorithm", alg: keyring.ES256, key: keyring.PublicKey{ID: "k", Key: good.Key}, sign: signWith(t, keyring.ES256, rawKey(t, keyring.ES256))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, sourceFunc(func(context.Context, string) ([]keyring.PublicKey, error) {
				return []keyring.PublicKey{tt.key}, nil
			}), nil)
			token := forge(object{"alg": tt.alg, "kid": "k", "typ": "at+jwt"}.bytes(t), goodClaims().bytes(t), tt.sign)
			got, err := v.Verify(t.Context(), token)
			refused(t, token, got, err, "expected")
		})
	}
}

// One RSA key that an issuer uses with two algorithms is two keys of one id.
func TestVerifyPicksTheAlgorithmAmongKeysOfOneID(t *testing.T) {
	rs, ps := testKey(t, keyring.RS256), testKey(t, keyring.PS256)
	keys := keyring.PublicKeys{rs.Public(), ps.Public()}
	for _, k := range []*keyring.Key{rs, ps} {
		if _, err := newVerifier(t, keys, nil).Verify(t.Context(), mint(t, newRing(t, k), plainToken())); err != nil {
			t.Errorf("%s: %v", k.Algorithm(), err)
		}
	}
}

func TestVerifyAlgorithmsOfConfiguration(t *testing.T) {
	ring := newRing(t, testKey(t, keyring.RS256))
	v := newVerifier(t, ring, func(c *keyring.VerifierConfig) { c.Algorithms = []string{keyring.ES256, keyring.PS256} })
	token := mint(t, ring, plainToken())
	got, err := v.Verify(t.Context(), token)
	refused(t, token, got, err, `expected header alg ES256 or PS256, got "RS256"`)
}

func TestNewVerifierRefuses(t *testing.T) {
	good := keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: keyring.PublicKeys{}}
	tests := []struct {
		name   string
		change func(*keyring.VerifierConfig)
		want   string
	}{
		{name: "NoIssuer", change: func(c *keyring.VerifierConfig) { c.Issuer = "" }, want: "issuer"},
		{name: "NoAudience", change: func(c *keyring.VerifierConfig) { c.Audiences = nil }, want: "audience"},
		{name: "EmptyAudience", change: func(c *keyring.VerifierConfig) { c.Audiences = []string{audience, ""} }, want: "audience"},
		{name: "NoKeys", change: func(c *keyring.VerifierConfig) { c.Keys = nil }, want: "keys"},
		{name: "LeewayAboveAMinute", change: func(c *keyring.VerifierConfig) { c.Leeway = time.Minute + 1 }, want: "leeway"},
		{name: "LeewayNegative", change: func(c *keyring.VerifierConfig) { c.Leeway = -1 }, want: "leeway"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.change(&cfg)
			if _, err := keyring.NewVerifier(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one that names %s", err, tt.want)
			}
		})
	}
	_, err := keyring.NewVerifier(keyring.VerifierConfig{Leeway: -1})
	for _, tt := range tests {
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want all problems in one, %s too", err, tt.want)
		}
	}
}

// The lists of a configuration can be used again by the caller.
func TestNewVerifierKeepsItsOwnLists(t *testing.T) {
	audiences := []string{audience}
	ring := newRing(t, testKey(t, keyring.ES256))
	v := newVerifier(t, ring, func(c *keyring.VerifierConfig) { c.Audiences = audiences })
	audiences[0] = "https://other.example"
	if _, err := v.Verify(t.Context(), mint(t, ring, plainToken())); err != nil {
		t.Error(err)
	}
}
