package exchange

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// Reason is the cause of a refusal in the audit line and in metrics, from a short list.
type Reason string

// The reasons of this package. The policy has further ones of its own.
const (
	ReasonSubject      Reason = "subject_token"
	ReasonBound        Reason = "subject_token_bound"
	ReasonNoUser       Reason = "subject_without_user"
	ReasonKeys         Reason = "subject_keys_unavailable"
	ReasonMayAct       Reason = "may_act"
	ReasonActorToken   Reason = "actor_token"
	ReasonActors       Reason = "actor_chain"
	ReasonUnauthorized Reason = "client_unknown"
	ReasonProvider     Reason = "identity_provider"
	ReasonFault        Reason = "fault"
)

// Refusal is why no token was issued. It is immutable.
type Refusal struct {
	// Answer is what the caller may know. It is shared: callers must not change it.
	Answer *tokenexchange.Error
	// Reason is for the audit line.
	Reason Reason
	// Cause is for the operator's log, optional. It holds no token and no remote text.
	Cause error

	about origin // the subject token, once it was verified
}

// about notes whose request was refused, for the audit line.
func (x *Exchanger) about(subject *oauth.Introspection, err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		return err
	}
	noted := *r
	noted.about = x.originOf(subject)
	return &noted
}

// Error is for tests and logs; the caller gets Answer.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Answer.Error() }

// Unwrap is the answer, so that errors.As finds it.
func (r *Refusal) Unwrap() error { return r.Answer }

// definite reports whether the same request would be refused again a moment later.
func (r *Refusal) definite() bool { return r.Answer.Status < http.StatusInternalServerError }

func refuse(reason Reason, code, description string) *Refusal {
	return &Refusal{Answer: &tokenexchange.Error{Code: code, Description: description, Status: http.StatusBadRequest}, Reason: reason}
}

// invalidSubject is invalid_request, not invalid_grant: RFC 8693 §2.2.2.
func invalidSubject(reason Reason, why string) *Refusal {
	return refuse(reason, tokenexchange.ErrorInvalidRequest, "subject_token was not accepted: "+why)
}

// retryAfter is how long a caller should wait while keys cannot be had.
const retryAfter = 5 * time.Second

func unavailable(reason Reason, description string, wait time.Duration, cause error) *Refusal {
	if wait <= 0 {
		wait = retryAfter
	}
	return &Refusal{
		Answer: &tokenexchange.Error{
			Code:        tokenexchange.ErrorTemporarilyUnavailable,
			Description: description,
			Status:      http.StatusServiceUnavailable,
			RetryAfter:  wait,
		},
		Reason: reason,
		Cause:  cause,
	}
}

// fault is an error of ours or of the configuration: nothing of it is for the caller.
func fault(reason Reason, cause error) *Refusal {
	return &Refusal{
		Answer: &tokenexchange.Error{Code: tokenexchange.ErrorServerError, Status: http.StatusInternalServerError},
		Reason: reason,
		Cause:  cause,
	}
}

// quote puts a name into a description. Characters that a description cannot have are
// replaced when it is written.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "..."
	}
	return "'" + strings.ReplaceAll(s, "'", "?") + "'"
}
