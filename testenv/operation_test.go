package testenv_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/authserver"
)

func introspectedOnce(t *testing.T, w *world) {
	token := w.readToken()
	before := w.AuthServer.Introspections()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if a, err := w.send(t.Context(), http.MethodPost, w.MCPURL, toolsList, mcpHeader(token)...); err != nil || a.status != http.StatusOK {
				t.Errorf("got status %d, %v; want 200", a.status, err)
			}
		})
	}
	wg.Wait()
	if got := w.AuthServer.Introspections() - before; got != 1 {
		t.Errorf("introspections for 64 requests at once: got %d, want 1", got)
	}
}

// The second price is held back until the client has seen the progress of the first: a
// gateway that buffers would wait for ever.
func streams(t *testing.T, w *world) {
	second := w.holdRequest("/stocks/GLBX")
	defer second.release()
	first := make(chan string, 1)
	go func() {
		first <- <-w.progress
		second.release()
	}()
	text, refused, err := w.john.Call(t.Context(), "fetch_stock_prices", map[string]any{"symbols": []string{"ACME", "GLBX"}})
	if err != nil || refused {
		t.Fatalf("prices: got %s, refused %t, %v", text, refused, err)
	}
	if got := receive(t, first, "the first progress"); got != "ACME" {
		t.Errorf("first progress: got %q, want ACME", got)
	}
	if got := receive(t, w.progress, "the second progress"); got != "GLBX" {
		t.Errorf("second progress: got %q, want GLBX", got)
	}
}

// The client goes away while the API is at work for it. The API's caller, the MCP server,
// goes away too: the disconnect has come through gateway and MCP server.
func disconnect(t *testing.T, w *world) {
	second := w.holdRequest("/stocks/INIT")
	defer second.release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, _, err := w.john.Call(ctx, "fetch_stock_prices", map[string]any{"symbols": []string{"ACME", "INIT"}})
		failed <- err
	}()
	receive(t, second.arrived, "the second request at the API")
	receive(t, w.progress, "the progress of the first")
	cancel()
	if err := receive(t, failed, "the end of the canceled call"); err == nil {
		t.Error("the canceled call succeeded")
	}
	receive(t, second.gone, "the end of the API's caller")
}

func serverDown(t *testing.T, w *world) {
	known := w.readToken()
	wantStatus(t, w.ask(t, w.MCPURL, known), http.StatusOK)
	fresh := w.readToken()
	w.AuthServer.Trouble(authserver.Trouble{Down: true})
	defer w.AuthServer.Trouble(authserver.Trouble{})
	a := w.ask(t, w.MCPURL, fresh, "Origin", "https://inspector.example")
	wantStatus(t, a, http.StatusServiceUnavailable)
	wantOpen(t, a)
	if a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" || strings.TrimSpace(a.body) != `{"error":"temporarily_unavailable"}` {
		t.Errorf("got Retry-After %q, challenge %q, body %s", a.header.Get("Retry-After"), a.header.Get("WWW-Authenticate"), a.body)
	}
	wantStatus(t, w.ask(t, w.MCPURL, known), http.StatusOK)
	if _, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused {
		t.Errorf("a client at work: refused %t, %v", refused, err)
	}
}

// reload loads the same configuration with another name of the resource; Kong then closes
// every plugin instance and starts a new one.
func reload(t *testing.T, w *world) {
	token := w.readToken()
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	before := w.AuthServer.Introspections()
	w.configure(t, "resource_name: Stocks", "resource_name: Stocks and more")
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	if got := w.AuthServer.Introspections() - before; got != 0 {
		t.Errorf("introspections after the new configuration: got %d, want 0", got)
	}
	if a := w.do(t, "GET", w.origin()+"/.well-known/oauth-protected-resource/mcp", ""); !strings.Contains(a.body, `"Stocks and more"`) {
		t.Errorf("metadata after the new configuration: got %s", a.body)
	}
	w.configure(t, "", "")
}

// revocation shows both sides of token_cache_seconds: with it a revoked token that is known
// goes on for so long at most, without it the next request asks.
func revocation(t *testing.T, w *world) {
	token := w.readToken()
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	w.AuthServer.Revoke(token)
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)

	w.configure(t, "token_cache_seconds: 300", "token_cache_seconds: 0")
	token = w.readToken()
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	w.AuthServer.Revoke(token)
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusUnauthorized)
	w.configure(t, "", "")
}

// configure loads kong.yml with one piece of it replaced, or as it is.
func (w *world) configure(t *testing.T, from, to string) {
	t.Helper()
	yaml := readFile(t, "../kong.yml")
	if !strings.Contains(yaml, from) {
		t.Fatalf("expected %q in kong.yml", from)
	}
	if err := w.Gateway.Reload([]byte(strings.Replace(yaml, from, to, 1))); err != nil {
		t.Fatal(err)
	}
}

func brokenConfiguration(t *testing.T, w *world) {
	yaml := readFile(t, "../kong.yml") + `
- name: broken
  url: http://mcp-server:9000
  plugins:
  - name: phantom-token
    config:
      introspection_endpoint: http://keycloak:8080/realms/mcp/protocol/openid-connect/token/introspect
      client_id: api-gateway-client
      client_secret: "{vault://env/there-is-no-such-variable}"
      resource: http://localhost:8000/broken
      authorization_servers: [http://localhost:8180/realms/mcp]
  routes:
  - name: broken
    paths: [/broken]
    strip_path: false
`
	if err := w.Gateway.Reload([]byte(yaml)); err != nil {
		t.Fatal(err)
	}
	a := w.ask(t, w.origin()+"/broken", w.readToken())
	wantStatus(t, a, http.StatusInternalServerError)
	if strings.TrimSpace(a.body) != `{"error":"server_error"}` {
		t.Errorf("body: got %s", a.body)
	}
	wantStatus(t, w.ask(t, w.MCPURL, w.readToken()), http.StatusOK)
	if !strings.Contains(w.Log.String(), "client_secret") {
		t.Error("expected a log line that names client_secret")
	}
	w.configure(t, "", "")
}

func nothingLeaves(t *testing.T, w *world) {
	outside := 0
	for _, e := range w.Recorder.All() {
		if !slices.Contains([]string{"MCP client", "browser", "outside"}, e.From) {
			continue
		}
		outside++
		for word := range strings.FieldsFuncSeq(fmt.Sprint(e.Header)+string(e.Body), func(r rune) bool { return strings.ContainsRune(" \t\n\",;[]{}=", r) }) {
			if isJWT(word) {
				t.Errorf("a JWT in the answer to %s %s", e.Method, e.URL)
			}
		}
	}
	if outside < 50 {
		t.Errorf("exchanges seen outside: got %d, want the whole run", outside)
	}
}

func logsAreClean(t *testing.T, w *world) {
	log := w.Log.String()
	for _, part := range []string{"phantom-token", testenv.AuthServer, testenv.Advisor, testenv.MCPServer, testenv.StocksAPI, "token exchange decided"} {
		if !strings.Contains(log, part) {
			t.Errorf("nothing of %s in the log: the search would prove nothing", part)
		}
	}
	seen := w.secretsSeen()
	if len(seen) < 50 {
		t.Errorf("tokens and secrets seen: got %d, want the whole run", len(seen))
	}
	for line := range strings.Lines(log) {
		for _, secret := range seen {
			if strings.Contains(line, secret) {
				t.Errorf("a secret in a log line: %s", strings.ReplaceAll(line, secret, "[the secret]"))
			}
		}
	}
	if strings.Contains(log, "DATA RACE") {
		t.Error("a data race in the plugin or the sidecar: " + log[strings.Index(log, "DATA RACE"):])
	}
}
