package keyring

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

var (
	// ErrInvalidToken is wrapped by every error that says the token is bad. The text names
	// the check that failed; it never holds the token.
	ErrInvalidToken = errors.New("invalid token")
	// ErrKeysUnavailable is wrapped by every error that says the keys of the issuer cannot
	// be had now: nothing is known of the token, and the answer to a client is 503.
	ErrKeysUnavailable = errors.New("keys of the issuer are unavailable")
)

// maxToken is the size in bytes above which a token is not even looked at.
const maxToken = 16 << 10

// maxLeeway bounds the clock difference that can be configured.
const maxLeeway = time.Minute

// VerifierConfig says which tokens a Verifier accepts.
type VerifierConfig struct {
	Issuer    string    // iss, compared byte by byte; required
	Audiences []string  // a token must name one of these in aud, byte by byte; required
	Keys      KeySource // the keys of that issuer and of no other; required

	// Types lists the accepted values of the header typ in any case; the prefix
	// "application/" makes no difference (RFC 7515 §4.1.9) and "" accepts a token without
	// typ. Empty means at+jwt. Providers that do not follow RFC 9068 send JWT; ID tokens
	// and others which share that typ are then told by their claims.
	Types []string
	// Algorithms limits the accepted algorithms; empty means all four of this package.
	Algorithms []string
	// IssuedAtOptional accepts tokens without iat, which assertions that authenticate a
	// client need not have (RFC 7523 §3). An iat that is there is checked all the same.
	IssuedAtOptional bool
	// Leeway is the accepted clock difference for exp, nbf and iat, 0 to 60 s.
	Leeway time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier checks JWT access tokens as RFC 9068 §4 and RFC 8725 §3 demand. It is
// immutable and safe for concurrent use.
type Verifier struct {
	cfg VerifierConfig
}

// Verified is a token that passed every check.
type Verified struct {
	Type      string // typ, lower case, without "application/"
	KeyID     string // kid
	Algorithm string // alg

	// Claims holds all claims, numbers as json.Number. Callers must not change it.
	Claims map[string]any
	// Introspection is the typed view of Claims. Active is false: a signature does not
	// tell whether the token was revoked.
	Introspection *oauth.Introspection
}

// NewVerifier checks cfg and reports all problems at once.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	var errs []error
	if cfg.Issuer == "" {
		errs = append(errs, errors.New("expected an issuer, got none"))
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		errs = append(errs, errors.New("expected at least one audience and no empty one"))
	}
	if cfg.Keys == nil {
		errs = append(errs, errors.New("expected a source of keys, got none"))
	}
	if cfg.Leeway < 0 || cfg.Leeway > maxLeeway {
		errs = append(errs, fmt.Errorf("expected a leeway from 0 s to %s, got %s", maxLeeway, cfg.Leeway))
	}
	for _, alg := range cfg.Algorithms {
		if err := checkAlgorithm(alg); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("making token verifier: %w", err)
	}
	cfg.Audiences = slices.Clone(cfg.Audiences)
	cfg.Algorithms = slices.Clone(cfg.Algorithms)
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{ES256, RS256, PS256, EdDSA}
	}
	types := []string{TypeAccessToken}
	if len(cfg.Types) > 0 {
		types = make([]string, len(cfg.Types))
		for i, t := range cfg.Types {
			types[i] = normalType(t)
		}
	}
	cfg.Types = types
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg}, nil
}

// Verify checks token and returns what it says. An error wraps ErrInvalidToken or
// ErrKeysUnavailable. ctx bounds the wait for keys.
func (v *Verifier) Verify(ctx context.Context, token string) (*Verified, error) {
	c, err := parseCompact(token)
	if err != nil {
		return nil, invalid(err)
	}
	typ, kid, alg, err := v.checkHeader(c.header)
	if err != nil {
		return nil, invalid(err)
	}
	key, err := v.key(ctx, kid, alg)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(c, key); err != nil {
		return nil, invalid(err)
	}
	// Not before the signature is known to be good: claims are not even parsed.
	claims, err := oauth.ParseClaims(c.payload)
	if err != nil {
		return nil, invalid(fmt.Errorf("claims: %w", err))
	}
	in, err := oauth.ClaimsIntrospection(claims)
	if err != nil {
		return nil, invalid(err)
	}
	if err := v.checkClaims(in, typ); err != nil {
		return nil, invalid(err)
	}
	return &Verified{Type: typ, KeyID: kid, Algorithm: alg, Claims: claims, Introspection: in}, nil
}

func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalidToken, err) }

// compact is a JWS in compact serialization (RFC 7515 §3.1), taken apart.
type compact struct {
	signed    []byte // header and payload as on the wire: what the signature is of
	header    map[string]any
	payload   []byte
	signature []byte
}

func parseCompact(token string) (*compact, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("expected at most %d bytes, got %d", maxToken, len(token))
	}
	// The decoder would skip line breaks.
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return nil, errors.New("expected base64url text and dots only")
		}
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("expected a signed JWT of 3 parts, got %d", len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil || len(part) == 0 {
			return nil, fmt.Errorf("expected base64url without padding in part %d of the JWT", i+1)
		}
	}
	header, err := oauth.ParseClaims(decoded[0])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return &compact{
		signed:    []byte(token[:len(token)-len(parts[2])-1]),
		header:    header,
		payload:   decoded[1],
		signature: decoded[2],
	}, nil
}

// checkHeader reads what may be believed of a header: nothing but the names of the type,
// of the key and of the algorithm, each looked up in lists of ours. jku, x5u, jwk and
// x5c are never read (RFC 8725 §3.10).
func (v *Verifier) checkHeader(header map[string]any) (typ, kid, alg string, err error) {
	// crit names extensions that must be understood, and none is (RFC 7515 §4.1.11). b64
	// changes what is signed (RFC 7797); enc and zip belong to encrypted tokens.
	for _, name := range []string{"crit", "b64", "enc", "zip"} {
		if _, set := header[name]; set {
			return "", "", "", fmt.Errorf("expected a header without %s", name)
		}
	}
	if t, set := header["typ"]; set {
		s, ok := t.(string)
		if !ok {
			return "", "", "", errors.New("expected header typ to be a string")
		}
		typ = normalType(s)
	}
	if !slices.Contains(v.cfg.Types, typ) {
		return "", "", "", fmt.Errorf("expected header typ %s, got %q", strings.Join(v.cfg.Types, " or "), clip(typ))
	}
	alg, _ = header["alg"].(string)
	if !slices.Contains(v.cfg.Algorithms, alg) {
		return "", "", "", fmt.Errorf("expected header alg %s, got %q", strings.Join(v.cfg.Algorithms, " or "), clip(alg))
	}
	if kid, _ = header["kid"].(string); kid == "" {
		return "", "", "", errors.New("expected header kid, got none")
	}
	return typ, kid, alg, nil
}

// key finds the key by id; its algorithm, not the token's word, decides how it is used.
func (v *Verifier) key(ctx context.Context, kid, alg string) (PublicKey, error) {
	keys, err := v.cfg.Keys.Keys(ctx, kid)
	if err != nil {
		if !errors.Is(err, ErrKeysUnavailable) {
			err = fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
		}
		return PublicKey{}, err
	}
	for _, k := range keys {
		if k.ID == kid && k.Algorithm == alg {
			return k, nil
		}
	}
	if len(keys) == 0 {
		return PublicKey{}, invalid(fmt.Errorf("expected a key of issuer %s, got unknown kid %q", v.cfg.Issuer, clip(kid)))
	}
	return PublicKey{}, invalid(fmt.Errorf("expected the algorithm of key %q, got %s", clip(kid), alg))
}

func checkSignature(c *compact, key PublicKey) error {
	bad := errors.New("expected a signature by the key of its kid")
	// Again for sources that are not of this package: a weak key proves nothing.
	if _, err := algorithmFor(key.Key, key.Algorithm); err != nil {
		return bad
	}
	verifier, err := verifierOf(key.Algorithm)
	if err != nil {
		return bad
	}
	if err := verifier.Verify(c.signed, c.signature, key.Key); err != nil {
		return bad
	}
	return nil
}

func (v *Verifier) checkClaims(in *oauth.Introspection, typ string) error {
	if in.Issuer != v.cfg.Issuer {
		return fmt.Errorf("expected issuer %s, got %q", v.cfg.Issuer, clip(in.Issuer))
	}
	now := v.cfg.Now()
	switch {
	case in.Expiry.IsZero():
		return errors.New("expected claim exp, got none")
	case in.IssuedAt.IsZero() && !v.cfg.IssuedAtOptional:
		return errors.New("expected claim iat, got none")
	case in.Subject == "":
		return errors.New("expected claim sub, got none")
	// RFC 7519 §4.1.4: exp is the first instant at which the token is dead.
	case !now.Before(in.Expiry.Add(v.cfg.Leeway)):
		return fmt.Errorf("expected a token that has not expired, got exp %s before now; compare the clocks if it should not have", now.Sub(in.Expiry).Round(time.Second))
	case in.NotBefore.After(now.Add(v.cfg.Leeway)):
		return fmt.Errorf("expected a token that is valid already, got nbf %s ahead; compare the clocks", in.NotBefore.Sub(now).Round(time.Second))
	case in.IssuedAt.After(now.Add(v.cfg.Leeway)):
		return fmt.Errorf("expected a token issued in the past, got iat %s ahead; compare the clocks", in.IssuedAt.Sub(now).Round(time.Second))
	}
	if !slices.ContainsFunc(v.cfg.Audiences, func(a string) bool { return slices.Contains(in.Audience, a) }) {
		return fmt.Errorf("expected audience %s, got %q", strings.Join(v.cfg.Audiences, " or "), clip(strings.Join(in.Audience, " ")))
	}
	if typ == TypeAccessToken {
		return checkProfile(in)
	}
	return checkKind(in)
}

// checkProfile wants the remaining claims of RFC 9068 §2.2 of a token that says it
// follows that profile. Keycloak names the client in azp.
func checkProfile(in *oauth.Introspection) error {
	switch {
	case in.ClientID == "":
		return errors.New("expected claim client_id, got none")
	case in.ID == "":
		return errors.New("expected claim jti, got none")
	}
	return nil
}

// checkKind tells access tokens from the other JWTs of a provider where typ does not
// (RFC 8725 §3.12): ID tokens (OpenID Connect Core §2), logout tokens and security
// events (events), and those that a claim of the provider names: typ at Keycloak,
// token_use at Cognito, purpose at Curity.
func checkKind(in *oauth.Introspection) error {
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash", "events"} {
		if _, set := in.Claims[name]; set {
			return fmt.Errorf("expected an access token, got a token with claim %s", name)
		}
	}
	for _, name := range []string{"typ", "token_use", "purpose"} {
		v, set := in.Claims[name]
		if !set {
			continue
		}
		s, _ := v.(string)
		switch strings.ToLower(s) {
		case "bearer", "dpop", "access", "access_token", TypeAccessToken:
		default:
			return fmt.Errorf("expected an access token, got a token whose claim %s is %q", name, clip(s))
		}
	}
	return nil
}

// normalType is the form in which types are compared: media types know no case, and
// "application/" may be left out (RFC 7515 §4.1.9).
func normalType(t string) string {
	return strings.TrimPrefix(strings.ToLower(t), "application/")
}
