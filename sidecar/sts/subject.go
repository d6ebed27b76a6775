package sts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// retryAfter is how long a caller should wait while the gateway's keys cannot be had.
const retryAfter = 5 * time.Second

// checkTypes refuses the token types this service does not deal in (RFC 8693 §3): a
// refresh token as subject above all, it would live on in the result.
func checkTypes(req *tokenexchange.Request) error {
	if t := req.SubjectTokenType; t != tokenexchange.TokenTypeAccessToken && t != tokenexchange.TokenTypeJWT {
		return refuse(reasonSubjectType, tokenexchange.ErrorInvalidRequest,
			"parameter 'subject_token_type': expected "+tokenexchange.TokenTypeAccessToken+" or "+tokenexchange.TokenTypeJWT+", got "+quote(t))
	}
	if req.ActorToken != "" {
		return refuse(reasonActorToken, tokenexchange.ErrorInvalidRequest,
			"parameter 'actor_token' is not supported: the authenticated client is the actor, leave actor_token and actor_token_type out")
	}
	switch req.RequestedTokenType {
	case "", tokenexchange.TokenTypeAccessToken, tokenexchange.TokenTypeJWT:
		return nil
	}
	return refuse(reasonRequestedType, tokenexchange.ErrorInvalidRequest,
		"parameter 'requested_token_type': expected "+tokenexchange.TokenTypeAccessToken+" or "+tokenexchange.TokenTypeJWT+", got "+quote(req.RequestedTokenType))
}

// verify checks the subject token: a phantom token that was meant for this caller.
// now is that of the request.
func (s *Service) verify(ctx context.Context, caller *client, token string, now time.Time) (*oauth.Introspection, error) {
	verified, err := caller.verifier.Verify(ctx, token)
	switch {
	case errors.Is(err, keyring.ErrKeysUnavailable):
		return nil, &refusal{
			answer: &tokenexchange.Error{
				Code:        tokenexchange.ErrorTemporarilyUnavailable,
				Description: "the keys of the gateway cannot be had at the moment",
				Status:      http.StatusServiceUnavailable,
				RetryAfter:  retryAfter,
			},
			reason: reasonKeys,
			cause:  err,
		}
	case err != nil:
		// What the verifier says holds nothing of the token but names that it claims, and of a
		// token without a valid signature not even those but kid, alg and typ.
		why := strings.TrimPrefix(err.Error(), keyring.ErrInvalidToken.Error()+": ")
		return nil, invalidSubject(reasonSubject, fmt.Sprintf("%s (TOKEN_EXCHANGE_SUBJECT_ISSUER, %s)", why, setting(caller.index, "SUBJECT_AUDIENCE")))
	}
	// A key that both issuers have would make what is issued here look like the gateway's.
	if own, err := s.cfg.Ring.Keys(ctx, verified.KeyID); err != nil || len(own) > 0 {
		return nil, invalidSubject(reasonSubject, "expected a token signed by a key of the gateway alone, got one by a key of this service (TOKEN_EXCHANGE_SIGNING_KEY_FILE, TOKEN_EXCHANGE_PUBLISHED_KEY_FILES)")
	}
	subject := verified.Introspection
	if subject.Expiry.Sub(now) < time.Second {
		return nil, invalidSubject(reasonSubject, "expected a token that has not expired; compare the clocks of gateway and sidecar if it should not have")
	}
	if subject.Claims["cnf"] != nil {
		// The proof of possession was not shown to us. To issue a token without cnf would turn
		// a bound token into one that anybody can use.
		return nil, invalidSubject(reasonBound, "expected a bearer token, got one that is bound to a key (cnf)")
	}
	if !subject.HasUser() && !caller.AllowWithoutUser {
		// APIs take sub for a user.
		return nil, invalidSubject(reasonNoUser, "expected a token of a user, got one of a client by itself ("+setting(caller.index, "ALLOW_WITHOUT_USER")+")")
	}
	return subject, nil
}

// invalidSubject is invalid_request, not invalid_grant: RFC 8693 §2.2.2.
func invalidSubject(reason reason, why string) error {
	return refuse(reason, tokenexchange.ErrorInvalidRequest, "subject_token was not accepted: "+why)
}
