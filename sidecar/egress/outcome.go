package egress

import (
	"time"

	"phantomtoken/internal/oauth"
)

// Outcome is what became of one request.
type Outcome struct {
	// Route is the index of the route in Config.Routes, -1 when none was found.
	Route int
	// Result is one of the Result constants.
	Result Result
	// Status is that of the answer; 0 when the application had gone before there was one.
	Status int
	// Retried reports whether the API refused a token with 401 and was asked again with
	// another.
	Retried bool
	// Duration is from the first byte of the request to the end of the answer, by Config.Now.
	Duration time.Duration
}

// Result is a label for metrics, from this list only.
type Result string

// How a request can end.
const (
	ResultPassed              Result = "passed"                // the API answered, whatever it said
	ResultMalformed           Result = "malformed"             // 400
	ResultUnauthenticated     Result = "unauthenticated"       // no bearer token
	ResultInvalidToken        Result = oauth.ErrorInvalidToken // the phantom token was refused
	ResultDenied              Result = "denied"                // the policy refused
	ResultNoRoute             Result = "no_route"              // 404
	ResultMisconfigured       Result = "misconfigured"         // 500
	ResultExchangeFailed      Result = "exchange_failed"       // the answer to the exchange was unusable
	ResultUnavailable         Result = "unavailable"           // no token now
	ResultUpstreamUnreachable Result = "upstream_unreachable"  // 502
	ResultUpstreamForbidden   Result = "upstream_forbidden"    // 502, an address that is not allowed
	ResultUpstreamTimeout     Result = "upstream_timeout"      // 504
	ResultUpstreamAborted     Result = "upstream_aborted"      // the answer broke off
	ResultCanceled            Result = "canceled"              // the application went away
)
