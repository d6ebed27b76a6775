package sts

import (
	"fmt"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// grant is what the policy gives: no target, scope or claim that is not configured for the
// caller, no scope that the subject token lacks.
type grant struct {
	audience []string
	scope    oauth.Scopes
	claims   []string // names that may be copied
}

// decide applies the configuration of the caller to its request.
func (s *Service) decide(caller *client, subject *oauth.Introspection, req *tokenexchange.Request) (*grant, error) {
	if len(caller.Audiences) == 0 {
		return nil, refuse(reasonUnauthorized, tokenexchange.ErrorUnauthorizedClient,
			"client "+quote(caller.ID)+" may not exchange tokens: "+targetSetting(caller.index, 0, "NAME")+" is not set")
	}
	targets, err := caller.find(req)
	if err != nil {
		return nil, err
	}
	out := new(grant)
	var configured oauth.Scopes
	for i, t := range targets {
		audience := &caller.Audiences[t]
		out.audience = append(out.audience, audience.Name)
		if i == 0 {
			configured, out.claims = audience.Scopes, audience.Claims
			continue
		}
		// One token for several targets: each of them sees all of it, so it has only what every
		// one may see.
		configured = configured.Intersect(audience.Scopes)
		out.claims = intersect(out.claims, audience.Claims)
	}
	if out.scope, err = caller.scope(targets, configured, subject.Scope, req.Scope); err != nil {
		return nil, err
	}
	return out, nil
}

// find maps audience and resource parameters to configured targets. They are compared byte
// by byte (RFC 8707 §2 leaves the mapping to us; anything looser would have to guess).
func (c *client) find(req *tokenexchange.Request) ([]int, error) {
	var targets []int
	for _, name := range slices.Concat(req.Audience, req.Resource) {
		t, ok := c.targets[name]
		if !ok {
			return nil, refuse(reasonTarget, tokenexchange.ErrorInvalidTarget,
				fmt.Sprintf("target %s is not configured for client %s: expected one of %s; a new one goes into %s",
					quote(name), quote(c.ID), quoteAll(c.names()), targetSetting(c.index, len(c.Audiences), "NAME")))
		}
		if !slices.Contains(targets, t) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, refuse(reasonTarget, tokenexchange.ErrorInvalidTarget,
			"parameter 'audience' or 'resource' is missing: expected one of "+quoteAll(c.names()))
	}
	return targets, nil
}

func (c *client) names() []string {
	names := make([]string, len(c.Audiences))
	for i := range c.Audiences {
		names[i] = c.Audiences[i].Name
	}
	return names
}

// scope is requested ∩ granted ∩ configured. A scope that was asked for and cannot be had
// is an error rather than left out: the caller would find out at the API only.
func (c *client) scope(targets []int, configured, granted oauth.Scopes, requested []string) (oauth.Scopes, error) {
	var settings []string
	for _, t := range targets {
		settings = append(settings, targetSetting(c.index, t, "SCOPES"))
	}
	where := strings.Join(settings, ", ")
	for _, scope := range requested {
		if !slices.Contains(configured, scope) {
			return nil, refuse(reasonScope, tokenexchange.ErrorInvalidScope,
				fmt.Sprintf("scope %s is not configured for the target: expected one of %s; a new one goes into %s", quote(scope), quoteAll(configured), where))
		}
		if !slices.Contains(granted, scope) {
			return nil, refuse(reasonScope, tokenexchange.ErrorInvalidScope,
				fmt.Sprintf("scope %s is not granted to the subject token: expected one of %s; the user has to authorize it first", quote(scope), quoteAll(granted)))
		}
	}
	if len(requested) > 0 {
		return requested, nil
	}
	// Each target is asked by itself: together they may have no scope in common, and a user
	// who granted nothing for a target must not reach it in the company of another.
	scoped := false
	for _, t := range targets {
		own := c.Audiences[t].Scopes
		if len(own) == 0 {
			continue
		}
		scoped = true
		if len(granted.Intersect(own)) == 0 {
			return nil, refuse(reasonScope, tokenexchange.ErrorInvalidScope,
				fmt.Sprintf("the subject token has none of the scopes configured for the target: expected one of %s (%s), got %s", quoteAll(own), targetSetting(c.index, t, "SCOPES"), quoteAll(granted)))
		}
	}
	scope := granted.Intersect(configured)
	if scoped && len(scope) == 0 {
		return nil, refuse(reasonScope, tokenexchange.ErrorInvalidScope,
			fmt.Sprintf("the subject token has no scope that is configured for every target (%s): ask for one target at a time", where))
	}
	return scope, nil
}

func intersect(a, b []string) []string {
	var out []string
	for _, v := range a {
		if slices.Contains(b, v) {
			out = append(out, v)
		}
	}
	return out
}
