package oauth_test

import (
	"encoding/json"
	"testing"

	"phantomtoken/internal/oauth"
)

func marshal(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The reference document A9 of our requirements, byte by byte.
//
// Covers: PR-06
func TestProtectedResourceMetadataBytes(t *testing.T) {
	doc := oauth.ProtectedResourceMetadata{
		Resource: "https://gw.example.com/mcp", AuthorizationServers: []string{"https://idp.example.com/realms/mcp"},
		ScopesSupported: []string{"mcp:read"}, BearerMethodsSupported: []string{"header"}, ResourceName: "Example MCP",
	}
	const want = `{"resource":"https://gw.example.com/mcp","authorization_servers":["https://idp.example.com/realms/mcp"],"scopes_supported":["mcp:read"],"bearer_methods_supported":["header"],"resource_name":"Example MCP"}`
	if got := marshal(t, doc); got != want {
		t.Errorf("document\n got %s\nwant %s", got, want)
	}
	// Members without a value are left out: no null, no empty array, no empty string.
	doc = oauth.ProtectedResourceMetadata{Resource: "https://h", AuthorizationServers: []string{}, ScopesSupported: []string{}}
	if got, want := marshal(t, doc), `{"resource":"https://h"}`; got != want {
		t.Errorf("document = %s, want %s", got, want)
	}
	doc = oauth.ProtectedResourceMetadata{Resource: "https://h", ResourceDocumentation: "https://d", ResourcePolicyURI: "https://p", ResourceTOSURI: "https://t"}
	if got, want := marshal(t, doc), `{"resource":"https://h","resource_documentation":"https://d","resource_policy_uri":"https://p","resource_tos_uri":"https://t"}`; got != want {
		t.Errorf("document = %s, want %s", got, want)
	}
}

func TestIssuerMetadataBytes(t *testing.T) {
	if got, want := marshal(t, oauth.IssuerMetadata{Issuer: "https://i", JWKSURI: "https://i/jwks.json"}), `{"issuer":"https://i","jwks_uri":"https://i/jwks.json"}`; got != want {
		t.Errorf("document = %s, want %s", got, want)
	}
	all := oauth.IssuerMetadata{
		Issuer: "https://i", JWKSURI: "https://i/j", TokenEndpoint: "https://i/token", TokenEndpointAuth: []string{"client_secret_basic"},
		GrantTypesSupported: []string{"urn:ietf:params:oauth:grant-type:token-exchange"}, ResponseTypesSupported: []string{"none"},
		SubjectTypesSupported: []string{"public"}, IDTokenAlgorithms: []string{"ES256"},
	}
	const want = `{"issuer":"https://i","jwks_uri":"https://i/j","token_endpoint":"https://i/token","token_endpoint_auth_methods_supported":["client_secret_basic"],"grant_types_supported":["urn:ietf:params:oauth:grant-type:token-exchange"],"response_types_supported":["none"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if got := marshal(t, all); got != want {
		t.Errorf("document\n got %s\nwant %s", got, want)
	}
}

// The bodies of the reference answers, byte by byte.
func TestErrorBody(t *testing.T) {
	tests := []struct {
		name string
		err  *oauth.Error
		body string
		text string
	}{
		{name: "A1", err: &oauth.Error{Code: oauth.ErrorUnauthorized, Status: 401}, body: `{"error":"unauthorized"}`, text: "unauthorized"},
		{
			name: "A2", err: &oauth.Error{Code: oauth.ErrorInvalidToken, Description: "The access token is invalid, expired or not intended for this resource", Status: 401},
			body: `{"error":"invalid_token","error_description":"The access token is invalid, expired or not intended for this resource"}`,
			text: "invalid_token: The access token is invalid, expired or not intended for this resource",
		},
		{
			name: "A3", err: &oauth.Error{Code: oauth.ErrorInsufficientScope, Description: "Additional scope is required for this operation", Scope: oauth.Scopes{"mcp:read", "mcp:write"}, Status: 403},
			body: `{"error":"insufficient_scope","error_description":"Additional scope is required for this operation","scope":"mcp:read mcp:write"}`,
			text: "insufficient_scope: Additional scope is required for this operation",
		},
		{name: "A7", err: &oauth.Error{Code: oauth.ErrorTemporarilyUnavailable, Status: 503}, body: `{"error":"temporarily_unavailable"}`, text: "temporarily_unavailable"},
		{name: "server error", err: &oauth.Error{Code: oauth.ErrorServerError, Status: 500}, body: `{"error":"server_error"}`, text: "server_error"},
		{name: "policy", err: &oauth.Error{Code: oauth.ErrorAccessDenied, Status: 403}, body: `{"error":"access_denied"}`, text: "access_denied"},
		{name: "too many", err: &oauth.Error{Code: oauth.ErrorTooManyRequests, Status: 429}, body: `{"error":"too_many_requests"}`, text: "too_many_requests"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.err.Body()); got != tt.body {
				t.Errorf("body = %s, want %s", got, tt.body)
			}
			if got := tt.err.Error(); got != tt.text {
				t.Errorf("text = %q, want %q", got, tt.text)
			}
		})
	}
}
