package advisor_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/advisor"
	"phantomtoken/testenv/issuertest"
	"phantomtoken/tokenexchange"
)

const (
	audience       = "https://advisor.example"
	stocksAudience = "https://mcp.example"
	exchanged      = "token-for-the-stocks-server"
)

func TestTools(t *testing.T) {
	w := start(t)
	compare := map[string]any{"symbols": []string{"ACME", "GLBX"}}
	tests := []struct {
		name      string
		tool      string
		arguments map[string]any
		refusal   *tokenexchange.Error // of the token endpoint
		stocksGo  bool                 // the stocks server goes away
		wantError bool
		want      string // part of the text
	}{
		{"Compare", "compare_stocks", compare, nil, false, false, `{"cheapest":"GLBX","prices":[{"currency":"USD","price":88.21,"symbol":"GLBX"},{"currency":"USD","price":412.5,"symbol":"ACME"}]}`},
		{"CompareOne", "compare_stocks", map[string]any{"symbols": []string{"ACME"}}, nil, false, true, "minItems"},
		{"CompareUnknown", "compare_stocks", map[string]any{"symbols": []string{"ACME", "NONE"}}, nil, false, true, "fetch_stock_prices of the stocks server: no such stock"},
		{"BuyCheapest", "buy_cheapest", compare, nil, false, false, `"symbol":"GLBX"`},
		{"TokenRefused", "compare_stocks", compare, &tokenexchange.Error{Code: tokenexchange.ErrorInvalidTarget, Description: "not there", Status: 400}, false, true,
			"no token for the stocks server, invalid_target: not there"},
		{"NoTokenNow", "compare_stocks", compare, &tokenexchange.Error{Code: tokenexchange.ErrorTemporarilyUnavailable, Status: 503}, false, true,
			"no token for the stocks server can be had now, try again later"},
		{"StocksServerAway", "compare_stocks", compare, nil, true, true, "the stocks server cannot be called now, try again later"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.refusal.Store(tt.refusal)
			w.away.Store(tt.stocksGo)
			// A token of its own for each case: refusals are remembered for a while.
			phantom := w.gateway.Token(t, keyring.Token{Audience: []string{audience}, Scope: oauth.Scopes{"advisor/use", "stocks/read"}})
			res, err := w.connect(t, phantom).CallTool(t.Context(), &mcp.CallToolParams{Name: tt.tool, Arguments: tt.arguments})
			if err != nil {
				t.Fatal(err)
			}
			said := res.Content[0].(*mcp.TextContent).Text
			if res.IsError != tt.wantError || !strings.Contains(said, tt.want) {
				t.Errorf("got error=%t %s; want error=%t with %q in it", res.IsError, said, tt.wantError, tt.want)
			}
		})
	}
	if w.wrongToken.Load() {
		t.Error("the stocks server got another token than the exchanged one")
	}
}

func TestRefusesTokensThatAreNotForIt(t *testing.T) {
	w := start(t)
	use := oauth.Scopes{"advisor/use", "stocks/read"}
	for _, tt := range []struct {
		name, token string
		want        int
	}{
		{"NoToken", "", 401},
		{"RejectsAudienceOfTheStocksServer", w.gateway.Token(t, keyring.Token{Audience: []string{stocksAudience}, Scope: use}), 401},
		{"RejectsTokenOfAnotherIssuer", issuertest.Start(t).Token(t, keyring.Token{Audience: []string{audience}, Scope: use}), 401},
		{"ScopeMissing", w.gateway.Token(t, keyring.Token{Audience: []string{audience}, Scope: oauth.Scopes{"stocks/read"}}), 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
			if err != nil {
				t.Fatal(err)
			}
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			res, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != tt.want {
				t.Errorf("got %d, want %d", res.StatusCode, tt.want)
			}
		})
	}
}

func TestNewNeedsItsConfiguration(t *testing.T) {
	good := advisor.Config{
		Issuer: "https://gw.example", Audience: audience, StocksURL: "https://mcp.example/mcp", StocksAudience: stocksAudience,
		TokenEndpoint: "https://sts.example/token", ClientID: "c", ClientSecret: "s",
	}
	if _, err := advisor.New(good); err != nil {
		t.Fatalf("complete configuration: %v", err)
	}
	for name, spoil := range map[string]func(*advisor.Config){
		"Issuer":         func(c *advisor.Config) { c.Issuer = "" },
		"Audience":       func(c *advisor.Config) { c.Audience = "" },
		"StocksURL":      func(c *advisor.Config) { c.StocksURL = "" },
		"StocksAudience": func(c *advisor.Config) { c.StocksAudience = "" },
		"TokenEndpoint":  func(c *advisor.Config) { c.TokenEndpoint = "" },
		"ClientID":       func(c *advisor.Config) { c.ClientID = "" },
		"ClientSecret":   func(c *advisor.Config) { c.ClientSecret = "" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := advisor.New(cfg); err == nil {
			t.Errorf("without %s: got nil, want an error", name)
		}
	}
}

// world is an advisor with a small stocks server and a token endpoint.
type world struct {
	gateway *issuertest.Issuer
	url     string
	client  *http.Client

	refusal    atomic.Pointer[tokenexchange.Error] // what the token endpoint answers; nil: a token
	away       atomic.Bool                         // the stocks server breaks off connections
	wrongToken atomic.Bool
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{gateway: issuertest.Start(t)}
	tokens := httptest.NewServer(http.HandlerFunc(w.issue))
	t.Cleanup(tokens.Close)
	stocks := httptest.NewServer(w.stocks())
	t.Cleanup(stocks.Close)
	handler, err := advisor.New(advisor.Config{
		Issuer: w.gateway.URL(), Audience: audience, StocksURL: stocks.URL, StocksAudience: stocksAudience,
		TokenEndpoint: tokens.URL, ClientID: "advisor", ClientSecret: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	w.url, w.client = server.URL, server.Client()
	return w
}

func (w *world) issue(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	if refusal := w.refusal.Load(); refusal != nil {
		rw.WriteHeader(refusal.Status)
		_ = json.NewEncoder(rw).Encode(refusal)
		return
	}
	if r.PostFormValue("audience") != stocksAudience {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(rw).Encode(tokenexchange.Response{
		AccessToken: exchanged, IssuedTokenType: tokenexchange.TokenTypeAccessToken, TokenType: tokenexchange.Bearer, ExpiresIn: time.Minute,
	})
}

// stocks is a stocks server with fixed prices.
func (w *world) stocks() http.Handler {
	type in struct {
		Symbols []string `json:"symbols,omitempty"`
		Symbol  string   `json:"symbol,omitempty"`
		Side    string   `json:"side,omitempty"`
		Number  int      `json:"quantity,omitempty"`
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "stocks", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "fetch_stock_prices"}, func(_ context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, map[string]any, error) {
		if in.Symbols[1] != "GLBX" {
			return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: "no such stock"}}}, nil, nil
		}
		return nil, map[string]any{"prices": []any{
			map[string]any{"symbol": "ACME", "price": 412.5, "currency": "USD"},
			map[string]any{"symbol": "GLBX", "price": 88.21, "currency": "USD"},
		}}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "place_order"}, func(_ context.Context, _ *mcp.CallToolRequest, in in) (*mcp.CallToolResult, map[string]any, error) {
		return nil, map[string]any{"order_id": "1", "symbol": in.Symbol, "price": 88.21}, nil
	})
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+exchanged {
			w.wrongToken.Store(true)
		}
		if w.away.Load() {
			if conn, _, err := http.NewResponseController(rw).Hijack(); err == nil {
				_ = conn.Close()
			}
			return
		}
		handler.ServeHTTP(rw, r)
	})
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

func (w *world) connect(t *testing.T, token string) *mcp.ClientSession {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: w.url, HTTPClient: &http.Client{Transport: bearer{token, w.client.Transport}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}
