package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// demo is the conversation.
type demo struct {
	stack *testenv.Stack
	out   *printer
	facts int

	// Seen behind the gateway, to be tried in the wrong place.
	phantom, exchanged, advisorPhantom string
	found                              []region
}

// region is what one user was shown.
type region struct {
	user string
	list stocksapi.StockList
}

func (d *demo) run(ctx context.Context) error {
	d.out.line("%s %s and finds the rest by itself.", d.out.paint(bold, "An MCP client knows"), d.stack.MCPURL)
	d.out.line("Tokens, codes and secrets are shown as fingerprints: %s.", fingerprint("an example"))

	john, jane := d.stack.Users[0], d.stack.Users[1]
	first, err := d.connect(ctx, "From the bare URL to a session: a client that registers itself (DCR)", agent.Config{
		Name: "Demo Agent", User: john.Name, Password: john.Password,
	})
	if err != nil {
		return err
	}
	defer func() { _ = first.Close() }()
	if err := d.useTools(ctx, first, john); err != nil {
		return err
	}

	second, err := d.connect(ctx, "The same with a client that publishes its metadata (CIMD), and asks for more", agent.Config{
		Name: "Published Agent", User: jane.Name, Password: jane.Password,
		Scopes: []string{testenv.ScopeTrade}, Publish: d.stack.Publish,
	})
	if err != nil {
		return err
	}
	defer func() { _ = second.Close() }()
	if err := d.throughProxy(ctx, second, jane); err != nil {
		return err
	}
	if err := d.toolRefusals(ctx, first, second); err != nil {
		return err
	}
	if err := d.advice(ctx, jane); err != nil {
		return err
	}
	if err := d.refusals(ctx, first); err != nil {
		return err
	}
	return d.leaks(first)
}

// step runs do, then shows the conversation it caused, then checks it.
func (d *demo) step(ctx context.Context, do func() error, check func(t talk, f *facts)) error {
	failed := do()
	exchanges, err := d.stack.Recorder.Take(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	d.out.conversation(exchanges)
	if failed != nil {
		return failed
	}
	var f facts
	check(exchanges, &f)
	d.facts += f.checked
	return f.err
}

func (d *demo) connect(ctx context.Context, chapter string, cfg agent.Config) (a *agent.Agent, err error) {
	d.out.chapter(chapter)
	cfg.URL = d.stack.MCPURL
	cfg.Wrap = d.stack.Recorder.Transport
	err = d.step(ctx, func() (err error) {
		a, err = agent.Connect(ctx, cfg)
		return err
	}, func(t talk, f *facts) { d.checkConnect(t, f, a, cfg) })
	if err != nil {
		return nil, err
	}
	for _, page := range a.Pages() {
		if strings.Contains(page.Text, "act for you") {
			d.out.note("The consent page said: %s", short(page.Text))
		}
	}
	return a, nil
}

// checkConnect checks the way from the bare URL to a session.
func (d *demo) checkConnect(t talk, f *facts, a *agent.Agent, cfg agent.Config) {
	s := d.stack
	issuer := s.AuthServer.Issuer()
	origin := strings.TrimSuffix(s.MCPURL, "/mcp")
	metadata := origin + "/.well-known/oauth-protected-resource/mcp"

	// The challenge, byte for byte.
	if len(t) == 0 {
		f.fail("the conversation", "not empty", "empty")
		return
	}
	challenge := t[0]
	f.equal("the first request is the client's, to the gateway", "MCP client gateway "+s.MCPURL, challenge.From+" "+challenge.To+" "+challenge.URL)
	f.equal("the first request has no credentials", "", challenge.RequestHeader.Get("Authorization"))
	f.equal("status without credentials", http.StatusUnauthorized, challenge.Status)
	f.equal("WWW-Authenticate without credentials", `Bearer resource_metadata="`+metadata+`", scope="stocks/read"`, challenge.Header.Get("WWW-Authenticate"))
	f.equal("Cache-Control without credentials", "no-store", challenge.Header.Get("Cache-Control"))
	f.equal("body without credentials", `{"error":"unauthorized"}`, strings.TrimSpace(string(challenge.Body)))

	// The metadata of the resource and of the authorization server.
	var prm struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		Scopes               []string `json:"scopes_supported"`
	}
	f.holds("the resource metadata is JSON", json.Unmarshal(f.only(t, client, testenv.Gateway, "/oauth-protected-resource/mcp").Body, &prm) == nil)
	f.equal("resource", s.MCPURL, prm.Resource)
	f.equal("authorization_servers", []string{issuer}, prm.AuthorizationServers)
	f.equal("scopes_supported", []string{"stocks/read"}, prm.Scopes)
	f.equal("status of the authorization server's metadata", http.StatusOK, f.only(t, client, testenv.AuthServer, "/.well-known/oauth-authorization-server").Status)

	// Registration.
	registrations := len(t.find(client, testenv.AuthServer, "/register"))
	if cfg.Publish == nil {
		f.equal("registrations", 1, registrations)
		f.equal("status of the registration", http.StatusCreated, f.only(t, client, testenv.AuthServer, "/register").Status)
	} else {
		f.equal("registrations", 0, registrations)
	}

	// The browser.
	authorize := f.only(t, browser, testenv.AuthServer, "/authorize")
	asked, err := url.Parse(authorize.URL)
	if err != nil {
		asked = &url.URL{}
	}
	query := asked.Query()
	scopes := append([]string{testenv.ScopeRead}, cfg.Scopes...)
	f.equal("resource asked for", s.MCPURL, query.Get("resource"))
	f.equal("scope asked for", sorted(scopes...), sorted(strings.Fields(query.Get("scope"))...))
	f.equal("PKCE method", "S256", query.Get("code_challenge_method"))
	f.holds("the client sends a state", query.Get("state") != "")
	f.equal("client id is a URL", cfg.Publish != nil, strings.HasPrefix(query.Get("client_id"), "https://"))
	var consent string
	for _, page := range a.Pages() {
		if strings.Contains(page.Text, "act for you") {
			consent = page.Text
		}
	}
	f.contains("the consent page names the client", consent, cfg.Name)
	for _, scope := range scopes {
		f.contains("the consent page explains "+scope, consent, scopeWords(scope))
	}
	f.equal("iss in the redirect", issuer, a.RedirectIssuer())
	f.equal("times the user had to sign in", 1, a.Logins())

	// The token.
	var token struct {
		AccessToken  string `json:"access_token"`
		ExpiresIn    int    `json:"expires_in"`
		Scope        string `json:"scope"`
		RefreshToken string `json:"refresh_token"`
	}
	// A client without a secret is tried with HTTP Basic first by the SDK; the second try counts.
	responses := t.find(client, testenv.AuthServer, "/token")
	f.holds("the client redeems its code", len(responses) > 0 && json.Unmarshal(responses[len(responses)-1].Body, &token) == nil)
	_, readable := readJWT(token.AccessToken)
	f.holds("the access token is opaque", token.AccessToken != "" && !readable)
	f.equal("life of the access token in seconds", 900, token.ExpiresIn)
	f.equal("refresh token", "", token.RefreshToken)

	// The plugin introspects, mints, and forwards the phantom token alone.
	asks := f.only(t, testenv.Gateway, testenv.AuthServer, "/introspect")
	form, err := url.ParseQuery(string(asks.RequestBody))
	f.holds("the gateway introspects the client's token", err == nil && form.Get("token") == token.AccessToken)
	arrivals := t.find(testenv.Gateway, testenv.MCPServer, "/mcp")
	f.holds("requests reach the MCP server", len(arrivals) > 0)
	for _, e := range arrivals {
		d.checkPhantom(f, bearer(e.RequestHeader.Get("Authorization")), cfg.User, scopes)
		for name, values := range e.RequestHeader {
			f.holds("the client's token is not in "+name+" behind the gateway", !strings.Contains(strings.Join(values, " "), token.AccessToken))
		}
	}
	if cfg.Publish == nil { // later it knows the keys
		f.equal("status of the phantom issuer's metadata", http.StatusOK, f.only(t, testenv.MCPServer, testenv.Gateway, "/phantom/.well-known/openid-configuration").Status)
		f.equal("status of the phantom issuer's keys", http.StatusOK, f.only(t, testenv.MCPServer, testenv.Gateway, "/phantom/jwks.json").Status)
	}
}

// sorted puts scopes in one order: they are a set, and the SDK sends them in any.
func sorted(scopes ...string) []string { return slices.Sorted(slices.Values(scopes)) }

func scopeWords(scope string) string {
	if scope == testenv.ScopeTrade {
		return "Place stock orders in your name"
	}
	return "Read stock prices of your region"
}

// checkPhantom checks what the MCP server gets, and keeps it for later.
func (d *demo) checkPhantom(f *facts, token, user string, scopes []string) {
	j, ok := readJWT(token)
	f.holds("the MCP server gets a JWT", ok)
	f.equal("typ of the phantom token", "at+jwt", j.typ())
	f.equal("iss of the phantom token", d.stack.PhantomIssuer, j.text("iss"))
	f.equal("aud of the phantom token", testenv.MCPAudience, j.text("aud"))
	f.equal("sub of the phantom token", user, j.text("sub"))
	f.equal("scope of the phantom token", sorted(scopes...), sorted(strings.Fields(j.text("scope"))...))
	d.phantom = token
}

// useTools lists the tools and asks for stocks.
func (d *demo) useTools(ctx context.Context, a *agent.Agent, user authserver.User) error {
	d.out.chapter("Tools: from the MCP server to the API with a token of its own")
	err := d.step(ctx, func() error {
		_, err := a.Session.ListTools(ctx, nil)
		return err
	}, func(t talk, f *facts) {
		result := toolText(f.only(t, client, testenv.Gateway, "/mcp").Body)
		for _, tool := range []string{"list_stocks", "fetch_stock_prices", "read_portfolio", "place_order"} {
			f.contains("the list of tools", result, tool)
		}
	})
	if err != nil {
		return err
	}
	if err := d.listStocks(ctx, a, user); err != nil {
		return err
	}
	err = d.step(ctx, func() error {
		return call(ctx, a, false, `"price":88.21`, "fetch_stock_prices", map[string]any{"symbols": []string{"ACME", "GLBX"}})
	}, func(t talk, f *facts) {
		f.equal("calls of the API", 2, len(t.find(testenv.MCPServer, testenv.StocksAPI, ""))-len(t.find(testenv.MCPServer, testenv.StocksAPI, "/stocks")))
		f.equal("exchanges for further calls with the token", 0, len(t.find(testenv.MCPServer, testenv.Sidecar, "/token")))
	})
	if err != nil {
		return err
	}
	d.out.note("No exchange for these two: the server keeps the token while it lives.")

	if err := d.sameMetadata(ctx); err != nil {
		return err
	}
	var f facts
	f.equal("introspections so far, one for all requests with the token", 1, d.stack.AuthServer.Introspections())
	d.facts += f.checked
	if f.err == nil {
		d.out.note("All requests with that token together: introspected %d time.", d.stack.AuthServer.Introspections())
	}
	return f.err
}

// listStocks calls list_stocks and checks the way of the exchanged token: by the library.
func (d *demo) listStocks(ctx context.Context, a *agent.Agent, user authserver.User) error {
	return d.stocksOf(ctx, a, user, func(t talk, f *facts) *recorder.Exchange {
		exchange := f.only(t, testenv.MCPServer, testenv.Sidecar, "/token")
		form, err := url.ParseQuery(string(exchange.RequestBody))
		f.holds("the exchange is a form", err == nil)
		f.equal("grant type", "urn:ietf:params:oauth:grant-type:token-exchange", form.Get("grant_type"))
		f.equal("audience asked for", testenv.APIAudience, form.Get("audience"))
		d.phantom = form.Get("subject_token")
		return f.only(t, testenv.MCPServer, testenv.StocksAPI, "/stocks")
	})
}

// throughProxy calls the same tool of the same server, which has no credentials now.
func (d *demo) throughProxy(ctx context.Context, a *agent.Agent, user authserver.User) error {
	d.out.chapter("The same tool through the egress proxy: the server has no credentials and no OAuth code")
	d.stack.CallAPI(testenv.ByProxy)
	defer d.stack.CallAPI(testenv.ByLibrary)
	return d.stocksOf(ctx, a, user, func(t talk, f *facts) *recorder.Exchange {
		f.equal("exchanges of the MCP server", 0, len(t.find(testenv.MCPServer, testenv.Sidecar, "")))
		asked := f.only(t, testenv.MCPServer, testenv.Egress, "/stocks")
		d.phantom = bearer(asked.RequestHeader.Get("Authorization"))
		arrived := f.only(t, testenv.Gateway, testenv.MCPServer, "/mcp")
		f.holds("the proxy gets the token that the server got", d.phantom == bearer(arrived.RequestHeader.Get("Authorization")))
		call := f.only(t, testenv.Egress, testenv.StocksAPI, "/stocks")
		f.holds("the API gets another one", d.phantom != bearer(call.RequestHeader.Get("Authorization")))
		return call
	})
}

// stocksOf calls list_stocks and checks the token that the API got. atAPI finds the call of
// the API.
func (d *demo) stocksOf(ctx context.Context, a *agent.Agent, user authserver.User, atAPI func(talk, *facts) *recorder.Exchange) error {
	var list stocksapi.StockList
	return d.step(ctx, func() error {
		text, refused, err := a.Call(ctx, "list_stocks", nil)
		if err != nil {
			return err
		}
		if refused {
			return &mismatch{"list_stocks", "stocks", text}
		}
		return json.Unmarshal([]byte(text), &list)
	}, func(t talk, f *facts) {
		d.exchanged = bearer(atAPI(t, f).RequestHeader.Get("Authorization"))
		j, ok := readJWT(d.exchanged)
		f.holds("the API gets a JWT", ok)
		f.equal("typ of the exchanged token", "at+jwt", j.typ())
		f.equal("iss of the exchanged token", d.stack.SidecarURL, j.text("iss"))
		f.equal("aud of the exchanged token", testenv.APIAudience, j.text("aud"))
		f.equal("sub of the exchanged token", user.Name, j.text("sub"))
		f.equal("scope of the exchanged token", testenv.ScopeRead, j.text("scope"))
		f.equal("region in the exchanged token", user.Region, j.text("region"))
		f.equal("client_type in the exchanged token", "mcp", j.text("client_type"))
		act, _ := j.claims["act"].(map[string]any)
		f.equal("act of the exchanged token", "mcp-server", act["sub"])
		f.equal("region of the answer", user.Region, list.Region)
		f.equal("number of stocks", 3, len(list.Stocks))
		for _, stock := range list.Stocks {
			f.equal("region of "+stock.Symbol, user.Region, stock.Region)
		}
		d.found = append(d.found, region{user.Name, list})
	})
}

// sameMetadata compares the path form and the root form of the resource metadata.
func (d *demo) sameMetadata(ctx context.Context) error {
	origin := strings.TrimSuffix(d.stack.MCPURL, "/mcp")
	outside := &http.Client{Transport: d.stack.Recorder.Transport(client, &http.Transport{Proxy: nil, DisableKeepAlives: true})}
	return d.step(ctx, func() error {
		for _, path := range []string{"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"} {
			if _, _, err := send(ctx, outside, http.MethodGet, origin+path, "", ""); err != nil {
				return err
			}
		}
		return nil
	}, func(t talk, f *facts) {
		f.equal("status of the path form", http.StatusOK, t[0].Status)
		f.equal("status of the root form", http.StatusOK, t[1].Status)
		f.equal("the root form", string(t[0].Body), string(t[1].Body))
	})
}

// toolRefusals shows what the API and the sidecar refuse, in the API's own words.
func (d *demo) toolRefusals(ctx context.Context, first, second *agent.Agent) error {
	d.out.chapter("What tools are refused")
	order := map[string]any{"symbol": "DUFF", "side": "buy", "quantity": 1}
	for _, r := range []struct {
		a         *agent.Agent
		tool      string
		arguments map[string]any
		want      string
		says      string
	}{
		{second, "place_order", order, "status 403, access_denied: Orders are not accepted from clients of client_type mcp",
			"An order, with the scope for it: the API takes none from client_type mcp."},
		{second, "read_portfolio", nil, "status 403, access_denied: Portfolios need a client_assurance_level of 2 or more, this client has 1",
			"A portfolio: the API wants a client that is better known."},
		{first, "place_order", order, "invalid_scope",
			"An order, without the scope for it: the sidecar gives no token."},
	} {
		d.out.note("%s", r.says)
		if err := d.step(ctx, func() error { return call(ctx, r.a, true, r.want, r.tool, r.arguments) }, func(talk, *facts) {}); err != nil {
			return err
		}
		d.facts++
	}
	return nil
}

// call calls a tool and compares what it says.
func call(ctx context.Context, a *agent.Agent, wantRefused bool, want, tool string, arguments map[string]any) error {
	text, refused, err := a.Call(ctx, tool, arguments)
	if err != nil {
		return err
	}
	if refused != wantRefused || !strings.Contains(text, want) {
		return &mismatch{tool, fmt.Sprintf("refused %t, %q in the text", wantRefused, want), fmt.Sprintf("refused %t, %s", refused, short(text))}
	}
	return nil
}

// leaks searches everything that went outside for tokens that belong inside.
func (d *demo) leaks(a *agent.Agent) error {
	var f facts
	match := looksLikeJWT()
	for _, e := range d.stack.Recorder.All() {
		if e.From != client && e.From != browser {
			continue
		}
		answer := fmt.Sprint(e.Header) + string(e.Body)
		f.holds("no JWT in the answer to "+e.From+" at "+e.URL, !match.MatchString(answer))
	}
	log := d.stack.Log.String()
	f.holds("the log is not empty", log != "")
	f.holds("no JWT in any log line", !match.MatchString(log))
	token, err := a.Token(context.Background())
	if err != nil {
		return err
	}
	f.holds("no access token in any log line", !strings.Contains(log, token))
	for _, secret := range d.stack.Secrets {
		f.holds("no secret in any log line", !strings.Contains(log, secret))
	}
	d.facts += f.checked
	if f.err == nil {
		d.out.note("No JWT has reached the outside, and no token or secret a log line.")
	}
	return f.err
}

// prices ends the demonstration.
func (d *demo) prices() {
	for _, r := range d.found {
		d.out.line("\nStock prices for %s (%s)", r.user, r.list.Region)
		for _, s := range r.list.Stocks {
			d.out.line("  %-5s %-20s %8.2f %s", s.Symbol, s.Name, s.Price, s.Currency)
		}
	}
}

// send makes one request and returns its status, header and body; the body is cut.
func send(ctx context.Context, c *http.Client, method, address, token, body string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("building request: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("sending request: %w", err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, "", fmt.Errorf("reading answer: %w", err)
	}
	return res, string(data), nil
}
