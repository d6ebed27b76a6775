package testenv_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// result is what a tool said.
type result struct {
	IsError bool
	Text    string
}

// callTool calls a tool as a client does that has no session, further headers after it.
func (w *world) callTool(t *testing.T, address, token, tool string, arguments map[string]any, header ...string) result {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": 1, "method": "tools/call",
		"params": map[string]any{"name": tool, "arguments": arguments},
	})
	if err != nil {
		t.Fatal(err)
	}
	a := w.do(t, http.MethodPost, address, string(body), append(mcpHeader(token), header...)...)
	wantStatus(t, a, http.StatusOK)
	for line := range strings.Lines(a.body) {
		data, ok := strings.CutPrefix(line, "data: ")
		var message struct {
			Result struct {
				IsError bool                    `json:"isError"`
				Content []struct{ Text string } `json:"content"`
			} `json:"result"`
		}
		if ok && json.Unmarshal([]byte(data), &message) == nil && len(message.Result.Content) == 1 {
			return result{message.Result.IsError, message.Result.Content[0].Text}
		}
	}
	t.Fatalf("%s: got %s, want the result of a tool", tool, a.body)
	return result{}
}

// call is callTool and what passed meanwhile.
func (w *world) call(t *testing.T, address, token, tool string, arguments map[string]any, header ...string) (result, []*recorder.Exchange) {
	t.Helper()
	w.take(t)
	r := w.callTool(t, address, token, tool, arguments, header...)
	return r, w.take(t)
}

// advisorToken issues a token as a client of the advisor has one that may trade as well.
func (w *world) advisorToken(claims map[string]any) string {
	return w.AuthServer.IssueToken(authserver.Grant{
		ClientID: "agent", Scope: testenv.ScopeAdvisor + " " + testenv.ScopeRead + " " + testenv.ScopeTrade, Resource: w.AdvisorURL, Claims: claims,
	})
}

func symbols(names ...string) map[string]any { return map[string]any{"symbols": names} }

// actors are the names in act, the current actor first.
func actors(claims map[string]any) []string {
	var out []string
	for act, ok := claims["act"].(map[string]any); ok; act, ok = act["act"].(map[string]any) {
		out = append(out, fmt.Sprint(act["sub"]))
	}
	return out
}

func chainOfActors(t *testing.T, w *world) {
	r, all := w.call(t, w.AdvisorURL, w.advisorToken(nil), "compare_stocks", symbols("ACME", "GLBX"))
	if r.IsError || !strings.Contains(r.Text, `"cheapest":"GLBX"`) {
		t.Fatalf("compare_stocks: got %+v", r)
	}
	arrived := between(all, testenv.Gateway, testenv.Advisor, "")
	inside := between(all, testenv.Advisor, testenv.MCPServer, "")
	calls := between(all, testenv.MCPServer, testenv.StocksAPI, "")
	if len(arrived) != 1 || len(inside) == 0 || len(calls) != 2 {
		t.Fatalf("got %d requests at the advisor, %d at the MCP server, %d at the API; want 1, some, 2", len(arrived), len(inside), len(calls))
	}
	expiry := 0.0
	for _, hop := range []struct {
		name, token             string
		issuer, audience, scope string
		client                  string
		actors                  []string
	}{
		{"at the advisor", bearer(arrived[0]), w.PhantomIssuer, testenv.AdvisorAudience, "advisor/use stocks/read stocks/trade", "agent", nil},
		{"at the MCP server", bearer(inside[len(inside)-1]), w.SidecarURL, testenv.MCPAudience, "stocks/read", "advisor", []string{"advisor", "agent"}},
		{"at the API", bearer(calls[1]), w.SidecarURL, testenv.APIAudience, "stocks/read", "mcp-server", []string{"mcp-server", "advisor", "agent"}},
	} {
		_, claims := decode(t, hop.token)
		for name, want := range map[string]any{
			"iss": hop.issuer, "aud": hop.audience, "scope": hop.scope, "client_id": hop.client,
			"sub": w.Users[0].Name, "region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
		} {
			if claims[name] != want {
				t.Errorf("%s: claim %s: got %v, want %v", hop.name, name, claims[name], want)
			}
		}
		if got := actors(claims); !slices.Equal(got, hop.actors) {
			t.Errorf("%s: actors: got %q, want %q", hop.name, got, hop.actors)
		}
		if exp := claims["exp"].(float64); expiry != 0 && exp > expiry {
			t.Errorf("%s: the token outlives the one before it", hop.name)
		} else {
			expiry = exp
		}
	}
	if got, want := calls[1].Header.Get(stocksapi.HeaderActors), `"mcp-server", "advisor", "agent"`; got != want {
		t.Errorf("%s: got %s, want %s", stocksapi.HeaderActors, got, want)
	}
	for _, e := range append(inside, calls...) {
		if e.RequestHeader.Get("Authorization") == "Bearer "+bearer(arrived[0]) {
			t.Errorf("the phantom token of the advisor went to %s", e.To)
		}
	}
	if want := `actors="[mcp-server advisor agent]"`; !strings.Contains(w.Log.String(), want) {
		t.Errorf("the API's log: expected %s in it", want)
	}
}

// The user let the client trade, but the policy lets the advisor only read.
func scopeOnlyNarrows(t *testing.T, w *world) {
	r, all := w.call(t, w.AdvisorURL, w.advisorToken(nil), "buy_cheapest", symbols("ACME", "GLBX"))
	if want := "place_order of the stocks server: no token for the stocks API, invalid_scope: "; !r.IsError || !strings.HasPrefix(r.Text, want) {
		t.Errorf("got %+v, want %q", r, want)
	}
	if got := len(between(all, testenv.MCPServer, testenv.StocksAPI, "/orders")); got != 0 {
		t.Errorf("orders at the API: got %d, want 0", got)
	}
}

// Three agents had called each other before the advisor was called.
func chainTooLong(t *testing.T, w *world) {
	act := map[string]any{"sub": "third", "act": map[string]any{"sub": "second", "act": map[string]any{"sub": "first"}}}
	r, all := w.call(t, w.AdvisorURL, w.advisorToken(map[string]any{"act": act}), "compare_stocks", symbols("ACME", "GLBX"))
	if want := "fetch_stock_prices of the stocks server: no token for the stocks API, invalid_request: subject_token was not accepted: expected at most 3 actors"; !r.IsError || !strings.HasPrefix(r.Text, want) || !strings.Contains(r.Text, "limits.actors") {
		t.Errorf("got %+v, want %q and the name of the limit", r, want)
	}
	if got := len(between(all, testenv.MCPServer, testenv.StocksAPI, "")); got != 0 {
		t.Errorf("calls of the API: got %d, want 0", got)
	}
}

func refusedOtherServer(t *testing.T, w *world) {
	_, all := w.call(t, w.AdvisorURL, w.advisorToken(nil), "compare_stocks", symbols("ACME", "GLBX"))
	phantom := bearer(between(all, testenv.Gateway, testenv.Advisor, "")[0])
	wantStatus(t, w.ask(t, w.MCPServerURL, phantom), http.StatusUnauthorized)
	// From outside, neither server takes a token for the other one.
	wantStatus(t, w.ask(t, w.AdvisorURL, w.readToken()), http.StatusUnauthorized)
	wantStatus(t, w.ask(t, w.MCPURL, w.advisorToken(nil)), http.StatusUnauthorized)
	// What the advisor got for the MCP server is for the MCP server alone.
	inside := bearer(between(all, testenv.Advisor, testenv.MCPServer, "")[0])
	wantStatus(t, w.ask(t, w.AdvisorURL, inside), http.StatusUnauthorized)
	wantStatus(t, w.do(t, "GET", w.APIURL+"/stocks", "", "Authorization", "Bearer "+inside), http.StatusUnauthorized)
}
