package authserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// signer signs the JWTs of introspection with a key that lives as long as the server.
// It shares no code with what verifies them.
type signer struct {
	key  jwk.Key
	jwks []byte // public
}

func newSigner() (*signer, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := jwk.FromRaw(private)
	if err != nil {
		return nil, err
	}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{
		jwk.KeyIDKey:     base64.RawURLEncoding.EncodeToString(thumbprint),
		jwk.AlgorithmKey: jwa.ES256,
		jwk.KeyUsageKey:  jwk.ForSignature,
	} {
		if err := key.Set(name, value); err != nil {
			return nil, err
		}
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		return nil, err
	}
	document, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	return &signer{key: key, jwks: document}, nil
}

func (s *signer) sign(typ string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	header := jws.NewHeaders()
	if typ != "" {
		if err := header.Set(jws.TypeKey, typ); err != nil {
			return "", fmt.Errorf("setting typ: %w", err)
		}
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.ES256, s.key, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return string(signed), nil
}

// SignJWT signs claims with the key of the JWKS (ES256), with header typ as given or
// without one if empty. It checks nothing: tests use it for JWTs that must be refused.
func (s *Server) SignJWT(typ string, claims map[string]any) (string, error) {
	return s.signer.sign(typ, claims)
}
