package introspection

import (
	"net/http"

	"phantomtoken/internal/breaker"
)

// verdictOf is what a failed call says about the health of the endpoint.
func verdictOf(err *Error) breaker.Verdict {
	switch err.Kind {
	case KindTimeout, KindConnection:
		return breaker.Failing
	case KindStatus:
		switch err.Status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return breaker.Failing
		}
		// A 500 may be the provider's trouble with this one token: nobody must be able to
		// shut out all others by sending it again.
		return breaker.Healthy
	case KindCredentials, KindRedirect, KindMalformed, KindTooLarge, KindMediaType, KindUnverified:
		// Refusing everybody because of one odd answer would make an outage of a nuisance.
		return breaker.Healthy
	default:
		return breaker.Neutral
	}
}
