package testenv_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
)

func registersItself(t *testing.T, w *world) {
	user := w.Users[0]
	var err error
	w.john, err = agent.Connect(t.Context(), agent.Config{
		URL: w.MCPURL, Name: "Registered Agent", User: user.Name, Password: user.Password,
		Wrap: w.Recorder.Transport, Progress: func(m string) { w.progress <- m },
	})
	if err != nil {
		t.Fatal(err)
	}
	text, refused, err := w.john.Call(t.Context(), "fetch_stock_prices", map[string]any{"symbols": []string{"ACME"}})
	if err != nil || refused || !strings.Contains(text, `"price":412.5`) {
		t.Errorf("prices: got %s, refused %t, %v", text, refused, err)
	}
	receive(t, w.progress, "the progress of the call")
	if got := len(between(w.take(t), "MCP client", testenv.AuthServer, "/register")); got != 1 {
		t.Errorf("registrations: got %d, want 1", got)
	}
}

func publishesItsMetadata(t *testing.T, w *world) {
	user := w.Users[1]
	var err error
	w.jane, err = agent.Connect(t.Context(), agent.Config{
		URL: w.MCPURL, Name: "Published Agent", User: user.Name, Password: user.Password,
		Scopes: []string{testenv.ScopeTrade}, Publish: w.Publish, Wrap: w.Recorder.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, refused, err := w.jane.Call(t.Context(), "fetch_stock_prices", map[string]any{"symbols": []string{"DUFF"}})
	if err != nil || refused || !strings.Contains(text, `"price":57.3`) {
		t.Errorf("prices: got %s, refused %t, %v", text, refused, err)
	}
	all := w.take(t)
	if got := len(between(all, "MCP client", testenv.AuthServer, "/register")); got != 0 {
		t.Errorf("registrations: got %d, want 0", got)
	}
	for _, e := range between(all, testenv.Gateway, testenv.MCPServer, "/mcp") {
		_, claims := decode(t, bearer(e))
		if id, _ := claims["client_id"].(string); !strings.HasPrefix(id, "https://") {
			t.Errorf("client_id: got %q, want the URL of the metadata document", id)
		}
	}
}

func consentPage(t *testing.T, w *world) {
	for _, tt := range []struct {
		a    *agent.Agent
		want []string
	}{
		{w.john, []string{"Registered Agent", "Read stock prices of your region"}},
		{w.jane, []string{"Published Agent", "Read stock prices of your region", "Place stock orders in your name"}},
	} {
		pages := tt.a.Pages()
		i := slices.IndexFunc(pages, func(p agent.Page) bool { return strings.Contains(p.Text, "act for you") })
		if i < 0 {
			t.Errorf("no consent page among %d pages", len(pages))
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(pages[i].Text, want) {
				t.Errorf("consent page: got %q, want %q in it", pages[i].Text, want)
			}
		}
	}
}

func accessToken(t *testing.T, w *world) {
	// A client without a secret is tried with HTTP Basic first by the SDK, and refused.
	responses := slices.DeleteFunc(between(w.Recorder.All(), "MCP client", testenv.AuthServer, "/token"),
		func(e *recorder.Exchange) bool { return e.Status != http.StatusOK })
	if len(responses) != 2 {
		t.Fatalf("token responses: got %d, want 2", len(responses))
	}
	for _, e := range responses {
		var got map[string]any
		if err := json.Unmarshal(e.Body, &got); err != nil {
			t.Fatal(err)
		}
		if token, _ := got["access_token"].(string); token == "" || strings.Contains(token, ".") {
			t.Error("expected an opaque access token")
		}
		if got["expires_in"] != 900.0 || got["refresh_token"] != nil {
			t.Errorf("got expires_in %v, refresh token %t; want 900, false", got["expires_in"], got["refresh_token"] != nil)
		}
		form, err := url.ParseQuery(string(e.RequestBody))
		if err != nil || form.Get("code_verifier") == "" || form.Get("resource") != w.MCPURL {
			t.Errorf("token request: got resource %q, verifier %t; want %q and one", form.Get("resource"), form.Has("code_verifier"), w.MCPURL)
		}
	}
	if got := w.john.RedirectIssuer(); got != w.AuthServer.Issuer() {
		t.Errorf("iss in the redirect: got %q, want %q", got, w.AuthServer.Issuer())
	}
}

func challenge(t *testing.T, w *world) {
	want := `Bearer resource_metadata="` + w.origin() + `/.well-known/oauth-protected-resource/mcp", scope="stocks/read"`
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
		a := w.do(t, method, w.MCPURL, "")
		wantStatus(t, a, http.StatusUnauthorized)
		for name, value := range map[string]string{
			"WWW-Authenticate": want, "Cache-Control": "no-store", "Content-Type": "application/json",
			"Access-Control-Allow-Origin":   "*",
			"Access-Control-Expose-Headers": "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, DPoP-Nonce",
		} {
			if got := a.header.Values(name); !slices.Equal(got, []string{value}) {
				t.Errorf("%s: %s: got %q, want %q", method, name, got, value)
			}
		}
		if method != "HEAD" && strings.TrimSpace(a.body) != `{"error":"unauthorized"}` {
			t.Errorf("%s: body: got %s", method, a.body)
		}
	}
}

func passedThrough(t *testing.T, w *world) {
	token := w.readToken()
	for _, method := range []string{"GET", "DELETE"} {
		a := w.do(t, method, w.MCPURL, "", mcpHeader(token)...)
		wantStatus(t, a, http.StatusMethodNotAllowed)
		if got := a.header.Get("Allow"); got != "POST" {
			t.Errorf("%s: Allow: got %q, want the MCP server's own", method, got)
		}
	}
}

func metadata(t *testing.T, w *world) {
	const root = "/.well-known/oauth-protected-resource"
	want := map[string]any{
		"resource": w.MCPURL, "authorization_servers": []any{w.AuthServer.Issuer()},
		"scopes_supported": []any{"stocks/read"}, "bearer_methods_supported": []any{"header"}, "resource_name": "Stocks",
	}
	for _, path := range []string{root + "/mcp", root + "/mcp/", root, root + "/"} {
		for _, token := range []string{"", "garbage-token"} {
			header := []string{}
			if token != "" {
				header = []string{"Authorization", "Bearer " + token}
			}
			wantStatus(t, w.do(t, "HEAD", w.origin()+path, "", header...), http.StatusOK)
			a := w.do(t, "GET", w.origin()+path, "", header...)
			wantStatus(t, a, http.StatusOK)
			var got map[string]any
			if err := json.Unmarshal([]byte(a.body), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %s, want %v", path, a.body, want)
			}
			if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "public, max-age=300" {
				t.Errorf("%s: got Content-Type %q, Cache-Control %q", path, a.header.Get("Content-Type"), a.header.Get("Cache-Control"))
			}
		}
	}
}

func probes(t *testing.T, w *world) {
	for _, path := range []string{
		"/.well-known/oauth-protected-resource/other", "/.well-known/oauth-protected-resource/mcp/more",
		"/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/mcp",
		"/.well-known/openid-configuration", "/.well-known/openid-configuration/mcp",
		"/register", "/authorize", "/token",
	} {
		a := w.do(t, "GET", w.origin()+path, "")
		wantStatus(t, a, http.StatusNotFound)
		if a.header.Get("Content-Type") != "application/json" || !json.Valid([]byte(a.body)) || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: got %q %s, challenge %q; want JSON and no challenge", path, a.header.Get("Content-Type"), a.body, a.header.Get("WWW-Authenticate"))
		}
	}
}

func crossOrigin(t *testing.T, w *world) {
	const origin = "https://inspector.example"
	for _, path := range []string{"/mcp", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"} {
		a := w.do(t, "OPTIONS", w.origin()+path, "", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version")
		wantStatus(t, a, http.StatusNoContent)
		for _, name := range []string{"Authorization", "Content-Type", "MCP-Protocol-Version", "Mcp-Method"} {
			if !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), name) {
				t.Errorf("%s: Access-Control-Allow-Headers: got %q, want %s in it", path, a.header.Get("Access-Control-Allow-Headers"), name)
			}
		}
	}
	for _, path := range []string{"/mcp", "/.well-known/oauth-protected-resource/mcp"} {
		a := w.do(t, "GET", w.origin()+path, "", "Origin", origin)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("%s: Access-Control-Allow-Origin: got %q, want *", path, got)
		}
	}
	// Every answer of the endpoint may be read, whoever gave it.
	for token, want := range map[string]int{
		w.readToken():   http.StatusOK,
		"garbage-token": http.StatusUnauthorized,
		w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeTrade, Resource: w.MCPURL}): http.StatusForbidden,
	} {
		a := w.ask(t, w.MCPURL, token, "Origin", origin)
		wantStatus(t, a, want)
		wantOpen(t, a)
	}
}

// wantOpen wants an answer that a script of any web page may read.
func wantOpen(t *testing.T, a answer) {
	t.Helper()
	origin, expose := a.header.Values("Access-Control-Allow-Origin"), a.header.Get("Access-Control-Expose-Headers")
	if !slices.Equal(origin, []string{"*"}) || !strings.Contains(expose, "WWW-Authenticate") {
		t.Errorf("status %d: got Access-Control-Allow-Origin %q, Access-Control-Expose-Headers %q; want it open to web pages", a.status, origin, expose)
	}
}

func phantomAlone(t *testing.T, w *world) {
	token := w.readToken()
	w.take(t)
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	arrivals := between(w.take(t), testenv.Gateway, testenv.MCPServer, "/mcp")
	if len(arrivals) != 1 {
		t.Fatalf("requests at the MCP server: got %d, want 1", len(arrivals))
	}
	e := arrivals[0]
	if got := e.RequestHeader.Values("Authorization"); len(got) != 1 {
		t.Fatalf("Authorization fields: got %d, want 1", len(got))
	}
	header, claims := decode(t, bearer(e))
	for name, want := range map[string]any{"typ": "at+jwt", "alg": "ES256"} {
		if header[name] != want {
			t.Errorf("header %s: got %v, want %v", name, header[name], want)
		}
	}
	if kid, _ := header["kid"].(string); kid == "" {
		t.Error("header kid: got none")
	}
	for name, want := range map[string]any{
		"iss": w.PhantomIssuer, "aud": testenv.MCPAudience, "sub": w.Users[0].Name,
		"scope": testenv.ScopeRead, "region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
	} {
		if claims[name] != want {
			t.Errorf("claim %s: got %v, want %v", name, claims[name], want)
		}
	}
	for _, name := range []string{"client_id", "jti", "iat", "exp"} {
		if claims[name] == nil {
			t.Errorf("claim %s: got none", name)
		}
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life > 300 {
		t.Errorf("life: got %v s, want at most 300", life)
	}
	if strings.Contains(fmt.Sprint(e.RequestHeader)+e.URL+string(e.RequestBody), token) {
		t.Error("the access token went upstream")
	}
}

func forgedHeaders(t *testing.T, w *world) {
	forged := []string{
		"X-Consumer-ID", "x_consumer_id", "X-Consumer-Username", "X-Credential-Identifier", "X-Anonymous-Consumer",
		"X-Authenticated-Sub", "X-User", "X-Userinfo", "X-Forwarded-User", "X-Original-Authorization",
		"DPoP", "Txn-Token", "Client-Cert", "Proxy-Authorization",
	}
	var header []string
	for _, name := range forged {
		header = append(header, name, "forged-value")
	}
	w.take(t)
	wantStatus(t, w.ask(t, w.MCPURL, w.readToken(), append(header, "X-Harmless", "stays")...), http.StatusOK)
	arrivals := between(w.take(t), testenv.Gateway, testenv.MCPServer, "/mcp")
	if len(arrivals) != 1 {
		t.Fatalf("requests at the MCP server: got %d, want 1", len(arrivals))
	}
	for name, values := range arrivals[0].RequestHeader {
		if strings.Contains(strings.Join(values, " "), "forged-value") {
			t.Errorf("%s reached the MCP server", name)
		}
	}
	if arrivals[0].RequestHeader.Get("X-Harmless") != "stays" {
		t.Error("a header that says nothing of identity was lost")
	}
}

func phantomKeys(t *testing.T, w *world) {
	var first string
	for _, path := range []string{
		"/phantom/.well-known/openid-configuration", "/.well-known/openid-configuration/phantom",
		"/.well-known/oauth-authorization-server/phantom",
	} {
		a := w.do(t, "GET", w.origin()+path, "")
		wantStatus(t, a, http.StatusOK)
		if first == "" {
			first = a.body
		}
		if a.body != first {
			t.Errorf("%s: got %s, want %s", path, a.body, first)
		}
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal([]byte(first), &document); err != nil || document.Issuer != w.PhantomIssuer {
		t.Fatalf("issuer: got %q, %v; want %q", document.Issuer, err, w.PhantomIssuer)
	}
	keys := w.do(t, "GET", document.JWKSURI, "")
	wantStatus(t, keys, http.StatusOK)
	if !strings.Contains(keys.body, `"kid"`) || strings.Contains(keys.body, `"d"`) {
		t.Error("expected public keys and nothing else")
	}
}

func exchangedToken(t *testing.T, w *world) {
	r, all := w.call(t, w.MCPURL, w.readToken(), "list_stocks", nil)
	if r.IsError {
		t.Fatalf("list_stocks: got %+v", r)
	}
	calls := between(all, testenv.MCPServer, testenv.StocksAPI, "/stocks")
	exchanges := between(all, testenv.MCPServer, testenv.Sidecar, "/token")
	if len(calls) != 1 || len(exchanges) != 1 {
		t.Fatalf("got %d API calls, %d exchanges; want 1, 1", len(calls), len(exchanges))
	}
	header, claims := decode(t, bearer(calls[0]))
	if header["typ"] != "at+jwt" {
		t.Errorf("typ: got %v, want at+jwt", header["typ"])
	}
	for name, want := range map[string]any{
		"iss": w.SidecarURL, "aud": testenv.APIAudience, "sub": w.Users[0].Name, "scope": testenv.ScopeRead,
		"region": "USA", "client_type": "mcp", "client_assurance_level": 1.0,
	} {
		if claims[name] != want {
			t.Errorf("claim %s: got %v, want %v", name, claims[name], want)
		}
	}
	if act, _ := claims["act"].(map[string]any); act["sub"] != "mcp-server" {
		t.Errorf("act: got %v, want sub mcp-server", claims["act"])
	}
	form, err := url.ParseQuery(string(exchanges[0].RequestBody))
	if err != nil {
		t.Fatal(err)
	}
	_, subject := decode(t, form.Get("subject_token"))
	if claims["exp"].(float64) > subject["exp"].(float64) {
		t.Error("the exchanged token outlives the phantom token")
	}
	if strings.Contains(fmt.Sprint(calls[0].RequestHeader), form.Get("subject_token")) {
		t.Error("the phantom token went to the API")
	}
}

func regions(t *testing.T, w *world) {
	for _, tt := range []struct {
		a         *agent.Agent
		want, not string
	}{{w.john, "ACME", "DUFF"}, {w.jane, "DUFF", "ACME"}} {
		text, refused, err := tt.a.Call(t.Context(), "list_stocks", nil)
		if err != nil || refused || !strings.Contains(text, tt.want) || strings.Contains(text, tt.not) {
			t.Errorf("got %s, refused %t, %v; want %s and not %s", text, refused, err, tt.want, tt.not)
		}
	}
}
