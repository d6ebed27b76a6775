package gate

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"phantomtoken/tokenexchange"
)

// textNotExchanged is what clients see when the provider refuses by policy.
const textNotExchanged = "The authorization server does not allow this token to be used here"

// maxRetryAfter bounds how long a provider may make our clients wait.
const maxRetryAfter = 5 * time.Minute

// exchangeRefused says what a failed exchange means for the client, and in words for the
// operator's log what to look at. Trouble of the provider is 503 and never 401: clients
// would throw good tokens away.
func exchangeRefused(err error) *refusal {
	var refused *tokenexchange.Error
	switch {
	case errors.Is(err, errNarrowed):
		r := denied("phantom_token.exchange_scope: the provider grants less than it was asked for; let the client of the gateway have these scopes there", textNotExchanged)
		r.inner = err
		return r
	case errors.Is(err, errEcho), errors.Is(err, errInward):
		r := misconfigured("phantom_token.mode: the provider answers the exchange with a token that must not go upstream")
		r.inner = err
		return r
	case errors.Is(err, errExpiredMeanwhile):
		return invalidToken(err.Error())
	case !errors.As(err, &refused):
		return unavailable("exchanging the access token", err)
	case errors.Is(err, tokenexchange.ErrUnavailable) || refused.Status >= http.StatusInternalServerError:
		r := unavailable("exchanging the access token", err)
		if refused.RetryAfter > 0 {
			r.err.RetryAfter = min(refused.RetryAfter, maxRetryAfter)
		}
		return r
	}
	r := exchangeVerdict(refused)
	switch {
	case refused.Status == 0, refused.Code == "" && (refused.Status == http.StatusNotFound || refused.Status == http.StatusMethodNotAllowed):
		r = misconfigured("phantom_token.token_endpoint: expected an endpoint of RFC 8693, got something else; check it, or what token.issuer says")
	case refused.Code == "", refused.Code == tokenexchange.ErrorServerError, refused.Code == "slow_down":
		// Somebody between us and the provider, or its own trouble: it says nothing of the token.
		r = unavailable("exchanging the access token", err)
	}
	r.inner = err // the code and the status, not the provider's own text
	return r
}

// exchangeVerdict reads a definite refusal (RFC 6749 §5.2, RFC 8693 §2.2.2). One code
// stands for many causes, so the text of the provider is looked at for those that are
// known of Keycloak. It is not repeated in the log.
func exchangeVerdict(e *tokenexchange.Error) *refusal {
	text := strings.ToLower(e.Description)
	says := func(words string) bool { return strings.Contains(text, words) }
	switch e.Code {
	case tokenexchange.ErrorInvalidClient:
		if says("audience not found") {
			return misconfigured("phantom_token.audience: the provider knows no such audience; correct it, or make it known there (Keycloak: a client of this id)")
		}
		return credentialsRefused()
	case tokenexchange.ErrorUnsupportedGrantType:
		return misconfigured("phantom_token.mode: the provider knows no token exchange; switch it on there, or choose mint")
	case tokenexchange.ErrorInvalidRequest, tokenexchange.ErrorInvalidGrant:
		switch {
		case says("not enabled"):
			return misconfigured("phantom_token.mode: the provider does not let client_id exchange tokens; switch it on there (Keycloak: standard token exchange of the client)")
		case says("audience not available"):
			return misconfigured("phantom_token.audience: the scopes that are asked for do not lead to this audience; add an audience mapper to one of them, or correct phantom_token.exchange_scope")
		case says("parameter"), says("requested_token_type"), says("unsupported"):
			return misconfigured("phantom_token.mode: the provider does not understand the request; its token exchange is not that of RFC 8693")
		}
		return invalidToken("the provider does not take the access token for an exchange: revoked or expired since it was introspected, or of a kind it cannot exchange")
	case tokenexchange.ErrorInvalidTarget:
		return denied("phantom_token.audience: the provider refuses it to client_id for this token", textNotExchanged)
	case tokenexchange.ErrorInvalidScope:
		return denied("phantom_token.exchange_scope: the provider refuses the scopes to client_id for this token", textNotExchanged)
	}
	switch {
	case e.Status == http.StatusUnauthorized: // whatever the code: Keycloak says unauthorized_client
		return credentialsRefused()
	case says("not within the token audience"):
		return denied("client_id is not in the audience of the access token, so the provider does not let it exchange the token; have it added there (Keycloak: an audience mapper, switched on for lightweight tokens too)", textNotExchanged)
	default:
		return denied("the provider does not let client_id exchange this token", textNotExchanged)
	}
}

func credentialsRefused() *refusal {
	return misconfigured("the provider refuses the gateway itself at its token endpoint; check client_id, client_secret and introspection.auth_method")
}
