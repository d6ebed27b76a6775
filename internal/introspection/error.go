package introspection

import (
	"context"
	"errors"
	"fmt"

	"phantomtoken/internal/neterror"
)

// ErrUnavailable is what every error of [Client.Introspect] is: nothing is known about
// the token.
var ErrUnavailable = errors.New("introspection unavailable")

// Kind is why nothing is known. The values are fit for a metric label.
type Kind string

// Kinds of failure.
const (
	KindTimeout     Kind = "timeout"     // no complete answer within the time allowed
	KindConnection  Kind = "connection"  // refused, reset, closed, name not found
	KindTLS         Kind = "tls"         // handshake failed, certificate not accepted
	KindStatus      Kind = "status"      // a status that is no answer, for example 500
	KindCredentials Kind = "credentials" // 400, 401, 403: our own credentials or request are refused
	KindRedirect    Kind = "redirect"    // 3xx; never followed (RFC 9700 §4.12)
	KindMalformed   Kind = "malformed"   // not HTTP, not JSON, not an introspection response
	KindTooLarge    Kind = "too_large"   // body above the bound
	KindMediaType   Kind = "media_type"  // a Content-Type or Content-Encoding that was not asked for
	KindUnverified  Kind = "unverified"  // the JWT of the answer did not verify
	KindKeys        Kind = "keys"        // the keys to verify it with cannot be had
	KindOverloaded  Kind = "overloaded"  // no slot became free in time
	KindCircuit     Kind = "circuit"     // not asked: the endpoint failed several times just now
	KindCanceled    Kind = "canceled"    // the caller went away
)

// Error is the only error type of [Client.Introspect]. It is ErrUnavailable for
// errors.Is. Its text is for the operator: it names the setting to look at and never
// holds the token, the secret or a part of the answer.
type Error struct {
	Kind   Kind
	Status int // HTTP status when there was one, else 0

	text string
	err  error // may be nil
}

// Error is the text for the operator's log. It is not for clients.
func (e *Error) Error() string {
	if e.err == nil {
		return "introspecting token: " + e.text
	}
	return "introspecting token: " + e.text + ": " + e.err.Error()
}

// Is reports whether target is ErrUnavailable.
func (e *Error) Is(target error) bool { return target == ErrUnavailable }

// Unwrap is the cause where its text is safe to show, else nil.
func (e *Error) Unwrap() error { return e.err }

func failure(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, text: fmt.Sprintf(format, args...)}
}

// callError turns what the transport or a read of the body reported into an Error.
func (c *Client) callError(callerCtx, callCtx context.Context, err error) *Error {
	switch {
	case errors.Is(callerCtx.Err(), context.Canceled):
		return &Error{Kind: KindCanceled, text: "the caller went away", err: context.Canceled}
	case callCtx.Err() != nil, neterror.Timeout(err):
		return failure(KindTimeout, "no complete answer from %s in time (introspection.timeout_seconds: %v); check introspection_endpoint", c.host, c.timeout.Seconds())
	}
	settings := neterror.Settings{Address: "introspection_endpoint", Authorities: "introspection.ca_file or introspection.ca_certificates"}
	if text, ok := settings.TLS(err); ok {
		return failure(KindTLS, "handshake with %s: %s", c.host, text)
	}
	if text, ok := neterror.Connection(err); ok {
		return failure(KindConnection, "connection to %s: %s; check introspection_endpoint", c.host, text)
	}
	return failure(KindMalformed, "%s does not answer in HTTP/1.1; check introspection_endpoint", c.host)
}
