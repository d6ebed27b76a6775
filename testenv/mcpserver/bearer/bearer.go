// Package bearer verifies the bearer token of a request to a sample MCP server, as a hook of
// the official SDK. A server may trust several issuers: the gateway, for clients, and the
// sidecar, for other servers that call it on a user's behalf.
package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"

	"phantomtoken/testenv/accesstoken"
)

// Config says which tokens are trusted. Issuers and Audience are required.
type Config struct {
	Issuers   []string          // whose tokens are trusted; an empty one counts as none
	Audience  string            // the name of the server in aud, whoever issued the token
	Transport http.RoundTripper // fetches the issuers' keys; nil: one of its own
	Now       func() time.Time  // nil: time.Now
	Logger    *slog.Logger      // nil: discard
}

// New returns the hook. It makes no call; an issuer is looked up when its first token
// arrives. The texts of the hook's errors reach the caller: the SDK sends them as the body.
func New(cfg Config) (auth.TokenVerifier, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var fallback *accesstoken.Verifier
	verifiers := map[string]*accesstoken.Verifier{}
	for _, issuer := range cfg.Issuers {
		if issuer == "" {
			continue
		}
		verifier, err := accesstoken.New(accesstoken.Config{
			Issuer: issuer, Audience: cfg.Audience, Transport: cfg.Transport, Now: cfg.Now,
		})
		if err != nil {
			return nil, err
		}
		verifiers[issuer] = verifier
		if fallback == nil {
			fallback = verifier
		}
	}
	if fallback == nil {
		return nil, errors.New("configuring token verifier: expected an issuer URL, got none")
	}
	return func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		verifier, ok := verifiers[accesstoken.ClaimedIssuer(token)]
		if !ok { // of somebody else, or no JWT at all: the first verifier says so
			verifier = fallback
		}
		verified, err := verifier.Verify(ctx, token)
		switch {
		case errors.Is(err, accesstoken.ErrInvalid):
			cfg.Logger.InfoContext(ctx, "token refused", "err", err)
			return nil, fmt.Errorf("%w: expected an access token of a trusted issuer for this server", auth.ErrInvalidToken)
		case err != nil:
			cfg.Logger.WarnContext(ctx, "token not verified", "err", err)
			return nil, errors.New("access tokens cannot be verified now")
		}
		return &auth.TokenInfo{
			Scopes:     verified.Scopes,
			Expiration: verified.Expiry,
			UserID:     verified.Subject,
		}, nil
	}, nil
}
