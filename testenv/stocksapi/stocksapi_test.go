package stocksapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/issuertest"
	"phantomtoken/testenv/stocksapi"
)

const audience = "https://api.example"

// token describes an access token by what the API decides on.
type token struct {
	scope     string
	region    string
	client    string // client_type
	assurance int
	audience  string
	expired   bool
	act       any
}

func TestOperations(t *testing.T) {
	api := start(t)
	backend := token{scope: "stocks/read stocks/trade", region: "USA", client: "backend", assurance: 2}
	agent := token{scope: "stocks/read stocks/trade", region: "Europe", client: "mcp", assurance: 1}
	const order = `{"symbol":"ACME","side":"buy","quantity":3}`
	tests := []struct {
		name       string
		token      token
		method     string
		path       string
		body       string
		wantStatus int
		wantError  string // error of the JSON body
		wantText   string // part of the body
	}{
		{"ListShowsOnlyTheRegion", backend, "GET", "/stocks", "", 200, "", `"GLBX"`},
		{"ListOfAnotherRegion", agent, "GET", "/stocks", "", 200, "", `"DUFF"`},
		{"ListWithoutRegionIsEmpty", token{scope: "stocks/read"}, "GET", "/stocks", "", 200, "", `"stocks":[]`},
		{"FetchOne", agent, "GET", "/stocks/DUFF", "", 200, "", `"price":57.3`},
		{"FetchOfAnotherRegionIsUnknown", agent, "GET", "/stocks/ACME", "", 404, "not_found", ""},
		{"FetchOfNothingIsUnknown", agent, "GET", "/stocks/NONE", "", 404, "not_found", ""},
		{"ReadNeedsScope", token{scope: "stocks/trade", region: "USA"}, "GET", "/stocks", "", 403, "insufficient_scope", "stocks/read"},
		{"PortfolioOfATrustedClient", backend, "GET", "/portfolio", "", 200, "", `"owner":"john"`},
		{"PortfolioNeedsAssurance", agent, "GET", "/portfolio", "", 403, "access_denied", "client_assurance_level of 2 or more, this client has 1"},
		{"PortfolioWithoutClaim", token{scope: "stocks/read"}, "GET", "/portfolio", "", 403, "access_denied", "this client has 0"},
		{"PortfolioNeedsScope", token{scope: "stocks/trade", assurance: 2}, "GET", "/portfolio", "", 403, "insufficient_scope", "stocks/read"},
		{"OrderOfABackend", backend, "POST", "/orders", order, 201, "", `"order_id"`},
		{"OrderOfAnAgentIsRefused", agent, "POST", "/orders", order, 403, "access_denied", "client_type mcp"},
		{"OrderNeedsScope", token{scope: "stocks/read", region: "USA"}, "POST", "/orders", order, 403, "insufficient_scope", "stocks/trade"},
		{"OrderOfAnUnknownStock", backend, "POST", "/orders", `{"symbol":"NONE","side":"buy","quantity":3}`, 404, "not_found", ""},
		{"OrderOfNothing", backend, "POST", "/orders", `{"symbol":"ACME","side":"buy","quantity":0}`, 400, "invalid_request", "quantity"},
		{"OrderThatIsNoJSON", backend, "POST", "/orders", `symbol=ACME`, 400, "invalid_request", ""},
		{"OrderThatIsTooLarge", backend, "POST", "/orders", `{"symbol":"` + strings.Repeat("A", 8<<10) + `"}`, 400, "invalid_request", ""},
		{"RejectsAudienceOfOtherResource", token{scope: "stocks/read", audience: "https://mcp.internal.example"}, "GET", "/stocks", "", 401, "invalid_token", "for audience https://api.example"},
		{"RejectsExpired", token{scope: "stocks/read", expired: true}, "GET", "/stocks", "", 401, "invalid_token", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := api.do(t, tt.method, tt.path, tt.body, "Bearer "+api.token(t, tt.token))
			if res.StatusCode != tt.wantStatus {
				t.Fatalf("status: got %d, want %d; body %s", res.StatusCode, tt.wantStatus, body)
			}
			var answer struct {
				Error string `json:"error"`
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error != tt.wantError {
				t.Errorf("error: got %q, %v; want %q", answer.Error, err, tt.wantError)
			}
			if !strings.Contains(body, tt.wantText) {
				t.Errorf("body: got %s, want %q in it", body, tt.wantText)
			}
			if got := res.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control: got %q, want no-store", got)
			}
		})
	}
}

// RFC 6750 §3: which answers carry a challenge, and what it says.
func TestChallenges(t *testing.T) {
	api := start(t)
	read := "Bearer " + api.token(t, token{scope: "stocks/read", client: "mcp"})
	tests := []struct {
		name, method, path, authorization string
		wantStatus                        int
		want                              string
	}{
		{"NoToken", "GET", "/stocks", "", 401, `Bearer realm="stocks"`},
		{"Garbage", "GET", "/stocks", "Bearer garbage", 401, `Bearer realm="stocks", error="invalid_token", error_description="Expected an unexpired access token of ISSUER for audience https://api.example"`},
		{"OtherScheme", "GET", "/stocks", "Basic eDp5", 400, `Bearer realm="stocks", error="invalid_request", error_description="Expected one Authorization field with one Bearer token"`},
		{"TwoCredentials", "GET", "/stocks", "Bearer a, Bearer b", 400, `Bearer realm="stocks", error="invalid_request", error_description="Expected one Authorization field with one Bearer token"`},
		{"PolicyRefusalHasNone", "POST", "/orders", read, 403, ""},
		{"ScopeIsNamed", "POST", "/orders", "Bearer " + api.token(t, token{scope: "stocks/read"}), 403, `Bearer realm="stocks", error="insufficient_scope", error_description="This operation needs scope stocks/trade", scope="stocks/trade"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := api.do(t, tt.method, tt.path, "", tt.authorization)
			if res.StatusCode != tt.wantStatus {
				t.Errorf("status: got %d, want %d; body %s", res.StatusCode, tt.wantStatus, body)
			}
			want := strings.ReplaceAll(tt.want, "ISSUER", api.issuer.URL())
			if got := res.Header.Get("WWW-Authenticate"); got != want {
				t.Errorf("WWW-Authenticate:\n got %s\nwant %s", got, want)
			}
		})
	}
}

// The API shows the whole chain of actors and decides by the current one (RFC 8693 §4.1).
//
// Covers: TX-37
func TestActors(t *testing.T) {
	api := start(t)
	issuer := api.issuer.URL()
	const order = `{"symbol":"ACME","side":"buy","quantity":3}`
	link := func(sub, iss string, before any) map[string]any {
		act := map[string]any{"sub": sub, "iss": iss}
		if before != nil {
			act["act"] = before
		}
		return act
	}
	agent := link("agent", "https://gw.example/phantom", nil)
	tests := []struct {
		name       string
		act        any
		wantStatus int
		wantActors string
		wantText   string
	}{
		{"NobodyActs", nil, 201, "", `"order_id"`},
		{"TheServer", link("mcp-server", issuer, agent), 201, `"mcp-server", "agent"`, `"order_id"`},
		{"AnotherServer", link("advisor", issuer, agent), 403, `"advisor", "agent"`, `Orders are accepted through mcp-server alone, not through \"advisor\"`},
		{"AnotherServerBehindTheServer", link("advisor", issuer, link("mcp-server", issuer, agent)), 403, `"advisor", "mcp-server", "agent"`, "access_denied"},
		{"PriorActorsDoNotDecide", link("mcp-server", issuer, link("advisor", issuer, agent)), 201, `"mcp-server", "advisor", "agent"`, `"order_id"`},
		{"RejectsSameNameOfAnotherIssuer", link("mcp-server", "https://gw.example/phantom", nil), 403, `"mcp-server"`, "access_denied"},
		{"ActorNamedByClientID", map[string]any{"client_id": "agent"}, 403, `"agent"`, `through \"agent\"`},
		{"NameThatLooksLikeAnotherField", link("a\r\nX-Admin: \"1\"", issuer, nil), 403, `"a\r\nX-Admin: \"1\""`, "access_denied"},
		{"ActThatIsNoObject", "mcp-server", 401, "", "act as objects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api.log.Reset()
			token := api.token(t, token{scope: "stocks/trade", region: "USA", client: "backend", act: tt.act})
			res, body := api.do(t, "POST", "/orders", order, "Bearer "+token)
			if res.StatusCode != tt.wantStatus || !strings.Contains(body, tt.wantText) {
				t.Errorf("got %d %s, want %d with %s", res.StatusCode, body, tt.wantStatus, tt.wantText)
			}
			if got := res.Header.Get(stocksapi.HeaderActors); got != tt.wantActors {
				t.Errorf("%s: got %s, want %s", stocksapi.HeaderActors, got, tt.wantActors)
			}
			if logged := strings.Contains(api.log.String(), "request authenticated"); logged != (tt.wantStatus != 401) {
				t.Errorf("a line with the chain: got %t; log %s", logged, api.log)
			}
		})
	}
}

func TestIssuerDown(t *testing.T) {
	api := start(t)
	api.issuer.Down(true)
	res, _ := api.do(t, "GET", "/stocks", "", "Bearer "+api.token(t, token{scope: "stocks/read"}))
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || res.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("got %d, Retry-After %q, WWW-Authenticate %q; want 503 with Retry-After and no challenge",
			res.StatusCode, res.Header.Get("Retry-After"), res.Header.Get("WWW-Authenticate"))
	}
}

func TestNewNeedsIssuerAndAudience(t *testing.T) {
	if _, err := stocksapi.New(stocksapi.Config{}); err == nil {
		t.Error("got nil, want an error")
	}
}

type running struct {
	issuer *issuertest.Issuer
	url    string
	client *http.Client
	log    *bytes.Buffer // requests come one at a time
}

func start(t *testing.T) *running {
	t.Helper()
	issuer := issuertest.Start(t)
	var log bytes.Buffer
	handler, err := stocksapi.New(stocksapi.Config{
		Issuer: issuer.URL(), Audience: audience, OrdersThrough: "mcp-server", Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &running{issuer, server.URL, server.Client(), &log}
}

func (r *running) token(t *testing.T, d token) string {
	t.Helper()
	scopes, err := oauth.ParseScopes(d.scope)
	if err != nil {
		t.Fatal(err)
	}
	out := keyring.Token{Audience: []string{audience}, Scope: scopes, Extra: map[string]any{}}
	if d.audience != "" {
		out.Audience = []string{d.audience}
	}
	if d.expired {
		out.IssuedAt = time.Now().Add(-time.Hour)
		out.Expiry = time.Now().Add(-time.Minute)
	}
	if d.region != "" {
		out.Extra["region"] = d.region
	}
	if d.client != "" {
		out.Extra["client_type"] = d.client
	}
	if d.act != nil {
		out.Extra["act"] = d.act
	}
	if d.assurance != 0 {
		out.Extra["client_assurance_level"] = d.assurance
	}
	return r.issuer.Token(t, out)
}

func (r *running) do(t *testing.T, method, path, body, authorization string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return res, string(data)
}
