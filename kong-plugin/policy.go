package main

import (
	"fmt"
	"net/url"
	"strings"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/oauth"
)

// claimOrganization is the claim whose absence has a reason of its own.
const claimOrganization = "org_id"

// tokenPolicy says what an access token must satisfy.
func (c *Config) tokenPolicy(p *problems) gate.TokenPolicy {
	t := c.Token
	policy := gate.TokenPolicy{
		Issuer:             t.Issuer,
		Audiences:          t.Audience,
		Scopes:             p.scopes("scope", c.Scope),
		AllowWithoutUser:   t.AllowWithoutUser,
		ClientsWithoutUser: t.ClientsWithoutUser,
		Leeway:             seconds(t.LeewaySeconds),
		MaxLength:          t.MaxLength,
	}
	check := c.audienceCheck()
	p.oneOf("token.audience_check", check, audienceRequired, audienceWhenPresent, audienceOff)
	policy.AudienceCheck = map[string]gate.AudienceCheck{
		audienceWhenPresent: gate.AudienceWhenPresent,
		audienceOff:         gate.AudienceOff,
	}[check] // anything else requires
	if t.Issuer != "" {
		p.issuer("token.issuer", t.Issuer)
	}
	if t.InternalURL != "" {
		p.transport("token.internal_url", t.InternalURL)
		if u, err := url.Parse(t.InternalURL); err == nil && strings.TrimSuffix(t.InternalURL, "/") != u.Scheme+"://"+u.Host {
			p.add("token.internal_url", "expected scheme, host and port alone, got more")
		}
		if t.Issuer == "" {
			p.add("token.internal_url", "expected together with token.issuer, which is reached there, got it alone")
		}
	}
	if t.JWKSURI != "" {
		p.transport("token.jwks_uri", t.JWKSURI)
		if t.Issuer == "" {
			p.add("token.jwks_uri", "expected together with token.issuer, whose keys these are, got it alone")
		}
	}
	p.between("token.leeway_seconds", t.LeewaySeconds, 0, 60)
	p.between("token.max_length", t.MaxLength, 64, 65536)
	p.notEmpty("token.audience", t.Audience)
	p.notEmpty("token.clients_without_user", t.ClientsWithoutUser)
	for i, required := range t.RequiredClaims {
		field := fmt.Sprintf("token.required_claims[%d]", i+1)
		if required.Claim == "" {
			p.add(field+".claim", "expected the name of a claim, got nothing")
		}
		p.notEmpty(field+".values", required.Values)
		reason := required.Reason
		if reason == "" {
			reason = defaultReason(required.Claim)
		}
		p.check(field+".reason", oauth.CheckDescription(reason))
		policy.RequiredClaims = append(policy.RequiredClaims, gate.RequiredClaim{
			Claim: required.Claim, Values: required.Values, Reason: reason,
		})
	}
	return policy
}

func defaultReason(claim string) string {
	if claim == claimOrganization {
		return "User has no organization"
	}
	return "Access token missing " + claim + " claim"
}
