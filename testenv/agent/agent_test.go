package agent_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
)

func TestConnect(t *testing.T) {
	for _, tt := range []struct {
		name    string
		publish bool
		scopes  []string
		want    string // words on the consent page
	}{
		{"RegistersItself", false, nil, "Read prices"},
		{"PublishesItsMetadata", true, nil, "Read prices"},
		{"AsksForMore", false, []string{"stocks/trade"}, "Place orders"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t)
			cfg := agent.Config{URL: w.url, Name: "Test Agent", User: "john", Password: "secret", Scopes: tt.scopes}
			if tt.publish {
				cfg.Publish = w.publish
			}
			var senders []string
			var mu sync.Mutex
			cfg.Wrap = func(from string, next http.RoundTripper) http.RoundTripper {
				return roundTrip(func(req *http.Request) (*http.Response, error) {
					mu.Lock()
					senders = append(senders, from)
					mu.Unlock()
					return next.RoundTrip(req)
				})
			}
			a, err := agent.Connect(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := a.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			text, refused, err := a.Call(t.Context(), "hello", nil)
			if err != nil || refused || text != "hello, agent" {
				t.Errorf("Call: got %q, %t, %v; want hello, agent", text, refused, err)
			}
			token, err := a.Token(t.Context())
			if err != nil || token == "" || w.lastToken() != token {
				t.Errorf("Token: got another than the server saw (%v)", err)
			}
			if a.Logins() != 1 || a.RedirectIssuer() != w.auth.Issuer() {
				t.Errorf("got %d logins, issuer %q; want 1, %q", a.Logins(), a.RedirectIssuer(), w.auth.Issuer())
			}
			var consent string
			for _, page := range a.Pages() {
				if strings.Contains(page.Text, "act for you") {
					consent = page.Text
				}
			}
			if !strings.Contains(consent, "Test Agent") || !strings.Contains(consent, tt.want) {
				t.Errorf("consent page: got %q, want the client's name and %q", consent, tt.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if all := strings.Join(senders, " "); !strings.Contains(all, "browser") || !strings.Contains(all, "MCP client") {
				t.Errorf("senders: got %s, want both", all)
			}
		})
	}
}

func TestConnectWithAWrongPassword(t *testing.T) {
	w := start(t)
	a, err := agent.Connect(t.Context(), agent.Config{URL: w.url, Name: "Test Agent", User: "john", Password: "wrong"})
	if err == nil {
		_ = a.Close()
		t.Fatal("got a session, want an error")
	}
	if !strings.Contains(err.Error(), "expected a consent page") {
		t.Errorf("got %v, want the name of the missing page", err)
	}
}

// world is an MCP server with metadata that believes every token, and a real authorization
// server.
type world struct {
	auth *authserver.Server
	url  string

	documents *httptest.Server
	mu        sync.Mutex
	document  []byte
	token     string
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w.url = server.URL + "/mcp"
	w.documents = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write(w.document)
	}))
	t.Cleanup(w.documents.Close)
	cas := x509.NewCertPool()
	cas.AddCert(w.documents.Certificate())

	var err error
	w.auth, err = authserver.Start(t.Context(), authserver.Config{
		Users:     []authserver.User{{Name: "john", Password: "secret"}},
		Resources: []string{w.url},
		Scopes: []authserver.Scope{
			{Name: "stocks/read", Description: "Read prices"},
			{Name: "stocks/trade", Description: "Place orders"},
		},
		ClientMetadataHosts: []string{w.documents.Listener.Addr().String()},
		ClientMetadataCAs:   cas,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.auth.Close() })

	mcpServer := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	mcpServer.AddTool(&mcp.Tool{Name: "hello", InputSchema: map[string]any{"type": "object"}}, hello)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return mcpServer }, &mcp.StreamableHTTPOptions{Stateless: true})
	metadata := "/.well-known/oauth-protected-resource/mcp"
	mux.HandleFunc("GET "+metadata, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(map[string]any{"resource": w.url, "authorization_servers": []string{w.auth.Issuer()}})
	})
	mux.HandleFunc("/mcp", func(rw http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			rw.Header().Set("WWW-Authenticate", `Bearer resource_metadata="`+server.URL+metadata+`", scope="stocks/read"`)
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.mu.Lock()
		w.token = token
		w.mu.Unlock()
		handler.ServeHTTP(rw, r)
	})
	return w
}

func (w *world) lastToken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.token
}

func (w *world) publish(document map[string]any) (string, error) {
	id := w.documents.URL + "/client.json"
	document["client_id"] = id
	data, err := json.Marshal(document)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.document = data
	return id, err
}

func hello(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello, agent"}}}, nil
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
