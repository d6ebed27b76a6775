package testenv_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
)

func refusedTool(t *testing.T, a *agent.Agent, tool string, arguments map[string]any, want string) {
	t.Helper()
	text, refused, err := a.Call(t.Context(), tool, arguments)
	if err != nil {
		t.Fatal(err)
	}
	if !refused || !strings.Contains(text, want) {
		t.Errorf("got %s, refused %t; want %q", text, refused, want)
	}
}

func order(symbol string) map[string]any {
	return map[string]any{"symbol": symbol, "side": "buy", "quantity": 1}
}

func orderRefused(t *testing.T, w *world) {
	refusedTool(t, w.jane, "place_order", order("DUFF"), "status 403, access_denied: Orders are not accepted from clients of client_type mcp")
}

func portfolioRefused(t *testing.T, w *world) {
	refusedTool(t, w.jane, "read_portfolio", nil, "status 403, access_denied: Portfolios need a client_assurance_level of 2 or more, this client has 1")
}

func scopeNotWidened(t *testing.T, w *world) {
	w.take(t)
	refusedTool(t, w.john, "place_order", order("ACME"), "invalid_scope")
	if got := len(between(w.take(t), testenv.MCPServer, testenv.StocksAPI, "")); got != 0 {
		t.Errorf("calls of the API after the refused exchange: got %d, want 0", got)
	}
}

const invalidToken = `Bearer error="invalid_token", error_description="The access token is invalid, expired or not intended for this resource", resource_metadata="`

func (w *world) refusedAsInvalid(t *testing.T, token string) {
	t.Helper()
	w.take(t)
	a := w.ask(t, w.MCPURL, token)
	wantStatus(t, a, http.StatusUnauthorized)
	if got := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, invalidToken) {
		t.Errorf("WWW-Authenticate: got %s, want %s…", got, invalidToken)
	}
	if got := len(between(w.take(t), testenv.Gateway, testenv.MCPServer, "")); got != 0 {
		t.Errorf("requests at the MCP server: got %d, want 0", got)
	}
}

func refusedNoToken(t *testing.T, w *world) {
	a := w.ask(t, w.MCPURL, "")
	wantStatus(t, a, http.StatusUnauthorized)
	if got := a.header.Get("WWW-Authenticate"); strings.Contains(got, "error") {
		t.Errorf("WWW-Authenticate: got %s, want no error", got)
	}
}

func refusedGarbage(t *testing.T, w *world) { w.refusedAsInvalid(t, "garbage-token") }

func refusedExpired(t *testing.T, w *world) {
	w.refusedAsInvalid(t, w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: w.MCPURL, Lifetime: -time.Second}))
}

func refusedRevoked(t *testing.T, w *world) {
	token := w.readToken()
	w.AuthServer.Revoke(token)
	w.refusedAsInvalid(t, token)
}

func refusedOtherResource(t *testing.T, w *world) {
	w.refusedAsInvalid(t, w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: w.OtherResource}))
	w.refusedAsInvalid(t, w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead})) // for none
}

func refusedScope(t *testing.T, w *world) {
	a := w.ask(t, w.MCPURL, w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeTrade, Resource: w.MCPURL}))
	wantStatus(t, a, http.StatusForbidden)
	want := `Bearer error="insufficient_scope", scope="stocks/read stocks/trade", resource_metadata="` + w.origin() +
		`/.well-known/oauth-protected-resource/mcp", error_description="Additional scope is required for this operation"`
	if got := a.header.Get("WWW-Authenticate"); got != want {
		t.Errorf("WWW-Authenticate:\n got %s\nwant %s", got, want)
	}
}

func refusedWithoutUser(t *testing.T, w *world) {
	a := w.ask(t, w.MCPURL, w.AuthServer.IssueToken(authserver.Grant{NoUser: true, Scope: testenv.ScopeRead, Resource: w.MCPURL}))
	wantStatus(t, a, http.StatusForbidden)
	if got := a.header.Get("WWW-Authenticate"); got != "" {
		t.Errorf("WWW-Authenticate: got %s, want none", got)
	}
}

// inside returns the last phantom token and the last exchanged token that passed.
func (w *world) inside(t *testing.T) (phantom, exchanged string) {
	t.Helper()
	for _, e := range w.Recorder.All() {
		token := bearer(e)
		if !isJWT(token) {
			continue
		}
		switch _, claims := decode(t, token); {
		case claims["aud"] == testenv.MCPAudience && claims["iss"] == w.PhantomIssuer:
			phantom = token
		case claims["aud"] == testenv.APIAudience:
			exchanged = token
		}
	}
	if phantom == "" || exchanged == "" {
		t.Fatal("expected both tokens to have passed")
	}
	return phantom, exchanged
}

func refusedPhantomOutside(t *testing.T, w *world) {
	phantom, exchanged := w.inside(t)
	w.refusedAsInvalid(t, phantom)
	w.refusedAsInvalid(t, exchanged)
}

func refusedExchangedAtServer(t *testing.T, w *world) {
	_, exchanged := w.inside(t)
	wantStatus(t, w.ask(t, w.MCPServerURL, exchanged), http.StatusUnauthorized)
	wantStatus(t, w.ask(t, w.MCPServerURL, w.readToken()), http.StatusUnauthorized)
}

func refusedPhantomAtAPI(t *testing.T, w *world) {
	phantom, _ := w.inside(t)
	a := w.do(t, "GET", w.APIURL+"/stocks", "", "Authorization", "Bearer "+phantom)
	wantStatus(t, a, http.StatusUnauthorized)
	if got := a.header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: got %s", got)
	}
}
