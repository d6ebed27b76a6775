package main

import (
	"context"
	"net/http"
	"strings"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// advice shows a server that calls another server: who acts, and for whom.
func (d *demo) advice(ctx context.Context, user authserver.User) error {
	d.out.chapter("A server that calls another one: who acts, and for whom")
	a, id, err := d.connectAdvisor(ctx, user)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	symbols := map[string]any{"symbols": []string{"DUFF", "VNDL"}}
	err = d.step(ctx, func() error {
		return call(ctx, a, false, `"cheapest":"VNDL"`, "compare_stocks", symbols)
	}, func(t talk, f *facts) { d.checkChain(t, f, user, id) })
	if err != nil {
		return err
	}
	d.out.note("The same for an order. The user let the client trade; the policy lets the advisor read.")
	return d.step(ctx, func() error {
		return call(ctx, a, true, "place_order of the stocks server: no token for the stocks API, invalid_scope", "buy_cheapest", symbols)
	}, func(t talk, f *facts) {
		f.equal("orders at the API", 0, len(t.find(testenv.MCPServer, testenv.StocksAPI, "/orders")))
	})
}

// connectAdvisor connects a client to the second server. The way to a session is the same as
// to the first one, so it is checked and not shown. It returns the id of the client, too.
func (d *demo) connectAdvisor(ctx context.Context, user authserver.User) (a *agent.Agent, id string, err error) {
	s := d.stack
	a, err = agent.Connect(ctx, agent.Config{
		URL: s.AdvisorURL, Name: "Advised Agent", User: user.Name, Password: user.Password,
		Scopes: []string{testenv.ScopeTrade}, Wrap: s.Recorder.Transport,
	})
	if err != nil {
		return nil, "", err
	}
	all, err := s.Recorder.Take(ctx)
	if err != nil {
		return nil, "", err
	}
	t, f := talk(all), &facts{}
	metadata := strings.TrimSuffix(s.AdvisorURL, "/advisor/mcp") + "/.well-known/oauth-protected-resource/advisor/mcp"
	f.equal("status without credentials", http.StatusUnauthorized, t[0].Status)
	f.equal("WWW-Authenticate without credentials", `Bearer resource_metadata="`+metadata+`", scope="advisor/use stocks/read"`, t[0].Header.Get("WWW-Authenticate"))
	f.contains("the resource metadata", string(f.only(t, client, testenv.Gateway, "/oauth-protected-resource/advisor/mcp").Body), `"resource":"`+s.AdvisorURL+`"`)
	arrivals := t.find(testenv.Gateway, testenv.Advisor, "/advisor/mcp")
	f.holds("requests reach the advisor", len(arrivals) > 0)
	for _, e := range arrivals {
		d.advisorPhantom = bearer(e.RequestHeader.Get("Authorization"))
	}
	j, _ := readJWT(d.advisorPhantom)
	d.facts += f.checked
	d.out.note("A client of %s signs in for a session at %s: %d exchanges like those above.", user.Name, s.AdvisorURL, len(all))
	return a, j.text("client_id"), f.err
}

// checkChain checks the token of each hop, and shows what it says.
func (d *demo) checkChain(t talk, f *facts, user authserver.User, id string) {
	const read = testenv.ScopeRead
	last := func(from, to string) *recorder.Exchange {
		found := t.find(from, to, "")
		if f.holds("requests from "+from+" to "+to, len(found) > 0); len(found) == 0 {
			return &recorder.Exchange{}
		}
		return found[len(found)-1]
	}
	atAPI := last(testenv.MCPServer, testenv.StocksAPI)
	d.out.note("%-14s%-36s%-38s%s", "token for", "aud", "scope", "act")
	for _, hop := range []struct {
		exchange            *recorder.Exchange
		at, issuer, aud     string
		scopes, chain       []string
		exchangesOfReceiver int
	}{
		{last(testenv.Gateway, testenv.Advisor), testenv.Advisor, d.stack.PhantomIssuer, testenv.AdvisorAudience,
			sorted(testenv.ScopeAdvisor, read, testenv.ScopeTrade), nil, 1},
		{last(testenv.Advisor, testenv.MCPServer), testenv.MCPServer, d.stack.SidecarURL, testenv.MCPAudience,
			[]string{read}, []string{"advisor", id}, 1},
		{atAPI, testenv.StocksAPI, d.stack.SidecarURL, testenv.APIAudience,
			[]string{read}, []string{"mcp-server", "advisor", id}, 0},
	} {
		j, _ := readJWT(bearer(hop.exchange.RequestHeader.Get("Authorization")))
		f.equal("iss of the token for the "+hop.at, hop.issuer, j.text("iss"))
		f.equal("aud of the token for the "+hop.at, hop.aud, j.text("aud"))
		f.equal("sub of the token for the "+hop.at, user.Name, j.text("sub"))
		f.equal("scope of the token for the "+hop.at, hop.scopes, sorted(strings.Fields(j.text("scope"))...))
		f.equal("act of the token for the "+hop.at, hop.chain, chain(j.claims["act"]))
		f.equal("exchanges of the "+hop.at, hop.exchangesOfReceiver, len(t.find(hop.at, testenv.Sidecar, "/token")))
		d.out.note("%-14s%-36s%-38s%s", hop.at, j.text("aud"), strings.Join(hop.scopes, " "), strings.Join(hop.chain, ", "))
	}
	f.equal("what the API says of the chain", `"mcp-server", "advisor", "`+id+`"`, atAPI.Header.Get(stocksapi.HeaderActors))
}
