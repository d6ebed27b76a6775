package mcpserver_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/issuertest"
	"phantomtoken/testenv/mcpserver"
	"phantomtoken/testenv/stocksapi"
	"phantomtoken/tokenexchange"
)

const (
	serverAudience = "https://mcp.internal.example"
	apiAudience    = "https://api.example"
)

func TestTools(t *testing.T) {
	w := start(t)
	agent := map[string]any{"region": "USA", "client_type": "mcp", "client_assurance_level": 1}
	backend := map[string]any{"region": "USA", "client_type": "backend", "client_assurance_level": 2}
	order := map[string]any{"symbol": "ACME", "side": "buy", "quantity": 2}
	tests := []struct {
		name      string
		scope     oauth.Scopes
		claims    map[string]any
		tool      string
		arguments map[string]any
		wantError bool
		want      string // part of the text
	}{
		{"ListStocks", oauth.Scopes{"stocks/read"}, agent, "list_stocks", nil, false, `"ACME"`},
		{"FetchStockPrices", oauth.Scopes{"stocks/read"}, agent, "fetch_stock_prices", map[string]any{"symbols": []string{"ACME", "GLBX"}}, false, `"price":88.21`},
		{"FetchOfAnotherRegion", oauth.Scopes{"stocks/read"}, agent, "fetch_stock_prices", map[string]any{"symbols": []string{"DUFF"}}, true, `status 404, not_found: No such stock in region "USA"`},
		{"FetchOfNothing", oauth.Scopes{"stocks/read"}, agent, "fetch_stock_prices", map[string]any{"symbols": []string{}}, true, "minItems"},
		{"RejectsPathInSymbol", oauth.Scopes{"stocks/read"}, agent, "fetch_stock_prices", map[string]any{"symbols": []string{"../portfolio"}}, true, "pattern"},
		{"PortfolioOfAnAgent", oauth.Scopes{"stocks/read"}, agent, "read_portfolio", nil, true, "status 403, access_denied: Portfolios need a client_assurance_level of 2 or more, this client has 1"},
		{"PortfolioOfABackend", oauth.Scopes{"stocks/read"}, backend, "read_portfolio", nil, false, `"owner":"john"`},
		{"OrderOfAnAgent", oauth.Scopes{"stocks/read", "stocks/trade"}, agent, "place_order", order, true, "status 403, access_denied: Orders are not accepted from clients of client_type mcp"},
		{"OrderWithoutScope", oauth.Scopes{"stocks/read"}, agent, "place_order", order, true, "no token for the stocks API, invalid_scope: more than the subject token has"},
		{"OrderOfABackend", oauth.Scopes{"stocks/read", "stocks/trade"}, backend, "place_order", order, false, `"order_id"`},
		{"OrderOfTooMuch", oauth.Scopes{"stocks/read", "stocks/trade"}, backend, "place_order", map[string]any{"symbol": "ACME", "side": "buy", "quantity": 1000000}, true, "maximum"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			phantom := w.issuer.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: tt.scope, Extra: tt.claims})
			session := w.connect(t, phantom, nil)
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tt.tool, Arguments: tt.arguments})
			if err != nil {
				t.Fatal(err)
			}
			if got := text(t, res); res.IsError != tt.wantError || !strings.Contains(got, tt.want) {
				t.Errorf("got error=%t %s; want error=%t with %q in it", res.IsError, got, tt.wantError, tt.want)
			}
			for _, seen := range w.seenByAPI() {
				if strings.Contains(seen, phantom) {
					t.Error("the phantom token reached the API")
				}
			}
		})
	}
}

func TestToolsAreDescribed(t *testing.T) {
	w := start(t)
	session := w.connect(t, w.issuer.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: oauth.Scopes{"stocks/read"}}), nil)
	res, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	readOnly := map[string]bool{"list_stocks": true, "fetch_stock_prices": true, "read_portfolio": true, "place_order": false}
	for _, tool := range res.Tools {
		want, known := readOnly[tool.Name]
		if !known {
			t.Errorf("unexpected tool %s", tool.Name)
			continue
		}
		delete(readOnly, tool.Name)
		if tool.Title == "" || len(tool.Description) < 40 || tool.OutputSchema == nil {
			t.Errorf("%s: expected title, description and output schema", tool.Name)
		}
		if tool.Annotations == nil || tool.Annotations.ReadOnlyHint != want {
			t.Errorf("%s: readOnlyHint: want %t", tool.Name, want)
		}
	}
	if len(readOnly) > 0 {
		t.Errorf("missing tools: %v", readOnly)
	}
}

// The first progress notification arrives while the tool is still at work.
func TestProgressStreams(t *testing.T) {
	w := start(t)
	arrived := make(chan string, 4)
	session := w.connect(t, w.issuer.Token(t, keyring.Token{
		Audience: []string{serverAudience}, Scope: oauth.Scopes{"stocks/read"}, Extra: map[string]any{"region": "USA"},
	}), func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { arrived <- req.Params.Message })
	gate := make(chan struct{})
	w.holdBefore("/stocks/GLBX", gate)
	var first string
	go func() {
		select {
		case first = <-arrived:
		case <-t.Context().Done():
		}
		close(gate)
	}()
	params := &mcp.CallToolParams{Name: "fetch_stock_prices", Arguments: map[string]any{"symbols": []string{"ACME", "GLBX"}}}
	params.SetProgressToken("p")
	res, err := session.CallTool(t.Context(), params)
	if err != nil || res.IsError {
		t.Fatalf("CallTool: %v, %+v", err, res)
	}
	<-gate
	if first != "ACME" {
		t.Errorf("first progress: got %q, want ACME", first)
	}
}

func TestRefusesTokensThatAreNotForIt(t *testing.T) {
	w := start(t)
	now := time.Now()
	tests := []struct {
		name  string
		token string
		want  int
	}{
		{"NoToken", "", 401},
		{"Garbage", "garbage", 401},
		{"RejectsAudienceOfTheAPI", w.issuer.Token(t, keyring.Token{Audience: []string{apiAudience}, Scope: oauth.Scopes{"stocks/read"}}), 401},
		{"RejectsTheSidecarsToken", w.sidecar.Token(t, keyring.Token{Audience: []string{serverAudience}, Scope: oauth.Scopes{"stocks/read"}}), 401},
		{"RejectsExpired", w.issuer.Token(t, keyring.Token{Audience: []string{serverAudience}, IssuedAt: now.Add(-time.Hour), Expiry: now.Add(-time.Minute)}), 401},
		{"ScopeMissing", w.issuer.Token(t, keyring.Token{Audience: []string{serverAudience}}), 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Accept", "application/json, text/event-stream")
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			res, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.want || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("got %d with challenge %q, want %d with one", res.StatusCode, res.Header.Get("WWW-Authenticate"), tt.want)
			}
			if tt.token != "" && strings.Contains(string(body), tt.token) {
				t.Error("the answer quotes the token")
			}
		})
	}
}

func TestNewNeedsItsConfiguration(t *testing.T) {
	good := mcpserver.Config{
		Issuer: "https://gw.example", Audience: serverAudience, APIURL: "https://api.example", APIAudience: apiAudience,
		TokenEndpoint: "https://sts.example/token", ClientID: "c", ClientSecret: "s",
	}
	if _, err := mcpserver.New(good); err != nil {
		t.Fatalf("complete configuration: %v", err)
	}
	for name, spoil := range map[string]func(*mcpserver.Config){
		"Issuer":        func(c *mcpserver.Config) { c.Issuer = "" },
		"Audience":      func(c *mcpserver.Config) { c.Audience = "" },
		"APIURL":        func(c *mcpserver.Config) { c.APIURL = "" },
		"APIAudience":   func(c *mcpserver.Config) { c.APIAudience = "" },
		"TokenEndpoint": func(c *mcpserver.Config) { c.TokenEndpoint = "" },
		"ClientSecret":  func(c *mcpserver.Config) { c.ClientSecret = "" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := mcpserver.New(cfg); err == nil {
			t.Errorf("without %s: got nil, want an error", name)
		}
	}
}

// world is an MCP server with a real stocks API and a token endpoint that mints.
type world struct {
	issuer, sidecar *issuertest.Issuer
	url             string
	client          *http.Client

	mu   sync.Mutex
	seen []string // requests at the API, headers and all
	hold map[string]chan struct{}
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{issuer: issuertest.Start(t), sidecar: issuertest.Start(t), hold: map[string]chan struct{}{}}
	api, err := stocksapi.New(stocksapi.Config{Issuer: w.sidecar.URL(), Audience: apiAudience})
	if err != nil {
		t.Fatal(err)
	}
	apiServer := httptest.NewServer(w.tap(api))
	t.Cleanup(apiServer.Close)
	tokenServer := httptest.NewServer(w.tokenEndpoint(t))
	t.Cleanup(tokenServer.Close)
	handler, err := mcpserver.New(mcpserver.Config{
		Issuer: w.issuer.URL(), Audience: serverAudience,
		APIURL: apiServer.URL, APIAudience: apiAudience,
		TokenEndpoint: tokenServer.URL, ClientID: "mcp-server", ClientSecret: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	w.url, w.client = server.URL, server.Client()
	return w
}

// tokenEndpoint narrows scope as a strict service does and copies the other claims.
func (w *world) tokenEndpoint(t *testing.T) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		r.Body = http.MaxBytesReader(rw, r.Body, 1<<16)
		if err := r.ParseForm(); err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		req, err := tokenexchange.ParseRequest(r.PostForm)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(rw).Encode(err)
			return
		}
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: w.issuer.URL(), Audiences: []string{serverAudience}, Keys: w.issuer.Ring})
		if err != nil {
			t.Error(err)
			return
		}
		subject, err := verifier.Verify(r.Context(), req.SubjectToken)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(rw).Encode(&tokenexchange.Error{Code: tokenexchange.ErrorInvalidRequest})
			return
		}
		if !subject.Introspection.Scope.Contains(req.Scope) {
			rw.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(rw).Encode(&tokenexchange.Error{Code: tokenexchange.ErrorInvalidScope, Description: "more than the subject token has"})
			return
		}
		extra := map[string]any{}
		for _, name := range []string{"region", "client_type", "client_assurance_level"} {
			if v, ok := subject.Claims[name]; ok {
				extra[name] = v
			}
		}
		_ = json.NewEncoder(rw).Encode(tokenexchange.Response{
			AccessToken:     w.sidecar.Token(t, keyring.Token{Audience: req.Audience, Scope: req.Scope, Subject: subject.Introspection.Subject, Extra: extra}),
			IssuedTokenType: tokenexchange.TokenTypeAccessToken,
			TokenType:       tokenexchange.Bearer,
			ExpiresIn:       time.Minute,
		})
	})
}

// tap notes what reaches the API and holds back what the test wants held.
func (w *world) tap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var b strings.Builder
		_ = r.Header.Write(&b)
		w.mu.Lock()
		w.seen = append(w.seen, b.String())
		gate := w.hold[r.URL.Path]
		w.mu.Unlock()
		if gate != nil {
			<-gate
		}
		next.ServeHTTP(rw, r)
	})
}

func (w *world) holdBefore(path string, gate chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold[path] = gate
}

func (w *world) seenByAPI() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(req)
}

func (w *world) connect(t *testing.T, token string, progress func(context.Context, *mcp.ProgressNotificationClientRequest)) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{ProgressNotificationHandler: progress})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   w.url,
		HTTPClient: &http.Client{Transport: bearer{token, w.client.Transport}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func text(t *testing.T, res *mcp.CallToolResult) string {
	t.Helper()
	var b strings.Builder
	for _, c := range res.Content {
		if c, ok := c.(*mcp.TextContent); ok {
			b.WriteString(c.Text)
		}
	}
	return b.String()
}
