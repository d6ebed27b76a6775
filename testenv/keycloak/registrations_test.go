//go:build keycloak

package keycloak_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/testenv/probe"
)

// registration is what a client in the field sends, and where it wants its user back.
type registration struct {
	name     string
	body     map[string]any
	redirect string
	origin   string // of a client that is a web page
}

func registrations() []registration {
	both := []string{"authorization_code", "refresh_token"}
	code := []string{"code"}
	return []registration{
		{name: "TypeScriptSDK", redirect: "http://localhost:8090/callback", body: map[string]any{
			"client_name": "Simple OAuth MCP Client", "redirect_uris": []string{"http://localhost:8090/callback"},
			"grant_types": both, "response_types": code, "token_endpoint_auth_method": "client_secret_post", "scope": "stocks/read",
		}},
		{name: "PythonSDK", redirect: "http://localhost:3030/callback", body: map[string]any{
			"client_name": "Simple Auth Client", "redirect_uris": []string{"http://localhost:3030/callback"},
			"grant_types": both, "response_types": code, "token_endpoint_auth_method": "none", "scope": "stocks/read",
		}},
		{name: "Claude", redirect: "https://claude.ai/api/mcp/auth_callback", body: map[string]any{
			"client_name": "Claude", "redirect_uris": []string{"https://claude.ai/api/mcp/auth_callback"},
			"grant_types": both, "response_types": code, "token_endpoint_auth_method": "client_secret_post", "scope": "stocks/read",
		}},
		{name: "ClaudeCode", redirect: "http://localhost:54545/callback", body: map[string]any{
			"client_name": "Claude Code (stocks)", "redirect_uris": []string{"http://localhost:54545/callback"},
			"grant_types": both, "response_types": code, "token_endpoint_auth_method": "none",
		}},
		{name: "VSCode", redirect: "http://127.0.0.1:33418/", body: map[string]any{
			"client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com", "application_type": "native",
			"redirect_uris":  []string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/"},
			"grant_types":    []string{"authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"},
			"response_types": code, "token_endpoint_auth_method": "none", "scope": "stocks/read",
		}},
		{name: "VSCodeForTheWeb", redirect: "https://vscode.dev/redirect", body: map[string]any{
			"client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com",
			"redirect_uris": []string{"https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/", "http://127.0.0.1:33418/"},
			"grant_types":   both, "response_types": code, "token_endpoint_auth_method": "none", "scope": "stocks/read",
		}},
		{name: "Inspector", redirect: "http://localhost:6274/oauth/callback", origin: "http://localhost:6274", body: map[string]any{
			"client_name": "MCP Inspector", "client_uri": "https://github.com/modelcontextprotocol/inspector",
			"redirect_uris": []string{"http://localhost:6274/oauth/callback"},
			"grant_types":   both, "response_types": code, "token_endpoint_auth_method": "none", "scope": "stocks/read",
		}},
		{name: "MCPRemote", redirect: "http://localhost:3334/oauth/callback", body: map[string]any{
			"client_name": "MCP CLI Proxy", "client_uri": "https://github.com/modelcontextprotocol/mcp-cli",
			"redirect_uris": []string{"http://localhost:3334/oauth/callback"}, "software_id": "2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
			"software_version": "0.15.1", "grant_types": both, "response_types": code,
		}},
		{name: "Cursor", redirect: "cursor://anysphere.cursor-mcp/oauth/callback", body: map[string]any{
			"client_name": "Cursor", "redirect_uris": []string{"cursor://anysphere.cursor-mcp/oauth/callback"},
			"grant_types": both, "response_types": code, "token_endpoint_auth_method": "none",
		}},
	}
}

// knownClients shows, for each client in the field, registration, login with consent, and a
// token that the gateway takes.
func knownClients(t *testing.T, w *world) {
	p := w.person(t, john) // one person signs in once and allows each client
	for _, tt := range registrations() {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.origin != "" {
				header = []string{"Origin", tt.origin}
			}
			c := w.mustRegister(t, tt.body, header...)
			if got := c.registration.Header.Get("Access-Control-Allow-Origin"); got != tt.origin {
				t.Errorf("Access-Control-Allow-Origin: got %q, want %q", got, tt.origin)
			}
			before := len(p.Pages)
			a := c.logIn(t, p, tt.redirect)
			probe.WantStatus(t, a, http.StatusOK)
			var seen strings.Builder
			for _, page := range p.Pages[before:] {
				seen.WriteString(page.Text + "\n")
			}
			for _, want := range []string{tt.body["client_name"].(string), "Read stock prices of your region"} {
				if !strings.Contains(seen.String(), want) {
					t.Errorf("pages: got %q, want %q in them", seen.String(), want)
				}
			}
			answer := a.Object()
			life, _ := answer["expires_in"].(float64)
			if answer["scope"] != "stocks/read" || life > 900 || life < 870 {
				t.Errorf("got scope %v, expires_in %v; want stocks/read, 900 less a moment", answer["scope"], answer["expires_in"])
			}
			// Keycloak gives refresh tokens to clients that register for them, and no policy
			// takes them away. The realm ends them with the access token.
			if expiry, ok := answer["refresh_expires_in"].(float64); ok && expiry > 900 {
				t.Errorf("refresh_expires_in: got %v, want 900 at most", expiry)
			}
			token, _ := answer["access_token"].(string)
			probe.WantStatus(t, w.ask(t, token), http.StatusOK)
		})
	}
}

// registrationsRefused are the refusals that the realm's policies make, as a client sees them.
func registrationsRefused(t *testing.T, w *world) {
	with := func(name string, value any) map[string]any {
		body, _ := nativeClient()
		body[name] = value
		return body
	}
	for _, tt := range []struct {
		name   string
		body   map[string]any
		status int
	}{
		{"RedirectToAHostNobodyKnows", with("redirect_uris", []string{"https://attacker.example/cb"}), http.StatusForbidden},
		{"RedirectToASchemeNobodyKnows", with("redirect_uris", []string{"attacker://callback/cb"}), http.StatusForbidden},
		{"PageOfAHostNobodyKnows", with("client_uri", "https://attacker.example"), http.StatusForbidden},
		{"ScopeThatDoesNotExist", with("scope", "admin"), http.StatusForbidden},
		{"OfflineAccess", with("scope", "stocks/read offline_access"), http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := w.register(t, tt.body)
			if c.registration.Status != tt.status || c.id != "" {
				t.Errorf("got status %d, %s; want %d", c.registration.Status, c.registration.Body, tt.status)
			}
		})
	}
}

// authorizationsRefused are requests of a registered client that get no code.
func authorizationsRefused(t *testing.T, w *world) {
	body, redirect := nativeClient()
	c := w.mustRegister(t, body)
	for _, tt := range []struct {
		name string
		more map[string]string
		want string // error in the redirect
	}{
		{"NoPKCE", map[string]string{"code_challenge": "", "code_challenge_method": ""}, "invalid_request"},
		{"PKCEInPlainText", map[string]string{"code_challenge_method": "plain"}, "invalid_request"},
		{"ScopeThatDoesNotExist", map[string]string{"scope": "admin"}, "invalid_scope"},
		{"OfflineAccess", map[string]string{"scope": "stocks/read offline_access"}, "invalid_scope"},
		{"TokenInTheRedirect", map[string]string{"response_type": "token"}, "unauthorized_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.outside.Do(t, http.MethodGet, c.authorizationURL(redirect, "verifier", tt.more), "")
			to, err := url.Parse(a.Header.Get("Location"))
			if err != nil || !strings.HasPrefix(to.String(), redirect) {
				t.Fatalf("got status %d, Location %q; want a redirect to the client", a.Status, a.Header.Get("Location"))
			}
			result := to.Query()
			if to.Fragment != "" { // of a request for a token in the redirect
				if result, err = url.ParseQuery(to.Fragment); err != nil {
					t.Fatal(err)
				}
			}
			if got := result.Get("error"); got != tt.want {
				t.Errorf("error: got %q (%s), want %q", got, result.Get("error_description"), tt.want)
			}
		})
	}
	t.Run("UserSaysNo", func(t *testing.T) {
		p := w.person(t, john)
		p.Refuse = true
		result, err := p.Authorize(t.Context(), c.authorizationURL(redirect, "verifier", nil), redirect)
		if err != nil || result.Get("error") != "access_denied" || result.Has("code") {
			t.Errorf("got error %q, code %t, %v; want access_denied", result.Get("error"), result.Has("code"), err)
		}
	})
	t.Run("OtherRedirect", func(t *testing.T) {
		a := w.outside.Do(t, http.MethodGet, c.authorizationURL("http://127.0.0.1:43211/callback", "verifier", nil), "")
		if a.Status != http.StatusBadRequest || a.Header.Get("Location") != "" {
			t.Errorf("got status %d, Location %q; want 400 and no redirect", a.Status, a.Header.Get("Location"))
		}
	})
}
