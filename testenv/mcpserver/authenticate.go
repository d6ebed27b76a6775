package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/accesstoken"
)

// tokenKey is where the phantom token travels in TokenInfo.Extra, from the HTTP layer to
// the tools.
const tokenKey = "phantom_token"

// authenticate verifies the phantom token of a request. The texts of its errors reach the
// caller: the SDK sends them as the body.
func authenticate(verifier *accesstoken.Verifier, logger *slog.Logger) auth.TokenVerifier {
	return func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		verified, err := verifier.Verify(ctx, token)
		switch {
		case errors.Is(err, accesstoken.ErrInvalid):
			logger.InfoContext(ctx, "phantom token refused", "err", err)
			return nil, fmt.Errorf("%w: expected an access token of the gateway for this server", auth.ErrInvalidToken)
		case err != nil:
			logger.WarnContext(ctx, "phantom token not verified", "err", err)
			return nil, errors.New("access tokens cannot be verified now")
		}
		return &auth.TokenInfo{
			Scopes:     verified.Scopes,
			Expiration: verified.Expiry,
			UserID:     verified.Subject,
			Extra:      map[string]any{tokenKey: token},
		}, nil
	}
}

// phantomToken is the verified token of the request a tool was called with.
func phantomToken(req *mcp.CallToolRequest) (string, error) {
	if req.Extra != nil && req.Extra.TokenInfo != nil {
		if token, ok := req.Extra.TokenInfo.Extra[tokenKey].(string); ok && token != "" {
			return token, nil
		}
	}
	return "", errors.New("the request carries no verified access token")
}
