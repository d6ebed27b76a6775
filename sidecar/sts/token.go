package sts

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// paramTool is the parameter that names the MCP tool for which a token is asked, an extension
// that other services ignore as RFC 6749 §3.2 wants.
const paramTool = "tool"

// serveToken answers one token request. The decision has its line in the log, whoever made
// it: this package for what it refuses itself, package exchange for the rest.
func (s *Service) serveToken(w http.ResponseWriter, r *http.Request) {
	at := s.cfg.Now()
	form, err := readForm(w, r)
	if err != nil {
		s.refuse(w, r, at, nil, err)
		return
	}
	who, err := s.state.Load().callers.Authenticate(r.Context(), r, form)
	if err != nil {
		s.refuse(w, r, at, nil, err)
		return
	}
	req, parsed, err := readRequest(form, who)
	if err != nil {
		s.refuse(w, r, at, &who, err, slog.String("subject_token_fingerprint", exchange.Fingerprint(form.Get("subject_token"))))
		return
	}
	issued, err := s.cfg.Exchange.Exchange(r.Context(), req)
	if err != nil {
		answerRefusal(w, err)
		return
	}
	writeSuccess(w, response(issued, parsed, s.cfg.Now()))
}

// readRequest is what the form asks for. Every error is a refusal for the caller.
func readRequest(form url.Values, who caller.Identity) (*exchange.Request, *tokenexchange.Request, error) {
	req, err := tokenexchange.ParseRequest(form)
	if err != nil {
		return nil, nil, err
	}
	if err := checkTypes(&req); err != nil {
		return nil, nil, err
	}
	return &exchange.Request{
		Caller:       who.ID,
		SubjectToken: req.SubjectToken,
		ActorToken:   req.ActorToken,
		Audience:     slices.Concat(req.Audience, req.Resource),
		Scope:        req.Scope,
		Tool:         form.Get(paramTool),
		Via:          exchange.ViaEndpoint,
		Method:       who.Method,
	}, &req, nil
}

// checkTypes refuses the token types this service does not deal in (RFC 8693 §3): a refresh
// token as subject above all, it would live on in the result.
func checkTypes(req *tokenexchange.Request) error {
	for _, t := range []struct {
		parameter, value string
		reason           exchange.Reason
		needed           bool
	}{
		{"subject_token_type", req.SubjectTokenType, reasonSubjectType, true},
		{"actor_token_type", req.ActorTokenType, exchange.ReasonActorToken, req.ActorToken != ""},
		{"requested_token_type", req.RequestedTokenType, reasonRequestedType, req.RequestedTokenType != ""},
	} {
		if t.needed && t.value != tokenexchange.TokenTypeAccessToken && t.value != tokenexchange.TokenTypeJWT {
			return refuse(t.reason, tokenexchange.ErrorInvalidRequest,
				"parameter '"+t.parameter+"': expected "+tokenexchange.TokenTypeAccessToken+" or "+tokenexchange.TokenTypeJWT+", got "+quote(t.value))
		}
	}
	return nil
}

// response is the answer of RFC 8693 §2.2.1.
func response(issued *exchange.Issued, req *tokenexchange.Request, now time.Time) *tokenexchange.Response {
	res := &tokenexchange.Response{
		AccessToken:     issued.Token,
		IssuedTokenType: tokenexchange.TokenTypeAccessToken,
		TokenType:       tokenexchange.Bearer, // also as jwt: what is issued is an access token
		// A second was left a moment ago, and without the member the life would be unknown.
		ExpiresIn: max(issued.Expiry.Sub(now), time.Second),
	}
	if req.RequestedTokenType != "" {
		res.IssuedTokenType = req.RequestedTokenType
	}
	if len(issued.Scope) > 0 && !slices.Equal(issued.Scope, oauth.Scopes(req.Scope)) {
		res.Scope = issued.Scope // RFC 6749 §5.1: where it differs from what was asked for
	}
	return res
}

// refuse answers and logs what this package and package caller refuse. The default is
// server_error without a word: what we did not foresee is not for the caller.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, at time.Time, who *caller.Identity, err error, further ...slog.Attr) {
	refusal := asRefusal(err)
	observation := exchange.Observation{Via: exchange.ViaEndpoint, Caller: unknown, Audience: unknown}
	attrs := []slog.Attr{slog.String("via", string(exchange.ViaEndpoint))}
	if who != nil {
		observation.Caller = who.ID
		attrs = append(attrs, slog.String("caller", who.ID), slog.String("caller_authentication", who.Method))
	} else {
		attrs = append(attrs, slog.String("caller", unknown), slog.String("remote_address", r.RemoteAddr))
	}
	answerRefusal(w, err)
	s.cfg.Exchange.Refused(r.Context(), at, observation, refusal, append(attrs, further...)...)
}

const unknown = "unknown"

func asRefusal(err error) *exchange.Refusal {
	var (
		refusal   *exchange.Refusal
		caller    *caller.Refusal
		malformed *tokenexchange.Error
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &caller):
		return &exchange.Refusal{Answer: &caller.Answer, Reason: exchange.Reason(caller.Reason), Cause: caller.Cause}
	case errors.As(err, &malformed):
		return &exchange.Refusal{Answer: malformed, Reason: reasonRequest}
	}
	return &exchange.Refusal{
		Answer: &tokenexchange.Error{Code: tokenexchange.ErrorServerError, Status: http.StatusInternalServerError},
		Reason: exchange.ReasonFault,
		Cause:  err,
	}
}
