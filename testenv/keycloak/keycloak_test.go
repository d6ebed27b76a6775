//go:build keycloak

package keycloak_test

import (
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/probe"
)

// TestKeycloak says in sentences what the chain does with a real Keycloak in the place of
// the embedded authorization server. The sentences run in order and share one Keycloak; the
// later ones take it apart.
//
// Covers: KC-04, KC-06, MCP-48
func TestKeycloak(t *testing.T) {
	w := start(t)
	for i, p := range []struct {
		name string
		show func(t *testing.T, w *world)
	}{
		{"a client that knows only the URL gets to the prices of its user's region", knowsOnlyTheURL},
		{"the consent page names the client and says what it may do", consentPage},
		{"the access token says nothing of its user and lives 15 minutes", lightweight},
		{"the scope of the challenge is what makes a token one for the MCP server", scopeBringsAudience},
		{"the MCP server gets a phantom token, and the API one for itself", chain},
		{"a client that knows only the URL of a second MCP server gets through it to the API, which sees the chain", secondServer},
		{"a web page that speaks no MCP gets to the API with a token for the API", apiClient},
		{"clients in the field register, sign their user in and are served", knownClients},
		{"in a real browser the user signs in and allows the client", chromium},
		{"registrations of strangers are refused", registrationsRefused},
		{"no code without PKCE, for more than there is, or when the user says no", authorizationsRefused},
		{"the JWT in the introspection answer goes upstream where that is wanted", introspectionMode},
		{"the token that Keycloak gives in exchange goes upstream where that is wanted", exchangeMode},
		{"Keycloak exchanges its own phantom tokens further, never for more, and no minted ones", exchangedFurther},
		{"an MCP call gets to the API with a token that Keycloak gave the sidecar", delegatedChain},
		{"a sidecar whose gateway mints refuses to have Keycloak issue tokens, and says what to do", delegatedMinted},
		{"what Keycloak refuses the sidecar, the caller reads in words and the operator with the setting", delegationRefused},
		{"Keycloak's exchange narrows, may widen, gives identity tokens, and outlives a revocation", exchangeFacts},
		{"a token without a user is refused, even if the realm gives one out", withoutUser},
		{"a revoked token gets 401", revoked},
		{"logging out gets 401", loggedOut},
		{"a user who is disabled gets 401", disabled},
		{"with a wrong client secret everybody gets 503, and the log names the setting", wrongSecret},
		{"what goes wrong in front of Keycloak gets 503, the log says what it is, and nothing has to be restarted", badInput},
		{"the doctor finds nothing wrong with all this, and finds what is wrong", doctor},
		{"new realm keys cost half a minute of 503 at most; removed ones end their tokens", keysRotated},
		{"with Keycloak stopped known users go on and new tokens get 503", stopped},
		{"with Keycloak stopped the sidecar gives out what it has and 503 for the rest, and says that it is not ready", sidecarWithoutKeycloak},
		{"after a restart that forgot everything, clients register and sign in again", restarted},
		{"the sidecar exchanges again, with nothing restarted but Keycloak", sidecarWithKeycloakAgain},
		{"no token and no secret is in the log", cleanLog},
	} {
		const clients = 1 // connected by the first, used by the others
		if !t.Run(p.name, func(t *testing.T) { p.show(t, w) }) && i < clients {
			t.Fatal("without clients nothing else can be shown")
		}
	}
}

func knowsOnlyTheURL(t *testing.T, w *world) {
	w.john, w.jane = w.connect(t, john), w.connect(t, jane)
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
		if tt.a.Logins() != 1 || tt.a.RedirectIssuer() != w.keycloak.Issuer() {
			t.Errorf("got %d logins, iss %q; want 1, %q", tt.a.Logins(), tt.a.RedirectIssuer(), w.keycloak.Issuer())
		}
	}
}

func consentPage(t *testing.T, w *world) {
	pages := w.john.Pages()
	i := slices.IndexFunc(pages, func(p agent.Page) bool { return strings.Contains(p.Text, "Grant Access") })
	if i < 0 {
		t.Fatalf("no consent page among %d pages", len(pages))
	}
	for _, want := range []string{"Agent of " + john, "Read stock prices of your region"} {
		if !strings.Contains(pages[i].Text, want) {
			t.Errorf("got %q, want %q in it", pages[i].Text, want)
		}
	}
}

func lightweight(t *testing.T, w *world) {
	_, claims := probe.Decode(t, tokenOf(t, w.john))
	for _, name := range []string{"sub", "region", "email", "preferred_username", "name", "client_type", "realm_access"} {
		if v, ok := claims[name]; ok {
			t.Errorf("%s: got %v, want no such claim", name, v)
		}
	}
	issued, _ := claims["iat"].(float64)
	expires, _ := claims["exp"].(float64)
	// Counted from the login, which was a moment before.
	if life := expires - issued; life > 900 || life < 870 {
		t.Errorf("lifetime: got %v s, want 900 less a moment", life)
	}
}

// scopeBringsAudience has a user sign in with the scope of the challenge, and without it.
func scopeBringsAudience(t *testing.T, w *world) {
	w.load(t, minted)
	defer func() {
		yaml, err := os.ReadFile("../../kong.yml")
		if err == nil {
			err = w.Gateway.Reload(yaml)
		}
		if err != nil {
			t.Error(err)
		}
	}()
	challenge := w.outside.Do(t, http.MethodPost, w.MCPURL, "").Challenge()
	if !strings.Contains(challenge, `scope="stocks/read"`) {
		t.Fatalf("challenge: got %s, want the scope stocks/read", challenge)
	}
	for _, tt := range []struct {
		scope string
		good  bool
	}{{"stocks/read", true}, {"profile", false}} {
		body, redirect := nativeClient()
		c := w.mustRegister(t, body)
		c.scope = tt.scope
		token := c.logIn(t, w.person(t, john), redirect).Text("access_token")
		_, claims := probe.Decode(t, token)
		audiences, _ := claims["aud"].([]any)
		if slices.Contains(audiences, any(w.MCPURL)) != tt.good {
			t.Errorf("with scope %s: got aud %v, want the MCP URL in it: %t", tt.scope, claims["aud"], tt.good)
		}
		a := w.ask(t, token)
		if tt.good {
			probe.WantStatus(t, a, http.StatusNoContent)
		} else {
			probe.WantInvalidToken(t, a)
		}
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
	requests := between(all, testenv.Gateway, testenv.MCPServer, "/mcp")
	if len(requests) == 0 {
		t.Fatal("nothing arrived at the MCP server")
	}
	phantom := bearer(requests[len(requests)-1])
	header, claims := probe.Decode(t, phantom)
	_, lightweight := probe.Decode(t, access)
	for name, want := range map[string]any{
		"iss": w.PhantomIssuer, "aud": testenv.MCPAudience, "region": "USA", "client_type": "mcp",
		"client_assurance_level": 1.0, "scope": "stocks/read", "client_id": lightweight["azp"],
	} {
		if claims[name] != want {
			t.Errorf("phantom token: %s: got %v, want %v", name, claims[name], want)
		}
	}
	subject, _ := claims["sub"].(string)
	if header["typ"] != "at+jwt" || subject == "" || phantom == access {
		t.Errorf("phantom token: got typ %v, sub %q; want at+jwt and the user", header["typ"], subject)
	}
	calls := between(all, testenv.MCPServer, testenv.StocksAPI, "/stocks")
	if len(calls) == 0 {
		t.Fatal("nothing arrived at the API")
	}
	_, exchanged := probe.Decode(t, bearer(calls[len(calls)-1]))
	actor, _ := exchanged["act"].(map[string]any)
	if exchanged["iss"] != w.SidecarURL || exchanged["aud"] != testenv.APIAudience || exchanged["sub"] != subject || exchanged["region"] != "USA" || actor["sub"] == nil {
		t.Errorf("exchanged token: got iss %v, aud %v, sub %v, region %v, act %v", exchanged["iss"], exchanged["aud"], exchanged["sub"], exchanged["region"], actor)
	}
}

func introspectionMode(t *testing.T, w *world) {
	access := w.freshToken(t, jane)
	w.load(t, provided)
	probe.WantStatus(t, w.ask(t, access), http.StatusNoContent)
	got, _ := w.upstream.Last()
	if got == access {
		t.Fatal("the access token itself went upstream")
	}
	w.wantTokenOfTheRealm(t, got, w.MCPURL, "Europe")
}

func exchangeMode(t *testing.T, w *world) {
	access := w.freshToken(t, jane)
	w.load(t, exchanged)
	probe.WantStatus(t, w.ask(t, access), http.StatusNoContent)
	got, _ := w.upstream.Last()
	w.wantTokenOfTheRealm(t, got, "mcp-server", "Europe")
	if _, claims := probe.Decode(t, got); claims["aud"] != "mcp-server" || claims["azp"] != "api-gateway-client" {
		t.Errorf("got aud %v, azp %v; want mcp-server alone, api-gateway-client", claims["aud"], claims["azp"])
	}
}

// exchangedFurther has the MCP server exchange its phantom token at Keycloak, for the API.
func exchangedFurther(t *testing.T, w *world) {
	for _, tt := range []struct {
		name, mode, scope string
		status            int
		failure           string
	}{
		{"TokenOfIntrospection", provided, "stocks/read", http.StatusOK, ""},
		{"TokenOfExchange", exchanged, "stocks/read", http.StatusOK, ""},
		{"WiderScope", provided, "stocks/trade", http.StatusBadRequest, "invalid_scope"},
		{"TokenMintedByTheGateway", minted, "stocks/read", http.StatusBadRequest, "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.load(t, tt.mode)
			probe.WantStatus(t, w.ask(t, w.freshToken(t, john)), http.StatusNoContent)
			phantom, _ := w.upstream.Last()
			a := w.post(t, "token", url.Values{
				"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {"mcp-server"}, "client_secret": {w.mcpSecret},
				"subject_token": {phantom}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
				"audience": {testenv.APIAudience}, "scope": {tt.scope},
			})
			probe.WantStatus(t, a, tt.status)
			if failure, _ := a.Object()["error"].(string); failure != tt.failure {
				t.Errorf("error: got %q, want %q", failure, tt.failure)
			}
			if tt.failure == "" {
				token, _ := a.Object()["access_token"].(string)
				w.wantTokenOfTheRealm(t, token, testenv.APIAudience, "USA")
			}
		})
	}
}

// wantTokenOfTheRealm verifies a JWT as an upstream of that name does that trusts Keycloak.
func (w *world) wantTokenOfTheRealm(t *testing.T, token, audience, region string) {
	t.Helper()
	provider, err := oidc.NewProvider(oidc.ClientContext(t.Context(), w.outside.Client()), w.keycloak.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(oidc.ClientContext(t.Context(), w.outside.Client()), token)
	if err != nil {
		t.Fatalf("expected a token of the realm for %s: %v", audience, err)
	}
	var claims struct {
		Region string `json:"region"`
		Scope  string `json:"scope"`
	}
	if err := verified.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if verified.Subject == "" || claims.Region != region || claims.Scope != "stocks/read" {
		t.Errorf("got sub %q, region %q, scope %q; want the user, %s, stocks/read", verified.Subject, claims.Region, claims.Scope, region)
	}
}

func cleanLog(t *testing.T, w *world) {
	log := w.Log.String()
	if !strings.Contains(log, "phantom-token") {
		t.Error("nothing of the plugin in the log: the search would prove nothing")
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "eyJ") || strings.Contains(line, w.gatewaySecret) || strings.Contains(line, w.mcpSecret) || strings.Contains(line, w.password) || strings.Contains(line, "the-secret-of-") {
			t.Errorf("a token or a secret in a log line: %.80s…", line)
		}
	}
}
