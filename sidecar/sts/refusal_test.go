package sts_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// TestRefusals has every way in which a request is refused, with the exact answer. {url} and
// {phantom} stand for the two issuers.
//
// Covers: TX-30, TX-31, TX-32, TX-33, TX-34, TX-35, TX-38, TX-40, TX-42, RI-01, RI-02, RI-04, BC-01, BC-04, BC-09
func TestRefusals(t *testing.T) {
	const (
		sources  = " (TOKEN_EXCHANGE_SUBJECT_ISSUER, subject_audience of callers.mcp-server)"
		subject  = "subject_token was not accepted: "
		wrongOne = "expected the id and secret of a configured caller (authentication.secret_files or secret_variables in the policy file); with client_secret_basic both are form-encoded before base64"
		targets  = "expected one of 'https://api.demo.example', 'https://ORDERS.example/v1/', 'reports'"
	)
	set := func(name, value string) func(*world, *http.Request, url.Values) {
		return func(_ *world, _ *http.Request, f url.Values) { f.Set(name, value) }
	}
	add := func(name, value string) func(*world, *http.Request, url.Values) {
		return func(_ *world, _ *http.Request, f url.Values) { f.Add(name, value) }
	}
	minted := func(change func(*keyring.Token)) func(*world, *http.Request, url.Values) {
		return func(w *world, _ *http.Request, f url.Values) { f.Set("subject_token", w.mint(change)) }
	}
	basic := func(value string) func(*world, *http.Request, url.Values) {
		return func(_ *world, r *http.Request, _ url.Values) { r.Header.Set("Authorization", value) }
	}
	encoded := func(credentials string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
	}
	deep := func(n int) map[string]any {
		act := map[string]any{"sub": "first"}
		for range n - 1 {
			act = map[string]any{"sub": "next", "act": act}
		}
		return act
	}
	for _, tc := range []struct {
		name       string
		change     func(w *world, r *http.Request, f url.Values)
		status     int // 400 when 0
		code       string
		text       string // the whole description
		wantHeader http.Header
	}{
		// The request itself.
		{name: "GET", change: func(_ *world, r *http.Request, _ url.Values) { r.Method = http.MethodGet }, status: 405, code: "invalid_request",
			text: "expected method POST, got GET", wantHeader: http.Header{"Allow": {"POST"}}},
		{name: "PUT", change: func(_ *world, r *http.Request, _ url.Values) { r.Method = http.MethodPut }, status: 405, code: "invalid_request",
			text: "expected method POST, got PUT", wantHeader: http.Header{"Allow": {"POST"}}},
		{name: "JSON", change: func(_ *world, r *http.Request, _ url.Values) { r.Header.Set("Content-Type", "application/json") }, code: "invalid_request",
			text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "no content type", change: func(_ *world, r *http.Request, _ url.Values) { r.Header.Del("Content-Type") }, code: "invalid_request",
			text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "compressed body", change: func(_ *world, r *http.Request, _ url.Values) { r.Header.Set("Content-Encoding", "gzip") }, code: "invalid_request",
			text: "expected a body without Content-Encoding"},
		{name: "RejectsParametersInQuery", change: func(_ *world, r *http.Request, _ url.Values) { r.URL.RawQuery = "audience=" + apiAudience }, code: "invalid_request",
			text: "expected all parameters in the body, got a query"},
		{name: "body of 65 KiB", change: set("foo", strings.Repeat("x", 65<<10)), status: 413, code: "invalid_request",
			text: "expected a body of at most 65536 bytes"},
		{name: "no grant type", change: set("grant_type", ""), code: "invalid_request",
			text: "parameter 'grant_type' is missing: expected 'urn:ietf:params:oauth:grant-type:token-exchange'"},
		{name: "password grant", change: set("grant_type", "password"), code: "unsupported_grant_type",
			text: "parameter 'grant_type': expected 'urn:ietf:params:oauth:grant-type:token-exchange', got 'password'"},
		{name: "RejectsTwoSubjectTokens", change: add("subject_token", "x"), code: "invalid_request",
			text: "parameter 'subject_token': expected once, got it repeatedly"},
		{name: "RejectsTwoScopes", change: add("scope", "stocks/trade"), code: "invalid_request",
			text: "parameter 'scope': expected once, got it repeatedly"},
		{name: "RejectsRepeatedUnknownParameter", change: func(_ *world, _ *http.Request, f url.Values) { f["foo"] = []string{"1", "2"} }, code: "invalid_request",
			text: "parameter 'foo': expected once, got it repeatedly"},
		{name: "no subject token", change: set("subject_token", ""), code: "invalid_request",
			text: "parameter 'subject_token' is missing"},
		{name: "no subject token type", change: set("subject_token_type", ""), code: "invalid_request",
			text: "parameter 'subject_token_type' is missing: expected a token type identifier such as 'urn:ietf:params:oauth:token-type:access_token'"},

		// Who asks.
		{name: "no credentials", change: func(_ *world, r *http.Request, _ url.Values) { r.Header.Del("Authorization") }, status: 401, code: "invalid_client",
			text: "expected client authentication by client_secret_basic or client_secret_post, got none"},
		{name: "client id alone", change: func(_ *world, r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_id", mcpServer)
		}, status: 401, code: "invalid_client",
			text: "expected client authentication by client_secret_basic or client_secret_post, got none"},
		{name: "wrong secret", change: basic(encoded(mcpServer + ":wrong")), status: 401, code: "invalid_client", text: wrongOne},
		{name: "unknown client", change: basic(encoded("somebody:" + mcpSecret)), status: 401, code: "invalid_client", text: wrongOne},
		{name: "empty credentials", change: basic(encoded(":")), status: 401, code: "invalid_client", text: wrongOne},
		{name: "secret of another", change: basic(encoded(mcpServer + ":" + idleSecret)), status: 401, code: "invalid_client", text: wrongOne},
		{name: "wrong secret in the body", change: func(_ *world, r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_id", mcpServer)
			f.Set("client_secret", "wrong")
		}, status: 401, code: "invalid_client", text: wrongOne},
		{name: "secret without id", change: func(_ *world, r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_secret", mcpSecret)
		}, status: 401, code: "invalid_client", text: wrongOne},
		{name: "credentials not form-encoded", change: basic(encoded(otherServer + ":" + "100%")), status: 401, code: "invalid_client",
			text: "expected id and secret form-encoded before base64 (RFC 6749 section 2.3.1)"},
		{name: "no base64", change: basic("Basic ***"), status: 401, code: "invalid_client",
			text: "expected Basic credentials as base64 of id:secret"},
		{name: "no colon", change: basic(encoded("nothing")), status: 401, code: "invalid_client",
			text: "expected Basic credentials as base64 of id:secret"},
		{name: "RejectsBearerAsClientAuthentication", change: func(w *world, r *http.Request, _ url.Values) { r.Header.Set("Authorization", "Bearer "+w.mint(nil)) }, status: 401, code: "invalid_client",
			text: "expected the Authorization scheme Basic, got another"},
		{name: "client assertion", change: func(_ *world, r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_assertion", "MARKED.AS.SERTION")
			f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		}, status: 401, code: "invalid_client",
			text: "client_assertion was not accepted: expected a signed JWT of at most 16384 bytes with claim iss, got something else"},
		{name: "client assertion without type", change: func(_ *world, r *http.Request, f url.Values) {
			r.Header.Del("Authorization")
			f.Set("client_assertion", "MARKED.AS.SERTION")
		}, code: "invalid_request",
			text: "expected client_assertion and client_assertion_type, got one of them"},
		{name: "RejectsTwoMethods", change: func(_ *world, _ *http.Request, f url.Values) {
			f.Set("client_id", mcpServer)
			f.Set("client_secret", mcpSecret)
		}, code: "invalid_request",
			text: "expected one method of client authentication, got several"},
		{name: "RejectsBasicAndAssertion", change: set("client_assertion", "MARKED"), code: "invalid_request",
			text: "expected one method of client authentication, got several"},
		{name: "RejectsTwoAuthorizationFields", change: func(_ *world, r *http.Request, _ url.Values) { r.Header.Add("Authorization", "Basic x") }, code: "invalid_request",
			text: "expected one method of client authentication, got several"},
		{name: "RejectsTwoClientIDs", change: func(_ *world, _ *http.Request, f url.Values) { f["client_id"] = []string{mcpServer, otherServer} }, code: "invalid_request",
			text: "parameter 'client_id': expected once, got it repeatedly"},
		{name: "RejectsClientIDOfOtherCaller", change: set("client_id", otherServer), code: "invalid_request",
			text: "parameter 'client_id': expected the id of the Authorization field, got another"},
		{name: "client without audience", change: func(_ *world, r *http.Request, _ url.Values) { setBasic(r, idleServer, idleSecret) }, code: "unauthorized_client",
			text: "client 'idle-server' may not exchange tokens: callers.idle-server.audiences has none, callers.idle-server (line 24)"},

		// Token types.
		{name: "refresh token as subject", change: set("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), code: "invalid_request",
			text: "parameter 'subject_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:refresh_token'"},
		{name: "ID token as subject", change: set("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), code: "invalid_request",
			text: "parameter 'subject_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:id_token'"},
		{name: "SAML as subject", change: set("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"), code: "invalid_request",
			text: "parameter 'subject_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:saml2'"},
		{name: "unknown subject type", change: set("subject_token_type", "token"), code: "invalid_request",
			text: "parameter 'subject_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'token'"},
		{name: "refresh token wanted", change: set("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), code: "invalid_request",
			text: "parameter 'requested_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:refresh_token'"},
		{name: "ID-JAG wanted", change: set("requested_token_type", "urn:ietf:params:oauth:token-type:id-jag"), code: "invalid_request",
			text: "parameter 'requested_token_type': expected " + accessTokenType + " or " + jwtType + ", got 'urn:ietf:params:oauth:token-type:id-jag'"},
		{name: "actor token", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("actor_token", w.mint(nil))
			f.Set("actor_token_type", accessTokenType)
		}, code: "invalid_request",
			text: "actor_token was not accepted: the authenticated client is the actor, leave actor_token and actor_token_type out (actors of callers.mcp-server names those who may be shown)"},
		{name: "actor token without type", change: set("actor_token", "x"), code: "invalid_request",
			text: "parameter 'actor_token_type' is missing: it is required with actor_token"},
		{name: "actor token type alone", change: set("actor_token_type", accessTokenType), code: "invalid_request",
			text: "parameter 'actor_token_type': expected only together with actor_token"},

		// The subject token.
		{name: "RejectsGarbage", change: set("subject_token", "MARKED-GARBAGE"), code: "invalid_request",
			text: subject + "expected a signed JWT of 3 parts, got 1" + sources},
		{name: "RejectsOversize", change: set("subject_token", strings.Repeat("x", 17<<10)), code: "invalid_request",
			text: subject + "expected at most 16384 bytes, got 17408" + sources},
		{name: "RejectsAlgNone", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", forge(map[string]any{"alg": "none", "typ": "at+jwt", "kid": w.gateway.SigningKeyID()}, claimsOf(t, w.mint(nil)), "x"))
		}, code: "invalid_request",
			text: subject + "expected header alg ES256 or RS256 or PS256 or EdDSA, got 'none'" + sources},
		{name: "RejectsHS256", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", forge(map[string]any{"alg": "HS256", "typ": "at+jwt", "kid": w.gateway.SigningKeyID()}, claimsOf(t, w.mint(nil)), "x"))
		}, code: "invalid_request",
			text: subject + "expected header alg ES256 or RS256 or PS256 or EdDSA, got 'HS256'" + sources},
		{name: "RejectsForgedSignature", change: func(w *world, _ *http.Request, f url.Values) {
			token := w.mint(nil)
			f.Set("subject_token", forge(part(t, token, 0), claimsOf(t, token), strings.Repeat("x", 64)))
		}, code: "invalid_request",
			text: subject + "expected a signature by the key of its kid" + sources},
		{name: "RejectsTamperedClaims", change: func(w *world, _ *http.Request, f url.Values) {
			parts := strings.Split(w.mint(nil), ".")
			parts[1] = strings.Split(w.mint(func(k *keyring.Token) { k.Subject = "admin" }), ".")[1]
			f.Set("subject_token", strings.Join(parts, "."))
		}, code: "invalid_request",
			text: subject + "expected a signature by the key of its kid" + sources},
		{name: "RejectsUnknownCritical", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", forge(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": w.gateway.SigningKeyID(), "crit": []string{"x"}}, claimsOf(t, w.mint(nil)), "x"))
		}, code: "invalid_request",
			text: subject + "expected a header without crit" + sources},
		{name: "RejectsOtherType", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", forge(map[string]any{"alg": "ES256", "typ": "JWT", "kid": w.gateway.SigningKeyID()}, claimsOf(t, w.mint(nil)), "x"))
		}, code: "invalid_request",
			text: subject + "expected header typ at+jwt, got 'jwt'" + sources},
		{name: "RejectsPhantomTokenOfOtherIssuer", change: minted(func(k *keyring.Token) { k.Issuer = "https://other-gateway.example" }), code: "invalid_request",
			text: subject + "expected issuer {phantom}, got 'https://other-gateway.example'" + sources},
		{name: "RejectsTokenForOtherCaller", change: minted(func(k *keyring.Token) { k.Audience = []string{otherAudience} }), code: "invalid_request",
			text: subject + "expected audience https://mcp.internal.example, got 'https://other.internal.example'" + sources},
		{name: "RejectsExpired", change: minted(func(k *keyring.Token) { k.IssuedAt = k.IssuedAt.Add(-time.Hour); k.Expiry = k.Expiry.Add(-time.Hour) }), code: "invalid_request",
			text: subject + "expected a token that has not expired, got exp 56m0s before now; compare the clocks if it should not have" + sources},
		{name: "RejectsExpiredWithinLeeway", change: minted(func(k *keyring.Token) { k.Expiry = k.IssuedAt.Add(time.Minute) }), code: "invalid_request",
			text: subject + "expected a token that has not expired; compare the clocks of gateway and sidecar if it should not have"},
		{name: "RejectsIssuedInTheFuture", change: minted(func(k *keyring.Token) { k.IssuedAt = k.IssuedAt.Add(2 * time.Minute) }), code: "invalid_request",
			text: subject + "expected a token issued in the past, got iat 1m0s ahead; compare the clocks" + sources},
		{name: "RejectsMayActOfOther", change: minted(func(k *keyring.Token) { k.Extra["may_act"] = map[string]any{"sub": otherServer} }), code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsMayActOfOtherIssuer", change: minted(func(k *keyring.Token) {
			k.Extra["may_act"] = map[string]any{"sub": mcpServer, "iss": "https://elsewhere.example"}
		}), code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsMayActWithoutIssuer", change: minted(func(k *keyring.Token) { k.Extra["may_act"] = map[string]any{"sub": mcpServer} }), code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsMayActThatIsNotUnderstood", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) {
				k.Extra["may_act"] = map[string]any{"sub": mcpServer, "iss": w.url, "group": "x"}
			}))
		}, code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsTokenWithoutUser", change: minted(func(k *keyring.Token) { k.Subject = k.ClientID }), code: "invalid_request",
			text: subject + "expected a token of a user, got one of a client by itself (allow_without_user of callers.mcp-server)"},
		{name: "RejectsServiceAccount", change: minted(func(k *keyring.Token) { k.Extra["preferred_username"] = "service-account-batch" }), code: "invalid_request",
			text: subject + "expected a token of a user, got one of a client by itself (allow_without_user of callers.mcp-server)"},
		{name: "RejectsMayActOfNobody", change: minted(func(k *keyring.Token) { k.Extra["may_act"] = map[string]any{} }), code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsMayActThatIsText", change: minted(func(k *keyring.Token) { k.Extra["may_act"] = mcpServer }), code: "invalid_request",
			text: subject + "its may_act names another actor than 'mcp-server' of '{url}'"},
		{name: "RejectsDeepActorChain", change: minted(func(k *keyring.Token) { k.Actor = deep(9) }), code: "invalid_request",
			text: subject + "expected at most 7 actors in act before the client, got more"},
		{name: "RejectsEighthActor", change: minted(func(k *keyring.Token) { k.Actor = deep(8) }), code: "invalid_request",
			text: subject + "expected at most 7 actors in act before the client, got more; the bound is the default of limits.actors"},
		{name: "RejectsLargeActorChain", change: minted(func(k *keyring.Token) { k.Actor = map[string]any{"sub": strings.Repeat("x", 4<<10)} }), code: "invalid_request",
			text: subject + "expected an act of at most 4096 bytes together with the client, got more"},
		{name: "RejectsActorThatIsText", change: minted(func(k *keyring.Token) { k.Extra["act"] = "planner" }), code: "invalid_request",
			text: subject + "expected act to be a chain of objects"},
		{name: "RejectsNamelessActor", change: minted(func(k *keyring.Token) { k.Actor = map[string]any{"email": "boss@corp.example"} }), code: "invalid_request",
			text: subject + "expected each actor in act to have a sub or a client_id"},

		// The target.
		{name: "no target", change: set("audience", ""), code: "invalid_target",
			text: "parameter 'audience' or 'resource' is missing: " + targets},
		{name: "unknown audience", change: set("audience", "https://unknown.example"), code: "invalid_target",
			text: "target 'https://unknown.example' is not configured for client 'mcp-server': " + targets + "; a new one goes into callers.mcp-server.audiences (line 15)"},
		{name: "unknown resource beside a known audience", change: set("resource", "https://unknown.example"), code: "invalid_target",
			text: "target 'https://unknown.example' is not configured for client 'mcp-server': " + targets + "; a new one goes into callers.mcp-server.audiences (line 15)"},
		{name: "RejectsAudienceOfOtherCaller", change: set("audience", otherAPI), code: "invalid_target",
			text: "target 'https://other-api.example' is not configured for client 'mcp-server': " + targets + "; a new one goes into callers.mcp-server.audiences (line 15)"},
		{name: "RejectsTargetInOtherSpelling", change: set("audience", "https://orders.example/v1/"), code: "invalid_target",
			text: "target 'https://orders.example/v1/' is not configured for client 'mcp-server': " + targets + "; a new one goes into callers.mcp-server.audiences (line 15)"},
		{name: "RejectsPrefixOfTarget", change: set("audience", apiAudience+".evil.example"), code: "invalid_target",
			text: "target 'https://api.demo.example.evil.example' is not configured for client 'mcp-server': " + targets + "; a new one goes into callers.mcp-server.audiences (line 15)"},
		{name: "relative resource", change: set("resource", "/v1"), code: "invalid_target",
			text: "parameter 'resource': expected an absolute URI without fragment, got '/v1'"},
		{name: "resource with fragment", change: set("resource", apiAudience+"#x"), code: "invalid_target",
			text: "parameter 'resource': expected an absolute URI without fragment, got 'https://api.demo.example#x'"},

		// The scope.
		{name: "RejectsWiderScope", change: set("scope", "stocks/read stocks/trade"), code: "invalid_scope",
			text: "scope 'stocks/trade' is not granted to the subject token: expected one of 'stocks/read', 'profile'; the user has to authorize it first"},
		{name: "RejectsScopeThatIsNotConfigured", change: set("scope", "profile"), code: "invalid_scope",
			text: "scope 'profile' is not configured for the target: expected one of 'stocks/read', 'stocks/trade'; a new one goes into callers.mcp-server.audiences['https://api.demo.example'].scopes (line 16)"},
		{name: "RejectsScopeOfOneTargetOfTwo", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/trade"} }))
			f.Set("scope", "stocks/trade")
			f.Set("resource", ordersURI)
		}, code: "invalid_scope",
			text: "scope 'stocks/trade' is not configured for the target: expected one of 'stocks/read'; a new one goes into callers.mcp-server.audiences['https://ORDERS.example/v1/'].scopes (line 17)"},
		{name: "RejectsScopeForTargetWithoutScopes", change: set("audience", "reports"), code: "invalid_scope",
			text: "scope 'stocks/read' is not configured for the target: expected one of none; a new one goes into callers.mcp-server.audiences.reports.scopes (line 18)"},
		{name: "subject token without a scope of the target", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"profile"} }))
			f.Del("scope")
		}, code: "invalid_scope",
			text: "the subject token has none of the scopes configured for the target: expected one of 'stocks/read', 'stocks/trade' (callers.mcp-server.audiences['https://api.demo.example'].scopes (line 16)), got 'profile'"},
		{name: "RejectsTargetBehindOneWithoutScopes", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"profile"} }))
			f["audience"] = []string{"reports", apiAudience}
			f.Del("scope")
		}, code: "invalid_scope",
			text: "the subject token has none of the scopes configured for the target: expected one of 'stocks/read', 'stocks/trade' (callers.mcp-server.audiences['https://api.demo.example'].scopes (line 16)), got 'profile'"},
		{name: "RejectsTargetsWithoutCommonScope", change: func(w *world, _ *http.Request, f url.Values) {
			f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Scope = oauth.Scopes{"stocks/trade", "orders/write"} }))
			f["audience"] = []string{apiAudience, ordersURI}
			f.Del("scope")
		}, code: "invalid_scope",
			text: "the subject token has no scope that is configured for every target (callers.mcp-server.audiences['https://api.demo.example'].scopes (line 16), callers.mcp-server.audiences['https://ORDERS.example/v1/'].scopes (line 17)): ask for one target at a time"},
		{name: "RejectsScopedTargetInCompany", change: func(_ *world, _ *http.Request, f url.Values) {
			f["audience"] = []string{apiAudience, "reports"}
			f.Del("scope")
		}, code: "invalid_scope",
			text: "the subject token has no scope that is configured for every target (callers.mcp-server.audiences['https://api.demo.example'].scopes (line 16), callers.mcp-server.audiences.reports.scopes (line 18)): ask for one target at a time"},
		{name: "RejectsThousandsOfScopes", change: set("scope", manyScopes()), code: "invalid_scope",
			text: "parameter 'scope': expected at most 1000 scope tokens"},
		{name: "malformed scope", change: set("scope", "stocks/\"read"), code: "invalid_scope",
			text: "parameter 'scope': expected scope tokens of printable ASCII without quote or backslash, got 'stocks/'read'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			form := w.form(nil)
			probe := w.request("") // collects what the case changes in header, method and URL
			tc.change(w, probe, form)
			r := w.request(form.Encode())
			r.Method, r.Header, r.URL = probe.Method, probe.Header, probe.URL
			a := w.do(r)

			status := tc.status
			if status == 0 {
				status = 400
			}
			text := strings.NewReplacer("{url}", w.url, "{phantom}", w.phantom).Replace(tc.text)
			wantBody, err := json.Marshal(map[string]string{"error": tc.code, "error_description": text})
			if err != nil {
				t.Fatal(err)
			}
			if a.status != status || a.body != string(wantBody) {
				t.Errorf("got  %d %s\nwant %d %s", a.status, a.body, status, wantBody)
			}
			wantHeader := http.Header{
				"Content-Type":           {"application/json"},
				"Cache-Control":          {"no-store"},
				"Pragma":                 {"no-cache"},
				"X-Content-Type-Options": {"nosniff"},
			}
			if status == 401 {
				wantHeader.Set("WWW-Authenticate", `Basic realm="token-exchange", charset="UTF-8"`)
			}
			for name, values := range tc.wantHeader {
				wantHeader[name] = values
			}
			a.header.Del("Date")
			a.header.Del("Content-Length")
			a.header.Del("Connection")
			if !reflect.DeepEqual(a.header, wantHeader) {
				t.Errorf("header: got %v\nwant %v", a.header, wantHeader)
			}

			lines := w.lines()
			if len(lines) != 1 || lines[0]["outcome"] != "refused" || lines[0]["error"] != tc.code || lines[0]["reason"] == "" {
				t.Errorf("audit: got %v, want one line that says refused, %s and why", lines, tc.code)
			}
		})
	}
}

// TestRejectsExchangedTokenAsSubject: what was issued cannot be exchanged again, even where
// a target is the caller itself.
//
// Covers: TX-32
func TestRejectsExchangedTokenAsSubject(t *testing.T) {
	w := newWorld(t, func(_ *world, p *parts) { p.policy = strings.ReplaceAll(usual, apiAudience, mcpAudience) })
	a := w.post(w.form(func(f url.Values) { f.Set("audience", mcpAudience) }))
	if a.status != 200 {
		t.Fatalf("first exchange: got %d %s", a.status, a.body)
	}
	a = w.post(w.form(func(f url.Values) {
		f.Set("subject_token", a.ok.AccessToken)
		f.Set("audience", mcpAudience)
	}))
	if a.status != 400 || a.err.Code != "invalid_request" {
		t.Errorf("got %d %s, want 400 invalid_request", a.status, a.body)
	}
}

// TestRejectsKeyOfBothIssuers: where the gateway signs with a key of this service, nothing
// is exchanged. Keys by URL are known too late to refuse them at the start.
func TestRejectsKeyOfBothIssuers(t *testing.T) {
	w := newWorld(t, func(w *world, p *parts) {
		w.own, p.exchange.Keys, p.service.Keys = w.gateway, w.gateway, w.gateway
	})
	a := w.post(w.form(nil))
	if a.status != 400 || a.err.Code != "invalid_request" || !strings.Contains(a.err.Description, "TOKEN_EXCHANGE_SIGNING_KEY_FILE") {
		t.Errorf("got %d %s, want 400 invalid_request that names the key", a.status, a.body)
	}
}

// manyScopes is a scope value that fits into a request and has far too many tokens.
func manyScopes() string {
	var b strings.Builder
	for i := range 9000 {
		b.WriteString(strconv.FormatInt(int64(i), 36) + " ")
	}
	return b.String()
}

// TestRejectsBoundSubjectToken: a token that is bound to a key must not become one that is
// not.
func TestRejectsBoundSubjectToken(t *testing.T) {
	private, ring := newPrivate(t)
	w := newWorld(t, func(w *world, p *parts) { p.exchange.Subject.Keys, p.service.SubjectDocuments = ring, nil })
	claims := claimsOf(t, w.mint(nil))
	claims["cnf"] = map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}
	token := signClaims(t, private, ring.SigningKeyID(), claims)
	a := w.post(w.form(func(f url.Values) { f.Set("subject_token", token) }))
	const want = `{"error":"invalid_request","error_description":"subject_token was not accepted: expected a bearer token, got one that is bound to a key (cnf)"}`
	if a.status != 400 || a.body != want {
		t.Errorf("got  %d %s\nwant 400 %s", a.status, a.body, want)
	}
}

// TestKeysUnavailable: while the gateway's keys cannot be had, nothing is known of the
// token, and the caller is told to wait instead of being told that its token is bad.
func TestKeysUnavailable(t *testing.T) {
	ring := newRing(t, keyring.ES256)
	var up atomic.Bool
	gateway := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.Write(ring.JWKS())
	}))
	defer gateway.Close()
	w := newWorld(t, func(w *world, p *parts) {
		remote, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: gateway.URL, Now: w.now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(remote.Close)
		w.gateway, p.exchange.Subject.Keys, p.service.SubjectDocuments = ring, remote, nil
	})

	a := w.post(w.form(nil))
	const want = `{"error":"temporarily_unavailable","error_description":"the keys of the gateway cannot be had at the moment"}`
	if a.status != 503 || a.body != want || a.header.Get("Retry-After") != "5" || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("got %d %s %v\nwant 503 %s and Retry-After 5", a.status, a.body, a.header, want)
	}
	if line := w.lines()[0]; line["outcome"] != "unavailable" || line["level"] != "WARN" || line["err"] == nil {
		t.Errorf("audit line: got %v, want unavailable with its cause", line)
	}

	up.Store(true)
	w.advance(31 * time.Second)
	if a := w.post(w.form(nil)); a.status != 200 {
		t.Errorf("with the gateway back: got %d %s", a.status, a.body)
	}

	up.Store(false)
	w.advance(time.Minute)
	if a := w.post(w.form(nil)); a.status != 200 {
		t.Errorf("with known keys and the gateway gone again: got %d %s", a.status, a.body)
	}
}

// TestFault: a fault of ours says nothing to the caller and everything to the operator.
func TestFault(t *testing.T) {
	w := newWorld(t, nil)
	rec := httptest.NewRecorder()
	w.service.Fail(rec, w.request(""), errors.New("signing: the key is gone"))
	if rec.Code != 500 || rec.Body.String() != `{"error":"server_error"}` || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %s %v", rec.Code, rec.Body, rec.Header())
	}
	if line := w.lines()[0]; line["level"] != "ERROR" || line["outcome"] != "failed" || line["reason"] != "fault" || line["err"] != "signing: the key is gone" {
		t.Errorf("audit line: got %v", line)
	}
}
