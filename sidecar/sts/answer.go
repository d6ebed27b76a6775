package sts

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// The reasons of this package, beside those of packages exchange, policy and caller.
const (
	reasonMethod        exchange.Reason = "method"
	reasonQuery         exchange.Reason = "query"
	reasonMediaType     exchange.Reason = "media_type"
	reasonBodyTooLarge  exchange.Reason = "body_too_large"
	reasonForm          exchange.Reason = "form"
	reasonRequest       exchange.Reason = "request"
	reasonSubjectType   exchange.Reason = "subject_token_type"
	reasonRequestedType exchange.Reason = "requested_token_type"
)

func refuse(reason exchange.Reason, code, description string) error {
	return refuseStatus(http.StatusBadRequest, reason, code, description)
}

func refuseStatus(status int, reason exchange.Reason, code, description string) error {
	return &exchange.Refusal{Answer: &tokenexchange.Error{Code: code, Description: description, Status: status}, Reason: reason}
}

// quote puts a name into a description. Characters that a description cannot have are
// replaced when it is written.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "..."
	}
	return "'" + s + "'"
}

// writeSuccess is the successful response of RFC 8693 §2.2.1. It is written by hand because
// it is on every request's way: no value has a character that JSON wants quoted, since
// tokens are base64url and dots, types are those of checkTypes, and scope tokens have neither
// quote nor backslash (RFC 6749 §3.3).
func writeSuccess(w http.ResponseWriter, res *tokenexchange.Response) {
	const room = 256 // for everything but the token; a long scope grows it
	body := make([]byte, 0, len(res.AccessToken)+room)
	body = append(body, `{"access_token":"`...)
	body = append(body, res.AccessToken...)
	body = append(body, `","issued_token_type":"`...)
	body = append(body, res.IssuedTokenType...)
	body = append(body, `","token_type":"`...)
	body = append(body, res.TokenType...)
	body = append(body, `","expires_in":`...)
	body = strconv.AppendInt(body, int64(res.ExpiresIn/time.Second), 10)
	if len(res.Scope) > 0 {
		body = append(body, `,"scope":"`...)
		for i, scope := range res.Scope {
			if i > 0 {
				body = append(body, ' ')
			}
			body = append(body, scope...)
		}
		body = append(body, '"')
	}
	body = append(body, '}')
	forbidStoring(w)
	writeJSON(w, http.StatusOK, body)
}

// answerRefusal is the error response of RFC 6749 §5.2. An error that is no refusal is that
// of a request whose caller has gone.
func answerRefusal(w http.ResponseWriter, err error) {
	e := asRefusal(err).Answer
	body, marshalErr := json.Marshal(e)
	if marshalErr != nil { // strings only: cannot fail
		body = []byte(`{"error":"server_error"}`)
	}
	forbidStoring(w)
	if who := (*caller.Refusal)(nil); errors.As(err, &who) && who.Challenge != "" {
		w.Header().Set("WWW-Authenticate", who.Challenge)
	}
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", fmt.Sprint(int64(seconds)))
	}
	writeJSON(w, e.Status, body)
}

// forbidStoring is for answers with tokens (RFC 6749 §5.1), and for refusals, which are no
// longer true when the token or the configuration is another.
func forbidStoring(w http.ResponseWriter) {
	values := []string{"no-store", "no-cache"}
	header := w.Header()
	header["Cache-Control"], header["Pragma"] = values[:1:1], values[1:]
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	values := []string{"application/json", "nosniff"}
	header := w.Header()
	header["Content-Type"], header["X-Content-Type-Options"] = values[:1:1], values[1:]
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}
