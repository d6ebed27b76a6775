package tokenexchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ErrUnavailable is matched by errors of [Client.Exchange] that another attempt may cure:
// the endpoint could not be reached, did not answer in time, or said that it cannot answer
// now.
var ErrUnavailable = errors.New("token endpoint unavailable")

// ErrUnacceptable is matched by errors of [Client.Exchange] for an answer that must not be
// used: malformed, of another type, for another audience or user, expired, a redirect.
var ErrUnacceptable = errors.New("unacceptable token response")

// Error is the error response of a token endpoint (RFC 6749 §5.2, RFC 8693 §2.2.2). As JSON
// it is error, error_description and error_uri; Status and RetryAfter travel as the HTTP
// status and the Retry-After field.
type Error struct {
	// Code (error) is one of the Error constants, or a code of the service's own, which Error
	// does not print. It is empty when the answer was an error status without a readable code,
	// and in an error of [Client.Exchange] when it quotes a token or the secret.
	Code string
	// Description (error_description) is a text for the developer of the client, printable
	// ASCII of at most 512 bytes. In an error of [Client.Exchange] it is the service's own
	// text; it is withheld when it quotes a token or the secret of the request.
	Description string
	// URI (error_uri) is a page about the error, optional.
	URI string
	// Status is the HTTP status. It is 0 in an error of [Client.Exchange] or [Request.Form]
	// about a request that was never sent.
	Status int
	// RetryAfter is how long to wait before another attempt; 0 when the service did not say.
	RetryAfter time.Duration
}

// Error returns the code, if it is one of the Error constants, and the status. It leaves
// out what is a text of the other side, Description above all, which no log asked for.
func (e *Error) Error() string {
	code := e.Code
	switch {
	case code == "":
		code = "no error code"
	case !known(code):
		code = "an error code of its own"
	}
	if e.Status == 0 {
		return fmt.Sprintf("malformed token exchange request: %s: %s", code, e.Description)
	}
	return fmt.Sprintf("token exchange refused: %s (status %d)", code, e.Status)
}

// known reports whether code is one of the Error constants.
func known(code string) bool {
	switch code {
	case ErrorInvalidRequest, ErrorInvalidClient, ErrorInvalidGrant, ErrorUnauthorizedClient, ErrorUnsupportedGrantType,
		ErrorInvalidScope, ErrorInvalidTarget, ErrorServerError, ErrorTemporarilyUnavailable:
		return true
	}
	return false
}

// Is reports whether target is [ErrUnavailable] and e says that a later attempt may
// succeed.
func (e *Error) Is(target error) bool {
	if target != ErrUnavailable {
		return false
	}
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Code == ErrorTemporarilyUnavailable
}

type errorJSON struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	URI         string `json:"error_uri,omitempty"`
}

// MarshalJSON returns the body of the error response.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(errorJSON{e.Code, printable(e.Description), e.URI})
}

// UnmarshalJSON reads the body of an error response. It leaves Status and RetryAfter
// alone and fails when there is no code.
func (e *Error) UnmarshalJSON(data []byte) error {
	members, err := objectMembers(data)
	if err != nil {
		return err
	}
	code, err := stringMember(members, "error")
	if err != nil {
		return err
	}
	// RFC 6749 §5.2 allows more; a code that is printed needs no more than the characters
	// of a word.
	if code == "" || len(code) > 64 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != "" {
		return errors.New("member \"error\": expected an error code")
	}
	// The rest is for people: what cannot be read is left out.
	description, _ := stringMember(members, "error_description")
	uri, _ := stringMember(members, "error_uri")
	e.Code, e.Description, e.URI = code, printable(description), printable(uri)
	return nil
}

const maxDescription = 512

// printable replaces what RFC 6749 §5.2 does not allow in an error_description
// (%x20-21 / %x23-5B / %x5D-7E) and cuts it.
func printable(s string) string {
	if len(s) > maxDescription {
		s = s[:maxDescription]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < 0x20 || r > 0x7e || r == '\\':
			return '?'
		}
		return r
	}, s)
}

// quote puts a value of the request into a description.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "..."
	}
	return "'" + printable(s) + "'"
}
