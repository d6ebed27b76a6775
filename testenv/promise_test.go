package testenv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
)

// TestPromises says in sentences what the whole chain does, each shown on real processes,
// sockets and clients. The promises run in order and share one stack.
//
// Covers: MCP-01, MCP-02, MCP-03, MCP-04, MCP-05, MCP-08, MCP-11, MCP-15, MCP-17, MCP-20,
// Covers: MCP-24, MCP-33, MCP-36, MCP-37, MCP-38, MCP-39, MCP-44, CH-11, CH-17, CH-18,
// Covers: BT-05, BT-07, BT-14, PR-05, PR-21, BC-13, CO-01, CO-05, CO-06, JW-01, JW-02, JW-03,
// Covers: JW-04, JW-14, JW-17, TX-17, PR-16, BC-18, CL-04
func TestPromises(t *testing.T) {
	w := start(t)
	closed := false
	t.Cleanup(func() {
		if !closed { // a promise before the last ended the test
			_ = w.Close()
		}
	})
	for i, p := range []struct {
		name string
		show func(t *testing.T, w *world)
	}{
		{"a client that knows only the URL gets to stock prices (DCR)", registersItself},
		{"a client that knows only the URL gets to stock prices (CIMD)", publishesItsMetadata},
		{"the consent page names the client and says what each scope allows", consentPage},
		{"the access token is opaque, lives 15 minutes and cannot be refreshed", accessToken},
		{"every method without a token gets the same challenge", challenge},
		{"what the MCP server says to a method it does not know comes back unchanged", passedThrough},
		{"the metadata at the path and at the root are the same", metadata},
		{"paths that only look like OAuth get a 404 in JSON", probes},
		{"a web page may read challenges and metadata", crossOrigin},
		{"the phantom token alone goes upstream", phantomAlone},
		{"forged identity headers end at the gateway", forgedHeaders},
		{"any OIDC library finds the keys of phantom tokens", phantomKeys},
		{"each call of the API has a token for that API alone, with the actor named", exchangedToken},
		{"each user sees the stocks of the own region", regions},
		{"a token is introspected once, however many requests come at once", introspectedOnce},
		{"streams are not buffered", streams},
		{"a client that goes away ends the work behind the gateway", disconnect},
		{"an order of an MCP client is refused by the API, in the API's words", orderRefused},
		{"a portfolio is refused to a client of low assurance, in the API's words", portfolioRefused},
		{"no tool gets a wider scope than the user allowed", scopeNotWidened},
		{"refused with 401: no token", refusedNoToken},
		{"refused with 401: garbage", refusedGarbage},
		{"refused with 401: an expired token", refusedExpired},
		{"refused with 401: a revoked token", refusedRevoked},
		{"refused with 401: a token for another resource", refusedOtherResource},
		{"refused with 403 that names the scope: a scope too few", refusedScope},
		{"refused with 403 without challenge: a token without a user", refusedWithoutUser},
		{"refused with 401: the phantom token sent from outside", refusedPhantomOutside},
		{"refused with 401: the exchanged token sent to the MCP server", refusedExchangedAtServer},
		{"refused with 401: the phantom token sent to the API", refusedPhantomAtAPI},
		{"with the authorization server down new tokens get 503 and known users go on", serverDown},
		{"a new configuration interrupts nobody and forgets no token", reload},
		{"a configuration that cannot work answers 500 and takes no other route down", brokenConfiguration},
		{"no JWT ever reaches the outside", nothingLeaves},
		{"no token and no secret appears in any log line", logsAreClean},
		{"everything stops when asked", func(t *testing.T, w *world) {
			closed = true
			stops(t, w)
		}},
		{"the demonstration ends with stock prices and exit status 0", demonstration},
		{"the demonstration that meets a difference says so and exits with 1", demonstrationFails},
		{"the demonstration stays up for other clients until Ctrl-C", demonstrationServes},
	} {
		const clients = 2 // the first promises connect the clients that the others use
		if !t.Run(p.name, func(t *testing.T) { p.show(t, w) }) && i < clients {
			t.Fatal("without clients nothing else can be shown; the log ends with\n" + tail(w.Log.String(), 20))
		}
	}
}

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
	w.take(t)
	if _, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused {
		t.Fatalf("list_stocks: refused %t, %v", refused, err)
	}
	all := w.take(t)
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
		switch _, claims := decode(t, token); claims["aud"] {
		case testenv.MCPAudience:
			phantom = token
		case testenv.APIAudience:
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

// reload loads the same configuration again; Kong then closes every plugin instance and
// starts a new one.
func reload(t *testing.T, w *world) {
	token := w.readToken()
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	before := w.AuthServer.Introspections()
	if err := w.Gateway.Reload([]byte(readFile(t, "../kong.yml"))); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, w.ask(t, w.MCPURL, token), http.StatusOK)
	if got := w.AuthServer.Introspections() - before; got != 0 {
		t.Errorf("introspections after the reload: got %d, want 0", got)
	}
}

func brokenConfiguration(t *testing.T, w *world) {
	yaml := readFile(t, "../kong.yml") + `
- name: broken
  url: http://127.0.0.1:9000
  plugins:
  - name: phantom-token
    config:
      introspection_endpoint: http://127.0.0.1:8180/introspect
      client_id: api-gateway-client
      client_secret: "{vault://env/there-is-no-such-variable}"
      resource: http://127.0.0.1:8000/broken
      authorization_servers: [http://127.0.0.1:8180]
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
	if err := w.Gateway.Reload([]byte(readFile(t, "../kong.yml"))); err != nil {
		t.Fatal(err)
	}
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
	for _, part := range []string{"phantom-token", testenv.AuthServer, testenv.MCPServer, testenv.StocksAPI} {
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
