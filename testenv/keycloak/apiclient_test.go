//go:build keycloak

package keycloak_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv/probe"
)

// apiClient signs a user in at the dashboard, a client of the realm that speaks no MCP, and
// calls the API through the gateway.
func apiClient(t *testing.T, w *world) {
	const redirect = "http://localhost:3000/callback"
	dashboard := &client{w: w, id: "stocks-dashboard", resource: w.APIResource}
	token := dashboard.logIn(t, w.person(t, john), redirect).Text("access_token")
	if token == "" {
		t.Fatal("token endpoint: expected a token")
	}
	stocks := func(token string) probe.Answer {
		return w.outside.Do(t, http.MethodGet, w.APIResource+"/stocks", "", "Authorization", "Bearer "+token)
	}
	a := stocks(token)
	probe.WantStatus(t, a, http.StatusOK)
	if !strings.Contains(a.Body, `"ACME"`) || strings.Contains(a.Body, `"DUFF"`) {
		t.Errorf("stocks: got %s, want those of the USA", a.Body)
	}
	// The token of an MCP client is for the MCP server alone.
	probe.WantInvalidToken(t, stocks(tokenOf(t, w.john)))
	// The other way round Keycloak cannot draw the line: the scope that the API wants brings
	// the audience of the MCP server, whoever asks for it.
	_, claims := probe.Decode(t, token)
	audience, _ := claims["aud"].([]any)
	for _, want := range []string{w.APIResource, w.MCPURL, "api-gateway-client"} {
		if !slices.Contains(audience, any(want)) {
			t.Errorf("aud: got %v, want %s in it", audience, want)
		}
	}
	probe.WantStatus(t, w.ask(t, token), http.StatusOK)

	// Who registers itself gets no token for the API.
	body, native := nativeClient()
	body["scope"] = "stocks/read api-resource"
	if c := w.register(t, body); c.registration.Status != http.StatusForbidden {
		t.Errorf("registration with api-resource: got status %d, want 403", c.registration.Status)
	}
	body, _ = nativeClient()
	c := w.mustRegister(t, body)
	a = w.outside.Do(t, http.MethodGet, c.authorizationURL(native, "verifier", map[string]string{"scope": "stocks/read api-resource"}), "")
	if to := a.Header.Get("Location"); !strings.Contains(to, "error=invalid_scope") {
		t.Errorf("authorization with api-resource: got status %d, Location %q; want invalid_scope", a.Status, to)
	}
	// No code for the dashboard without PKCE, nor back to another place.
	a = w.outside.Do(t, http.MethodGet, dashboard.authorizationURL(redirect, "", map[string]string{"code_challenge": "", "code_challenge_method": ""}), "")
	if to := a.Header.Get("Location"); !strings.Contains(to, "error=invalid_request") {
		t.Errorf("authorization without PKCE: got status %d, Location %q; want invalid_request", a.Status, to)
	}
	a = w.outside.Do(t, http.MethodGet, dashboard.authorizationURL("http://localhost:3001/callback", "verifier", nil), "")
	if a.Status != http.StatusBadRequest {
		t.Errorf("authorization with another redirect: got status %d, want 400", a.Status)
	}
}
