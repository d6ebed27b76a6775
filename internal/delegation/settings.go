package delegation

import (
	"errors"
	"fmt"
)

// Settings are the names under which the operator knows what the texts of an [Error] speak
// of. All are required.
type Settings struct {
	Subject     string // what is exchanged, for example "access token"
	ClientID    string // our client at the provider
	Credentials string // all that proves who we are, as a list in words
	Endpoint    string // URL of the token endpoint
	Issuer      string // issuer of the exchanged token
	Keys        string // key set of the issuer
	Issue       string // the choice of this way to a token; "mint" is the other one
	Audience    string // audience that is asked for
	Scope       string // scopes that are asked for
}

func (s *Settings) check() error {
	for _, name := range []string{s.Subject, s.ClientID, s.Credentials, s.Endpoint, s.Issuer, s.Keys, s.Issue, s.Audience, s.Scope} {
		if name == "" {
			return errors.New("expected the names of all settings, got an empty one")
		}
	}
	return nil
}

// text says what a refusal means and what to change.
func (s *Settings) text(r reason) string {
	switch r {
	case refusedSubject:
		return fmt.Sprintf("the provider does not take the %s for an exchange: revoked or expired since it was checked, or of a kind it cannot exchange", s.Subject)
	case refusedScope:
		return fmt.Sprintf("%s: the provider refuses the scopes to %s for this token", s.Scope, s.ClientID)
	case narrowedScope:
		return fmt.Sprintf("%s: the provider grants less than it was asked for; let %s have these scopes there", s.Scope, s.ClientID)
	case refusedTarget:
		return fmt.Sprintf("%s: the provider refuses it to %s for this token", s.Audience, s.ClientID)
	case refusedByPolicy:
		return fmt.Sprintf("the provider does not let %s exchange this token", s.ClientID)
	case outsideAudience:
		return fmt.Sprintf("%s is not in the audience of the %s, so the provider does not let it exchange the token; have it added there (Keycloak: an audience mapper, switched on for lightweight tokens too)", s.ClientID, s.Subject)
	case wrongCredentials:
		return fmt.Sprintf("the provider refuses our own credentials at its token endpoint; check %s", s.Credentials)
	case wrongEndpoint:
		return fmt.Sprintf("%s: expected an endpoint of RFC 8693, got something else; check it, or what %s says", s.Endpoint, s.Issuer)
	case neverSent:
		return fmt.Sprintf("expected %s and %s with which an exchange can be asked for, got a malformed request", s.Audience, s.Scope)
	case unknownAudience:
		return fmt.Sprintf("%s: the provider knows no such audience; correct it, or make it known there (Keycloak: a client of this id)", s.Audience)
	case unreachableAudience:
		return fmt.Sprintf("%s: the scopes that are asked for do not lead to this audience; add an audience mapper to one of them, or correct %s", s.Audience, s.Scope)
	case noExchange:
		return fmt.Sprintf("%s: the provider knows no token exchange; switch it on there, or choose mint", s.Issue)
	case notEnabled:
		return fmt.Sprintf("%s: the provider does not let %s exchange tokens; switch it on there (Keycloak: standard token exchange of the client)", s.Issue, s.ClientID)
	case notUnderstood:
		return fmt.Sprintf("%s: the provider does not understand the request; its token exchange is not that of RFC 8693", s.Issue)
	case echoed:
		return fmt.Sprintf("%s: the provider answers the exchange with a token that must not go upstream", s.Issue)
	case unacceptable:
		return "the provider answers the exchange with something that must not be used"
	default:
		return fmt.Sprintf("the provider cannot be asked for an exchange now; if that lasts, check %s", s.Endpoint)
	}
}
