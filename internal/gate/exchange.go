package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// Exchanger swaps tokens at a token endpoint (RFC 8693), as [tokenexchange.Client] does and
// with the errors that it documents.
type Exchanger interface {
	Exchange(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error)
}

// Exchange has the provider swap the access token for one that is meant for the upstream
// (RFC 8693): the upstream gets a token of the provider itself, and that may be exchanged
// further there.
type Exchange struct {
	Client Exchanger
	// Verifier checks what comes back: signature, issuer, audience, dates.
	Verifier *keyring.Verifier
	// Audience is asked for. It must not be one that this gate accepts from clients.
	Audience string
	// Scopes are asked for as far as the access token has them; at least one must remain,
	// since a request without scope is answered by some providers with a token that has
	// none, nor the claims that hang on one.
	Scopes oauth.Scopes
}

// exchangeRoom is what the JWT of a provider takes.
const exchangeRoom = 2 << 10

func (x *Exchange) check() error {
	if x.Client == nil || x.Verifier == nil || len(x.Scopes) == 0 || x.Audience == "" {
		return errors.New("expected client, verifier, audience and scopes of the exchange, got none")
	}
	return nil
}

func (x *Exchange) profile() [32]byte {
	// Endpoint and client are the same for all who share the cached claims.
	return profileOf(struct {
		Way, Audience string
		Scopes        oauth.Scopes
	}{"exchange", x.Audience, x.Scopes})
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

// What an exchange may end with beside the errors of the exchanger and the verifier.
var (
	errEcho             = errors.New("expected another token from the exchange, got the access token itself")
	errInward           = errors.New("expected an exchanged token for the upstream alone, got one that this gateway would accept from outside (phantom_token.audience)")
	errExpiredMeanwhile = errors.New("the access token expired during the exchange")
)

// errNarrowed says that the provider granted less than was asked for.
var errNarrowed = errors.New("the provider granted less scope than was asked for")

// exchange makes the call and verifies what comes back. The token is used no longer than
// it, the access token and the provider's word about it (expires_in) allow.
func (x *Exchange) exchange(ctx context.Context, a *admitted, scopes oauth.Scopes) (string, time.Time, error) {
	res, err := x.Client.Exchange(ctx, tokenexchange.Request{
		SubjectToken: a.token, Scope: scopes, Audience: []string{x.Audience},
	})
	if err != nil {
		return "", time.Time{}, err
	}
	if res.AccessToken == a.token {
		return "", time.Time{}, errEcho
	}
	granted := oauth.Scopes(res.Scope)
	if missing := slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return slices.Contains(granted, s) }); len(missing) > 0 {
		return "", time.Time{}, fmt.Errorf("%w: lacks %q", errNarrowed, missing)
	}
	verified, err := x.Verifier.Verify(ctx, res.AccessToken)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("verifying the exchanged token (token.issuer, token.jwks_uri, phantom_token.audience): %w", err)
	}
	got, in := verified.Introspection, a.entry.Introspection
	if got.Subject != in.Subject {
		return "", time.Time{}, errors.New("verifying the exchanged token: expected the user of the access token in sub, got another one")
	}
	if got.Claims["cnf"] != nil {
		return "", time.Time{}, errors.New("verifying the exchanged token: expected a bearer token, got one that is bound to a key (cnf)")
	}
	if !in.Scope.Contains(got.Scope) {
		return "", time.Time{}, errors.New("verifying the exchanged token: expected no more scope than the access token has, got more")
	}
	if a.opens(got.Audience) {
		return "", time.Time{}, errInward
	}
	if !in.Expiry.IsZero() && !a.clock().Before(in.Expiry) {
		return "", time.Time{}, errExpiredMeanwhile
	}
	expiry := got.Expiry
	if res.ExpiresIn > 0 {
		expiry = earlier(expiry, a.now.Add(res.ExpiresIn))
	}
	if !in.Expiry.IsZero() {
		expiry = earlier(expiry, in.Expiry)
	}
	return res.AccessToken, expiry, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
