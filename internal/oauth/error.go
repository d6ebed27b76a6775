package oauth

import (
	"encoding/json"
	"fmt"
	"time"
)

// Error codes of a resource server: RFC 6750 §3.1, and the two codes of RFC 6749
// §4.1.2.1 that this gateway puts into a JSON body when the fault is not the client's.
const (
	ErrorInvalidRequest         = "invalid_request"
	ErrorInvalidToken           = "invalid_token"
	ErrorInsufficientScope      = "insufficient_scope"
	ErrorServerError            = "server_error"
	ErrorTemporarilyUnavailable = "temporarily_unavailable"

	// ErrorUnauthorized is the body of an answer to a request without credentials. It
	// never stands in a challenge: RFC 6750 §3.1 wants no error code there.
	ErrorUnauthorized = "unauthorized"
	// ErrorAccessDenied is a refusal by policy: no other token of this client would help,
	// so the answer carries no challenge.
	ErrorAccessDenied = "access_denied"
	// ErrorTooManyRequests goes with status 429 and Retry-After.
	ErrorTooManyRequests = "too_many_requests"
	// ErrorNotFound and ErrorMethodNotAllowed answer OAuth-looking paths that do not
	// exist here, so that clients which probe them read JSON and go on.
	ErrorNotFound         = "not_found"
	ErrorMethodNotAllowed = "method_not_allowed"
)

// Error is what a client may know of a refusal. The private cause is never part of
// it; it is logged beside the answer.
type Error struct {
	Code        string        // error
	Description string        // error_description, may be empty
	Scope       Scopes        // scope, only with insufficient_scope
	Status      int           // HTTP status
	RetryAfter  time.Duration // Retry-After when positive, rounded up to seconds
}

// Error returns the code and the description, both fit for the client.
func (e *Error) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Description)
}

// Body is the JSON object of the answer: error, error_description, scope.
func (e *Error) Body() []byte {
	b, err := json.Marshal(struct {
		Code        string `json:"error"`
		Description string `json:"error_description,omitempty"`
		Scope       string `json:"scope,omitempty"`
	}{e.Code, e.Description, e.Scope.String()})
	if err != nil { // strings only: cannot fail
		return []byte(`{"error":"server_error"}`)
	}
	return b
}
