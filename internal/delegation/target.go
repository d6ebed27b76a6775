package delegation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// TargetConfig says which tokens are had for whom. All fields but ExactAudience, ClientID and
// Now are required.
type TargetConfig struct {
	// Endpoint issues the tokens.
	Endpoint *Endpoint
	// Verifier checks what comes back: signature, issuer, audience, dates, kind.
	Verifier *keyring.Verifier
	// Audience is asked for, and every issued token must name it, byte by byte.
	Audience string
	// ExactAudience refuses a token that names another audience beside it. Keycloak issues
	// exactly what is asked for; others may add.
	ExactAudience bool
	// ClientID is that of our client at the provider. A token that names another in azp or
	// client_id is refused: it was issued to somebody else. Empty compares nothing, for
	// providers that name the client of the subject token.
	ClientID string
	// Settings are used in texts.
	Settings Settings
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Target is one audience for which tokens are had. It is immutable and safe for concurrent
// use; create it with [NewTarget].
type Target struct {
	cfg TargetConfig
}

// NewTarget checks cfg. It makes no call.
func NewTarget(cfg TargetConfig) (*Target, error) {
	if cfg.Endpoint == nil || cfg.Verifier == nil || cfg.Audience == "" {
		return nil, errors.New("making the target of exchanges: expected endpoint, verifier and audience, got none")
	}
	if err := cfg.Settings.check(); err != nil {
		return nil, fmt.Errorf("making the target of exchanges: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Target{cfg: cfg}, nil
}

// Audience is that of the issued tokens.
func (t *Target) Audience() string { return t.cfg.Audience }

// Request is one exchange. It holds a token: it must not be logged.
type Request struct {
	// SubjectToken is the token on whose behalf the issued one is. Required.
	SubjectToken string
	// Subject is what is known of it: Subject, Expiry and Claims are read. Subject.Subject is
	// required, since nothing else says that the issued token is for the same user. Of Claims,
	// permissions and authorization_details count: the issued token may repeat them.
	Subject *oauth.Introspection
	// Scope is asked for, and the issued token has exactly that and no more. It is for the
	// caller to ask for nothing that the user did not grant. Empty asks for a token without
	// scope; some providers leave out every claim that hangs on one.
	Scope oauth.Scopes
}

// Token is an issued token that was verified. Its String and LogValue methods leave the
// token itself out.
type Token struct {
	// AccessToken is the token, a signed JWT to be used as a bearer token.
	AccessToken string
	// Expiry is the moment from which it must not be used: the earliest of its own exp, what
	// the provider says of it (expires_in) and the end of the subject token. The token itself
	// may say that it lives longer.
	Expiry time.Time
	// Scope is what was asked for, all of which was granted.
	Scope oauth.Scopes
	// Audience is all that the token names.
	Audience []string
	// ID is its jti, "" when it has none.
	ID string
}

// String describes the token without the token.
func (t Token) String() string {
	return fmt.Sprintf("exchanged token for %q, scope %s", t.Audience, t.Scope)
}

// GoString is String, so that no verb of fmt prints the token.
func (t Token) GoString() string { return t.String() }

// LogValue describes the token without the token.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("audience", t.Audience), slog.String("scope", t.Scope.String()), slog.Time("expiry", t.Expiry))
}

// Exchange has the provider issue a token. Every error is an [*Error]. ctx bounds the wait
// for a place among the calls, the call and the wait for keys.
func (t *Target) Exchange(ctx context.Context, req Request) (*Token, error) {
	if req.Subject == nil || req.Subject.Subject == "" {
		return nil, &Error{Kind: KindConfiguration, Text: "the " + t.cfg.Settings.Subject + " names no user (sub), so nothing says that an exchanged token is for the same one"}
	}
	started := t.cfg.Now()
	res, remembered, err := t.cfg.Endpoint.exchange(ctx, tokenexchange.Request{
		SubjectToken: req.SubjectToken, Scope: req.Scope, Audience: []string{t.cfg.Audience},
	})
	if err != nil {
		return nil, t.explain(err, remembered)
	}
	token, err := t.verify(ctx, &req, res, started)
	if err != nil {
		return nil, err
	}
	return token, nil
}

// explain puts the failure of a call into words.
func (t *Target) explain(err error, remembered bool) *Error {
	reason := reasonOf(err)
	e := &Error{Kind: reason.kind(), Text: t.cfg.Settings.text(reason), Err: err}
	if e.Kind == KindUnavailable {
		e.RetryAfter = retryAfter(err)
	}
	if remembered {
		e.Err = fmt.Errorf("%w: %w", ErrRemembered, err)
	}
	return e
}
