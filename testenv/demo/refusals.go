package main

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
)

// attempt is something that must be refused, or must go on working.
type attempt struct {
	what   string
	url    string // the MCP URL when empty
	token  func() string
	status int
	want   string // in WWW-Authenticate; "none" for no such field
	body   string // of the request; ask when empty
	says   string // part of the answer
}

// ask is a request that every MCP server answers.
const ask = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

// compare calls a tool of the advisor.
const compare = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"compare_stocks","arguments":{"symbols":["ACME","GLBX"]}}}`

// threeActors is an act claim as of a token that three agents have passed on to each other.
// With the advisor there are four, which is the limit; the MCP server would be the fifth.
func threeActors() map[string]any {
	return map[string]any{"sub": "third", "act": map[string]any{"sub": "second", "act": map[string]any{"sub": "first"}}}
}

// refusals shows, one line each, what does not work.
func (d *demo) refusals(ctx context.Context, a *agent.Agent) error {
	s := d.stack
	cached, err := a.Token(ctx)
	if err != nil {
		return err
	}
	issue := func(g authserver.Grant) func() string {
		return func() string { return s.AuthServer.IssueToken(g) }
	}
	is := func(token string) func() string { return func() string { return token } }
	invalid := `Bearer error="invalid_token"`

	d.out.chapter("What is refused")
	if err := d.try(ctx,
		attempt{what: "no token", status: 401, want: "Bearer resource_metadata="},
		attempt{what: "garbage", token: is("garbage"), status: 401, want: invalid},
		attempt{what: "expired token", token: issue(authserver.Grant{Scope: testenv.ScopeRead, Resource: s.MCPURL, Lifetime: -time.Minute}), status: 401, want: invalid},
		attempt{what: "revoked token", token: func() string {
			token := s.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: s.MCPURL})
			s.AuthServer.Revoke(token)
			return token
		}, status: 401, want: invalid},
		attempt{what: "token for another resource", token: issue(authserver.Grant{Scope: testenv.ScopeRead, Resource: s.OtherResource}), status: 401, want: invalid},
		attempt{what: "token with a scope too few", token: issue(authserver.Grant{Scope: testenv.ScopeTrade, Resource: s.MCPURL}), status: 403, want: `Bearer error="insufficient_scope", scope="stocks/read stocks/trade"`},
		attempt{what: "token without a user", token: issue(authserver.Grant{NoUser: true, Scope: testenv.ScopeRead, Resource: s.MCPURL}), status: 403, want: "none"},
		attempt{what: "phantom token sent from outside", token: is(d.phantom), status: 401, want: invalid},
		attempt{what: "exchanged token sent to the gateway", token: is(d.exchanged), status: 401, want: invalid},
		attempt{what: "exchanged token sent to the MCP server", url: s.MCPServerURL, token: is(d.exchanged), status: 401},
		attempt{what: "client's token sent to the MCP server", url: s.MCPServerURL, token: is(cached), status: 401},
		attempt{what: "advisor's phantom token at the MCP server", url: s.MCPServerURL, token: is(d.advisorPhantom), status: 401},
		attempt{what: "more actors than limits.actors", url: s.AdvisorURL, body: compare, token: issue(authserver.Grant{
			Scope: testenv.ScopeAdvisor + " " + testenv.ScopeRead, Resource: s.AdvisorURL, Claims: map[string]any{"act": threeActors()},
		}), status: 200, want: "none", says: "limits.actors"},
		attempt{what: "phantom token sent to the stocks API", url: s.APIURL + "/stocks", token: is(d.phantom), status: 401, want: invalidAtAPI},
	); err != nil {
		return err
	}

	d.out.note("The authorization server goes down.")
	s.AuthServer.Trouble(authserver.Trouble{Down: true})
	defer s.AuthServer.Trouble(authserver.Trouble{})
	return d.try(ctx,
		attempt{what: "new token while it is down", token: issue(authserver.Grant{Scope: testenv.ScopeRead, Resource: s.MCPURL}), status: 503, want: "none"},
		attempt{what: "user who is known goes on working", token: is(cached), status: 200, want: "none"},
	)
}

const invalidAtAPI = `error="invalid_token"`

// try makes the attempts, one line each.
func (d *demo) try(ctx context.Context, attempts ...attempt) error {
	outside := &http.Client{Transport: d.stack.Recorder.Transport(client, &http.Transport{Proxy: nil, DisableKeepAlives: true})}
	for _, at := range attempts {
		address, method, body := at.url, http.MethodPost, ask
		if address == "" {
			address = d.stack.MCPURL
		}
		if strings.HasPrefix(address, d.stack.APIURL) {
			method, body = http.MethodGet, ""
		}
		if at.body != "" {
			body = at.body
		}
		token := ""
		if at.token != nil {
			token = at.token()
		}
		res, text, err := send(ctx, outside, method, address, token, body)
		if err != nil {
			return err
		}
		challenge := res.Header.Get("WWW-Authenticate")
		d.out.refusal(at.what, at.status, res.StatusCode, gist(res, text))

		var f facts
		f.equal("status for "+at.what, at.status, res.StatusCode)
		switch at.want {
		case "":
		case "none":
			f.equal("WWW-Authenticate for "+at.what, "", challenge)
		default:
			f.contains("WWW-Authenticate for "+at.what, challenge, at.want)
		}
		f.contains("the answer to "+at.what, text, at.says)
		if at.status == http.StatusServiceUnavailable {
			f.holds("Retry-After for "+at.what, res.Header.Get("Retry-After") != "")
		}
		if token != "" {
			f.holds("the answer does not repeat the token", !strings.Contains(fmt.Sprint(res.Header)+text, token))
		}
		d.facts += f.checked
		if f.err != nil {
			return f.err
		}
	}
	// What passed behind was shown in the lines above.
	_, err := d.stack.Recorder.Take(ctx)
	return err
}

// gist is what an answer says, in half a line: the challenge without what is the same every
// time, or else the body.
func gist(res *http.Response, body string) string {
	if challenge := res.Header.Get("WWW-Authenticate"); challenge != "" {
		scheme, _, _ := strings.Cut(challenge, " ")
		return scheme + " " + strings.Join(regexp.MustCompile(`(error|scope)="[^"]*"`).FindAllString(challenge, -1), ", ")
	}
	if retry := res.Header.Get("Retry-After"); retry != "" {
		return "Retry-After: " + retry + "   " + short(body)
	}
	if res.StatusCode == http.StatusOK {
		body = toolText([]byte(body))
	}
	return cut(body, 260) // a refusal that two servers pass on is long
}
