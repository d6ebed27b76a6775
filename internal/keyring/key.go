package keyring

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"phantomtoken/internal/oauth"
)

// Key is a private signing key bound to one algorithm. It is immutable and safe for
// concurrent use. Printing or logging it shows its id, never its private part.
type Key struct {
	public  PublicKey
	private crypto.Signer
	signer  jws.Signer
	header  string // JWS protected header of an access token, as on the wire
}

// Generate makes a new key for alg: ES256 when empty, or RS256, PS256 (both 2048 bits)
// or EdDSA.
func Generate(alg string) (*Key, error) {
	if alg == "" {
		alg = ES256
	}
	var private crypto.Signer
	var err error
	switch alg {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256, PS256:
		private, err = rsa.GenerateKey(rand.Reader, minRSABits)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = checkAlgorithm(alg)
	}
	if err != nil {
		return nil, fmt.Errorf("generating signing key: %w", err)
	}
	return newKey(private, alg)
}

// Parse reads a private key: one JWK (RFC 7517), or one PEM block of PKCS #8, PKCS #1 or
// SEC 1, not encrypted. With alg empty the algorithm is the key's own: the member alg of
// the JWK, else ES256 for EC keys, RS256 for RSA keys, EdDSA for Ed25519 keys. A given
// alg must agree with the JWK and suit the key. RSA keys have 2048 to 8192 bits.
//
// The id is computed from the key; a kid in the JWK is ignored. Errors never quote data.
func Parse(data []byte, alg string) (*Key, error) {
	data = bytes.TrimSpace(data)
	var private crypto.Signer
	var err error
	switch {
	case len(data) == 0:
		err = errors.New("expected a private key as JWK or PEM, got nothing")
	case data[0] == '{':
		private, alg, err = parsePrivateJWK(data, alg)
	default:
		private, err = parsePrivatePEM(data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	return newKey(private, alg)
}

// newKey checks private and binds it to alg.
func newKey(private crypto.Signer, alg string) (*Key, error) {
	public, err := newPublicKey(private.Public(), "", alg)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	signer, err := signerOf(public.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
		Type      string `json:"typ"`
	}{public.Algorithm, public.ID, TypeAccessToken})
	if err != nil {
		return nil, fmt.Errorf("writing token header: %w", err)
	}
	return &Key{
		public:  public,
		private: private,
		signer:  signer,
		header:  base64.RawURLEncoding.EncodeToString(header),
	}, nil
}

// ID is the key id: the RFC 7638 SHA-256 thumbprint, base64url without padding.
func (k *Key) ID() string { return k.public.ID }

// Algorithm is the one algorithm of the key, for example ES256.
func (k *Key) Algorithm() string { return k.public.Algorithm }

// Public is the public half.
func (k *Key) Public() PublicKey { return k.public }

// String names the key without its private part.
func (k *Key) String() string { return k.public.Algorithm + " key " + k.public.ID }

// GoString is String, so that %#v does not print the private part either.
func (k *Key) GoString() string { return k.String() }

// marshal is the private JWK as Load reads it.
func (k *Key) marshal() ([]byte, error) {
	return marshalJWK(k.private, k.public)
}

func marshalJWK(raw any, public PublicKey) ([]byte, error) {
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, fmt.Errorf("writing key as JWK: %w", err)
	}
	err = errors.Join(
		key.Set(jwk.AlgorithmKey, public.Algorithm),
		key.Set(jwk.KeyIDKey, public.ID),
		key.Set(jwk.KeyUsageKey, jwk.ForSignature),
	)
	if err != nil {
		return nil, fmt.Errorf("writing key as JWK: %w", err)
	}
	data, err := json.Marshal(key)
	if err != nil {
		return nil, fmt.Errorf("writing key as JWK: %w", err)
	}
	return data, nil
}

func parsePrivateJWK(data []byte, alg string) (crypto.Signer, string, error) {
	members, err := oauth.ParseClaims(data)
	if err != nil {
		return nil, "", err
	}
	if _, set := members["keys"]; set {
		return nil, "", errors.New("expected one private JWK, got a JWK Set; put the one key into the file")
	}
	raw, own, err := parseJWK(members, "sign")
	if err != nil {
		return nil, "", err
	}
	if alg != "" && own != "" && own != alg {
		return nil, "", fmt.Errorf("expected a key for algorithm %s, got a JWK whose alg is %q", alg, clip(own))
	}
	if alg == "" {
		alg = own
	}
	private, err := checkPrivate(raw)
	return private, alg, err
}

func parsePrivatePEM(data []byte) (crypto.Signer, error) {
	var private any
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS": // openssl writes the name of the curve before the key
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("expected a key without password, got an encrypted PEM block")
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("expected a key without password, got an encrypted PEM block")
			}
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("expected a key without password, got an encrypted PEM block")
		default:
			return nil, fmt.Errorf("expected a PEM block with a private key, got %q", clip(block.Type))
		}
		if err != nil {
			return nil, fmt.Errorf("expected a %s in its standard form, got something else", block.Type)
		}
		if private != nil {
			return nil, errors.New("expected one private key, got several PEM blocks")
		}
		private = key
	}
	if private == nil {
		return nil, errors.New("expected a private key as JWK or PEM, got something else")
	}
	return checkPrivate(private)
}

// checkPrivate makes sure that the private and the public half belong together: a
// file put together by hand would otherwise sign what nobody can verify.
func checkPrivate(raw any) (crypto.Signer, error) {
	mismatch := errors.New("expected a private key whose public half belongs to it")
	switch k := raw.(type) {
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return nil, mismatch
		}
		own, err := ecdsa.ParseRawPrivateKey(k.Curve, d)
		if err != nil || !own.PublicKey.Equal(&k.PublicKey) {
			return nil, mismatch
		}
		return own, nil
	case *rsa.PrivateKey:
		// The size comes first: the arithmetic below takes as long as the key wants.
		if _, err := algorithmFor(&k.PublicKey, ""); err != nil {
			return nil, err
		}
		if len(k.Primes) != 2 || k.Primes[0].Sign() == 0 || k.Primes[1].Sign() == 0 {
			return nil, errors.New("expected an RSA key with its two primes p and q")
		}
		own := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: k.Primes}
		own.Precompute()
		if own.Validate() != nil {
			return nil, mismatch
		}
		return own, nil
	case ed25519.PrivateKey:
		if len(k) != ed25519.PrivateKeySize || !bytes.Equal(ed25519.NewKeyFromSeed(k.Seed()), k) {
			return nil, mismatch
		}
		return k, nil
	default:
		return nil, errors.New("expected a private key of type EC (P-256), RSA or Ed25519, got something else")
	}
}
