package delegation

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"

	"phantomtoken/internal/breaker"
	"phantomtoken/tokenexchange"
)

// health is what the outcome of a call says about the endpoint, by the rules that
// introspection has: no connection, no answer in time, 502, 503 and 504 count against it.
func health(ctx context.Context, err error) breaker.Verdict {
	var (
		refused *tokenexchange.Error
		cert    *tls.CertificateVerificationError
	)
	switch {
	case err == nil:
		return breaker.Healthy
	case errors.As(err, &refused):
		switch refused.Status {
		case 0: // never sent
			return breaker.Neutral
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return breaker.Failing
		}
		// A 500 may be the provider's trouble with this one token: nobody must be able to
		// shut out all others by sending it again.
		return breaker.Healthy
	case errors.Is(err, tokenexchange.ErrUnacceptable):
		return breaker.Healthy
	case errors.As(err, &cert), errors.Is(ctx.Err(), context.Canceled):
		return breaker.Neutral
	case errors.Is(err, tokenexchange.ErrUnavailable), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return breaker.Failing
	default:
		return breaker.Neutral // the trouble is before the endpoint: it could not be found, for example
	}
}
