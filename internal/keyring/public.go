package keyring

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"phantomtoken/internal/oauth"
)

// PublicKey is a key that signatures are verified with: by this one algorithm only
// (RFC 8725 §3.1).
type PublicKey struct {
	ID        string           // kid, an opaque name
	Algorithm string           // ES256, RS256, PS256 or EdDSA
	Key       crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
}

// Same reports whether both have the id or the key itself in common.
func (k PublicKey) Same(other PublicKey) bool {
	return k.ID == other.ID || samePublicKey(k.Key, other.Key)
}

// KeySource finds the keys of one issuer. It is safe for concurrent use.
type KeySource interface {
	// Keys returns the keys whose id is kid; none, without error, if the issuer has no
	// such key. An error means that this cannot be known now; it wraps
	// ErrKeysUnavailable. ctx bounds the wait of this caller.
	Keys(ctx context.Context, kid string) ([]PublicKey, error)
}

// PublicKeys is a fixed set of keys, for example out of a file. It is a KeySource.
type PublicKeys []PublicKey

// Keys returns the keys of the set whose id is kid. It never fails.
func (ks PublicKeys) Keys(_ context.Context, kid string) ([]PublicKey, error) {
	var out []PublicKey
	for _, k := range ks {
		if k.ID == kid {
			out = append(out, k)
		}
	}
	return out, nil
}

// ParsePublic reads public keys: a JWK Set (RFC 7517 §5), one JWK, or PEM blocks. Of
// private keys it keeps the public half.
//
// Keys of a set that cannot verify a token here are left out, as RFC 7517 §5 wants:
// other types, algorithms or uses, RSA below 2048 bits, points off their curve. It is an
// error when no key remains. A key without alg gets the usual one of its type (RS256 for
// RSA), a key without kid its thumbprint; a private key too, as Parse does. Errors never
// quote data.
func ParsePublic(data []byte) (PublicKeys, error) {
	data = bytes.TrimSpace(data)
	var keys PublicKeys
	var err error
	if len(data) > 0 && data[0] == '{' {
		keys, err = parsePublicJWKs(data)
	} else {
		keys, err = parsePublicPEM(data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading public keys: %w", err)
	}
	return keys, nil
}

func parsePublicJWKs(data []byte) (PublicKeys, error) {
	members, err := oauth.ParseClaims(data)
	if err != nil {
		return nil, err
	}
	list := []any{members}
	if v, set := members["keys"]; set {
		var ok bool
		if list, ok = v.([]any); !ok {
			return nil, errors.New(`expected a JWK Set whose member "keys" is an array`)
		}
	}
	var keys PublicKeys
	var reason error
	for _, v := range list {
		key, err := parsePublicJWK(v)
		if err != nil {
			reason = err
			continue
		}
		if !slices.ContainsFunc(keys, func(k PublicKey) bool { return k.ID == key.ID && k.Algorithm == key.Algorithm }) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		if reason == nil {
			reason = errors.New("the set is empty")
		}
		return nil, fmt.Errorf("expected at least one key to verify %s, %s, %s or %s with, got none of %d: %w", ES256, RS256, PS256, EdDSA, len(list), reason)
	}
	return keys, nil
}

func parsePublicJWK(v any) (PublicKey, error) {
	members, ok := v.(map[string]any)
	if !ok {
		return PublicKey{}, errors.New("expected a JWK, got something else")
	}
	raw, alg, err := parseJWK(members, "verify")
	if err != nil {
		return PublicKey{}, err
	}
	kid, _ := members["kid"].(string)
	if _, private := raw.(crypto.Signer); private {
		kid = "" // Parse ignores it too: the owner signs under the thumbprint
	}
	return newPublicKey(publicOf(raw), kid, alg)
}

func parsePublicPEM(data []byte) (PublicKeys, error) {
	var keys PublicKeys
	for {
		var block *pem.Block
		rest := data
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var public crypto.PublicKey
		if block.Type == "PUBLIC KEY" {
			var err error
			if public, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				return nil, errors.New("expected a PUBLIC KEY in its standard form, got something else")
			}
		} else {
			private, err := parsePrivatePEM(rest[:len(rest)-len(data)])
			if err != nil {
				return nil, err
			}
			public = private.Public()
		}
		key, err := newPublicKey(public, "", "")
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("expected public keys as JWK Set, JWK or PEM, got something else")
	}
	return keys, nil
}

// parseJWK reads one JWK that may be used for operation ("sign" or "verify") and returns
// its key of package crypto and its alg, if it has one.
func parseJWK(members map[string]any, operation string) (raw any, alg string, err error) {
	if kty := members["kty"]; kty != "EC" && kty != "RSA" && kty != "OKP" {
		return nil, "", errors.New("expected a JWK whose kty is EC, RSA or OKP")
	}
	if use, set := members["use"]; set && use != "sig" {
		return nil, "", errors.New(`expected a JWK whose use is "sig"`)
	}
	if ops, set := members["key_ops"]; set {
		list, _ := ops.([]any)
		if !slices.Contains(list, any("sign")) && !slices.Contains(list, any(operation)) {
			return nil, "", fmt.Errorf("expected a JWK whose key_ops has %q", operation)
		}
	}
	if v, set := members["alg"]; set {
		alg, _ = v.(string)
		if err := checkAlgorithm(alg); err != nil {
			return nil, "", err
		}
	}
	// Only what makes the key is given on: certificates and the rest of a foreign JWK
	// are none of our business, and what is not parsed cannot fail.
	own := map[string]any{}
	for _, name := range []string{"kty", "crv", "x", "y", "d", "n", "e", "p", "q"} {
		if v, set := members[name]; set {
			own[name] = v
		}
	}
	data, err := json.Marshal(own)
	if err != nil {
		return nil, "", errors.New("expected a JWK, got something else")
	}
	// The errors of the parser may quote the key; ours must not.
	key, err := jwk.ParseKey(data)
	if err != nil || key.Validate() != nil {
		return nil, "", errors.New("expected a complete JWK of its key type, got something else")
	}
	if err := key.Raw(&raw); err != nil {
		return nil, "", errors.New("expected a complete JWK of its key type, got something else")
	}
	return raw, alg, nil
}

// publicOf is the public half of a private key and the key itself of others.
func publicOf(raw any) crypto.PublicKey {
	if private, ok := raw.(crypto.Signer); ok {
		return private.Public()
	}
	return raw
}

// samePublicKey compares two keys that algorithmFor accepted.
func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// newPublicKey checks pub and fills what is missing.
func newPublicKey(pub crypto.PublicKey, id, alg string) (PublicKey, error) {
	alg, err := algorithmFor(pub, alg)
	if err != nil {
		return PublicKey{}, err
	}
	if id == "" {
		if id, err = thumbprint(pub); err != nil {
			return PublicKey{}, err
		}
	}
	return PublicKey{ID: id, Algorithm: alg, Key: pub}, nil
}

// thumbprint is the RFC 7638 thumbprint of pub.
func thumbprint(pub crypto.PublicKey) (string, error) {
	key, err := jwk.FromRaw(pub)
	if err != nil {
		return "", fmt.Errorf("computing key thumbprint: %w", err)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("computing key thumbprint: %w", err)
	}
	if len(sum) != sha256.Size {
		return "", errors.New("computing key thumbprint: unexpected size")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
