//go:build keycloak

package keycloak_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/probe"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// secondServer connects a client that knows nothing but the URL of the advisor, follows a
// call through both MCP servers to the API, and shows how far its token reaches.
func secondServer(t *testing.T, w *world) {
	// John may trade, as far as he is concerned.
	a, err := agent.Connect(t.Context(), agent.Config{
		URL: w.AdvisorURL, Name: "Advised agent", User: john, Password: w.password,
		Scopes: []string{testenv.ScopeTrade}, Wrap: w.Recorder.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	var consent string
	for _, page := range a.Pages() {
		consent += page.Text
	}
	for _, want := range []string{"Advised agent", "Ask the stock advisor, which calls the stocks server for you", "Read stock prices of your region"} {
		if !strings.Contains(consent, want) {
			t.Errorf("consent: got %q, want %q in it", consent, want)
		}
	}

	w.take(t)
	symbols := map[string]any{"symbols": []string{"ACME", "GLBX"}}
	if text, refused, err := a.Call(t.Context(), "compare_stocks", symbols); err != nil || refused || !strings.Contains(text, `"cheapest":"GLBX"`) {
		t.Fatalf("compare_stocks: got %s, refused %t, %v; want GLBX as the cheapest", text, refused, err)
	}
	w.wantChain(t, tokenOf(t, a))

	text, refused, err := a.Call(t.Context(), "buy_cheapest", symbols)
	if err != nil || !refused || !strings.Contains(text, "no token for the stocks API, invalid_scope") {
		t.Errorf("buy_cheapest: got %s, refused %t, %v; want it refused, as the policy lets the advisor read", text, refused, err)
	}
	if orders := between(w.take(t), testenv.MCPServer, testenv.StocksAPI, "/orders"); len(orders) != 0 {
		t.Errorf("orders at the API: got %d, want none", len(orders))
	}

	// The token of a client of the first server is not for the second one. The other way round
	// it is, by the scope that both need.
	probe.WantInvalidToken(t, w.outside.AskMCP(t, w.AdvisorURL, tokenOf(t, w.john)))
	probe.WantStatus(t, w.ask(t, tokenOf(t, a)), http.StatusOK)
	// The scope of the advisor by itself leads to the advisor alone.
	body, redirect := nativeClient()
	body["scope"] = testenv.ScopeAdvisor
	c := w.mustRegister(t, body)
	c.scope, c.resource = testenv.ScopeAdvisor, w.AdvisorURL
	token := c.logIn(t, w.person(t, john), redirect).Text("access_token")
	_, claims := probe.Decode(t, token)
	if audience, _ := claims["aud"].([]any); !slices.Contains(audience, any(w.AdvisorURL)) || slices.Contains(audience, any(w.MCPURL)) {
		t.Errorf("aud of a token with advisor/use: got %v, want the advisor and not the MCP server", claims["aud"])
	}
	probe.WantInvalidToken(t, w.ask(t, token))
	missing := w.outside.AskMCP(t, w.AdvisorURL, token)
	probe.WantStatus(t, missing, http.StatusForbidden)
	if want := `scope="advisor/use stocks/read"`; !strings.Contains(missing.Challenge(), want) {
		t.Errorf("challenge: got %s, want %s", missing.Challenge(), want)
	}
}

// wantChain follows the last call from the gateway to the API, and wants the rights of the
// user in each token, the servers on the way in act, and the scope of the policy.
func (w *world) wantChain(t *testing.T, access string) {
	t.Helper()
	all := w.take(t)
	last := func(from, to string) *recorder.Exchange {
		found := between(all, from, to, "")
		if len(found) == 0 {
			t.Fatalf("nothing went from %s to %s", from, to)
		}
		return found[len(found)-1]
	}
	_, lightweight := probe.Decode(t, access)
	id, _ := lightweight["azp"].(string)
	atAPI := last(testenv.MCPServer, testenv.StocksAPI)
	var subject any
	for _, hop := range []struct {
		at               string
		arrived          *recorder.Exchange
		issuer, audience string
		scope            []string
		actors           []string
	}{
		{"at the advisor", last(testenv.Gateway, testenv.Advisor), w.PhantomIssuer, testenv.AdvisorAudience,
			[]string{testenv.ScopeAdvisor, testenv.ScopeRead, testenv.ScopeTrade}, nil},
		{"at the MCP server", last(testenv.Advisor, testenv.MCPServer), w.SidecarURL, testenv.MCPAudience,
			[]string{testenv.ScopeRead}, []string{"advisor", id}},
		{"at the API", atAPI, w.SidecarURL, testenv.APIAudience,
			[]string{testenv.ScopeRead}, []string{"mcp-server", "advisor", id}},
	} {
		_, claims := probe.Decode(t, bearer(hop.arrived))
		if subject == nil {
			subject = claims["sub"]
		}
		for name, want := range map[string]any{
			"iss": hop.issuer, "aud": hop.audience, "sub": subject, "region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
		} {
			if claims[name] != want || want == nil {
				t.Errorf("%s: %s: got %v, want %v", hop.at, name, claims[name], want)
			}
		}
		scope, _ := claims["scope"].(string)
		if got := strings.Fields(scope); !slices.Equal(slices.Sorted(slices.Values(got)), hop.scope) {
			t.Errorf("%s: scope: got %q, want %q", hop.at, got, hop.scope)
		}
		var actors []string
		for act, ok := claims["act"].(map[string]any); ok; act, ok = act["act"].(map[string]any) {
			sub, _ := act["sub"].(string)
			actors = append(actors, sub)
		}
		if !slices.Equal(actors, hop.actors) {
			t.Errorf("%s: act: got %q, want %q", hop.at, actors, hop.actors)
		}
	}
	if got, want := atAPI.Header.Get(stocksapi.HeaderActors), `"mcp-server", "advisor", "`+id+`"`; id == "" || got != want {
		t.Errorf("what the API says of the chain: got %s, want %s", got, want)
	}
}
