package policy

import (
	"strings"

	"phantomtoken/internal/oauth"
)

// reserved reports whether a claim can neither be copied from a subject token nor be written
// into an issued one: it says something about the token, not about the user; or it would
// bind the issued one to a key that the caller does not have (cnf); or it grants something
// beside scope, unbounded by the target (scp, permissions, authorization_details); or it says
// that there is no user (gty), which is for this service to say. Some
// readers do not mind the case of names.
func reserved(claim string) bool {
	switch strings.ToLower(claim) {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "act", "may_act", "cnf", "active",
		"scope", "scp", "permissions", "authorization_details", "gty":
		return true
	}
	return false
}

// audiences reads what can be reached. All names are known before references are looked at.
func (b *builder) audiences(list *value) {
	b.unknown = list != nil && list.void
	for _, v := range list.all() {
		a := &audience{path: v.path, broken: v.broken, lines: lines(v.get("scopes")), issueLine: v.get("issue").at()}
		a.Audience = Audience{
			Name:          v.name,
			Resources:     v.get("resources").texts(),
			Issue:         Issue(v.get("issue").string()),
			TokenLifetime: b.policy.limits.TokenLifetime,
			Scopes:        oauth.Scopes(v.get("scopes").texts()),
			Line:          v.line,
		}
		b.policy.audiences = append(b.policy.audiences, a)
		b.keys = append(b.keys, a.Name)
		b.name(v.place, v.name, named{a, true, v.line})
		b.lifetime(a, v.get("token_lifetime"))
		b.claims(a, v.get("claims"))
	}
	for i, v := range list.all() {
		for _, resource := range v.get("resources").all() {
			a := b.policy.audiences[i]
			b.name(resource.shown, resource.text, named{a, false, resource.line})
			b.policy.resources[resource.text] = a.Name
		}
	}
}

// name takes a name for one audience: a request for it must not be open to two readings.
func (b *builder) name(at place, name string, n named) {
	if first, twice := b.names[name]; twice {
		b.add(at, "expected a name that no other audience or resource has, got that of line %d", first.line)
		return
	}
	b.names[name] = n
}

func (b *builder) lifetime(a *audience, v *value) {
	if v == nil {
		return
	}
	a.TokenLifetime, a.lifetimeLine = v.span, v.line
	if most := b.policy.limits.TokenLifetime; !v.broken && most > 0 && v.span > most {
		b.add(v.shown, "expected at most limits.token_lifetime (%s), got %s", short(most), short(v.span))
	}
}

func (b *builder) claims(a *audience, list *value) {
	if list == nil {
		return
	}
	if a.Issue == IDP && len(list.items) > 0 {
		b.add(list.place, "expected no claims with issue: idp, got some: which claims its tokens have is configured at the identity provider")
	}
	a.Claims, a.claimLines = make(map[string]string, len(list.items)), make(map[string]int, len(list.items))
	for _, claim := range list.items {
		if reserved(claim.name) {
			b.add(claim.place, "expected the name of a claim about the user, got %s, which cannot be issued by a policy", quote(claim.name))
		}
		if reserved(claim.text) {
			b.add(claim.shown, "expected the name of a claim about the user, got %s, which is never copied", quote(claim.text))
		}
		a.Claims[claim.name], a.claimLines[claim.name] = claim.text, claim.line
	}
}
