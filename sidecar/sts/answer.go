package sts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"phantomtoken/tokenexchange"
)

// reason is the cause of a refusal in the audit line, from this list only.
type reason string

const (
	reasonMethod        reason = "method"
	reasonQuery         reason = "query"
	reasonMediaType     reason = "media_type"
	reasonBodyTooLarge  reason = "body_too_large"
	reasonForm          reason = "form"
	reasonClient        reason = "client_authentication"
	reasonClientTwice   reason = "client_authentication_twice"
	reasonRequest       reason = "request"
	reasonSubjectType   reason = "subject_token_type"
	reasonActorToken    reason = "actor_token"
	reasonRequestedType reason = "requested_token_type"
	reasonKeys          reason = "subject_keys_unavailable"
	reasonSubject       reason = "subject_token"
	reasonBound         reason = "subject_token_bound"
	reasonNoUser        reason = "subject_without_user"
	reasonMayAct        reason = "may_act"
	reasonUnauthorized  reason = "client_without_audience"
	reasonTarget        reason = "target"
	reasonScope         reason = "scope"
	reasonActors        reason = "actor_chain"
	reasonFault         reason = "fault"
)

// refusal is an answer other than success, and why.
type refusal struct {
	answer *tokenexchange.Error // for the caller
	reason reason               // for the audit line
	cause  error                // for the operator, optional
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.answer.Error() }

func refuse(reason reason, code, description string) error {
	return refuseStatus(http.StatusBadRequest, reason, code, description)
}

func refuseStatus(status int, reason reason, code, description string) error {
	return &refusal{answer: &tokenexchange.Error{Code: code, Description: description, Status: status}, reason: reason}
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

func quoteAll(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	return strings.Join(quoted, ", ")
}

// writeSuccess is the successful response of RFC 8693 §2.2.1.
func writeSuccess(w http.ResponseWriter, res *tokenexchange.Response) error {
	body, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("writing token response: %w", err)
	}
	forbidStoring(w)
	writeJSON(w, http.StatusOK, body)
	return nil
}

// writeRefusal is the error response of RFC 6749 §5.2.
func writeRefusal(w http.ResponseWriter, e *tokenexchange.Error) {
	body, err := json.Marshal(e)
	if err != nil { // strings only: cannot fail
		body = []byte(`{"error":"server_error"}`)
	}
	forbidStoring(w)
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="token-exchange", charset="UTF-8"`)
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
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}
