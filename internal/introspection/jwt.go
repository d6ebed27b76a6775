package introspection

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// readJWT returns the claims of a JWT that came from the provider, verified where the
// issuer is configured. The Introspection is a view of the claims with Active false.
func (c *Client) readJWT(ctx context.Context, jwt string) (map[string]any, *oauth.Introspection, *Error) {
	if c.cfg.Verifier == nil {
		return c.readUnverified(jwt)
	}
	verified, err := c.cfg.Verifier.Verify(ctx, jwt)
	switch {
	case errors.Is(err, keyring.ErrKeysUnavailable):
		return nil, nil, &Error{Kind: KindKeys, text: "the keys of token.issuer cannot be had; check token.issuer and token.jwks_uri", err: err}
	case err != nil:
		return nil, nil, c.unverified(err)
	}
	return verified.Claims, verified.Introspection, nil
}

// unverifiedAlgorithms are the asymmetric ones of RFC 7518 §3.1, RFC 8037, RFC 8812 and
// RFC 9864: a list of what is allowed, so that none and HS* need no rule.
func unverifiedAlgorithms() []string {
	return []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "Ed448",
	}
}

// unverifiedTypes are the values of typ that mean an access token or nothing, in lower
// case. Other kinds of JWT (RFC 8725 §3.11), above all signed introspection responses
// (RFC 9701 §8), must not be forwarded as one.
func unverifiedTypes() []string {
	return []string{"", "jwt", "at+jwt", "application/at+jwt"}
}

// readUnverified reads a JWT whose signature nobody can check here. The upstream has to.
func (c *Client) readUnverified(jwt string) (map[string]any, *oauth.Introspection, *Error) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 || parts[2] == "" {
		return nil, nil, c.unverified(errors.New("expected a signed JWT in compact form, got something else"))
	}
	header, err := decodePart(parts[0])
	if err != nil {
		return nil, nil, c.unverified(fmt.Errorf("header: %w", err))
	}
	if alg, _ := header["alg"].(string); !slices.Contains(unverifiedAlgorithms(), alg) {
		return nil, nil, c.unverified(errors.New("expected an asymmetric signature algorithm, got none, a symmetric or an unknown one"))
	}
	typ, ok := header["typ"].(string)
	if _, present := header["typ"]; present && !ok || !slices.Contains(unverifiedTypes(), strings.ToLower(typ)) {
		return nil, nil, c.unverified(errors.New("expected typ JWT or at+jwt, got the type of another kind of JWT"))
	}
	if _, err := decodeBase64(parts[2]); err != nil {
		return nil, nil, c.unverified(fmt.Errorf("signature: %w", err))
	}
	claims, err := decodePart(parts[1])
	if err != nil {
		return nil, nil, c.unverified(fmt.Errorf("payload: %w", err))
	}
	in, err := oauth.ClaimsIntrospection(claims)
	if err != nil {
		return nil, nil, c.unverified(err)
	}
	if !in.Expiry.IsZero() && !c.cfg.now()().Before(in.Expiry) {
		return nil, nil, c.unverified(errors.New("expected a token that is still good, got one whose exp has passed; check the clocks"))
	}
	return claims, in, nil
}

func decodePart(part string) (map[string]any, error) {
	data, err := decodeBase64(part)
	if err != nil {
		return nil, err
	}
	return oauth.ParseClaims(data)
}

func decodeBase64(part string) ([]byte, error) {
	// Strict refuses the stray bits and line breaks that would give one token two spellings.
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return nil, errors.New("expected base64url without padding (RFC 7515 §2), got something else")
	}
	return data, nil
}

func (c *Client) unverified(err error) *Error {
	return &Error{
		Kind:   KindUnverified,
		Status: http.StatusOK,
		text:   "the JWT in the answer of " + c.host + " is refused; check token.issuer, token.jwks_uri and phantom_token.audience",
		err:    err,
	}
}
