package gate

import (
	"errors"

	"phantomtoken/internal/delegation"
)

// textNotExchanged is what clients see when the provider refuses by policy.
const textNotExchanged = "The authorization server does not allow this token to be used here"

// exchangeRefused says what a failed exchange means for the client. Trouble of the provider
// is 503 and never 401: clients would throw good tokens away.
func exchangeRefused(err error) *refusal {
	if errors.Is(err, errInward) {
		r := misconfigured("phantom_token.mode: the provider answers the exchange with a token that must not go upstream")
		r.inner = err
		return r
	}
	var failed *delegation.Error
	if !errors.As(err, &failed) { // the request ended while it waited for somebody else's call
		return unavailable("exchanging the access token", err)
	}
	var r *refusal
	switch failed.Kind {
	case delegation.KindSubject:
		r = invalidToken(failed.Text)
	case delegation.KindScope, delegation.KindTarget, delegation.KindPolicy:
		r = denied(failed.Text, textNotExchanged)
	case delegation.KindConfiguration:
		r = misconfigured(failed.Text)
	default:
		r = unavailable("exchanging the access token: "+failed.Text, nil)
		if failed.RetryAfter > 0 {
			r.err.RetryAfter = failed.RetryAfter
		}
	}
	r.inner = failed.Err // the code and the status, not the provider's own text
	return r
}

// repeated reports whether a refusal is one that the provider gave a moment ago.
func repeated(r *refusal) bool { return errors.Is(r.inner, delegation.ErrRemembered) }
