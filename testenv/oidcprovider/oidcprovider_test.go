//go:build oidcprovider

package oidcprovider_test

import (
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/oidcprovider"
	"phantomtoken/testenv/probe"
)

// TestOIDCProvider says in sentences what the chain does with oidc-provider in the place of
// Keycloak. The sentences run in order and share one provider; the later ones stop it.
func TestOIDCProvider(t *testing.T) {
	w := start(t)
	for i, p := range []struct {
		name string
		show func(t *testing.T, w *world)
	}{
		{"a client that knows only the URL gets to the prices of its user's region", knowsOnlyTheURL},
		{"the access token is opaque, and introspection says all there is to know", opaque},
		{"the MCP server gets a phantom token, and the API one for itself", chain},
		{"the issuer alone tells the gateway where to introspect", issuerAlone},
		{"phantom tokens that the provider cannot give are a 500, and the log says what to set", otherModes},
		{"a token for another resource gets 401", otherResource},
		{"a token for no resource at all gets 401", noResource},
		{"there are no tokens for two resources", twoResources},
		{"no code without PKCE or for an unknown resource", authorizationsRefused},
		{"clients in the field register, strangers do not", registrations},
		{"only the gateway may introspect", strangersMayNotIntrospect},
		{"a revoked token gets 401", revoked},
		{"with a wrong client secret everybody gets 503, and the log names the setting", wrongSecret},
		{"with the provider stopped known users go on and new tokens get 503", stopped},
		{"after a restart that forgot everything, clients register and sign in again", restarted},
		{"no token and no secret is in the log", cleanLog},
	} {
		const clients = 1 // connected by the first, used by the others
		if !t.Run(p.name, func(t *testing.T) { p.show(t, w) }) && i < clients {
			t.Fatal("without clients nothing else can be shown")
		}
	}
}

func knowsOnlyTheURL(t *testing.T, w *world) {
	w.john, w.jane = w.connect(t, oidcprovider.John), w.connect(t, oidcprovider.Jane)
	for _, tt := range []struct {
		a      *agent.Agent
		symbol string
		want   string
		not    string // of the other region
	}{
		{w.john, "ACME", `"price":412.5`, "DUFF"},
		{w.jane, "DUFF", `"price":57.3`, "ACME"},
	} {
		text, refused, err := tt.a.Call(t.Context(), "fetch_stock_prices", map[string]any{"symbols": []string{tt.symbol}})
		if err != nil || refused || !strings.Contains(text, tt.want) {
			t.Errorf("prices: got %s, refused %t, %v; want %s", text, refused, err, tt.want)
		}
		if text, refused, err = tt.a.Call(t.Context(), "list_stocks", nil); err != nil || refused || strings.Contains(text, tt.not) {
			t.Errorf("list: got %s, refused %t, %v; want it without %s", text, refused, err, tt.not)
		}
		if tt.a.Logins() != 1 || tt.a.RedirectIssuer() != w.provider.Issuer() {
			t.Errorf("got %d logins, iss %q; want 1, %q", tt.a.Logins(), tt.a.RedirectIssuer(), w.provider.Issuer())
		}
		if pages := tt.a.Pages(); !slices.ContainsFunc(pages, func(p agent.Page) bool { return strings.Contains(p.Text, w.MCPURL) }) {
			t.Errorf("none of %d pages names the resource", len(pages))
		}
	}
}

func opaque(t *testing.T, w *world) {
	token := tokenOf(t, w.john)
	if strings.Contains(token, ".") {
		t.Fatal("the access token looks like a JWT")
	}
	got := w.introspect(t, token)
	for name, want := range map[string]any{
		"active": true, "iss": w.provider.Issuer(), "aud": w.MCPURL, "sub": oidcprovider.John, "scope": "stocks/read",
		"token_type": "Bearer", "region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
	} {
		if got[name] != want {
			t.Errorf("introspection: %s: got %v, want %v", name, got[name], want)
		}
	}
	issued, _ := got["iat"].(float64)
	expires, _ := got["exp"].(float64)
	if expires-issued != 900 {
		t.Errorf("lifetime: got %v s, want 900", expires-issued)
	}
}

// chain follows one call: access token, phantom token, exchanged token.
func chain(t *testing.T, w *world) {
	w.take(t)
	access := tokenOf(t, w.john)
	if _, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused {
		t.Fatalf("refused %t, %v", refused, err)
	}
	all := w.take(t)
	if got := lastBearer(t, all, "MCP client", testenv.Gateway, "/mcp"); got != access {
		t.Error("the client sent another token than the one it has")
	}
	_, phantom := probe.Decode(t, lastBearer(t, all, testenv.Gateway, testenv.MCPServer, "/mcp"))
	for name, want := range map[string]any{
		"iss": w.PhantomIssuer, "aud": testenv.MCPAudience, "sub": oidcprovider.John, "scope": "stocks/read",
		"region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
	} {
		if phantom[name] != want {
			t.Errorf("phantom token: %s: got %v, want %v", name, phantom[name], want)
		}
	}
	_, exchanged := probe.Decode(t, lastBearer(t, all, testenv.MCPServer, testenv.StocksAPI, "/stocks"))
	for name, want := range map[string]any{
		"iss": w.SidecarURL, "aud": testenv.APIAudience, "sub": oidcprovider.John, "region": "USA",
	} {
		if exchanged[name] != want {
			t.Errorf("exchanged token: %s: got %v, want %v", name, exchanged[name], want)
		}
	}
}

func issuerAlone(t *testing.T, w *world) {
	w.load(t, fromEnvironment, minted)
	token := w.register(t).token(t, oidcprovider.Jane, w.MCPURL)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
	phantom, _ := w.upstream.Last()
	if _, claims := probe.Decode(t, phantom); claims["sub"] != oidcprovider.Jane || claims["region"] != "Europe" {
		t.Errorf("phantom token: got sub %v, region %v; want Jane, Europe", claims["sub"], claims["region"])
	}
	probe.WantInvalidToken(t, w.ask(t, "never-issued"))
}

// otherModes wants of oidc-provider what Keycloak has: a JWT beside the answer to an
// introspection, and token exchange.
func otherModes(t *testing.T, w *world) {
	token := w.register(t).token(t, oidcprovider.John, w.MCPURL)
	for _, tt := range []struct {
		name, phantom, want string
	}{
		{"Introspection", provided, "no JWT with its introspection answer"},
		{"Exchange", exchanged, "knows no token exchange"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.load(t, fromEnvironment, tt.phantom)
			before := len(w.Log.String())
			probe.WantStatus(t, w.ask(t, token), http.StatusInternalServerError)
			probe.WantLog(t, w.Log, before, "phantom_token.mode", tt.want)
		})
	}
}

func otherResource(t *testing.T, w *world) {
	w.load(t, fromEnvironment, minted)
	token := w.register(t).token(t, oidcprovider.John, w.OtherResource)
	if got := w.introspect(t, token); got["active"] != true || got["aud"] != w.OtherResource {
		t.Fatalf("introspection: got active %v, aud %v; want a good token for the other resource", got["active"], got["aud"])
	}
	_, before := w.upstream.Last()
	probe.WantInvalidToken(t, w.ask(t, token))
	if _, after := w.upstream.Last(); after != before {
		t.Error("the request reached the upstream")
	}
}

func noResource(t *testing.T, w *world) {
	w.load(t, fromEnvironment, minted)
	token := w.register(t).token(t, oidcprovider.John, "")
	if got := w.introspect(t, token); got["active"] != true || got["aud"] != nil {
		t.Fatalf("introspection: got active %v, aud %v; want a good token without an audience", got["active"], got["aud"])
	}
	probe.WantInvalidToken(t, w.ask(t, token))
}

func twoResources(t *testing.T, w *world) {
	c := w.register(t)
	result, verifier := c.authorize(t, oidcprovider.John, map[string]string{"resource": w.MCPURL})
	a := w.outside.Post(t, w.provider.TokenEndpoint(), url.Values{
		"grant_type": {"authorization_code"}, "client_id": {c.id}, "code": {result.Get("code")}, "redirect_uri": {redirect},
		"code_verifier": {verifier}, "resource": {w.MCPURL, w.OtherResource},
	})
	probe.WantStatus(t, a, http.StatusBadRequest)
	if got := a.Object()["error"]; got != "invalid_target" {
		t.Errorf("error: got %v, want invalid_target", got)
	}
}

func authorizationsRefused(t *testing.T, w *world) {
	c := w.register(t)
	for _, tt := range []struct {
		name       string
		parameters map[string]string
		want       string
	}{
		{"WithoutPKCE", map[string]string{"resource": w.MCPURL, "code_challenge": "", "code_challenge_method": ""}, "invalid_request"},
		{"PlainPKCE", map[string]string{"resource": w.MCPURL, "code_challenge_method": "plain"}, "invalid_request"},
		{"UnknownResource", map[string]string{"resource": "https://elsewhere.example/mcp"}, "invalid_target"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			result, _ := c.authorize(t, oidcprovider.John, tt.parameters)
			if result.Get("error") != tt.want || result.Has("code") {
				t.Errorf("redirect: got error %q %q, code %t; want %s and none", result.Get("error"), result.Get("error_description"), result.Has("code"), tt.want)
			}
		})
	}
}

// registrations are what clients in the field send, and what they had better not.
func registrations(t *testing.T, w *world) {
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"Claude", `{"client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none", "scope": "stocks/read"}`, http.StatusCreated},
		{"VSCode", `{"client_name": "Visual Studio Code", "redirect_uris": ["http://127.0.0.1:33418", "https://vscode.dev/redirect", "http://localhost/"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none", "application_type": "native"}`, http.StatusCreated},
		{"Cursor", `{"client_name": "Cursor", "redirect_uris": ["cursor://anysphere.cursor-retrieval/oauth/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none"}`, http.StatusCreated},
		{"MCPRemote", `{"client_name": "MCP CLI Proxy", "redirect_uris": ["http://localhost:3334/oauth/callback"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none", "software_version": "0.1.29"}`, http.StatusCreated},
		{"PlainHTTPElsewhere", `{"redirect_uris": ["http://192.0.2.1/callback"], "grant_types": ["authorization_code"], "token_endpoint_auth_method": "none"}`, http.StatusBadRequest},
		{"UnknownScope", `{"redirect_uris": ["http://127.0.0.1:3334/callback"], "grant_types": ["authorization_code"], "scope": "stocks/admin"}`, http.StatusBadRequest},
		{"TokensWithoutAUser", `{"redirect_uris": [], "response_types": [], "grant_types": ["client_credentials"]}`, http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			probe.WantStatus(t, w.registration(t, tt.body), tt.status)
		})
	}
}

// strangersMayNotIntrospect has a client ask that registered itself with a secret, which by
// default may ask about any token.
func strangersMayNotIntrospect(t *testing.T, w *world) {
	stranger := w.registration(t, `{"client_name": "Stranger", "redirect_uris": ["`+redirect+`"],
		"grant_types": ["authorization_code"], "response_types": ["code"], "token_endpoint_auth_method": "client_secret_post"}`).Object()
	id, _ := stranger["client_id"].(string)
	secret, _ := stranger["client_secret"].(string)
	a := w.outside.Post(t, w.provider.IntrospectionEndpoint(), url.Values{"token": {tokenOf(t, w.john)}, "client_id": {id}, "client_secret": {secret}})
	probe.WantStatus(t, a, http.StatusOK)
	if got := a.Object(); got["active"] != false || len(got) != 1 {
		t.Errorf("got %s, want nothing but that the token is not active", a.Body)
	}
}

func revoked(t *testing.T, w *world) {
	w.load(t, fromEnvironment, minted)
	c := w.register(t)
	token := c.token(t, oidcprovider.John, w.MCPURL)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
	probe.WantStatus(t, w.outside.Post(t, w.provider.RevocationEndpoint(), url.Values{"token": {token}, "client_id": {c.id}}), http.StatusOK)
	probe.WantInvalidToken(t, w.ask(t, token))
}

func wrongSecret(t *testing.T, w *world) {
	token := w.register(t).token(t, oidcprovider.John, w.MCPURL)
	w.load(t, "not-the-secret-of-the-gateway", minted)
	before := len(w.Log.String())
	probe.WantTrouble(t, w.ask(t, token))
	probe.WantLog(t, w.Log, before, "answers 401 to the gateway itself", "client_secret")
	w.load(t, fromEnvironment, minted)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
}

// stopped ends the provider while a client is at work.
func stopped(t *testing.T, w *world) {
	yaml, err := os.ReadFile("../../kong.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.Reload(yaml); err != nil { // the project's own, which caches
		t.Fatal(err)
	}
	if _, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused {
		t.Fatalf("before: refused %t, %v", refused, err)
	}
	unseen := w.register(t).token(t, oidcprovider.Jane, w.MCPURL)
	if err := w.provider.Stop(); err != nil {
		t.Fatal(err)
	}
	if text, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused || !strings.Contains(text, "ACME") {
		t.Errorf("a known user: got %s, refused %t, %v; want stocks", text, refused, err)
	}
	probe.WantTrouble(t, w.ask(t, unseen))
}

func restarted(t *testing.T, w *world) {
	forgotten := tokenOf(t, w.john)
	if err := w.provider.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	// For what is cached the gateway does not ask: the delay of a revocation.
	probe.WantStatus(t, w.ask(t, forgotten), http.StatusOK)
	w.load(t, fromEnvironment, minted)
	probe.WantInvalidToken(t, w.ask(t, forgotten))
	probe.WantStatus(t, w.ask(t, w.register(t).token(t, oidcprovider.John, w.MCPURL)), http.StatusNoContent)
}

func cleanLog(t *testing.T, w *world) {
	log := w.Log.String()
	if !strings.Contains(log, "phantom-token") {
		t.Error("nothing of the plugin in the log: the search would prove nothing")
	}
	secrets := []string{"eyJ", w.secret, tokenOf(t, w.john), tokenOf(t, w.jane), "not-the-secret"}
	for line := range strings.Lines(log) {
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(line, s) }) {
			t.Errorf("a token or a secret in a log line: %.80s…", line)
		}
	}
}
