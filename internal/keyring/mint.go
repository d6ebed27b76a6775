package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"phantomtoken/internal/oauth"
)

// TypeAccessToken is the typ of a JWT access token (RFC 9068 §2.1).
const TypeAccessToken = "at+jwt"

// Token is what a JWT access token says (RFC 9068 §2.2).
type Token struct {
	Issuer   string   // iss, required
	Subject  string   // sub, required: the user, or the client where no user takes part
	Audience []string // aud, at least one; one alone is a string on the wire
	ClientID string   // client_id, required

	// IssuedAt (iat) and Expiry (exp) are required and cut to whole seconds, never
	// rounded up. Expiry must be later.
	IssuedAt, Expiry time.Time

	ID    string         // jti; empty for a fresh random one of at least 128 bits
	Scope oauth.Scopes   // scope; left out when empty
	Actor map[string]any // act (RFC 8693 §4.1); left out when empty

	// Extra holds further claims. None of them may be a claim that the fields above
	// stand for, nor nbf, nor cnf: a token that is bound to the key of whoever presented
	// the incoming token would make upstreams ask for a proof that we cannot give
	// (RFC 8705 §3, RFC 9449 §6). act is accepted while Actor is empty.
	Extra map[string]any
}

// Mint signs t with the first key of the ring.
func (r *Ring) Mint(t Token) (string, error) {
	if err := t.check(); err != nil {
		return "", fmt.Errorf("minting token: %w", err)
	}
	payload, err := json.Marshal(t.claims())
	if err != nil {
		// Not wrapped: the text of encoding/json can hold the value of a claim.
		return "", errors.New("minting token: expected extra claims that can be written as JSON")
	}
	key := r.keys[0]
	b := make([]byte, 0, len(key.header)+2+base64.RawURLEncoding.EncodedLen(len(payload))+maxRSABits/8*4/3+1)
	b = append(b, key.header...)
	b = append(b, '.')
	b = base64.RawURLEncoding.AppendEncode(b, payload)
	signature, err := key.signer.Sign(b, key.private)
	if err != nil {
		return "", fmt.Errorf("minting token: signing with %s: %w", key, err)
	}
	b = append(b, '.')
	b = base64.RawURLEncoding.AppendEncode(b, signature)
	return string(b), nil
}

func (t *Token) check() error {
	var errs []error
	for _, f := range []struct{ name, value string }{
		{"iss", t.Issuer}, {"sub", t.Subject}, {"client_id", t.ClientID},
	} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("expected a value for %s, got none", f.name))
		}
	}
	if len(t.Audience) == 0 || slices.Contains(t.Audience, "") {
		errs = append(errs, errors.New("expected at least one aud and no empty one"))
	}
	switch {
	case t.IssuedAt.IsZero() || t.Expiry.IsZero():
		errs = append(errs, errors.New("expected iat and exp, got no time"))
	case t.Expiry.Unix() <= t.IssuedAt.Unix():
		errs = append(errs, errors.New("expected exp at least a second after iat"))
	}
	for name := range t.Extra {
		switch name {
		case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf":
			errs = append(errs, fmt.Errorf("expected an extra claim with a name of its own, got %s", name))
		case "act":
			if len(t.Actor) > 0 {
				errs = append(errs, errors.New("expected act once, got an actor and an extra claim"))
			}
		}
	}
	return errors.Join(errs...)
}

func (t *Token) claims() map[string]any {
	claims := make(map[string]any, len(t.Extra)+9)
	for name, v := range t.Extra {
		claims[name] = v
	}
	claims["iss"] = t.Issuer
	claims["sub"] = t.Subject
	claims["client_id"] = t.ClientID
	claims["iat"] = t.IssuedAt.Unix()
	claims["exp"] = t.Expiry.Unix()
	claims["jti"] = t.ID
	if t.ID == "" {
		claims["jti"] = rand.Text()
	}
	claims["aud"] = t.Audience
	if len(t.Audience) == 1 {
		claims["aud"] = t.Audience[0]
	}
	if len(t.Scope) > 0 {
		claims["scope"] = t.Scope.String()
	}
	if len(t.Actor) > 0 {
		claims["act"] = t.Actor
	}
	return claims
}
