package traps_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

// A configuration that the schema lets through but that cannot work answers 500 on its own
// routes, says which field in the log, and leaves other routes alone.
func TestConfigurationThatCannotWork(t *testing.T) {
	tests := []struct {
		name, config, field string
		env                 map[string]string
	}{
		{name: "unresolved reference", env: map[string]string{"GATEWAY_CLIENT_SECRET": ""}, field: "client_secret"},
		{name: "unreadable key", config: "phantom_token: {issuer: 'https://gw.example.com/internal', audience: 'https://orders.internal', signing_key_file: /nonexistent/key.jwk}\n", field: "phantom_token.signing_key_file"},
		{name: "http outside loopback", config: "introspection_endpoint: http://idp.example.com/introspect\n", field: "introspection_endpoint"},
		{name: "offline_access", config: "scope: mcp:read offline_access\n", field: "scope"},
		{name: "unreadable certificate authority", config: "introspection: {ca_file: /nonexistent/ca.pem}\n", field: "introspection.ca_file"},
		{name: "phantom audience is the resource", config: "phantom_token: {issuer: 'https://gw.example.com/internal', audience: 'https://gw.example.com/mcp', signing_key_file: KEY}\n", field: "phantom_token.audience"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := startOverriding(t, tt.config, tt.env)
			for range 3 {
				got := r.do("POST", "/mcp", r.token(authserver.Grant{}))
				r.wantStatus(got, 500)
				if got.body != `{"error":"server_error"}` || got.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %v %s, want server_error, not stored", got.Header, got.body)
				}
			}
			r.wantStatus(r.do("GET", "/unprotected", ""), 200)
			if n := len(r.seen()); n != 1 {
				t.Errorf("upstream saw %d requests, want the one of the other route", n)
			}
			named := 0
			for _, line := range strings.Split(r.log.String(), "\n") {
				if strings.Contains(line, tt.field) && strings.Contains(line, "expected") {
					named++
				}
			}
			if named < 1 || named > 2 { // once for each worker's instance at most
				t.Errorf("%d log lines name %s and what was expected, want one or two:\n%s", named, tt.field, r.log)
			}
		})
	}
}

// startOverriding starts a rig whose plugin configuration has top-level keys replaced.
func startOverriding(t *testing.T, override string, env map[string]string) *rig {
	t.Helper()
	return start(t, options{override: override, env: env})
}

// A configuration of the Lua plugin works as it is: the provider's JWT goes upstream.
//
// Covers: IN-15
func TestConfigurationOfTheLuaPlugin(t *testing.T) {
	const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDAsInN1YiI6ImpvaG4iLCJjbGllbnRfaWQiOiJjIiwic2NvcGUiOiJyZWFkIn0.c2ln"
	idp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Accept") != "application/jwt" || req.FormValue("token") == "" {
			t.Errorf("Accept = %q, want application/jwt", req.Header.Get("Accept"))
		}
		if req.FormValue("token") != "opaque" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/jwt")
		_, _ = io.WriteString(w, jwt)
	}))
	t.Cleanup(idp.Close)
	r := start(t, options{noDefault: true, config: fmt.Sprintf(`introspection_endpoint: %s/oauth/v2/oauth-introspect
client_id: api-gateway-client
client_secret: Password1
token_cache_seconds: 900
scope: read
trusted_web_origins: ["https://www.example.com"]
verify_ssl: true
`, idp.URL)})
	r.wantStatus(r.do("GET", "/api", "opaque"), 200)
	if got := r.seen()[0].Header.Get("Authorization"); got != "Bearer "+jwt {
		t.Error("the upstream did not get the provider's JWT")
	}
	r.wantStatus(r.do("GET", "/api", "other"), 401)
	got := r.do("GET", "/api", "")
	r.wantStatus(got, 401)
	if want := `Bearer realm="phantom-token", scope="read"`; got.challenge() != want {
		t.Errorf("challenge = %q, want %q", got.challenge(), want)
	}
	r.wantStatus(r.do("GET", "/api", "opaque", "Origin", "https://evil.example"), 403)
	if o := r.do("GET", "/api", "opaque", "Origin", "https://www.example.com").Header.Get("Access-Control-Allow-Origin"); o != "https://www.example.com" {
		t.Errorf("Access-Control-Allow-Origin = %q, want the listed origin", o)
	}
}
