package traps_test

import (
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
)

// byIssuer is a configuration in which one URL stands for the authorization server.
const byIssuer = `client_id: api-gateway-client
client_secret: "{vault://env/gateway-client-secret}"
scope: mcp:read
resource: https://gw.example.com/mcp
token: {issuer: 'ISSUER'}
phantom_token: {issuer: 'https://gw.example.com/internal', audience: 'https://orders.internal', signing_key_file: KEY}
`

// TestIssuerAlone: the endpoint is found from the issuer, which is published as the
// authorization server, and any form of issuer will do.
//
// Covers: AS-01, AS-02, PR-01
func TestIssuerAlone(t *testing.T) {
	for _, path := range []string{"", "/realms/mcp", "/tenant/"} {
		r := start(t, options{issuer: path, noDefault: true, override: byIssuer})
		r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 200)
		r.wantStatus(r.do("POST", "/mcp", "garbage"), 401)
		metadata := r.do("GET", "/.well-known/oauth-protected-resource/mcp", "")
		if want := `"authorization_servers":["` + r.idp.Issuer() + `"]`; !strings.Contains(metadata.body, want) {
			t.Errorf("metadata is %s, want %s", metadata.body, want)
		}
	}
}

// TestIssuerThatIsNotTheProvidersOwn: a typing error is 503 and a log line that names the
// setting, never a token let through and never a 401.
//
// Covers: AS-01, MCP-07
func TestIssuerThatIsNotTheProvidersOwn(t *testing.T) {
	tests := []struct{ name, issuer, log string }{
		{"RejectsTrailingSlash", "ISSUER/", "a slash more or less"},
		{"NothingThere", "ISSUER/realms/none", "status 404"},
		{"NobodyThere", "http://127.0.0.1:1", "connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, options{noDefault: true, override: strings.Replace(byIssuer, "ISSUER", tt.issuer, 1)})
			got := r.do("POST", "/mcp", r.token(authserver.Grant{}))
			r.wantStatus(got, 503)
			if got.challenge() != "" || got.Header.Get("Retry-After") == "" || len(r.seen()) != 0 {
				t.Errorf("headers %v and %d requests upstream, want Retry-After, no challenge, none", got.Header, len(r.seen()))
			}
			if log := r.wholeLog(); !strings.Contains(log, tt.log) || !strings.Contains(log, "token.issuer") {
				t.Errorf("log is\n%s\nwant %q and token.issuer", log, tt.log)
			}
		})
	}
}

// Kong itself refuses a configuration that leaves nothing to find the provider by.
func TestKongRefusesConfigurationsWithoutAProvider(t *testing.T) {
	const client = "client_id: a\nclient_secret: b\n"
	tests := []struct{ name, config, want string }{
		{"NoEndpointAndNoIssuer", client, "at least one of these fields must be non-empty: 'introspection_endpoint', 'token.issuer'"},
		{"ResourceWithoutAuthorizationServer", client + "introspection_endpoint: https://idp.example/i\nresource: https://gw.example.com/mcp\n", "resource needs one of 'authorization_servers', 'token.issuer'"},
		{"ExchangeWithoutIssuer", client + "introspection_endpoint: https://idp.example/i\nscope: a\nphantom_token: {mode: exchange}\n", "phantom_token.mode exchange needs 'token.issuer'"},
		{"ExchangeWithoutScope", client + "token: {issuer: 'https://idp.example'}\nphantom_token: {mode: exchange}\n", "phantom_token.mode exchange needs one of 'scope'"},
		{"IssuerAlone", client + "token: {issuer: 'https://idp.example'}\n", ""},
		{"EndpointAlone", client + "introspection_endpoint: https://idp.example/i\n", ""},
		{"Exchange", client + "token: {issuer: 'https://idp.example'}\nscope: a\nphantom_token: {mode: exchange}\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gw, err := kongtest.Start(t.Context(), kongtest.Config{
				YAML:    []byte("_format_version: \"3.0\"\nplugins:\n- name: phantom-token\n  config:\n" + indent(tt.config, "    ") + "\n"),
				Plugins: map[string]string{"phantom-token": pluginBinary},
			})
			if err == nil {
				defer gw.Close()
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Start = %v, want %q", err, tt.want)
			}
		})
	}
}
