package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/recorder"
)

const (
	opaque = "opaque-token-that-nobody-may-see"
	secret = "secret-that-nobody-may-see"
)

func phantom() string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"typ":"at+jwt","alg":"ES256"}`) + "." +
		part(`{"iss":"http://gw/phantom","aud":"https://mcp","sub":"john","exp":300,"iat":0,"act":{"sub":"mcp-server"}}`) + ".c2lnbmF0dXJl"
}

// Every kind of exchange is shown with what matters and without anything secret.
func TestDescribe(t *testing.T) {
	form := func(s string) []byte { return []byte(s) }
	tests := []struct {
		name     string
		exchange recorder.Exchange
		want     []string
	}{
		{"Challenge", recorder.Exchange{
			From: client, To: testenv.Gateway, Method: "POST", URL: "http://gw/mcp", Status: 401,
			Header:      http.Header{"Www-Authenticate": {`Bearer scope="stocks/read"`}},
			RequestBody: []byte(`{"method":"server/discover"}`), Body: []byte(`{"error":"unauthorized"}`),
		}, []string{"MCP client → gateway", "POST http://gw/mcp   server/discover", `WWW-Authenticate: Bearer scope="stocks/read"`, "unauthorized"}},
		{"ToolCall", recorder.Exchange{
			From: client, To: testenv.Gateway, Method: "POST", URL: "http://gw/mcp", Status: 200,
			RequestHeader: http.Header{"Authorization": {"Bearer " + opaque}},
			RequestBody:   []byte(`{"method":"tools/call","params":{"name":"place_order","arguments":{"symbol":"ACME"}}}`),
			Header:        http.Header{"Content-Type": {"text/event-stream"}},
			Body:          []byte("event: message\ndata: {\"result\":{\"isError\":true,\"content\":[{\"text\":\"no\"}]}}\n\n"),
		}, []string{"tools/call place_order {\"symbol\":\"ACME\"}", "opaque token #", "tool error: no"}},
		{"Phantom", recorder.Exchange{
			From: testenv.Gateway, To: testenv.MCPServer, Method: "POST", URL: "http://mcp/mcp", Status: 200,
			RequestHeader: http.Header{"Authorization": {"Bearer " + phantom()}},
		}, []string{"at+jwt #", "iss http://gw/phantom", "aud https://mcp", "lives 5m0s", "act mcp-server"}},
		{"ResourceMetadata", recorder.Exchange{
			From: client, To: testenv.Gateway, Method: "GET", URL: "http://gw/.well-known/oauth-protected-resource/mcp", Status: 200,
			Body: []byte(`{"resource":"http://gw/mcp","authorization_servers":["http://as"]}`),
		}, []string{"resource http://gw/mcp", "[http://as]"}},
		{"Registration", recorder.Exchange{
			From: client, To: testenv.AuthServer, Method: "POST", URL: "http://as/register", Status: 201,
			RequestBody: []byte(`{"client_name":"Agent"}`), Body: []byte(`{"client_id":"dyn-1","client_secret":"` + secret + `"}`),
		}, []string{"client_name Agent", "client_id dyn-1", "client_secret #"}},
		{"Login", recorder.Exchange{
			From: browser, To: testenv.AuthServer, Method: "POST", URL: "http://as/login", Status: 303,
			RequestBody: form("username=john&password=" + secret), Header: http.Header{"Location": {"http://as/consent?request=1"}},
		}, []string{"username john", "password (not shown)", "to http://as/consent"}},
		{"Redirect", recorder.Exchange{
			From: browser, To: testenv.AuthServer, Method: "POST", URL: "http://as/consent", Status: 303,
			Header: http.Header{"Location": {"http://127.0.0.1/callback?code=" + secret + "&state=" + secret + "&iss=http%3A%2F%2Fas"}},
		}, []string{"to http://127.0.0.1/callback", "code #", "state #", "iss http://as"}},
		{"Callback", recorder.Exchange{
			From: browser, To: "127.0.0.1:5", Method: "GET", URL: "http://127.0.0.1:5/callback?code=" + secret, Status: 200,
		}, []string{"browser → MCP client"}},
		{"Token", recorder.Exchange{
			From: client, To: testenv.AuthServer, Method: "POST", URL: "http://as/token", Status: 200,
			RequestBody: form("grant_type=authorization_code&code=" + secret + "&code_verifier=" + secret + "&client_secret=" + secret),
			Body:        []byte(`{"access_token":"` + opaque + `","expires_in":900,"token_type":"Bearer","scope":"stocks/read"}`),
		}, []string{"grant_type authorization_code", "code #", "opaque token #", "expires_in 900", "refresh token: false"}},
		{"Introspection", recorder.Exchange{
			From: testenv.Gateway, To: testenv.AuthServer, Method: "POST", URL: "http://as/introspect", Status: 200,
			RequestHeader: http.Header{"Authorization": {"Basic " + secret}},
			RequestBody:   form("token=" + opaque), Body: []byte(`{"active":true,"sub":"john"}`),
		}, []string{"token opaque token #", "active true, sub john"}},
		{"Exchange", recorder.Exchange{
			From: testenv.MCPServer, To: testenv.Sidecar, Method: "POST", URL: "http://sc/token", Status: 200,
			RequestBody: form("subject_token=" + phantom() + "&audience=https%3A%2F%2Fapi"), Body: []byte(`{"access_token":"` + phantom() + `","expires_in":300}`),
		}, []string{"subject_token at+jwt #", "audience https://api", "at+jwt #", "expires_in 300"}},
		{"Proxied", recorder.Exchange{
			From: testenv.Egress, To: testenv.StocksAPI, Method: "GET", URL: "http://api/stocks", Status: 200,
			RequestHeader: http.Header{"Authorization": {"Bearer " + phantom()}},
			Header:        http.Header{"Stocks-Actors": {`"mcp-server", "agent"`}}, Body: []byte(`{"stocks":[]}`),
		}, []string{"egress proxy → stocks API", "at+jwt #", "act mcp-server", `{"stocks":[]}`, `Stocks-Actors: "mcp-server", "agent"`}},
		{"ServerToServer", recorder.Exchange{
			From: testenv.Advisor, To: testenv.MCPServer, Method: "POST", URL: "http://mcp/mcp", Status: 200,
			RequestHeader: http.Header{"Authorization": {"Bearer " + phantom()}},
			RequestBody:   []byte(`{"method":"tools/call","params":{"name":"list_stocks"}}`),
		}, []string{"advisor → MCP server", "tools/call list_stocks", "at+jwt #"}},
		{"ExchangeRefused", recorder.Exchange{
			From: testenv.MCPServer, To: testenv.Sidecar, Method: "POST", URL: "http://sc/token", Status: 400,
			Body: []byte(`{"error":"invalid_scope","error_description":"too much"}`),
		}, []string{"invalid_scope", "too much"}},
		{"Keys", recorder.Exchange{
			From: testenv.MCPServer, To: testenv.Gateway, Method: "GET", URL: "http://gw/phantom/jwks.json", Status: 200,
			Body: []byte(`{"keys":[{"kid":"k1","alg":"ES256"}]}`),
		}, []string{"public keys: ES256 k1"}},
		{"NoAnswer", recorder.Exchange{From: client, To: testenv.Gateway, Method: "GET", URL: "http://gw/mcp"}, []string{"no answer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			newPrinterTo(&out, false).conversation([]*recorder.Exchange{&tt.exchange})
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got\n%s\nwant %q in it", out.String(), want)
				}
			}
			for _, never := range []string{opaque, secret, "eyJ", "\x1b"} {
				if strings.Contains(out.String(), never) {
					t.Errorf("%q on the screen:\n%s", never, out.String())
				}
			}
		})
	}
}

// What is asked on the way to an answer stands before that answer.
func TestConversationNests(t *testing.T) {
	at := func(from, to string, began, ended int) *recorder.Exchange {
		return &recorder.Exchange{From: from, To: to, Method: "GET", URL: "http://x/y", Status: 200, Began: began, Ended: ended}
	}
	var out bytes.Buffer
	newPrinterTo(&out, false).conversation([]*recorder.Exchange{
		at("a", "b", 1, 6), at("b", "c", 2, 7), at("c", "d", 3, 4), at("a", "b", 8, 9),
	})
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.TrimRight(line, " \n"))
	}
	want := []string{
		"  1   a → b   GET http://x/y",
		"  2      b → c   GET http://x/y",
		"  3         c → d   GET http://x/y",
		"  3         ← 200",
		"  2      ← 200",
		"  1   ← 200",
		"  4   a → b   GET http://x/y",
		"  4   ← 200",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFactsKeepTheFirstMismatch(t *testing.T) {
	var f facts
	f.equal("one", 1, 1)
	f.equal("two", 2, 3)
	f.contains("three", "abc", "x")
	f.holds("four", false)
	want := "two\n      expected  2\n      got       3"
	if f.err == nil || f.err.Error() != want || f.checked != 4 {
		t.Errorf("got %v after %d checks, want %q after 4", f.err, f.checked, want)
	}
	var none facts
	if e := none.only(talk{}, client, testenv.Gateway, "/mcp"); e == nil || none.err == nil {
		t.Errorf("only of nothing: got %v, %v; want an empty exchange and a mismatch", e, none.err)
	}
}

func TestColours(t *testing.T) {
	var out bytes.Buffer
	p := newPrinterTo(&out, true)
	p.refusal("no token", 401, 200, "")
	if !strings.Contains(out.String(), "\x1b["+red+"mUNEXPECTED") {
		t.Errorf("got %q, want a red warning", out.String())
	}
	if fmt.Sprint(fingerprint("a")) == fingerprint("b") {
		t.Error("fingerprints of different secrets are equal")
	}
}
