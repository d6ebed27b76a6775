package gate

import (
	"context"
	"errors"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
)

// Exchange has the provider swap the access token for one that is meant for the upstream
// (RFC 8693): the upstream gets a token of the provider itself, and that may be exchanged
// further there.
type Exchange struct {
	// Target issues the tokens and verifies them. Its audience must not be one that this gate
	// accepts from clients.
	Target *delegation.Target
	// Scopes are asked for as far as the access token has them; at least one must remain,
	// since a request without scope is answered by some providers with a token that has
	// none, nor the claims that hang on one.
	Scopes oauth.Scopes
}

// exchangeRoom is what the JWT of a provider takes.
const exchangeRoom = 2 << 10

func (x *Exchange) check() error {
	if x.Target == nil || len(x.Scopes) == 0 {
		return errors.New("expected target and scopes of the exchange, got none")
	}
	return nil
}

func (x *Exchange) profile() func() [32]byte {
	// Endpoint and client are the same for all who share the cached claims.
	fixed := profileOf(struct {
		Way, Audience string
		Scopes        oauth.Scopes
	}{"exchange", x.Target.Audience(), x.Scopes})
	return func() [32]byte { return fixed }
}

func (x *Exchange) room() int { return exchangeRoom }

func (x *Exchange) issue(ctx context.Context, a *admitted) (string, *refusal) {
	in := a.entry.Introspection
	scopes := x.Scopes.Intersect(in.Scope)
	switch {
	case len(scopes) == 0:
		return "", insufficientScope(x.Scopes, in.Scope)
	case in.Subject == "":
		return "", misconfigured("introspection answer has no sub, so nothing says that an exchanged token is for the same user")
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	token, err := a.entry.Exchanged(ctx, a.profile, a.now, reuseMargin, a.timeout, func(ctx context.Context) (string, time.Time, error) {
		return x.exchange(ctx, a, scopes)
	})
	if err != nil {
		return "", exchangeRefused(err)
	}
	return token, nil
}

// errInward says that the exchanged token would open this gate.
var errInward = errors.New("expected an exchanged token for the upstream alone, got one that this gateway would accept from outside (phantom_token.audience)")

func (x *Exchange) exchange(ctx context.Context, a *admitted, scopes oauth.Scopes) (string, time.Time, error) {
	issued, err := x.Target.Exchange(ctx, delegation.Request{SubjectToken: a.token, Subject: a.entry.Introspection, Scope: scopes})
	if err != nil {
		return "", time.Time{}, err
	}
	if a.opens(issued.Audience) {
		return "", time.Time{}, errInward
	}
	return issued.AccessToken, issued.Expiry, nil
}
