package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// The signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1). ES256 is the default for new
// keys: small signatures, and every verifier knows it.
const (
	ES256 = "ES256"
	RS256 = "RS256"
	PS256 = "PS256"
	EdDSA = "EdDSA" // with Ed25519
)

// Sizes of RSA moduli in bits. The lower one is RFC 7518 §3.3; the upper one bounds the
// work that a key out of a foreign key set can cause.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// checkAlgorithm refuses every name but the four, none and HS256 among them.
func checkAlgorithm(alg string) error {
	switch alg {
	case ES256, RS256, PS256, EdDSA:
		return nil
	default:
		return fmt.Errorf("expected algorithm %s, %s, %s or %s, got %q", ES256, RS256, PS256, EdDSA, clip(alg))
	}
}

// algorithmFor returns the one algorithm that pub is used with: alg if it suits the key,
// or the usual one of the key's type when alg is empty. It refuses keys that are too
// weak, too large to be meant well, or not on their curve.
func algorithmFor(pub crypto.PublicKey, alg string) (string, error) {
	if alg != "" {
		if err := checkAlgorithm(alg); err != nil {
			return "", err
		}
	}
	var kind string
	var fits []string // the first one is the default
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return "", errors.New("expected an EC key on the curve P-256, got another curve")
		}
		if _, err := pub.Bytes(); err != nil {
			return "", errors.New("expected an EC key whose point is on the curve P-256")
		}
		kind, fits = "EC", []string{ES256}
	case *rsa.PublicKey:
		if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return "", fmt.Errorf("expected an RSA key of %d to %d bits, got %d", minRSABits, maxRSABits, bits)
		}
		if pub.E < 3 || pub.E%2 == 0 || pub.E > 1<<31-1 {
			return "", errors.New("expected an RSA key with an odd public exponent from 3 to 2147483647")
		}
		kind, fits = "RSA", []string{RS256, PS256}
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return "", fmt.Errorf("expected an Ed25519 key of %d bytes, got %d", ed25519.PublicKeySize, len(pub))
		}
		kind, fits = "Ed25519", []string{EdDSA}
	default:
		return "", errors.New("expected an EC (P-256), RSA or Ed25519 key, got another type")
	}
	if alg == "" {
		return fits[0], nil
	}
	for _, f := range fits {
		if f == alg {
			return alg, nil
		}
	}
	return "", fmt.Errorf("expected algorithm %s for a key of type %s, got %s", fits[0], kind, alg)
}

// signerOf and verifierOf give the bare signature operations of JWS. The token around
// them is read and written in this package, once and strictly, so that no second parser
// can see another token than the one that was checked.
func signerOf(alg string) (jws.Signer, error) {
	if err := checkAlgorithm(alg); err != nil {
		return nil, err
	}
	return jws.NewSigner(jwa.SignatureAlgorithm(alg))
}

func verifierOf(alg string) (jws.Verifier, error) {
	if err := checkAlgorithm(alg); err != nil {
		return nil, err
	}
	return jws.NewVerifier(jwa.SignatureAlgorithm(alg))
}

// clip shortens foreign text for an error: long enough to recognize a name, too short
// for a token.
func clip(s string) string {
	const most = 48
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
