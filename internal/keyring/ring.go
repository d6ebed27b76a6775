package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Keys is the keys of one issuer that may change while they are in use: a Folder, or a
// Ring, which never changes. It is safe for concurrent use.
type Keys interface {
	// KeySource finds the keys of the moment, to verify what this issuer signed.
	KeySource
	// Ring is the ring of the moment, never nil. Ask for it anew whenever something is signed
	// or published. It is the same pointer until something changes.
	Ring() *Ring
}

// Ring is the set of keys of one issuer: the first key signs, all are published, so that
// a key can be published before it signs and after it has signed its last token. A Ring
// is immutable, safe for concurrent use, and a KeySource for its own tokens.
type Ring struct {
	keys []*Key
	jwks []byte
}

// NewRing makes a ring of at least one key; the first one signs. A key given twice
// counts once; one RSA key with two algorithms is refused (RFC 8725 §3.1).
func NewRing(keys ...*Key) (*Ring, error) {
	r := &Ring{}
	for i, k := range keys {
		if k == nil {
			return nil, fmt.Errorf("making key ring: expected a key at position %d, got nil", i)
		}
		if j := slices.IndexFunc(r.keys, func(have *Key) bool { return have.ID() == k.ID() }); j < 0 {
			r.keys = append(r.keys, k)
		} else if have := r.keys[j]; have.Algorithm() != k.Algorithm() {
			return nil, fmt.Errorf("making key ring: expected one algorithm for key %s, got %s and %s", k.ID(), have.Algorithm(), k.Algorithm())
		}
	}
	if len(r.keys) == 0 {
		return nil, errors.New("making key ring: expected at least one key, got none")
	}
	public := make([]PublicKey, len(r.keys))
	for i, k := range r.keys {
		public[i] = k.public
	}
	var err error
	if r.jwks, err = marshalJWKS(public); err != nil {
		return nil, fmt.Errorf("making key ring: %w", err)
	}
	return r, nil
}

// JWKS is the JWK Set (RFC 7517 §5) of all public keys, the signing key first, each with
// kid, alg and use. Rings of the same keys in the same order give the same bytes.
func (r *Ring) JWKS() []byte { return bytes.Clone(r.jwks) }

// SigningKeyID is the kid of the key that signs.
func (r *Ring) SigningKeyID() string { return r.keys[0].ID() }

// Algorithms lists the algorithms of all keys, each once, the signing one first.
func (r *Ring) Algorithms() []string {
	var out []string
	for _, k := range r.keys {
		if !slices.Contains(out, k.Algorithm()) {
			out = append(out, k.Algorithm())
		}
	}
	return out
}

// Ring is r itself.
func (r *Ring) Ring() *Ring { return r }

// Keys returns the public key whose id is kid. It never fails.
func (r *Ring) Keys(_ context.Context, kid string) ([]PublicKey, error) {
	for _, k := range r.keys {
		if k.ID() == kid {
			return []PublicKey{k.public}, nil
		}
	}
	return nil, nil
}

func marshalJWKS(keys []PublicKey) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"keys":[`)
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		data, err := marshalJWK(k.Key, k)
		if err != nil {
			return nil, err
		}
		b.Write(data)
	}
	b.WriteString(`]}`)
	return b.Bytes(), nil
}
