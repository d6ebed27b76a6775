package doctor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/oauth"
)

// unknownToken shows a token that nobody issued. The answer tells whether the gateway can
// ask its identity provider, without needing a real one.
func (v *visit) unknownToken(ctx context.Context, s *Step) {
	a := v.call(ctx, http.MethodPost, "Bearer doctor-"+rand.Text())
	got := a.String()
	if code := a.errorOf(); code != "" {
		got += " " + code
	}
	c := bearer(parseChallenges(a.header.Values("WWW-Authenticate")))
	switch {
	case a.err == nil && a.status == http.StatusUnauthorized && c.get("error") == oauth.ErrorInvalidToken:
		s.Seen = "401 invalid_token"
		return
	case a.err == nil && a.status == http.StatusUnauthorized && c == nil && v.challenge == nil:
		s.Seen = got + ", without a challenge as before"
	case a.err == nil && a.status == http.StatusUnauthorized:
		s.fault("BT-05", got+fmt.Sprintf(", challenge %q", a.header.Values("WWW-Authenticate")), `401 with error="invalid_token": clients renew their token then`, "let the plugin's answer pass unchanged")
	case a.err == nil && a.status < 300:
		s.fault("MCP-15", got, "401 invalid_token", "put the plugin on the route: any text is a good token now")
	default:
		v.trouble(s, a, got)
	}
}

// trouble explains an answer that is neither yes nor no.
func (v *visit) trouble(s *Step, a answer, got string) {
	switch {
	case a.err == nil && a.status == http.StatusServiceUnavailable:
		s.fault("IN-08", got, "an answer about the token: the gateway cannot ask the identity provider",
			"see \"introspecting the access token\" in Kong's log: introspection_endpoint, client_id and client_secret (a wrong secret is this too), verify_ssl, introspection.ca_file, introspection.timeout_seconds")
	case a.err == nil && a.status == http.StatusInternalServerError:
		s.fault("MCP-35", got, "401 invalid_token", "see Kong's log for \"plugin configuration cannot work\"; phantom-token check finds the field")
	case a.err == nil && a.status == http.StatusTooManyRequests:
		s.fault("MCP-20", got, "an answer about the token", "wait a minute: many bad tokens came from this address (introspection.failures_per_minute; behind a proxy, Kong's trusted_ips)")
	default:
		s.fault("MCP-20", got, "401 invalid_token: clients do nothing useful with anything else", "see who answers: the plugin would say 401")
	}
}

// token tries the token that was given.
func (v *visit) token(ctx context.Context, s *Step) {
	switch {
	case v.cfg.Token == "":
		s.skip("none given; -token-file takes one")
		return
	case v.distrusted:
		s.skip("not sent: the certificate is bad")
		return
	case v.url.Scheme != "https" && !oauth.IsLoopbackHost(v.url.Hostname()):
		s.skip("not sent: the connection is not encrypted")
		return
	}
	a := v.call(ctx, http.MethodPost, "Bearer "+v.cfg.Token)
	got := a.String()
	if code := a.errorOf(); code != "" {
		got += " " + code
	}
	c := bearer(parseChallenges(a.header.Values("WWW-Authenticate")))
	switch {
	case a.err != nil:
		s.fault("MCP-20", got, "an answer", "see the gateway's log")
	case a.status < 300:
		s.Seen = got + ": the token opens the server"
	case a.status == http.StatusUnauthorized:
		v.rejected(s, got)
	case a.status == http.StatusForbidden && c.get("error") == oauth.ErrorInsufficientScope:
		s.fault("MCP-11", got, "a token with the scopes "+c.get("scope"),
			"ask for these scopes when you log in; if the client did, see whether the authorization server grants them to it")
	case a.status == http.StatusForbidden:
		s.fault("CH-19", got, "a token that may pass: this one is good and refused by policy",
			"if it belongs to a client without a user: token.allow_without_user or token.clients_without_user; else acl, ip-restriction or the MCP server itself")
	case a.status == http.StatusServiceUnavailable, a.status == http.StatusInternalServerError, a.status == http.StatusTooManyRequests:
		v.trouble(s, a, got)
	case a.status == http.StatusBadGateway, a.status == http.StatusGatewayTimeout:
		s.fault("MCP-35", got, "an answer of the MCP server: the token is accepted, the way behind the gateway is broken", "see whether the service in Kong is up and its url is right")
	case a.status == http.StatusBadRequest && c != nil:
		s.fault("BT-06", got, "a token alone, without \"Bearer\" and without blanks", "give the access token itself")
	default:
		s.Seen = got + ": the token is accepted, the answer is the MCP server's own"
	}
}

// rejected looks into a token that the gateway calls invalid. One text stands for all
// causes there; if the token can be read, it may tell more.
func (v *visit) rejected(s *Step, got string) {
	claims := readable(v.cfg.Token)
	before := len(s.Faults)
	if claims != nil {
		if exp, ok := claims["exp"].(float64); ok && v.cfg.Now().Unix() >= int64(exp) {
			s.fault("MCP-20", got+"; the token expired at "+time.Unix(int64(exp), 0).UTC().Format(time.DateTime), "a token that is valid", "get a new token")
		}
		audience := texts(claims, "aud")
		if one := text(claims, "aud"); one != "" {
			audience = []string{one}
		}
		switch {
		case len(audience) == 0:
			s.fault("MCP-15", got+"; the token has no aud", v.cfg.URL+" in aud",
				"have the authorization server put the audience in (Keycloak: an audience mapper on the scope), or set token.audience_check")
		case !slices.ContainsFunc(audience, v.id.Matches):
			s.fault("MCP-15", fmt.Sprintf("%s; aud is %q", got, audience), v.cfg.URL+" in aud", "log in with resource="+v.cfg.URL+", or name the audience in token.audience")
		}
		issuers := texts(v.document, "authorization_servers")
		if issuer := text(claims, "iss"); issuer != "" && len(issuers) > 0 && !slices.Contains(issuers, issuer) {
			s.fault("MCP-53", got+"; the issuer is "+issuer, "one of "+strings.Join(issuers, " "), "get a token from the authorization server that the metadata names")
		}
	}
	if len(s.Faults) == before {
		s.fault("MCP-20", got, "an answer of the MCP server",
			"the gateway's log line of this refusal says why (cause): not active (expired, revoked, or client_id may not see it), audience is not "+v.cfg.URL+", issuer, a required claim")
	}
}

// readable returns the claims of a JWT without any verification, nil for other tokens.
func readable(token string) map[string]any {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims
}
