package tokenexchange

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// assertionLife is how long an assertion may be presented: it is sent at once, so this is
// for clocks that differ.
const assertionLife = time.Minute

// assertionSigner makes JWTs that say who the client is (RFC 7523 §3).
type assertionSigner struct {
	key      crypto.Signer
	header   string // encoded
	client   string
	audience string
	hash     crypto.SignerOpts
	encode   func(signature []byte) ([]byte, error) // into the form of RFC 7518
}

func newAssertionSigner(c *Config) (*assertionSigner, error) {
	s := &assertionSigner{
		key:      c.ClientKey,
		client:   c.ClientID,
		audience: cmp.Or(c.AssertionAudience, c.Endpoint),
		hash:     crypto.SHA256,
		encode:   func(signature []byte) ([]byte, error) { return signature, nil },
	}
	var alg string
	switch public := c.ClientKey.Public().(type) {
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, errors.New("ClientKey: expected an ECDSA key on P-256, got one on another curve")
		}
		alg, s.encode = "ES256", fixedLength
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < 2048 {
			return nil, fmt.Errorf("ClientKey: expected an RSA key of 2048 bits or more, got %d", bits)
		}
		alg = "RS256"
		if c.ClientKeyAlgorithm == "PS256" {
			alg, s.hash = "PS256", &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
		}
	case ed25519.PublicKey:
		alg, s.hash = "EdDSA", crypto.Hash(0)
	default:
		return nil, fmt.Errorf("ClientKey: expected an ECDSA, RSA or Ed25519 key, got one of type %T", public)
	}
	if c.ClientKeyAlgorithm != "" && c.ClientKeyAlgorithm != alg {
		return nil, fmt.Errorf("ClientKeyAlgorithm: expected nothing or %q with this ClientKey, got %q", alg, c.ClientKeyAlgorithm)
	}
	header, err := encodeJSON(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid,omitempty"`
	}{alg, "JWT", c.ClientKeyID})
	s.header = header
	return s, err
}

// assertion is a new JWT at each call: a jti that was seen is refused (RFC 7523 §3).
func (s *assertionSigner) assertion(now time.Time) (string, error) {
	claims, err := encodeJSON(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		ID       string `json:"jti"`
		IssuedAt int64  `json:"iat"`
		Expiry   int64  `json:"exp"`
	}{s.client, s.client, s.audience, rand.Text(), now.Unix(), now.Add(assertionLife).Unix()})
	if err != nil {
		return "", err
	}
	input := s.header + "." + claims
	digest := []byte(input)
	if s.hash.HashFunc() != 0 {
		sum := sha256.Sum256(digest)
		digest = sum[:]
	}
	signature, err := s.key.Sign(rand.Reader, digest, s.hash)
	if err == nil {
		signature, err = s.encode(signature)
	}
	if err != nil {
		return "", fmt.Errorf("ClientKey: signing the assertion: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// fixedLength is an ES256 signature as RFC 7518 §3.4 wants it: R and S of 32 bytes each,
// where Go and everything behind crypto.Signer make ASN.1.
func fixedLength(der []byte) ([]byte, error) {
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &pair); err != nil || len(rest) > 0 ||
		pair.R.Sign() <= 0 || pair.S.Sign() <= 0 || pair.R.BitLen() > 256 || pair.S.BitLen() > 256 {
		return nil, errors.New("expected an ASN.1 signature of ECDSA on P-256, got something else")
	}
	out := make([]byte, 64)
	pair.R.FillBytes(out[:32])
	pair.S.FillBytes(out[32:])
	return out, nil
}

func encodeJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(data), err
}
