package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"phantomtoken/internal/neterror"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// HeaderError is in every answer that is the proxy's own, with the error code of its body,
// and in no answer of an API.
const HeaderError = "Phantom-Error"

// Error codes of the proxy's own beside those of internal/oauth and tokenexchange.
const (
	errorUpstreamUnreachable = "upstream_unreachable"
	errorUpstreamForbidden   = "upstream_forbidden"
	errorUpstreamTimeout     = "upstream_timeout"
	errorExchangeFailed      = "exchange_failed"
)

// retryAfter is what an application is told to wait when nobody says for how long.
const retryAfter = 5 * time.Second

// refusal is why a request does not go through: answer is for the application, the rest for
// the log and the metrics.
type refusal struct {
	answer oauth.Error
	result Result
	cause  string // constant text
	inner  error  // nil, or an error whose text may stand in a log
}

func (r *refusal) Error() string { return r.cause }

func refuse(status int, code string, result Result, cause, description string) *refusal {
	return &refusal{
		answer: oauth.Error{Code: code, Description: description, Status: status},
		result: result, cause: cause,
	}
}

// because notes the error behind a refusal.
func (r *refusal) because(err error) *refusal {
	r.inner = err
	return r
}

func malformed(cause, description string) *refusal {
	return refuse(http.StatusBadRequest, oauth.ErrorInvalidRequest, ResultMalformed, cause, description)
}

func unauthenticated(cause string) *refusal {
	return refuse(http.StatusUnauthorized, oauth.ErrorUnauthorized, ResultUnauthenticated, cause,
		"send the phantom token that this application received as Authorization: Bearer")
}

func misconfigured(cause string) *refusal {
	return refuse(http.StatusInternalServerError, oauth.ErrorServerError, ResultMisconfigured, cause,
		"the sidecar cannot exchange tokens; its log says what to change")
}

func canceled() *refusal {
	return refuse(http.StatusServiceUnavailable, oauth.ErrorTemporarilyUnavailable, ResultCanceled, "application went away", "")
}

// exchangeRefused says what an error of TokenSource.Token means for the application. No word
// of the error reaches it: identity providers write descriptions too.
func exchangeRefused(ctx context.Context, err error) *refusal {
	var answer *tokenexchange.Error
	errors.As(err, &answer)
	switch {
	case ctx.Err() != nil:
		return canceled()
	case errors.Is(err, tokenexchange.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		r := refuse(http.StatusServiceUnavailable, oauth.ErrorTemporarilyUnavailable, ResultUnavailable,
			"token exchange is not available", "no token can be had now; try again later").because(err)
		r.answer.RetryAfter = retryAfter
		if answer != nil && answer.RetryAfter > 0 {
			r.answer.RetryAfter = answer.RetryAfter
		}
		return r
	case errors.Is(err, tokenexchange.ErrUnacceptable):
		return refuse(http.StatusBadGateway, errorExchangeFailed, ResultExchangeFailed,
			"token exchange gave no usable token", "the identity provider's answer could not be used; the sidecar's log says why").because(err)
	case answer == nil:
		return misconfigured("token exchange failed").because(err)
	}
	denied := func(description string) *refusal {
		return refuse(http.StatusForbidden, answer.Code, ResultDenied, "token exchange refused by policy", description).because(err)
	}
	switch answer.Code {
	case tokenexchange.ErrorInvalidRequest:
		// RFC 8693 §2.2.2 has one code for a subject token that is not accepted and for a
		// malformed request; the requests here are well formed.
		return refuse(http.StatusUnauthorized, oauth.ErrorInvalidToken, ResultInvalidToken, "phantom token refused",
			"the phantom token is invalid, expired or not meant for this application").because(err)
	case tokenexchange.ErrorInvalidTarget:
		return denied("the policy gives this application no token for the audience of this route")
	case tokenexchange.ErrorInvalidScope:
		return denied("the policy, or the phantom token, does not give the scopes of this route")
	case tokenexchange.ErrorUnauthorizedClient:
		return denied("the policy does not let this application exchange tokens")
	}
	return misconfigured("token exchange failed").because(err)
}

// bodyFailed says what an error of reading the application's body means.
func bodyFailed(err error) *refusal {
	var network *net.OpError
	switch {
	case errors.Is(err, errTokenInTrailer):
		return malformed("phantom token in a trailer", "the phantom token must stand in the Authorization header field alone")
	case errors.Is(err, errNotTaken):
		return refuse(http.StatusGatewayTimeout, errorUpstreamTimeout, ResultUpstreamTimeout, "API stopped reading the body",
			"the API of this route stopped reading the body of the request")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return canceled()
	}
	return malformed("malformed body", "the body of the request is malformed")
}

// failed says what an error of the connection to the API means.
func (r *route) failed(ctx context.Context, err error) *refusal {
	var (
		own     *refusal
		network net.Error
		dial    *net.OpError
		cert    *tls.CertificateVerificationError
	)
	unreachable := func(cause string) *refusal {
		return refuse(http.StatusBadGateway, errorUpstreamUnreachable, ResultUpstreamUnreachable, cause,
			"the API of this route cannot be reached; the sidecar's log says why")
	}
	switch {
	case errors.As(err, &own):
		return own
	case ctx.Err() != nil:
		return canceled()
	case errors.Is(err, errForbiddenAddress):
		return refuse(http.StatusBadGateway, errorUpstreamForbidden, ResultUpstreamForbidden, "address of the API is not allowed",
			"the name of the API leads to an address that the policy does not allow; the sidecar's log names it").because(err)
	case errors.As(err, &network) && network.Timeout():
		return refuse(http.StatusGatewayTimeout, errorUpstreamTimeout, ResultUpstreamTimeout, "API did not answer in time",
			"the API of this route did not answer in time")
	}
	// Only errors whose text is known not to quote the API are shown: crypto/x509 puts names of
	// the certificate into its own, net/http the first line of an unreadable answer.
	settings := neterror.Settings{
		Address:     fmt.Sprintf("egress.routes[%d].upstream", r.index),
		Authorities: fmt.Sprintf("egress.routes[%d].ca_file", r.index),
	}
	text, ofTLS := settings.TLS(err)
	switch {
	case errors.As(err, &cert):
		return unreachable("certificate of the API is not accepted").because(errors.New(text))
	case ofTLS:
		return unreachable("no TLS with the API").because(errors.New(text))
	case errors.As(err, &dial):
		return unreachable("API cannot be reached").because(dial)
	}
	return unreachable("API gave no HTTP answer")
}

// write answers the application.
func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set(HeaderError, r.answer.Code)
	if r.answer.Status == http.StatusUnauthorized {
		challenge := oauth.Challenge{Realm: realm}
		if r.answer.Code != oauth.ErrorUnauthorized { // RFC 6750 §3.1: no code without credentials
			challenge.Error = r.answer.Code
		}
		h.Set("WWW-Authenticate", challenge.String())
	}
	if r.answer.RetryAfter > 0 {
		seconds := (r.answer.RetryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	// The application must see the end of the answer before that of the request.
	body := r.answer.Body()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.answer.Status)
	_, _ = w.Write(body) // an application that has gone needs no answer
	_ = http.NewResponseController(w).Flush()
}

// level is how loud a result is in the log.
func (r Result) level() slog.Level {
	switch r {
	case ResultPassed, ResultCanceled, ResultUnauthenticated:
		return slog.LevelDebug
	case ResultMisconfigured, ResultUpstreamForbidden:
		return slog.LevelError // until somebody mends it
	case ResultMalformed, ResultInvalidToken, ResultDenied, ResultNoRoute:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}
