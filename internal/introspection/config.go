package introspection

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// Client authentication methods of RFC 7591 §2, as an operator writes them.
const (
	// AuthBasic sends client id and secret in an Authorization field.
	AuthBasic = oauth.AuthBasic
	// AuthPost sends them in the form.
	AuthPost = oauth.AuthPost
)

// Accept says which answer is asked for.
type Accept int

const (
	// AcceptJSON asks for the JSON of RFC 7662 §2.2. The zero value.
	AcceptJSON Accept = iota
	// AcceptJWT asks for application/jwt: Curity answers with the phantom token itself,
	// Keycloak with JSON that has it in the member jwt.
	AcceptJWT
)

// Config is what shapes a Client. Endpoint, ClientID and ClientSecret are required.
type Config struct {
	// Endpoint is the introspection endpoint, an absolute http or https URL. Whether plain
	// http is acceptable there is for the caller to check (see oauth.CheckTransport).
	Endpoint string
	// ClientID and ClientSecret are what the gateway authenticates with.
	ClientID, ClientSecret string
	// AuthMethod is AuthBasic or AuthPost; empty means AuthBasic.
	AuthMethod string
	// TokenTypeHint sends token_type_hint=access_token.
	TokenTypeHint bool
	// Accept chooses between JSON and JWT.
	Accept Accept
	// Verifier checks the JWT of AcceptJWT. Without one the claims and the expiry of the
	// JWT are read and its signature is not checked: then only the TLS connection vouches
	// for it, as in the configurations of old that name no issuer. Tokens without
	// signature or with a symmetric one are refused even so.
	Verifier *keyring.Verifier

	// CAs are the authorities that the endpoint's certificate may come from; nil means
	// those of the system.
	CAs *x509.CertPool
	// InsecureSkipVerify accepts any certificate of the endpoint: whoever sits between can
	// then make every token active. It is logged as a warning.
	InsecureSkipVerify bool

	// Timeout bounds a whole call: waiting for a slot, connecting, sending, reading. Zero
	// means 5 seconds.
	Timeout time.Duration
	// MaxResponseBytes bounds the body of an answer. Zero means 1 MiB.
	MaxResponseBytes int64
	// MaxConcurrent bounds the calls, and so the connections, at one time. Zero means 64.
	MaxConcurrent int

	// Now is the clock of the circuit breaker and of the expiry of unverified JWTs; nil
	// means time.Now. Timeouts use the real clock.
	Now func() time.Time
	// Logger gets one line when the circuit opens and one when it closes; nil discards.
	Logger *slog.Logger
}

func (c Config) authMethod() string {
	if c.AuthMethod == "" {
		return AuthBasic
	}
	return c.AuthMethod
}

func (c Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return 5 * time.Second
	}
	return c.Timeout
}

func (c Config) maxResponseBytes() int64 {
	if c.MaxResponseBytes == 0 {
		return 1 << 20
	}
	return c.MaxResponseBytes
}

func (c Config) maxConcurrent() int {
	if c.MaxConcurrent == 0 {
		return 64
	}
	return c.MaxConcurrent
}

func (c Config) now() func() time.Time {
	if c.Now == nil {
		return time.Now
	}
	return c.Now
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// check reports every problem at once, each under the name of its setting. It does not
// repeat the endpoint, whose query may hold an API key.
func (c Config) check() (*url.URL, error) {
	var errs []error
	bad := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf(setting+": "+format, args...))
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case c.Endpoint == "":
		bad("introspection_endpoint", "expected an absolute http or https URL, got none")
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		bad("introspection_endpoint", "expected an absolute http or https URL, got something else")
	case u.User != nil:
		bad("introspection_endpoint", "expected a URL without user information; client_id and client_secret are settings of their own")
	case strings.Contains(c.Endpoint, "#"):
		bad("introspection_endpoint", "expected a URL without fragment")
	}
	if c.ClientID == "" {
		bad("client_id", "expected the client id of the gateway, got none")
	}
	if c.ClientSecret == "" {
		bad("client_secret", "expected the secret of the client, got none; a reference that resolves to nothing looks like this")
	}
	if m := c.authMethod(); m != AuthBasic && m != AuthPost {
		bad("introspection.auth_method", "expected %s or %s, got %q", AuthBasic, AuthPost, m)
	}
	if c.Accept != AcceptJSON && c.Accept != AcceptJWT {
		bad("phantom_token.mode", "expected answers in JSON or JWT, got kind %d", c.Accept)
	}
	if c.Timeout < 0 {
		bad("introspection.timeout_seconds", "expected a positive time, got %v", c.Timeout)
	}
	if c.MaxResponseBytes < 0 {
		bad("introspection.max_response_bytes", "expected a positive number, got %d", c.MaxResponseBytes)
	}
	if c.MaxConcurrent < 0 {
		bad("introspection: concurrent calls", "expected a positive number, got %d", c.MaxConcurrent)
	}
	return u, errors.Join(errs...)
}

// Result is what is known of a token.
type Result struct {
	// Introspection is never nil; Active says whether the token is any good. Its Expiry is
	// the earlier one of the answer and of JWT. The member jwt is not among its Claims.
	Introspection *oauth.Introspection
	// JWT is the token that the provider made for the upstream. It is set only with
	// AcceptJWT, when the token is active and the answer had one.
	JWT string
}
