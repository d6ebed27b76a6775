package exchange

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/tokenexchange"
)

// issue makes the exchanged token, here or at the identity provider.
func (x *Exchanger) issue(ctx context.Context, st *state, c *caller, subject *oauth.Introspection, who acting, grant *policy.Grant, req *Request, now time.Time) (*Issued, error) {
	out := &Issued{record: record{
		at: now, issue: grant.Issue, rules: grant.Rules, audience: grant.Audience, from: x.originOf(subject),
	}, Scope: own(grant.Scope), end: subject.Expiry}
	if !who.expiry.IsZero() {
		out.end = earlier(out.end, who.expiry)
	}
	var err error
	if grant.Issue == policy.IDP {
		err = delegate(ctx, out, st.provider[grant.Audience[0]], x.cfg.Issuer, subject, grant, req, now)
	} else {
		err = x.mint(out, c, subject, who.act, grant, now)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// mint signs the token here.
func (x *Exchanger) mint(out *Issued, c *caller, subject *oauth.Introspection, act json.RawMessage, grant *policy.Grant, now time.Time) error {
	out.Expiry = earlier(now.Add(grant.Lifetime), out.end).Truncate(time.Second)
	out.record.id, out.record.act = rand.Text(), act
	extra := make(map[string]any, len(grant.Claims)+3)
	// No policy maps the next three.
	extra["act"] = act
	if !subject.HasUser() {
		// Whoever gets the token sees it as it was here: a server behind must not take the
		// client for a user because another client shows the token.
		extra[claimGrant] = grantOfClient
	}
	if may, present := subject.Claims["may_act"]; present {
		extra["may_act"] = may // binds the next exchange too, here or elsewhere
	}
	for name, from := range grant.Claims {
		if value := subject.Claims[from]; value != nil {
			extra[name] = value
		}
	}
	var err error
	out.Token, err = x.cfg.Keys.Ring().Mint(keyring.Token{
		Issuer:   x.cfg.Issuer,
		Subject:  subject.Subject,
		Audience: grant.Audience,
		ClientID: c.ID,
		IssuedAt: now,
		Expiry:   out.Expiry,
		ID:       out.record.id,
		Scope:    out.Scope,
		Extra:    extra,
	})
	if err != nil {
		return fault(ReasonFault, fmt.Errorf("minting exchanged token: %w", err))
	}
	return nil
}

// claimGrant and grantOfClient say that a token was issued to a client without a user, in the
// words of a provider that does so; oauth.Introspection.HasUser knows them.
const (
	claimGrant    = "gty"
	grantOfClient = "client-credentials"
)

// own is a copy that shares no memory with the request, whose body would be kept with it.
func own(scope oauth.Scopes) oauth.Scopes {
	if len(scope) == 0 {
		return nil
	}
	out := make(oauth.Scopes, len(scope))
	for i, s := range scope {
		out[i] = strings.Clone(s)
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// delegate has the identity provider issue the token. It decides itself who acts: the chain
// of actors is not in its tokens.
func delegate(ctx context.Context, out *Issued, target *delegation.Target, issuer string, subject *oauth.Introspection, grant *policy.Grant, req *Request, now time.Time) error {
	switch {
	case req.ActorToken != "":
		return refuse(ReasonActorToken, tokenexchange.ErrorInvalidRequest, "actor_token was not accepted: tokens for this audience come from the identity provider (issue: idp), which knows no actors")
	case subject.Issuer == issuer:
		return invalidSubject(ReasonProvider, "tokens for this audience come from the identity provider (issue: idp), which does not take a token of this service for an exchange")
	}
	token, err := target.Exchange(ctx, delegation.Request{SubjectToken: req.SubjectToken, Subject: subject, Scope: grant.Scope})
	if err != nil {
		return delegationRefused(err)
	}
	out.Token, out.record.id = token.AccessToken, token.ID
	// The token may say that it lives longer than the policy wants, but nobody gets it from
	// here any more.
	out.Expiry = earlier(earlier(token.Expiry, out.end), now.Add(grant.Lifetime))
	return nil
}

// delegationRefused says what a refusal of the provider means for the caller. Words about
// settings are for the log.
func delegationRefused(err error) error {
	var e *delegation.Error
	if !errors.As(err, &e) {
		return fault(ReasonProvider, err)
	}
	const name = "the identity provider"
	var r *Refusal
	switch e.Kind {
	case delegation.KindSubject:
		r = invalidSubject(ReasonProvider, name+" does not take it for an exchange: revoked, expired, or of a kind it cannot exchange")
	case delegation.KindScope:
		r = refuse(ReasonProvider, tokenexchange.ErrorInvalidScope, name+" does not grant the scopes for this token")
	case delegation.KindTarget:
		r = refuse(ReasonProvider, tokenexchange.ErrorInvalidTarget, name+" refuses the target for this token")
	case delegation.KindPolicy:
		r = refuse(ReasonProvider, tokenexchange.ErrorUnauthorizedClient, name+" does not let this token be exchanged")
	case delegation.KindUnavailable:
		return unavailable(ReasonProvider, name+" does not answer at the moment", e.RetryAfter, e)
	default:
		r = fault(ReasonProvider, e)
		r.Answer.Description = name + " gave no token that can be used; the log of the sidecar says why"
		return r
	}
	r.Cause = e
	return r
}
