package exchange

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// verifySubject checks the subject token: a phantom token that was meant for this caller, or
// a token of this service where the caller accepts those.
func (x *Exchanger) verifySubject(ctx context.Context, c *caller, token string, now time.Time) (*oauth.Introspection, error) {
	verified, err := x.verify(ctx, c, token)
	if err != nil {
		if errors.Is(err, keyring.ErrKeysUnavailable) {
			return nil, unavailable(ReasonKeys, "the keys of the gateway cannot be had at the moment", 0, err)
		}
		// What the verifier says holds nothing of the token but names that it claims, and of a
		// token without a valid signature not even those but kid, alg and typ.
		return nil, invalidSubject(ReasonSubject, fmt.Sprintf("%s (%s, subject_audience of callers.%s)", why(err), x.cfg.Subject.Setting, c.ID))
	}
	subject := verified.Introspection
	switch {
	case subject.Expiry.Sub(now) < time.Second:
		return nil, invalidSubject(ReasonSubject, "expected a token that has not expired; compare the clocks of gateway and sidecar if it should not have")
	case subject.Claims["cnf"] != nil:
		// The proof of possession was not shown to us. To issue a token without cnf would turn
		// a bound token into one that anybody can use.
		return nil, invalidSubject(ReasonBound, "expected a bearer token, got one that is bound to a key (cnf)")
	case x.cfg.Subject.Exchanger != "" && subject.ClientID == x.cfg.Subject.Exchanger && !c.AcceptExchanged:
		return nil, invalidSubject(ReasonSubject, "expected a phantom token, got one that the identity provider issued to this service in an exchange (accept_exchanged of callers."+c.ID+"; where the gateway uses TOKEN_EXCHANGE_IDP_CLIENT_ID too, give this service a client of its own)")
	case !subject.HasUser() && !c.AllowWithoutUser:
		// APIs take sub for a user.
		return nil, invalidSubject(ReasonNoUser, "expected a token of a user, got one of a client by itself (allow_without_user of callers."+c.ID+")")
	}
	return subject, nil
}

// verify finds out whose token it is by its key: the two issuers have no key in common.
func (x *Exchanger) verify(ctx context.Context, c *caller, token string) (*keyring.Verified, error) {
	if c.own != nil {
		// First, because it asks nobody: a token of the gateway fails here at its kid.
		if verified, err := c.own.Verify(ctx, token); err == nil {
			return verified, nil
		}
	}
	verified, err := c.phantom.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	// A key that both issuers have would make what is issued here look like the gateway's.
	if own, err := x.cfg.Keys.Keys(ctx, verified.KeyID); err != nil || len(own) > 0 {
		return nil, fmt.Errorf("%w: expected a token signed by a key of the gateway alone, got one by a key of this service (TOKEN_EXCHANGE_SIGNING_KEY_FILE, TOKEN_EXCHANGE_PUBLISHED_KEY_FILES)", keyring.ErrInvalidToken)
	}
	return verified, nil
}

// why is the reason of a verifier without its prefix.
func why(err error) string {
	return strings.TrimPrefix(err.Error(), keyring.ErrInvalidToken.Error()+": ")
}
