// Package accesstoken verifies JWT access tokens (RFC 9068) as a team does that has never
// heard of this gateway: with an OpenID Connect library and an issuer URL. It uses
// coreos/go-oidc on purpose, not our own keyring, so that the sample services prove that a
// phantom token is an ordinary token to everybody else.
package accesstoken

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

var (
	// ErrInvalid is matched by every error that says the token is bad.
	ErrInvalid = errors.New("invalid access token")
	// ErrUnavailable is matched when nothing can be said about the token, because the
	// issuer's metadata or keys cannot be had.
	ErrUnavailable = errors.New("issuer unavailable")
)

// Config says which tokens are trusted. Issuer and Audience are required.
type Config struct {
	// Issuer is the issuer URL. Its metadata is discovered when the first token arrives, not
	// earlier: services may start in any order.
	Issuer string
	// Audience is the one name this service goes by. A token for any other is refused.
	Audience string
	// Transport fetches metadata and keys; nil means one of its own without proxy.
	Transport http.RoundTripper
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier verifies tokens of one issuer for one audience. Safe for concurrent use.
type Verifier struct {
	cfg        Config
	httpClient *http.Client

	discovering chan struct{}      // held while keys is read or set
	keys        *oidc.RemoteKeySet // nil until the issuer was discovered
}

// Token is a verified access token.
type Token struct {
	Subject  string
	ClientID string
	Scopes   []string
	Expiry   time.Time

	payload []byte
}

// Claims decodes the payload into v, as json.Unmarshal does.
func (t *Token) Claims(v any) error {
	if err := json.Unmarshal(t.payload, v); err != nil {
		return fmt.Errorf("decoding claims: %w", err)
	}
	return nil
}

// algorithms are those a token may be signed with. A list of our own: what the issuer's
// metadata or the token's header say does not widen it (RFC 8725 §3.1).
var algorithms = [...]string{oidc.ES256, oidc.RS256, oidc.PS256, oidc.EdDSA}

// New returns a verifier. It makes no call.
func New(cfg Config) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.Audience == "" {
		return nil, errors.New("configuring token verifier: expected an issuer URL and an audience, got an empty one")
	}
	transport := cfg.Transport
	if transport == nil {
		transport = &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}
	}
	return &Verifier{
		cfg: cfg,
		httpClient: &http.Client{
			Transport:     boundedTransport{transport},
			Timeout:       5 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		discovering: make(chan struct{}, 1),
	}, nil
}

// CloseIdleConnections closes the connections to the issuer that are not in use.
func (v *Verifier) CloseIdleConnections() { v.httpClient.CloseIdleConnections() }

// Verify checks signature, algorithm, typ, issuer, audience and expiry of a token (RFC 9068
// §4). The error matches ErrInvalid or ErrUnavailable, or is the error of ctx.
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	remote, err := v.keySet(ctx)
	if err != nil {
		return nil, err
	}
	keys := &observedKeys{remote: remote}
	verified, err := oidc.NewVerifier(v.cfg.Issuer, keys, &oidc.Config{
		ClientID:             v.cfg.Audience, // what the library compares aud with
		SupportedSigningAlgs: algorithms[:],
		Now:                  v.cfg.Now,
	}).Verify(ctx, token)
	switch {
	case keys.unavailable && ctx.Err() != nil:
		return nil, fmt.Errorf("verifying access token: %w", context.Cause(ctx))
	case keys.unavailable:
		return nil, fmt.Errorf("%w: fetching the keys of %s", ErrUnavailable, v.cfg.Issuer)
	case errors.As(err, new(*oidc.TokenExpiredError)):
		return nil, fmt.Errorf("%w: expired", ErrInvalid)
	case err != nil:
		// The library's text may quote the token, so it is not passed on.
		return nil, fmt.Errorf("%w: expected a JWT signed by %s for audience %s", ErrInvalid, v.cfg.Issuer, v.cfg.Audience)
	}
	if typ := tokenType(token); !strings.EqualFold(typ, "at+jwt") && !strings.EqualFold(typ, "application/at+jwt") {
		// An ID token of the same issuer must not open an API (RFC 9068 §4).
		return nil, fmt.Errorf("%w: expected typ at+jwt, got %q", ErrInvalid, typ)
	}
	return newToken(verified)
}

func newToken(verified *oidc.IDToken) (*Token, error) {
	var payload json.RawMessage
	var claims struct {
		ClientID string `json:"client_id"`
		Scope    string `json:"scope"`
	}
	if err := errors.Join(verified.Claims(&payload), verified.Claims(&claims)); err != nil {
		return nil, fmt.Errorf("%w: expected string claims client_id and scope", ErrInvalid)
	}
	if verified.Subject == "" || claims.ClientID == "" {
		return nil, fmt.Errorf("%w: expected claims sub and client_id", ErrInvalid)
	}
	return &Token{
		Subject:  verified.Subject,
		ClientID: claims.ClientID,
		Scopes:   strings.Fields(claims.Scope),
		Expiry:   verified.Expiry,
		payload:  payload,
	}, nil
}

// keySet discovers the issuer once. A failure is not remembered: the next token tries
// again.
func (v *Verifier) keySet(ctx context.Context) (*oidc.RemoteKeySet, error) {
	select {
	case v.discovering <- struct{}{}:
		defer func() { <-v.discovering }()
	case <-ctx.Done():
		return nil, fmt.Errorf("discovering issuer: %w", context.Cause(ctx))
	}
	if v.keys != nil {
		return v.keys, nil
	}
	ctx = oidc.ClientContext(ctx, v.httpClient)
	provider, err := oidc.NewProvider(ctx, v.cfg.Issuer)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("discovering issuer: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("%w: no usable metadata at %s", ErrUnavailable, v.cfg.Issuer)
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil || metadata.JWKSURI == "" {
		return nil, fmt.Errorf("%w: no jwks_uri in the metadata of %s", ErrUnavailable, v.cfg.Issuer)
	}
	v.keys = oidc.NewRemoteKeySet(ctx, metadata.JWKSURI)
	return v.keys, nil
}

// observedKeys notes whether a verification failed for want of keys: IDTokenVerifier makes
// that and a bad signature look the same.
type observedKeys struct {
	remote      *oidc.RemoteKeySet
	unavailable bool
}

func (k *observedKeys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, jwt)
	// Only the error of a failed fetch has a cause; a bad signature is an error of its own.
	k.unavailable = errors.Unwrap(err) != nil
	return payload, err
}

// ClaimedIssuer is what a token says of its issuer, or "". Nothing of it is verified: it
// serves to choose the verifier, which compares it.
func ClaimedIssuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	encoded, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(data, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

// tokenType reads typ from the header of a JWT whose signature was verified.
func tokenType(token string) string {
	encoded, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	var header struct {
		Type string `json:"typ"`
	}
	if json.Unmarshal(data, &header) != nil {
		return ""
	}
	return header.Type
}

// boundedTransport bounds what the library reads of metadata and keys: it has no limit of
// its own.
type boundedTransport struct{ http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, 1<<20), res.Body}
	return res, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the real transport.
func (t boundedTransport) CloseIdleConnections() {
	if c, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
