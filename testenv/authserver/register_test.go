package authserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

// TestRegisterAsRealClientsDo sends the registrations of real clients as they are.
func TestRegisterAsRealClientsDo(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		secret bool
	}{
		{name: "TypeScript SDK", secret: true, body: `{"client_name":"Simple OAuth MCP Client","redirect_uris":["http://localhost:8090/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"client_secret_post"}`},
		{name: "Claude", body: `{"client_name":"Claude","client_uri":"https://claude.ai","redirect_uris":["https://claude.ai/api/mcp/auth_callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none","scope":"stocks/read"}`},
		{name: "Claude Code", body: `{"client_name":"Claude Code (stocks)","redirect_uris":["http://localhost:54212/callback"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}`},
		{name: "VS Code", body: `{"client_name":"Visual Studio Code","client_uri":"https://code.visualstudio.com","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"],"response_types":["code"],"redirect_uris":["https://insiders.vscode.dev/redirect","https://vscode.dev/redirect","http://127.0.0.1/","http://127.0.0.1:33418/"],"scope":"stocks/read","token_endpoint_auth_method":"none","application_type":"native"}`},
		{name: "MCP Inspector", body: `{"redirect_uris":["http://localhost:6274/oauth/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP Inspector","client_uri":"https://github.com/modelcontextprotocol/inspector","scope":"stocks/read"}`},
		{name: "mcp-remote", secret: true, body: `{"redirect_uris":["http://localhost:3334/oauth/callback"],"token_endpoint_auth_method":"client_secret_basic","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"client_name":"MCP CLI Proxy","client_uri":"https://github.com/modelcontextprotocol/mcp-cli","software_id":"2e6dc280-f3c3-4e01-99a7-8181dbd1d23d","software_version":"0.15.1","scope":"openid offline_access stocks/read"}`},
		{name: "Go SDK", secret: true, body: `{"redirect_uris":["http://localhost:3142"],"client_name":"Go client","application_type":"native"}`},
		{name: "Python SDK", secret: true, body: `{"redirect_uris":["http://localhost:3030/callback"],"token_endpoint_auth_method":"client_secret_post","grant_types":["authorization_code","refresh_token"],"response_types":["code"],"scope":null,"client_name":"Simple Auth Client","client_uri":null,"logo_uri":null,"contacts":null}`},
		{name: "unknown members", body: `{"redirect_uris":["http://127.0.0.1/"],"token_endpoint_auth_method":"none","client_name#ja":"名前","vendor":{"x":[1]}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t)
			a := s.register(tt.body)
			if a.status != http.StatusCreated {
				t.Fatalf("got %d, want 201\n%s", a.status, a.body)
			}
			if c := a.header.Get("Cache-Control"); c != "no-store" {
				t.Errorf("Cache-Control: got %q, want no-store", c)
			}
			got := a.object(t)
			if fmt.Sprint(got["grant_types"], got["response_types"]) != "[authorization_code] [code]" {
				t.Errorf("got grants %v and response types %v", got["grant_types"], got["response_types"])
			}
			if scope, _ := got["scope"].(string); !strings.HasPrefix(scope, "stocks/read") || strings.Contains(scope, "offline_access") {
				t.Errorf("scope: got %q", scope)
			}
			if got["client_id_issued_at"] != float64(s.clock.Now().Unix()) {
				t.Errorf("client_id_issued_at: got %v", got["client_id_issued_at"])
			}
			secret, _ := got["client_secret"].(string)
			if expires, ok := got["client_secret_expires_at"]; (secret != "") != tt.secret || ok != tt.secret || ok && expires != 0.0 {
				t.Errorf("secret: got %t, expiry %v; want a secret: %t", secret != "", expires, tt.secret)
			}
			var sent map[string]any
			if err := json.Unmarshal([]byte(tt.body), &sent); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got["redirect_uris"]) != fmt.Sprint(sent["redirect_uris"]) {
				t.Errorf("redirect_uris: got %v, want %v", got["redirect_uris"], sent["redirect_uris"])
			}
		})
	}
}

func TestRegisterRefuses(t *testing.T) {
	uris := func(list ...string) string {
		b, _ := json.Marshal(map[string]any{"redirect_uris": list})
		return string(b)
	}
	many := make([]string, 21)
	for i := range many {
		many[i] = fmt.Sprintf("https://app.example/%d", i)
	}
	plus := func(members string) string { return `{"redirect_uris":["https://app.example/cb"],` + members + `}` }
	tests := []struct {
		name string
		body string
		code string // invalid_redirect_uri or invalid_client_metadata
	}{
		{"no JSON", `redirect_uris=x`, "invalid_client_metadata"},
		{"no object", `[]`, "invalid_client_metadata"},
		{"member twice", plus(`"scope":"stocks/read","scope":"stocks/trade"`), "invalid_client_metadata"},
		{"redirect URIs twice", plus(`"redirect_uris":["https://evil.example/"]`), "invalid_client_metadata"},
		{"no redirect URI", `{}`, "invalid_redirect_uri"},
		{"empty list", `{"redirect_uris":[]}`, "invalid_redirect_uri"},
		{"redirect URI as a string", `{"redirect_uris":"https://app.example/cb"}`, "invalid_client_metadata"},
		{"redirect URI as a number", `{"redirect_uris":[1]}`, "invalid_client_metadata"},
		{"too many", uris(many...), "invalid_redirect_uri"},
		{"one bad among good", uris("https://app.example/cb", "http://app.example/cb"), "invalid_redirect_uri"},
		{"RejectsPlainHTTP", uris("http://app.example/cb"), "invalid_redirect_uri"},
		{"RejectsFragment", uris("https://app.example/cb#x"), "invalid_redirect_uri"},
		{"RejectsEmptyFragment", uris("https://app.example/cb#"), "invalid_redirect_uri"},
		{"RejectsWildcardHost", uris("https://*.example/cb"), "invalid_redirect_uri"},
		{"RejectsWildcardPath", uris("https://app.example/*"), "invalid_redirect_uri"},
		{"RejectsUserInformation", uris("https://app.example@evil.example/cb"), "invalid_redirect_uri"},
		{"RejectsLoopbackLookalike", uris("http://127.0.0.1.evil.example/cb"), "invalid_redirect_uri"},
		{"RejectsLocalhostLookalike", uris("http://localhost.evil.example/"), "invalid_redirect_uri"},
		{"RejectsBackslash", uris(`https://app.example\@evil.example/cb`), "invalid_redirect_uri"},
		{"RejectsJavaScript", uris("javascript:alert(1)"), "invalid_redirect_uri"},
		{"RejectsData", uris("data:text/html,x"), "invalid_redirect_uri"},
		{"RejectsFile", uris("file:///etc/passwd"), "invalid_redirect_uri"},
		{"scheme without period", uris("cursor://anysphere.cursor-mcp/oauth/callback"), "invalid_redirect_uri"},
		{"relative", uris("/cb"), "invalid_redirect_uri"},
		{"no host", uris("https:///cb"), "invalid_redirect_uri"},
		{"line feed", uris("https://app.example/\r\nSet-Cookie: x"), "invalid_redirect_uri"},
		{"not ASCII", uris("https://äpp.example/cb"), "invalid_redirect_uri"},
		{"port out of range", uris("http://127.0.0.1:99999/cb"), "invalid_redirect_uri"},
		{"very long", uris("https://app.example/" + strings.Repeat("a", 3000)), "invalid_redirect_uri"},
		{"web application with a private-use scheme", `{"application_type":"web","redirect_uris":["com.example.app:/cb"]}`, "invalid_redirect_uri"},
		{"unknown application type", plus(`"application_type":"tv"`), "invalid_client_metadata"},
		{"RejectsClientCredentials", plus(`"grant_types":["client_credentials"]`), "invalid_client_metadata"},
		{"RejectsClientCredentialsBesideCode", plus(`"grant_types":["authorization_code","client_credentials"]`), "invalid_client_metadata"},
		{"implicit", plus(`"grant_types":["implicit"],"response_types":["token"]`), "invalid_client_metadata"},
		{"password", plus(`"grant_types":["authorization_code","password"]`), "invalid_client_metadata"},
		{"response type token", plus(`"response_types":["code","token"]`), "invalid_client_metadata"},
		{"private_key_jwt", plus(`"token_endpoint_auth_method":"private_key_jwt"`), "invalid_client_metadata"},
		{"unknown scope", plus(`"scope":"stocks/read admin"`), "invalid_client_metadata"},
		{"scope with quote", plus(`"scope":"a\"b"`), "invalid_client_metadata"},
		{"scope as a list", plus(`"scope":["stocks/read"]`), "invalid_client_metadata"},
		{"name as a number", plus(`"client_name":1`), "invalid_client_metadata"},
		{"very long name", plus(`"client_name":"` + strings.Repeat("é", 101) + `"`), "invalid_client_metadata"},
		{"RejectsRightToLeftOverrideInName", plus(`"client_name":"safe\u202Eecived"`), "invalid_client_metadata"},
		{"RejectsControlCharacterInName", plus(`"client_name":"a\u0000b"`), "invalid_client_metadata"},
		{"RejectsLineFeedInName", plus(`"client_name":"a\nb"`), "invalid_client_metadata"},
		{"RejectsJavaScriptClientURI", plus(`"client_uri":"javascript:alert(1)"`), "invalid_client_metadata"},
		{"RejectsDataLogo", plus(`"logo_uri":"data:image/png;base64,AA"`), "invalid_client_metadata"},
	}
	s := start(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, s.register(tt.body), http.StatusBadRequest, tt.code)
		})
	}
	t.Run("content type", func(t *testing.T) {
		a := do(t, client(nil), request(t, http.MethodPost, s.Issuer()+"/register", strings.NewReader(uris(callback)), "Content-Type", "text/plain"))
		wantError(t, a, http.StatusBadRequest, "invalid_client_metadata")
	})
	t.Run("very large", func(t *testing.T) {
		wantError(t, s.register(plus(`"x":"`+strings.Repeat("a", 70<<10)+`"`)), http.StatusRequestEntityTooLarge, "invalid_client_metadata")
	})
}

func TestRegisterAccepts(t *testing.T) {
	s := start(t, func(c *authserver.Config) { c.RedirectSchemes = []string{"cursor"} })
	for _, uri := range []string{
		"https://app.example", "https://app.example:8443/cb?tenant=1", "http://127.0.0.1/", "http://[::1]:3000/cb", "http://LOCALHOST/cb",
		"com.example.app:/oauth/callback", "com.example.app:callback", "com.example.app://callback", "cursor://anysphere.cursor-mcp/oauth/callback",
	} {
		body, _ := json.Marshal(map[string]any{"redirect_uris": []string{uri}})
		if a := s.register(string(body)); a.status != http.StatusCreated {
			t.Errorf("%s: got %d, want 201\n%s", uri, a.status, a.body)
		}
	}
}

func TestRegistrationsAreBounded(t *testing.T) {
	s := start(t, func(c *authserver.Config) { c.MaxRegistrations = 2 })
	body := `{"redirect_uris":["https://app.example/cb"]}`
	for range 2 {
		if a := s.register(body); a.status != http.StatusCreated {
			t.Fatalf("got %d, want 201", a.status)
		}
	}
	a := s.register(body)
	wantError(t, a, http.StatusTooManyRequests, "too_many_requests")
	if a.header.Get("Retry-After") == "" {
		t.Error("expected Retry-After, got none")
	}
}
