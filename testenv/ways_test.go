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
)

// eachWay shows something once for each way in which the MCP server calls the API. from is
// who calls the API then.
func eachWay(t *testing.T, w *world, show func(t *testing.T, from string)) {
	t.Helper()
	defer w.CallAPI(testenv.ByLibrary)
	for way, from := range map[testenv.Way]string{testenv.ByLibrary: testenv.MCPServer, testenv.ByProxy: testenv.Egress} {
		w.CallAPI(way)
		t.Run(string(way), func(t *testing.T) { show(t, from) })
	}
}

func bothWays(t *testing.T, w *world) {
	for _, tt := range []struct {
		name, scope string
		claims      map[string]any
		tool        string
		arguments   map[string]any
		path        string // of the API
		want        result
		wantToken   string // scope of the token at the API; empty: no token
	}{
		{"List", testenv.ScopeRead, nil, "list_stocks", nil, "/stocks", result{Text: `"ACME"`}, testenv.ScopeRead},
		{"Fetch", testenv.ScopeRead, nil, "fetch_stock_prices", symbols("GLBX"), "/stocks/GLBX", result{Text: `"price":88.21`}, testenv.ScopeRead},
		{"NarrowedToTheCall", testenv.ScopeRead + " " + testenv.ScopeTrade, nil, "list_stocks", nil, "/stocks", result{Text: `"ACME"`}, testenv.ScopeRead},
		{"OtherRegion", testenv.ScopeRead, nil, "fetch_stock_prices", symbols("DUFF"), "/stocks/DUFF",
			result{true, `status 404, not_found: No such stock in region "USA"`}, testenv.ScopeRead},
		{"Portfolio", testenv.ScopeRead, map[string]any{"client_assurance_level": 2}, "read_portfolio", nil, "/portfolio", result{Text: `"owner":"john`}, testenv.ScopeRead},
		{"PortfolioRefused", testenv.ScopeRead, nil, "read_portfolio", nil, "/portfolio", result{true, "status 403, access_denied: Portfolios need"}, testenv.ScopeRead},
		{"Order", testenv.ScopeRead + " " + testenv.ScopeTrade, map[string]any{"client_type": "backend"}, "place_order", order("ACME"), "/orders", result{Text: `"order_id"`}, testenv.ScopeTrade},
		{"OrderWithoutScope", testenv.ScopeRead, nil, "place_order", order("ACME"), "/orders", result{true, "no token for the stocks API, invalid_scope: "}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachWay(t, w, func(t *testing.T, from string) {
				token := w.AuthServer.IssueToken(authserver.Grant{Scope: tt.scope, Resource: w.MCPURL, Claims: tt.claims})
				r, all := w.call(t, w.MCPURL, token, tt.tool, tt.arguments)
				if r.IsError != tt.want.IsError || !strings.Contains(r.Text, tt.want.Text) {
					t.Errorf("got %+v, want %+v", r, tt.want)
				}
				phantom := bearer(between(all, testenv.Gateway, testenv.MCPServer, "")[0])
				calls := slices.DeleteFunc(all, func(e *recorder.Exchange) bool { return e.To != testenv.StocksAPI })
				if tt.wantToken == "" {
					if len(calls) != 0 {
						t.Errorf("calls of the API: got %d, want 0", len(calls))
					}
					return
				}
				if len(calls) != 1 || calls[0].From != from || len(between(calls, from, testenv.StocksAPI, tt.path)) != 1 {
					t.Fatalf("calls of the API: got %d, want one of %s at %s", len(calls), from, tt.path)
				}
				_, claims := decode(t, bearer(calls[0]))
				for name, want := range map[string]any{
					"iss": w.SidecarURL, "aud": testenv.APIAudience, "sub": w.Users[0].Name, "scope": tt.wantToken, "client_id": "mcp-server",
				} {
					if claims[name] != want {
						t.Errorf("claim %s: got %v, want %v", name, claims[name], want)
					}
				}
				if got := actors(claims); !slices.Equal(got, []string{"mcp-server", "mcp-client"}) {
					t.Errorf("actors: got %q", got)
				}
				if strings.Contains(fmt.Sprint(calls[0].RequestHeader), phantom) {
					t.Error("the phantom token went to the API")
				}
			})
		})
	}
}

// The first call of a token costs an exchange, further ones none: the library keeps what it
// got, and so does the sidecar behind the proxy.
func exchangedOnce(t *testing.T, w *world) {
	token := w.readToken()
	exchanges := 0
	for range 3 {
		_, all := w.call(t, w.MCPURL, token, "list_stocks", nil)
		exchanges += len(between(all, testenv.MCPServer, testenv.Sidecar, "/token"))
	}
	if exchanges != 1 {
		t.Errorf("exchanges for three calls: got %d, want 1", exchanges)
	}
	w.CallAPI(testenv.ByProxy)
	defer w.CallAPI(testenv.ByLibrary)
	issued := map[string]bool{}
	for range 3 {
		_, all := w.call(t, w.MCPURL, token, "list_stocks", nil)
		if got := len(between(all, testenv.MCPServer, testenv.Sidecar, "")); got != 0 {
			t.Errorf("requests of the MCP server at the sidecar's token endpoint: got %d, want 0", got)
		}
		issued[bearer(between(all, testenv.Egress, testenv.StocksAPI, "/stocks")[0])] = true
	}
	if len(issued) != 1 {
		t.Errorf("tokens for three calls through the proxy: got %d, want 1", len(issued))
	}
}

func traceContext(t *testing.T, w *world) {
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	header := []string{"Traceparent", "00-" + traceID + "-b7ad6b7169203331-01", "Tracestate", "vendor=value"}
	wantTrace := func(t *testing.T, all []*recorder.Exchange, steps ...[2]string) {
		t.Helper()
		for _, step := range steps {
			passed := between(all, step[0], step[1], "")
			if len(passed) == 0 {
				t.Errorf("%s → %s: nothing passed", step[0], step[1])
			}
			for _, e := range passed {
				if got := e.RequestHeader.Get("Traceparent"); !strings.HasPrefix(got, "00-"+traceID+"-") {
					t.Errorf("%s → %s: Traceparent: got %q, want trace %s", step[0], step[1], got, traceID)
				}
				if got := e.RequestHeader.Get("Tracestate"); got != "vendor=value" {
					t.Errorf("%s → %s: Tracestate: got %q, want what the client sent", step[0], step[1], got)
				}
			}
		}
	}
	eachWay(t, w, func(t *testing.T, from string) {
		_, all := w.call(t, w.MCPURL, w.readToken(), "list_stocks", nil, header...)
		wantTrace(t, all, [2]string{testenv.Gateway, testenv.MCPServer}, [2]string{from, testenv.StocksAPI})
		if from == testenv.MCPServer {
			wantTrace(t, all, [2]string{from, testenv.Sidecar})
		} else {
			wantTrace(t, all, [2]string{testenv.MCPServer, from})
		}
	})
	t.Run("through both servers", func(t *testing.T) {
		_, all := w.call(t, w.AdvisorURL, w.advisorToken(nil), "compare_stocks", symbols("ACME", "GLBX"), header...)
		wantTrace(t, all,
			[2]string{testenv.Gateway, testenv.Advisor}, [2]string{testenv.Advisor, testenv.Sidecar}, [2]string{testenv.Advisor, testenv.MCPServer},
			[2]string{testenv.MCPServer, testenv.Sidecar}, [2]string{testenv.MCPServer, testenv.StocksAPI})
	})
}

// auditLine is the part of an audit line that is looked at here.
type auditLine struct {
	Message     string   `json:"msg"`
	Outcome     string   `json:"outcome"`
	Via         string   `json:"via"`
	Caller      string   `json:"caller"`
	Audience    []string `json:"audience"`
	ID          string   `json:"jti"`
	SubjectID   string   `json:"subject_jti"`
	Client      string   `json:"subject_client_id"`
	Fingerprint string   `json:"subject_fingerprint"`
}

// audit reads the audit lines of a log.
func audit(log string) []auditLine {
	var out []auditLine
	for line := range strings.Lines(log) {
		var a auditLine
		if json.Unmarshal([]byte(line), &a) == nil && a.Message == "token exchange decided" {
			out = append(out, a)
		}
	}
	return out
}

func auditJoins(t *testing.T, w *world) {
	before := len(w.Log.String())
	_, all := w.call(t, w.AdvisorURL, w.advisorToken(nil), "compare_stocks", symbols("ACME", "GLBX"))
	var lines []auditLine
	eventually(t, "both audit lines are written", func() bool {
		lines = audit(w.Log.String()[before:])
		return len(lines) >= 2
	})
	if len(lines) != 2 {
		t.Fatalf("audit lines: got %+v, want one for each exchange", lines)
	}
	first, second := lines[0], lines[1]
	if first.Caller != "advisor" || second.Caller != "mcp-server" || first.Outcome != "granted" || second.Outcome != "granted" {
		t.Errorf("got %+v and %+v, want what the advisor was granted, then the MCP server", first, second)
	}
	if first.ID == "" || second.SubjectID != first.ID {
		t.Errorf("subject_jti of the second: got %q, want jti of the first, %q", second.SubjectID, first.ID)
	}
	// Both ends are tokens that passed.
	_, phantom := decode(t, bearer(between(all, testenv.Gateway, testenv.Advisor, "")[0]))
	_, last := decode(t, bearer(between(all, testenv.MCPServer, testenv.StocksAPI, "")[0]))
	if first.SubjectID != phantom["jti"] || second.ID != last["jti"] || first.Client != "agent" || second.Client != "advisor" {
		t.Errorf("got %+v and %+v, want jti %v at the beginning and %v at the end", first, second, phantom["jti"], last["jti"])
	}

	// Through the proxy there is one exchange, and a line like the others. The fingerprint finds
	// what was done for the same user with tokens of the same issuer.
	w.CallAPI(testenv.ByProxy)
	defer w.CallAPI(testenv.ByLibrary)
	before = len(w.Log.String())
	_, all = w.call(t, w.MCPURL, w.readToken(), "list_stocks", nil)
	eventually(t, "the audit line is written", func() bool {
		lines = audit(w.Log.String()[before:])
		return len(lines) >= 1
	})
	_, phantom = decode(t, bearer(between(all, testenv.Gateway, testenv.MCPServer, "")[0]))
	if len(lines) != 1 || lines[0].Via != "egress" || lines[0].SubjectID != phantom["jti"] || first.Fingerprint == "" || lines[0].Fingerprint != first.Fingerprint {
		t.Errorf("got %+v, want one line of the proxy, jti %v, for the same user", lines, phantom["jti"])
	}
}

// optionWay starts a stack whose MCP server has no credentials from the beginning.
func optionWay(t *testing.T, w *world) {
	s, err := testenv.Start(t.Context(), testenv.Options{Binaries: w.binaries, Way: testenv.ByProxy})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	token := s.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: s.MCPURL})
	r := w.callTool(t, s.MCPURL, token, "list_stocks", nil)
	all, err := s.Recorder.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.IsError || len(between(all, testenv.MCPServer, testenv.Egress, "/stocks")) != 1 || len(between(all, testenv.MCPServer, testenv.Sidecar, "")) != 0 {
		t.Errorf("got %+v, want stocks through the proxy and no exchange of the server's own", r)
	}
	wantStatus(t, w.do(t, http.MethodGet, s.EgressURL+"/stocks", ""), http.StatusUnauthorized)
}
