//go:build keycloak

package keycloak_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/probe"
)

// exchangeAs asks Keycloak itself for an exchange. Empty values are left out.
func (w *world) exchangeAs(t *testing.T, client, secret, subject string, more map[string]string) probe.Answer {
	t.Helper()
	form := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {client}, "client_secret": {secret},
		"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	}
	for name, value := range more {
		form.Set(name, value)
	}
	return w.post(t, "token", form)
}

// exchangeFacts shows what the sidecar has to rely on, and what it must not.
func exchangeFacts(t *testing.T, w *world) {
	s := w.startSidecar(t, documentedPolicy(t), nil)
	phantom := w.freshPhantom(t, john, exchanged)

	t.Run("Narrows", func(t *testing.T) {
		a := w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, map[string]string{"scope": "stocks/read"})
		_, all := probe.Decode(t, a.Text("access_token"))
		if list, _ := all["aud"].([]any); !slices.Contains(list, any(testenv.APIAudience)) || len(list) < 2 {
			t.Errorf("without audience: got aud %v, want the API among others", all["aud"])
		}
		a = w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, map[string]string{"scope": "stocks/read", "audience": testenv.APIAudience})
		if _, one := probe.Decode(t, a.Text("access_token")); one["aud"] != testenv.APIAudience {
			t.Errorf("with audience: got aud %v, want the API alone", one["aud"])
		}
		// Without scopes, every claim that hangs on one is left out: the sidecar always names them.
		a = w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, nil)
		if _, bare := probe.Decode(t, a.Text("access_token")); bare["region"] != nil || bare["scope"] != "" {
			t.Errorf("without scope: got region %v, scope %v; want neither", bare["region"], bare["scope"])
		}
	})

	t.Run("MayWiden", func(t *testing.T) {
		const policy = "exchange-no-upscope"
		wider := map[string]string{"scope": "stocks/read stocks/trade", "audience": testenv.APIAudience}
		a := w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, wider)
		if a.Status != http.StatusBadRequest || a.Text("error") != "invalid_scope" {
			t.Errorf("with the policy %s: got status %d, %s; want 400, invalid_scope", policy, a.Status, a.Body)
		}
		if err := w.keycloak.SetClientPolicy(t.Context(), policy, false); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.keycloak.SetClientPolicy(t.Context(), policy, true); err != nil {
				t.Error(err)
			}
		}()
		a = w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, wider)
		if !slices.Contains(strings.Fields(a.Text("scope")), "stocks/trade") {
			t.Errorf("without it: got status %d, scope %q; want stocks/trade, which the user did not grant", a.Status, a.Text("scope"))
		}
		// The sidecar needs no policy of the realm for that.
		a = s.exchange(t, phantom, testenv.APIAudience, "stocks/read stocks/trade")
		probe.WantStatus(t, a, http.StatusBadRequest)
		if a.Text("error") != "invalid_scope" {
			t.Errorf("the sidecar: got %s, want invalid_scope", a.Body)
		}
	})

	t.Run("IdentityToken", func(t *testing.T) {
		const idToken = "urn:ietf:params:oauth:token-type:id_token"
		a := w.exchangeAs(t, sidecarClient, w.mcpSecret, phantom, map[string]string{"scope": "stocks/read", "requested_token_type": idToken})
		if a.Status != http.StatusOK || a.Text("token_type") != "N_A" || a.Text("issued_token_type") != idToken {
			t.Errorf("Keycloak: got status %d, token_type %q, issued_token_type %q; want 200, N_A, id_token", a.Status, a.Text("token_type"), a.Text("issued_token_type"))
		}
		a = w.outside.Post(t, s.url+"/token", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {mcpServerID}, "client_secret": {s.secret},
			"subject_token": {phantom}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"audience": {testenv.APIAudience}, "requested_token_type": {idToken},
		})
		probe.WantStatus(t, a, http.StatusBadRequest)
	})

	// Revoking a token leaves alone what was exchanged for it; ending the session does not.
	// No API that verifies by itself sees either, so what is issued has to be short-lived: the
	// sidecar gives nothing out beyond token_lifetime. How long the token itself lives is the
	// realm's to say.
	t.Run("OutlivesARevocation", func(t *testing.T) {
		access := w.freshToken(t, jane)
		_, claims := probe.Decode(t, access)
		token := w.exchangeAs(t, "api-gateway-client", w.gatewaySecret, access, map[string]string{"scope": "stocks/read"}).Text("access_token")
		active := func(token string) bool {
			a := w.post(t, "token/introspect", url.Values{"client_id": {"api-gateway-client"}, "client_secret": {w.gatewaySecret}, "token": {token}})
			probe.WantStatus(t, a, http.StatusOK)
			return a.Object()["active"] == true
		}
		client, _ := claims["azp"].(string)
		probe.WantStatus(t, w.post(t, "revoke", url.Values{"token": {access}, "client_id": {client}}), http.StatusOK)
		if active(access) || !active(token) {
			t.Errorf("revoked: got active %t, the exchanged one %t; want false, true", active(access), active(token))
		}
		if err := w.keycloak.EndSessions(t.Context(), jane); err != nil {
			t.Fatal(err)
		}
		if active(token) {
			t.Error("session ended: the exchanged token is still active")
		}
		granted := s.exchange(t, phantom, testenv.APIAudience, "stocks/read")
		if life, _ := granted.Object()["expires_in"].(float64); granted.Status != http.StatusOK || life > 60 || life < 50 {
			t.Errorf("the sidecar: got status %d, expires_in %v; want 60 or little less, by token_lifetime", granted.Status, life)
		}
		_, claims = probe.Decode(t, granted.Text("access_token"))
		issued, _ := claims["iat"].(float64)
		expires, _ := claims["exp"].(float64)
		if expires-issued != 300 {
			t.Errorf("the token itself: got a life of %v s, want 300, as the realm says of the client", expires-issued)
		}
	})
}
