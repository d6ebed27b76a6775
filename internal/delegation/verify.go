package delegation

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// verify checks an issued token like that of a stranger. What the provider says of it was
// looked at already.
func (t *Target) verify(ctx context.Context, req *Request, res *tokenexchange.Response, started time.Time) (*Token, error) {
	verified, err := t.cfg.Verifier.Verify(ctx, res.AccessToken)
	if err != nil {
		kind := unacceptable
		if errors.Is(err, keyring.ErrKeysUnavailable) {
			kind = unavailable
		}
		s := &t.cfg.Settings
		return nil, t.unusable(kind, fmt.Errorf("verifying the exchanged token (%s, %s, %s): %w", s.Issuer, s.Keys, s.Audience, err))
	}
	got := verified.Introspection
	if err := t.checkClaims(req, res, got); err != nil {
		return nil, t.unusable(unacceptable, fmt.Errorf("verifying the exchanged token: %w", err))
	}
	expiry := got.Expiry
	if res.ExpiresIn > 0 {
		expiry = earlier(expiry, started.Add(res.ExpiresIn))
	}
	now := t.cfg.Now()
	if !now.Before(expiry) {
		return nil, t.unusable(unacceptable, errors.New("verifying the exchanged token: expected one that has not expired; compare the clocks"))
	}
	if end := req.Subject.Expiry; !end.IsZero() {
		if !now.Before(end) {
			return nil, &Error{Kind: KindSubject, Text: "the " + t.cfg.Settings.Subject + " expired during the exchange"}
		}
		expiry = earlier(expiry, end)
	}
	return &Token{
		AccessToken: res.AccessToken,
		Expiry:      expiry,
		Scope:       slices.Clone(req.Scope),
		Audience:    slices.Clone(got.Audience),
		ID:          got.ID,
	}, nil
}

// checkClaims sees that the token is for the same user and the audience, to us, a bearer
// token, and grants no more than was asked for. Who acts (act) is for the provider to say: a
// wrong name there would give nobody anything.
func (t *Target) checkClaims(req *Request, res *tokenexchange.Response, got *oauth.Introspection) error {
	switch {
	case got.Subject != req.Subject.Subject:
		return fmt.Errorf("expected the user of the %s in sub, got another one", t.cfg.Settings.Subject)
	case got.Claims["cnf"] != nil:
		return errors.New("expected a bearer token, got one that is bound to a key (cnf)")
	case !slices.Contains(got.Audience, t.cfg.Audience):
		return fmt.Errorf("expected audience %s (%s), got one for %d others", t.cfg.Audience, t.cfg.Settings.Audience, len(got.Audience))
	case t.cfg.ExactAudience && len(got.Audience) != 1:
		return fmt.Errorf("expected audience %s alone (%s), got %d audiences", t.cfg.Audience, t.cfg.Settings.Audience, len(got.Audience))
	}
	for _, name := range []string{"azp", "client_id"} {
		if client := got.Claims[name]; t.cfg.ClientID != "" && client != nil && client != t.cfg.ClientID {
			return fmt.Errorf("expected a token that was issued to us (%s), got another client in %s", t.cfg.Settings.ClientID, name)
		}
	}
	for _, name := range []string{"permissions", "authorization_details"} {
		if grants := got.Claims[name]; grants != nil && !reflect.DeepEqual(grants, req.Subject.Claims[name]) {
			return fmt.Errorf("expected nothing that grants more than the %s, got %s that it lacks", t.cfg.Settings.Subject, name)
		}
	}
	scp, ok := scp(got.Claims)
	if !ok || !req.Scope.Contains(got.Scope) || !req.Scope.Contains(scp) || !req.Scope.Contains(res.Scope) {
		return fmt.Errorf("expected no more scope than was asked for (%s), got more", t.cfg.Settings.Scope)
	}
	return nil
}

// scp reads the claim in which some providers say the scope in place of scope: a string of
// scopes (Entra ID) or an array of them (Okta). It reports whether it could be read.
func scp(claims map[string]any) (oauth.Scopes, bool) {
	switch v := claims["scp"].(type) {
	case nil:
		return nil, true
	case string:
		scopes, err := oauth.ParseScopes(v)
		return scopes, err == nil
	case []any:
		out := make(oauth.Scopes, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			out = append(out, s)
		}
		return out, true
	default:
		return nil, false
	}
}

func (t *Target) unusable(r reason, err error) *Error {
	return &Error{Kind: r.kind(), Text: t.cfg.Settings.text(r), Err: err}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
