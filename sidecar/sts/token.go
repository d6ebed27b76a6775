package sts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// serveToken answers one token request and logs the decision.
func (s *Service) serveToken(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	ev := &event{started: s.cfg.Now(), remote: r.RemoteAddr}
	res, err := s.exchange(ctx, w, r, ev)
	if err != nil {
		s.refuse(ctx, w, ev, err)
		return
	}
	s.grant(ctx, w, ev, res)
}

// exchange is the flow: request → caller → subject → policy → exchanged token. Every error
// is a *refusal or a fault of ours. There is one "now", ev.started: a second one could
// find a token expired that the first one found good.
func (s *Service) exchange(ctx context.Context, w http.ResponseWriter, r *http.Request, ev *event) (*tokenexchange.Response, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	caller, err := s.authenticate(r, form)
	if err != nil {
		return nil, err
	}
	ev.caller = caller

	req, err := tokenexchange.ParseRequest(form)
	if err != nil {
		return nil, err
	}
	ev.received(caller, &req)
	if err := checkTypes(&req); err != nil {
		return nil, err
	}

	subject, err := s.verify(ctx, caller, req.SubjectToken, ev.started)
	if err != nil {
		return nil, err
	}
	ev.subject = subject
	if err := s.checkMayAct(caller, subject); err != nil {
		return nil, err
	}

	granted, err := s.decide(caller, subject, &req)
	if err != nil {
		return nil, err
	}
	ev.scope = granted.scope
	return s.issue(caller, subject, granted, &req, ev)
}

// issue mints the exchanged token.
func (s *Service) issue(caller *client, subject *oauth.Introspection, granted *grant, req *tokenexchange.Request, ev *event) (*tokenexchange.Response, error) {
	act, err := s.actor(caller, subject)
	if err != nil {
		return nil, err
	}
	ev.actor = act
	now := ev.started
	expiry := now.Add(s.cfg.Lifetime)
	if subject.Expiry.Before(expiry) {
		expiry = subject.Expiry
	}
	expiry = expiry.Truncate(time.Second)
	extra := make(map[string]any, len(granted.claims))
	for _, name := range granted.claims {
		if value := subject.Claims[name]; value != nil {
			extra[name] = value
		}
	}
	ev.issuedID = newID()
	token, err := s.cfg.Ring.Mint(keyring.Token{
		Issuer:   s.cfg.Issuer,
		Subject:  subject.Subject,
		Audience: granted.audience,
		ClientID: caller.ID,
		IssuedAt: now,
		Expiry:   expiry,
		ID:       ev.issuedID,
		Scope:    granted.scope,
		Actor:    act,
		Extra:    extra,
	})
	if err != nil {
		return nil, fmt.Errorf("minting exchanged token: %w", err)
	}
	res := &tokenexchange.Response{
		AccessToken:     token,
		IssuedTokenType: tokenexchange.TokenTypeAccessToken,
		TokenType:       tokenexchange.Bearer, // also as jwt: what is issued is an access token
		ExpiresIn:       expiry.Sub(now),
	}
	if req.RequestedTokenType != "" {
		res.IssuedTokenType = req.RequestedTokenType
	}
	if len(granted.scope) > 0 && !slices.Equal(granted.scope, req.Scope) {
		res.Scope = granted.scope // RFC 6749 §5.1: where it differs from what was asked for
	}
	return res, nil
}

// refuse turns an error of exchange into an answer. The default is server_error without a
// word: what we did not foresee is not for the caller.
func (s *Service) refuse(ctx context.Context, w http.ResponseWriter, ev *event, err error) {
	var (
		ref       *refusal
		malformed *tokenexchange.Error
	)
	switch {
	case errors.As(err, &ref):
	case errors.As(err, &malformed):
		ref = &refusal{answer: malformed, reason: reasonRequest}
	default:
		ref = &refusal{
			answer: &tokenexchange.Error{Code: tokenexchange.ErrorServerError, Status: http.StatusInternalServerError},
			reason: reasonFault,
			cause:  err,
		}
	}
	writeRefusal(w, ref.answer)
	s.logRefusal(ctx, ev, ref)
}
