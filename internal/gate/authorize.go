package gate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// authorize is the verdict on a token at the time now. It is a pure function and runs on
// every request, so that one cached answer serves routes of different policy.
//
// Order (RFC 6750 §3.1; causes of 401 win over causes of 403): active, kind, issuer,
// dates, audience, binding, required claims, scope, user.
func authorize(in *oauth.Introspection, cfg *Config, res *resource, now time.Time) *refusal {
	policy := &cfg.Token
	if !in.Active {
		return invalidToken("token is not active")
	}
	if kind := tokenKind(in); kind != "" {
		return invalidToken(kind)
	}
	if !issuerAccepted(in.Issuer, policy.Issuer, cfg.Metadata.AuthorizationServers) {
		return invalidToken(fmt.Sprintf("issuer is %q, which is neither token.issuer nor one of authorization_servers", in.Issuer))
	}
	switch {
	case !in.Expiry.IsZero() && !now.Before(in.Expiry):
		return invalidToken("token has expired")
	case in.NotBefore.After(now.Add(policy.Leeway)):
		return invalidToken("token is not valid yet")
	case in.IssuedAt.After(now.Add(policy.Leeway)):
		return invalidToken("token was issued in the future")
	}
	if refusal := checkAudience(in.Audience, policy, res); refusal != nil {
		return refusal
	}
	// A bound token is worth nothing without its proof (RFC 9449 §7.2, RFC 8705 §3), and
	// this gateway cannot check one yet.
	if in.Claims["cnf"] != nil {
		return invalidToken("token is bound to a key (cnf) and came as a bearer token")
	}
	for i := range policy.RequiredClaims {
		if c := &policy.RequiredClaims[i]; !c.satisfied(in.Claims) {
			return &refusal{
				err: &oauth.Error{
					Code: oauth.ErrorInvalidToken, Description: c.Reason, Status: http.StatusUnauthorized,
				},
				cause: fmt.Sprintf("required claim %q is missing or has another value", c.Claim),
			}
		}
	}
	if !in.Scope.Contains(policy.Scopes) {
		return insufficientScope(policy.Scopes, in.Scope)
	}
	if !in.HasUser() && !policy.AllowWithoutUser && !slices.Contains(policy.ClientsWithoutUser, in.ClientID) {
		return denied(
			fmt.Sprintf("token of client %q has no user (token.allow_without_user, token.clients_without_user)", in.ClientID),
			"A token that was issued to a client without a user is not accepted here")
	}
	return nil
}

// tokenKind says why the answer is not about a bearer access token, or "".
func tokenKind(in *oauth.Introspection) string {
	switch strings.ToLower(in.TokenType) {
	case "", "bearer", "access_token":
	default:
		return fmt.Sprintf("token_type is %q, expected Bearer", in.TokenType)
	}
	typ, _ := in.Claims["typ"].(string)
	switch strings.ToLower(typ) {
	case "refresh", "offline", "id", "logout":
		return fmt.Sprintf("typ is %q, expected an access token", typ)
	}
	use, _ := in.Claims["token_use"].(string)
	switch use {
	case "refresh_token", "refresh", "id_token", "id":
		return fmt.Sprintf("token_use is %q, expected an access token", use)
	}
	return ""
}

// issuerAccepted compares byte by byte. An answer without iss is accepted: it came from
// the configured endpoint.
func issuerAccepted(iss, configured string, published []string) bool {
	switch {
	case iss == "", configured == "" && len(published) == 0:
		return true
	case configured != "":
		return iss == configured
	default:
		return slices.Contains(published, iss)
	}
}

// checkAudience is what keeps a token for one server from opening another (MCP access
// token privilege restriction, RFC 8707 §2).
func checkAudience(audience []string, policy *TokenPolicy, res *resource) *refusal {
	switch {
	case policy.AudienceCheck == AudienceOff:
		return nil
	case len(audience) == 0 && policy.AudienceCheck == AudienceWhenPresent:
		return nil
	case len(audience) == 0:
		return invalidToken("answer has no audience (token.audience_check is required)")
	case res == nil && len(policy.Audiences) == 0:
		return misconfigured("resource: expected a URL, since the route has no hosts to derive it from, got none; set resource or token.audience, or switch token.audience_check off")
	}
	if named(audience, policy, res) {
		return nil
	}
	expected := strings.Join(policy.Audiences, " ")
	if res != nil {
		expected = res.id.String()
	}
	return invalidToken(fmt.Sprintf("audience is %q, expected %q", audience, expected))
}

// named reports whether audience names the resource, or a name that stands for it.
func named(audience []string, policy *TokenPolicy, res *resource) bool {
	return slices.ContainsFunc(audience, func(aud string) bool {
		return res != nil && res.id.Matches(aud) || slices.Contains(policy.Audiences, aud)
	})
}

func (c *RequiredClaim) satisfied(claims map[string]any) bool {
	value := lookup(claims, c.Claim)
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, c.accepts)
	}
	return c.accepts(value)
}

func (c *RequiredClaim) accepts(value any) bool {
	var text string
	switch v := value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	case bool:
		if !v && len(c.Values) == 0 {
			return false // a claim that says no
		}
		text = fmt.Sprint(v)
	case map[string]any:
		return len(v) > 0 && len(c.Values) == 0
	}
	if text == "" {
		return false
	}
	return len(c.Values) == 0 || slices.Contains(c.Values, text)
}

// lookup finds a member by name, or by a path of names joined by dots. A member whose own
// name holds dots (as URLs do) is found by its whole name first.
func lookup(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	head, rest, nested := strings.Cut(path, ".")
	if !nested {
		return nil
	}
	inner, _ := claims[head].(map[string]any)
	return lookup(inner, rest)
}
