package delegation

import (
	"errors"
	"time"

	"phantomtoken/internal/breaker"
	"phantomtoken/tokenexchange"
)

// Kind is why there is no token. The values are fit for a metric label.
type Kind string

// Kinds of failure.
const (
	// KindSubject: the subject token is not good any more, or of a kind that cannot be
	// exchanged.
	KindSubject Kind = "subject"
	// KindScope: the provider refuses the scopes, or grants less than was asked for.
	KindScope Kind = "scope"
	// KindTarget: the provider refuses the audience for this subject token.
	KindTarget Kind = "target"
	// KindPolicy: the provider does not let our client exchange this subject token.
	KindPolicy Kind = "policy"
	// KindConfiguration: an operator has to change a setting, here or at the provider; the
	// text names it.
	KindConfiguration Kind = "configuration"
	// KindUnacceptable: the provider answered with something that must not be used.
	KindUnacceptable Kind = "unacceptable"
	// KindUnavailable: nothing is known; a later attempt may succeed.
	KindUnavailable Kind = "unavailable"
)

// ErrRemembered is wrapped by errors that repeat a refusal of a moment ago: the provider was
// not asked again.
var ErrRemembered = errors.New("not asked again, because the same was refused a moment ago")

// Error is the only error type of [Target.Exchange]. Its texts are for the operator: they
// hold no token, no secret and no words of the provider.
type Error struct {
	Kind Kind
	// Text says what happened and, where something can be changed, names the setting.
	Text string
	// RetryAfter is when another attempt makes sense, at most 30 s; 0 when unknown. Only of
	// KindUnavailable.
	RetryAfter time.Duration
	// Err is the cause, nil where Text says all there is. It is ErrRemembered where the
	// provider was not asked.
	Err error
}

// Error is the text for the operator's log.
func (e *Error) Error() string {
	if e.Err == nil {
		return "exchanging token: " + e.Text
	}
	return "exchanging token: " + e.Text + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// maxRetryAfter bounds how long a provider can make us, and the users behind us, wait.
const maxRetryAfter = 30 * time.Second

// retryAfter is when another attempt makes sense after err.
func retryAfter(err error) time.Duration {
	var (
		open    *breaker.OpenError
		limited *limitedError
		refused *tokenexchange.Error
	)
	switch {
	case errors.As(err, &open):
		return open.Remaining
	case errors.As(err, &limited):
		return limited.remaining
	case errors.As(err, &refused):
		return min(max(refused.RetryAfter, 0), maxRetryAfter)
	}
	return 0
}
