package keyring_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"phantomtoken/internal/keyring"
)

// Private keys of published examples.
const (
	// RFC 7517 appendix A.2.
	ecJWK = `{"kty":"EC","crv":"P-256",
		"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
		"y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
		"d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE","use":"sig","kid":"1"}`
	// RFC 8037 appendix A.1; its thumbprint is in A.3.
	edJWK = `{"kty":"OKP","crv":"Ed25519",
		"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
		"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	edThumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
	// RFC 7638 section 3.1.
	rsaPublicJWK  = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256"}`
	rsaThumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
)

func TestKeyIDIsRFC7638Thumbprint(t *testing.T) {
	k, err := keyring.Parse([]byte(edJWK), "")
	if err != nil {
		t.Fatal(err)
	}
	if k.ID() != edThumbprint {
		t.Errorf("Ed25519 key id = %q, want %q (RFC 8037 A.3)", k.ID(), edThumbprint)
	}
	public, err := keyring.ParsePublic([]byte(rsaPublicJWK))
	if err != nil {
		t.Fatal(err)
	}
	if public[0].ID != rsaThumbprint {
		t.Errorf("RSA key id = %q, want %q (RFC 7638 3.1)", public[0].ID, rsaThumbprint)
	}
}

func TestGenerate(t *testing.T) {
	for _, alg := range algorithms() {
		t.Run(alg, func(t *testing.T) {
			k := generate(t, alg)
			if k.Algorithm() != alg {
				t.Errorf("Algorithm() = %q, want %q", k.Algorithm(), alg)
			}
			if len(k.ID()) != 43 {
				t.Errorf("ID() = %q, want 43 characters", k.ID())
			}
			if again := generate(t, alg); again.ID() == k.ID() {
				t.Error("two generated keys have the same id")
			}
		})
	}
	if k := generate(t, ""); k.Algorithm() != keyring.ES256 {
		t.Errorf("default algorithm = %q, want ES256", k.Algorithm())
	}
}

// No way in for none and shared secrets.
//
// Covers: JW-13
func TestRefusesAlgorithmsWithoutKeyPair(t *testing.T) {
	ring := newRing(t, generate(t, keyring.ES256))
	for _, alg := range []string{"none", "None", "NONE", "HS256", "HS384", "HS512", "es256", "ES384", "RS512", "ES256K", "RSA-OAEP", "dir", " ES256"} {
		t.Run(alg, func(t *testing.T) {
			if k, err := keyring.Generate(alg); err == nil {
				t.Errorf("Generate(%q) = %v, want an error", alg, k)
			}
			if k, err := keyring.Parse([]byte(ecJWK), alg); err == nil {
				t.Errorf("Parse(…, %q) = %v, want an error", alg, k)
			}
			cfg := keyring.VerifierConfig{Issuer: issuer, Audiences: []string{audience}, Keys: ring, Algorithms: []string{alg}}
			if _, err := keyring.NewVerifier(cfg); err == nil {
				t.Errorf("NewVerifier with algorithm %q: want an error", alg)
			}
		})
	}
}

func TestParse(t *testing.T) {
	ec, rs, ed := rawKey(t, keyring.ES256), rawKey(t, keyring.RS256), rawKey(t, keyring.EdDSA)
	ecKey, _ := ec.(*ecdsa.PrivateKey)
	rsKey, _ := rs.(*rsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	sec1PEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}})
	pkcs1PEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsKey)})

	tests := []struct {
		name string
		data []byte
		alg  string
		want string
	}{
		{name: "PKCS8 EC", data: pkcs8(t, ec), want: keyring.ES256},
		{name: "PKCS8 RSA", data: pkcs8(t, rs), want: keyring.RS256},
		{name: "PKCS8 RSA for PS256", data: pkcs8(t, rs), alg: keyring.PS256, want: keyring.PS256},
		{name: "PKCS8 Ed25519", data: pkcs8(t, ed), want: keyring.EdDSA},
		{name: "SEC1", data: sec1PEM, want: keyring.ES256},
		{name: "SEC1 after parameters as openssl writes it", data: append(params, sec1PEM...), want: keyring.ES256},
		{name: "PKCS1", data: pkcs1PEM, want: keyring.RS256},
		{name: "PEM with blanks around", data: []byte("\n\n  " + string(pkcs1PEM) + "\n\n"), want: keyring.RS256},
		{name: "JWK EC", data: []byte(ecJWK), want: keyring.ES256},
		{name: "JWK EC with blanks around", data: []byte(" \r\n" + ecJWK + "\r\n "), want: keyring.ES256},
		{name: "JWK OKP", data: []byte(edJWK), alg: keyring.EdDSA, want: keyring.EdDSA},
		{name: "JWK key_ops", data: []byte(strings.Replace(ecJWK, `"use":"sig"`, `"key_ops":["sign"]`, 1)), want: keyring.ES256},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := keyring.Parse(tt.data, tt.alg)
			if err != nil {
				t.Fatal(err)
			}
			if k.Algorithm() != tt.want {
				t.Errorf("Algorithm() = %q, want %q", k.Algorithm(), tt.want)
			}
			// It signs, and what it signs verifies.
			r := newRing(t, k)
			if _, err := newVerifier(t, r, nil).Verify(t.Context(), mint(t, r, plainToken())); err != nil {
				t.Errorf("verifying a token of the parsed key: %v", err)
			}
		})
	}
}

// Covers: BC-06
func TestParseRefuses(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPEM := pkcs8(t, rawKey(t, keyring.ES256))
	const d = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"
	replaced := func(old, new string) []byte {
		out := strings.Replace(ecJWK, old, new, 1)
		if out == ecJWK {
			t.Fatalf("%q does not occur in the example", old)
		}
		return []byte(out)
	}
	rsKey, _ := rawKey(t, keyring.RS256).(*rsa.PrivateKey)
	rsaJWK := func(d *big.Int, p, q *big.Int) []byte {
		return fmt.Appendf(nil, `{"kty":"RSA","n":%q,"e":"AQAB","d":%q,"p":%q,"q":%q}`, b64(rsKey.N.Bytes()), b64(d.Bytes()), b64(p.Bytes()), b64(q.Bytes()))
	}
	if _, err := keyring.Parse(rsaJWK(rsKey.D, rsKey.Primes[0], rsKey.Primes[1]), ""); err != nil {
		t.Fatalf("the RSA key is refused before it was changed: %v", err)
	}
	two := big.NewInt(2)
	tests := []struct {
		name string
		data []byte
		alg  string
		want string // in the error
	}{
		{name: "RSAForeignExponent", data: rsaJWK(new(big.Int).Add(rsKey.D, two), rsKey.Primes[0], rsKey.Primes[1]), want: "belongs to it"},
		{name: "RSAForeignPrimes", data: rsaJWK(rsKey.D, new(big.Int).Add(rsKey.Primes[0], two), rsKey.Primes[1]), want: "belongs to it"},
		{name: "RSASwappedForOnes", data: rsaJWK(big.NewInt(1), big.NewInt(1), big.NewInt(1)), want: "belongs to it"},
		{name: "Nothing", data: nil, want: "got nothing"},
		{name: "Blanks", data: []byte(" \n\t"), want: "got nothing"},
		{name: "UnresolvedVaultReference", data: []byte("{vault://env/signing-key}"), want: "expected a JSON object"},
		{name: "Text", data: []byte("not a key"), want: "JWK or PEM"},
		{name: "SharedSecret", data: []byte(`{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow","alg":"HS256"}`), want: "EC, RSA or OKP"},
		{name: "SharedSecretNamedRSA", data: []byte(`{"kty":"RSA","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ","alg":"HS256"}`), want: "expected algorithm"},
		{name: "AlgNone", data: replaced(`"use"`, `"alg":"none","use"`), want: "expected algorithm"},
		{name: "AlgNumber", data: replaced(`"use"`, `"alg":256,"use"`), want: "expected algorithm"},
		{name: "AlgOfOtherType", data: replaced(`"use"`, `"alg":"EdDSA","use"`), want: "expected algorithm ES256"},
		{name: "AlgOtherThanAsked", data: replaced(`"use"`, `"alg":"ES256","use"`), alg: keyring.RS256, want: `alg is "ES256"`},
		{name: "AskedAlgOfOtherType", data: ecPEM, alg: keyring.RS256, want: "expected algorithm ES256"},
		{name: "KeyForEncryption", data: replaced(`"use":"sig"`, `"use":"enc"`), want: "use"},
		{name: "KeyForVerificationOnly", data: replaced(`"use":"sig"`, `"key_ops":["verify"]`), want: "key_ops"},
		{name: "PublicJWK", data: []byte(rsaPublicJWK), want: "expected a private key"},
		{name: "PublicPEM", data: publicPEM(t, rawKey(t, keyring.ES256)), want: "expected a PEM block with a private key"},
		{name: "KeySet", data: []byte(`{"keys":[` + ecJWK + `]}`), want: "JWK Set"},
		{name: "DuplicateMember", data: replaced(`"use"`, `"crv":"P-256","use"`), want: "twice"},
		{name: "TrailingGarbage", data: []byte(ecJWK + "x"), want: "expected a JSON object"},
		{name: "MissingCoordinate", data: replaced(`"y":`, `"yy":`), want: "complete JWK"},
		{name: "CoordinateNotBase64", data: replaced(`"y":"4Etl`, `"y":"4E*!`), want: "complete JWK"},
		{name: "OffCurve", data: replaced("4Etl6", "5Etl6"), want: "belongs to it"},
		{name: "ForeignPublicHalf", data: replaced(d, d[:40]+"AAA"), want: "belongs to it"},
		{name: "ZeroScalar", data: replaced(d, strings.Repeat("A", 43)), want: "belongs to it"},
		{name: "Ed25519ForeignPublicHalf", data: []byte(strings.Replace(edJWK, "11qYAY", "21qYAY", 1)), want: "complete JWK"},
		{name: "Ed25519ShortSeed", data: []byte(strings.Replace(edJWK, "nWGxne_9", "", 1)), want: "expected"},
		{name: "X25519", data: []byte(strings.Replace(edJWK, `"Ed25519"`, `"X25519"`, 1)), want: "expected"},
		{name: "P384", data: pkcs8(t, p384), want: "P-256"},
		{name: "ShortRSA", data: pkcs8(t, short), want: "2048 to 8192 bits, got 1024"},
		{name: "RSAWithoutPrimes", data: []byte(strings.Replace(rsaPublicJWK, `"e"`, `"d":"AQAB","e"`, 1)), want: "expected"},
		{name: "EncryptedPKCS8", data: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), want: "without password"},
		{name: "EncryptedPKCS1", data: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x")}), want: "without password"},
		{name: "BrokenPEM", data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), want: "standard form"},
		{name: "TwoKeys", data: append(bytes.Clone(ecPEM), ecPEM...), want: "several"},
		{name: "Certificate", data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), want: "PEM block with a private key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := keyring.Parse(tt.data, tt.alg)
			if err == nil {
				t.Fatalf("got %v, want an error", k)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
			for _, secret := range []string{d, "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ", "nWGxne"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error %q quotes the key", err)
				}
			}
		})
	}
}

func publicPEM(t testing.TB, private crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestKeyDoesNotPrintItsPrivateHalf(t *testing.T) {
	raw, _ := rawKey(t, keyring.ES256).(*ecdsa.PrivateKey)
	d, err := raw.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	k := testKey(t, keyring.ES256)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", k)
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k)
	printed := []string{
		fmt.Sprint(k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), k.String(),
		fmt.Sprintf("%+v", newRing(t, k)), fmt.Sprintf("%#v", []*keyring.Key{k}), log.String(),
	}
	number := fmt.Sprint(new(big.Int).SetBytes(d))
	for _, p := range printed {
		for _, secret := range []string{number, b64(d), fmt.Sprintf("%x", d), fmt.Sprint(d)} {
			if strings.Contains(p, secret) {
				t.Errorf("%q shows the private half", p)
			}
		}
	}
	if want := "ES256 key " + k.ID(); fmt.Sprint(k) != want {
		t.Errorf("printed %q, want %q", fmt.Sprint(k), want)
	}
}

func TestParsePublic(t *testing.T) {
	ec, rs, ed := rawKey(t, keyring.ES256), rawKey(t, keyring.RS256), rawKey(t, keyring.EdDSA)
	jwks := newRing(t, testKey(t, keyring.ES256), testKey(t, keyring.PS256), testKey(t, keyring.EdDSA)).JWKS()
	tests := []struct {
		name string
		data []byte
		want []string // algorithms
	}{
		{name: "our own set", data: jwks, want: []string{keyring.ES256, keyring.PS256, keyring.EdDSA}},
		{name: "one JWK", data: []byte(rsaPublicJWK), want: []string{keyring.RS256}},
		{name: "RSA without alg is RS256", data: []byte(strings.Replace(rsaPublicJWK, `,"alg":"RS256"`, "", 1)), want: []string{keyring.RS256}},
		{name: "public half of a private JWK", data: []byte(ecJWK), want: []string{keyring.ES256}},
		{name: "public half of a private PEM", data: pkcs8(t, rs), want: []string{keyring.RS256}},
		{name: "several PEM blocks", data: append(publicPEM(t, ec), publicPEM(t, ed)...), want: []string{keyring.ES256, keyring.EdDSA}},
		{name: "unusable neighbours are left out", data: []byte(`{"keys":[
			{"kty":"oct","k":"AAAA"}, {"kty":"RSA","n":"AQAB","e":"AQAB"}, 7, null, "x", [], {},
			{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}, {"kty":"EC","crv":"P-256","x":1,"y":2},
			{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"},
			{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"},` + rsaPublicJWK + `]}`), want: []string{keyring.RS256}},
		{name: "twice the same", data: []byte(`{"keys":[` + rsaPublicJWK + `,` + rsaPublicJWK + `]}`), want: []string{keyring.RS256}},
		{name: "certificates are not looked at", data: []byte(strings.Replace(rsaPublicJWK, `"alg"`, `"x5c":["!!"],"x5u":"http://x","x5t":"?","alg"`, 1)), want: []string{keyring.RS256}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := keyring.ParsePublic(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range keys {
				got = append(got, k.Algorithm)
				if _, private := k.Key.(crypto.Signer); private {
					t.Errorf("key %s is a private key", k.ID)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("algorithms = %v, want %v", got, tt.want)
			}
		})
	}
}

// Covers: BC-06
func TestParsePublicRefuses(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		data string
	}{
		{name: "Nothing", data: ""},
		{name: "Text", data: "<html>not found</html>"},
		{name: "EmptyObject", data: "{}"},
		{name: "EmptySet", data: `{"keys":[]}`},
		{name: "KeysIsNoArray", data: `{"keys":{}}`},
		{name: "DuplicateKeysMember", data: `{"keys":[` + rsaPublicJWK + `],"keys":[]}`},
		{name: "SharedSecretOnly", data: `{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}`},
		{name: "RSA1024", data: fmt.Sprintf(`{"keys":[{"kty":"RSA","n":%q,"e":"AQAB"}]}`, b64(short.N.Bytes()))},
		{name: "RSA1024PEM", data: string(publicPEM(t, short))},
		{name: "RSAHuge", data: `{"keys":[{"kty":"RSA","n":"` + strings.Repeat("_", 4000) + `","e":"AQAB"}]}`},
		{name: "RSAExponentOne", data: strings.Replace(rsaPublicJWK, `"AQAB"`, `"AQ"`, 1)},
		{name: "RSAExponentEven", data: strings.Replace(rsaPublicJWK, `"AQAB"`, `"AQAA"`, 1)},
		{name: "RSAExponentHuge", data: strings.Replace(rsaPublicJWK, `"AQAB"`, `"_____________w"`, 1)},
		{name: "OffCurve", data: strings.Replace(ecJWK, "4Etl6", "5Etl6", 1)},
		{name: "PointAtInfinity", data: `{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`},
		{name: "Certificate", data: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if keys, err := keyring.ParsePublic([]byte(tt.data)); err == nil {
				t.Errorf("got %v, want an error", keys)
			} else {
				t.Log(err)
			}
		})
	}
}
