package traps_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/authserver"
)

// byExchange has the authorization server make the upstream's token.
const byExchange = `client_id: api-gateway-client
client_secret: "{vault://env/gateway-client-secret}"
scope: mcp:read
resource: https://gw.example.com/mcp
token: {issuer: 'ISSUER'}
phantom_token: {mode: exchange, audience: 'https://orders.internal'}
`

// exchangeable is an access token that names the gateway's client beside the resource.
func (r *rig) exchangeable(g authserver.Grant) string {
	g.Resources = []string{clientID}
	return r.token(g)
}

// TestExchangeAtTheProvider: the upstream gets a token of the provider itself, for it alone
// and for the same user, made once and with the scopes named.
//
// Covers: TX-05, TX-07, TX-12, TX-13, AS-02, MCP-17
func TestExchangeAtTheProvider(t *testing.T) {
	r := start(t, options{noDefault: true, override: byExchange})
	token := r.exchangeable(authserver.Grant{Scope: "mcp:read mcp:write"})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { r.wantStatus(r.do("POST", "/mcp", token), 200) })
	}
	all.Wait()
	r.wantStatus(r.do("POST", "/mcp", token), 200)
	if r.idp.Exchanges() != 1 || r.idp.Introspections() != 1 {
		t.Errorf("%d exchanges and %d introspections, want one each", r.idp.Exchanges(), r.idp.Introspections())
	}

	got := strings.TrimPrefix(r.seen()[0].Header.Get("Authorization"), "Bearer ")
	if got == token {
		t.Fatal("the access token went upstream")
	}
	keys, err := keyring.NewRemoteKeys(keyring.RemoteConfig{URL: r.idp.Issuer() + "/jwks.json"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer: r.idp.Issuer(), Audiences: []string{upstreamAudience}, Keys: keys, Types: []string{"jwt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := verifier.Verify(t.Context(), got)
	if err != nil {
		t.Fatalf("the upstream's token: %v", err)
	}
	in := verified.Introspection
	if len(in.Audience) != 1 || in.Subject != "john.doe@demo.example" || in.Scope.String() != "mcp:read" || in.Claims["region"] != "USA" || in.ClientID != clientID {
		t.Errorf("claims %v, want the upstream alone, the user, scope mcp:read, region and the gateway as client", in.Claims)
	}
}

// TestExchangeThatIsRefused: the client sees what it can act on, the operator reads what to
// change, and nothing reaches the upstream.
//
// Covers: TX-14, TX-16, TX-17
func TestExchangeThatIsRefused(t *testing.T) {
	const json = "application/json"
	trouble := func(status int, body string) authserver.Trouble {
		return authserver.Trouble{Status: status, ContentType: json, Body: []byte(body)}
	}
	rewrite := func(name string, value any) authserver.Trouble {
		return authserver.Trouble{Rewrite: func(claims map[string]any) { claims[name] = value }}
	}
	tests := []struct {
		name    string
		trouble authserver.Trouble
		options options
		grant   authserver.Grant
		foreign bool // the token does not name the gateway's client
		status  int
		log     string
	}{
		{name: "token not for the gateway's client", foreign: true, status: 403, log: "client_id is not in the audience of the access token"},
		{name: "exchange not switched on", options: options{noExchange: true}, status: 500, log: "standard token exchange of the client"},
		{name: "unknown audience", options: options{override: "phantom_token: {mode: exchange, audience: 'https://nobody.internal'}\n"}, status: 500, log: "phantom_token.audience"},
		{name: "audience of another scope", options: options{override: "phantom_token: {mode: exchange, audience: 'https://writers.internal'}\n"}, status: 500, log: "phantom_token.audience"},
		{name: "scope for the upstream missing", options: options{override: "phantom_token: {mode: exchange, audience: 'https://orders.internal', exchange_scope: 'mcp:write'}\n"}, status: 403, log: "mcp:write"},
		{name: "token just revoked", trouble: trouble(400, `{"error":"invalid_request","error_description":"Invalid token"}`), status: 401, log: "does not take the access token"},
		{name: "wrong secret", trouble: trouble(401, `{"error":"unauthorized_client","error_description":"MARKED"}`), status: 500, log: "client_secret"},
		{name: "down", trouble: authserver.Trouble{Down: true}, status: 503, log: "exchanging the access token"},
		{name: "HTML", trouble: authserver.Trouble{Status: 200, ContentType: "text/html", Body: []byte("<html>MARKED")}, status: 503, log: "exchanging the access token"},
		{name: "500", trouble: authserver.Trouble{Status: 500}, status: 503, log: "exchanging the access token"},
		{name: "redirect", trouble: authserver.Trouble{Redirect: "http://127.0.0.1:1/"}, status: 503, log: "redirects are not followed"},
		{name: "2 MB", trouble: authserver.Trouble{PadTo: 2 << 20}, status: 503, log: "bytes"},
		{name: "token of another user", trouble: rewrite("sub", "jane"), status: 503, log: "expected the user of the access token"},
		{name: "token for others", trouble: rewrite("aud", "https://other.internal"), status: 503, log: "audience"},
		{name: "token of another issuer", trouble: rewrite("iss", "https://evil.example"), status: 503, log: "issuer"},
		{name: "token bound to a key", trouble: rewrite("cnf", map[string]any{"jkt": "x"}), status: 503, log: "bound to a key"},
		{name: "token that is over", trouble: rewrite("exp", time.Now().Add(-time.Hour).Unix()), status: 503, log: "expired"},
		{name: "ID token", trouble: rewrite("typ", "ID"), status: 503, log: "expected an access token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.options
			o.noDefault, o.override = true, byExchange+o.override
			r := start(t, o)
			r.idp.ExchangeTrouble(tt.trouble)
			token := r.exchangeable(tt.grant)
			if tt.foreign {
				token = r.token(tt.grant)
			}
			got := r.do("POST", "/mcp", token)
			r.wantStatus(got, tt.status)
			insufficient := strings.Contains(got.body, "insufficient_scope")
			if challenged := got.challenge() != ""; challenged != (tt.status == 401 || insufficient) {
				t.Errorf("challenge = %q for %d %s", got.challenge(), got.StatusCode, got.body)
			}
			if len(r.seen()) != 0 {
				t.Error("the request reached the upstream")
			}
			log := r.wholeLog()
			if !strings.Contains(log, tt.log) || strings.Contains(log, token) || strings.Contains(got.body+log, "MARKED") {
				t.Errorf("log is\n%s\nwant %q, no token and no word of the provider", log, tt.log)
			}
		})
	}
}
