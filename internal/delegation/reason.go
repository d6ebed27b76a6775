package delegation

import (
	"errors"
	"net/http"
	"strings"

	"phantomtoken/tokenexchange"
)

// reason is what the failure of a call comes down to. Unlike its words, it depends on no
// setting.
type reason int

const (
	unavailable  reason = iota // nothing is known
	unacceptable               // an answer that is no token response, or none to this request

	refusedSubject

	refusedScope
	narrowedScope
	refusedTarget
	refusedByPolicy
	outsideAudience

	wrongCredentials
	wrongEndpoint
	neverSent
	unknownAudience
	unreachableAudience
	noExchange
	notEnabled
	notUnderstood
	echoed
)

func (r reason) kind() Kind {
	switch r {
	case unavailable:
		return KindUnavailable
	case unacceptable:
		return KindUnacceptable
	case refusedSubject:
		return KindSubject
	case refusedScope, narrowedScope:
		return KindScope
	case refusedTarget:
		return KindTarget
	case refusedByPolicy, outsideAudience:
		return KindPolicy
	default:
		return KindConfiguration
	}
}

// What a call may end with beside the errors of the exchanger.
var (
	errEcho     = errors.New("expected another token from the exchange, got the subject token itself")
	errNarrowed = errors.New("the provider granted less scope than was asked for")
)

// reasonOf reads the outcome of a call (RFC 6749 §5.2, RFC 8693 §2.2.2). Trouble of the
// provider says nothing of the token: clients would throw good ones away.
func reasonOf(err error) reason {
	var refused *tokenexchange.Error
	switch {
	case errors.Is(err, errEcho):
		return echoed
	case errors.Is(err, errNarrowed):
		return narrowedScope
	case errors.Is(err, tokenexchange.ErrUnacceptable):
		return unacceptable
	case !errors.As(err, &refused), errors.Is(err, tokenexchange.ErrUnavailable), refused.Status >= http.StatusInternalServerError:
		return unavailable
	case refused.Status == 0:
		return neverSent
	}
	switch refused.Code {
	case "":
		if refused.Status == http.StatusNotFound || refused.Status == http.StatusMethodNotAllowed {
			return wrongEndpoint
		}
		return unavailable // somebody between us and the provider
	case tokenexchange.ErrorServerError, "slow_down":
		return unavailable
	}
	return verdict(refused)
}

// verdict tells the causes of a definite refusal apart. One code stands for many, so the
// text of the provider is looked at for those that are known of Keycloak. It is never
// repeated.
func verdict(e *tokenexchange.Error) reason {
	text := strings.ToLower(e.Description)
	says := func(words string) bool { return strings.Contains(text, words) }
	switch e.Code {
	case tokenexchange.ErrorInvalidClient:
		if says("audience not found") {
			return unknownAudience
		}
		return wrongCredentials
	case tokenexchange.ErrorUnsupportedGrantType:
		return noExchange
	case tokenexchange.ErrorInvalidRequest, tokenexchange.ErrorInvalidGrant:
		switch {
		case says("not enabled"):
			return notEnabled
		case says("audience not available"):
			return unreachableAudience
		case says("parameter"), says("requested_token_type"), says("unsupported"):
			return notUnderstood
		}
		return refusedSubject
	case tokenexchange.ErrorInvalidTarget:
		return refusedTarget
	case tokenexchange.ErrorInvalidScope:
		return refusedScope
	}
	switch {
	case e.Status == http.StatusUnauthorized: // whatever the code: Keycloak says unauthorized_client
		return wrongCredentials
	case says("not within the token audience"):
		return outsideAudience
	default:
		return refusedByPolicy
	}
}

// concernsAll reports whether err would be the answer to every exchange of this client. It
// is narrow on purpose: a token that can bring about an answer that counts for all could
// shut out everybody else.
func concernsAll(err error) bool {
	var refused *tokenexchange.Error
	return errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && reasonOf(err) == wrongCredentials &&
		(refused.Code == tokenexchange.ErrorInvalidClient || refused.Code == tokenexchange.ErrorUnauthorizedClient)
}
