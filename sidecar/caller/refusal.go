package caller

import (
	"fmt"
	"net/http"
	"time"

	"phantomtoken/tokenexchange"
)

// Reasons of a Refusal: labels for audit lines and metrics.
const (
	ReasonNotAuthenticated = "client_authentication"       // no, wrong or unacceptable credentials
	ReasonSeveral          = "client_authentication_twice" // more than one method, or more than one caller
	ReasonReplayed         = "client_assertion_replayed"   // a client assertion that was used before
	ReasonKeys             = "client_keys_unavailable"     // the keys of caller or cluster cannot be had
	ReasonReplayFull       = "client_assertions_full"      // no more used client assertions can be remembered
)

// challenge is the WWW-Authenticate of every 401: HTTP wants one (RFC 9110 §15.5.2), and
// Basic is the only scheme that a caller can have tried with success (RFC 6749 §5.2).
const challenge = `Basic realm="token-exchange", charset="UTF-8"`

// retryAfter is how long a caller should wait when trouble is ours.
const retryAfter = 5 * time.Second

// Refusal is the error of Authenticate.
type Refusal struct {
	Answer    tokenexchange.Error // for the caller
	Challenge string              // value of WWW-Authenticate; empty unless the status is 401
	Reason    string              // one of the Reason constants
	Cause     error               // for the operator, optional; holds no credential
}

// Error is for logs. It has the description too, which quotes no credential.
func (r *Refusal) Error() string {
	return fmt.Sprintf("authenticating caller: %s: %s", r.Reason, r.Answer.Description)
}

func (r *Refusal) Unwrap() error { return r.Cause }

func invalidClient(format string, args ...any) *Refusal {
	return &Refusal{
		Answer:    tokenexchange.Error{Code: tokenexchange.ErrorInvalidClient, Description: fmt.Sprintf(format, args...), Status: http.StatusUnauthorized},
		Challenge: challenge,
		Reason:    ReasonNotAuthenticated,
	}
}

func invalidRequest(reason, format string, args ...any) *Refusal {
	return &Refusal{
		Answer: tokenexchange.Error{Code: tokenexchange.ErrorInvalidRequest, Description: fmt.Sprintf(format, args...), Status: http.StatusBadRequest},
		Reason: reason,
	}
}

func unavailable(reason, description string, cause error) *Refusal {
	return &Refusal{
		Answer: tokenexchange.Error{Code: tokenexchange.ErrorTemporarilyUnavailable, Description: description, Status: http.StatusServiceUnavailable, RetryAfter: retryAfter},
		Reason: reason,
		Cause:  cause,
	}
}
