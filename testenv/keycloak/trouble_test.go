//go:build keycloak

package keycloak_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/probe"
)

// withoutUser registers a confidential client, as anybody may, which asks for a token of its
// own: with the audience and the scope of the MCP server and without a user.
func withoutUser(t *testing.T, w *world) {
	c := w.mustRegister(t, map[string]any{
		"client_name": "Nobody", "redirect_uris": []string{"http://127.0.0.1:43210/callback"},
		"grant_types": []string{"authorization_code", "client_credentials"}, "token_endpoint_auth_method": "client_secret_post",
		"scope": "stocks/read",
	})
	ask := url.Values{"grant_type": {"client_credentials"}, "scope": {"stocks/read"}}
	if a := c.token(t, ask); a.Status != http.StatusBadRequest || a.Object()["access_token"] != nil {
		t.Errorf("with the realm as it is: got status %d, want 400 and no token", a.Status)
	}

	const policy = "no-tokens-without-a-user"
	if err := w.keycloak.SetClientPolicy(t.Context(), policy, false); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.keycloak.SetClientPolicy(t.Context(), policy, true); err != nil {
			t.Error(err)
		}
	}()
	token, _ := c.token(t, ask).Object()["access_token"].(string)
	if token == "" {
		t.Fatal("a realm without the policy: expected a token")
	}
	w.load(t, minted)
	_, before := w.upstream.Last()
	a := w.ask(t, token)
	probe.WantStatus(t, a, http.StatusForbidden)
	if a.Challenge() != "" {
		t.Errorf("WWW-Authenticate: got %s, want none: no other login would help", a.Challenge())
	}
	if _, after := w.upstream.Last(); after != before {
		t.Error("the request reached the upstream")
	}
}

// ending shows in every mode that a token is good, and that it is not any more after end.
func ending(t *testing.T, w *world, user string, end func(token string)) {
	t.Helper()
	for _, mode := range []string{minted, provided, exchanged} {
		w.load(t, mode)
		token := w.freshToken(t, user)
		probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
		end(token)
		probe.WantInvalidToken(t, w.ask(t, token))
	}
}

func revoked(t *testing.T, w *world) {
	ending(t, w, john, func(token string) {
		_, claims := probe.Decode(t, token)
		client, _ := claims["azp"].(string)
		probe.WantStatus(t, w.post(t, "revoke", url.Values{"token": {token}, "client_id": {client}}), http.StatusOK)
	})
}

func loggedOut(t *testing.T, w *world) {
	ending(t, w, jane, func(string) {
		if err := w.keycloak.EndSessions(t.Context(), jane); err != nil {
			t.Fatal(err)
		}
	})
}

func disabled(t *testing.T, w *world) {
	enable := func(enabled bool) {
		t.Helper()
		if err := w.keycloak.SetUserEnabled(t.Context(), jane, enabled); err != nil {
			t.Fatal(err)
		}
	}
	w.load(t, minted)
	token := w.freshToken(t, jane)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
	enable(false)
	probe.WantInvalidToken(t, w.ask(t, token))
	enable(true) // and the token is good again, as its session never ended
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
}

func wrongSecret(t *testing.T, w *world) {
	token := w.freshToken(t, john)
	w.load(t, minted, "client_secret: not-the-secret-of-the-gateway")
	before := len(w.Log.String())
	probe.WantTrouble(t, w.ask(t, token))
	probe.WantLog(t, w.Log, before, "answers 401 to the gateway itself", "client_secret")
	w.load(t, minted)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
}

// keysRotated has the realm sign with another key, then removes the first. In the mode in
// which Keycloak's own JWT goes upstream the plugin verifies it; an unknown key makes it
// fetch the keys, though not within half a minute of the last time.
func keysRotated(t *testing.T, w *world) {
	w.load(t, provided)
	old := w.freshToken(t, john)
	w.wantServed(t, old)
	header, _ := probe.Decode(t, old)

	if err := w.keycloak.AddSigningKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := w.freshToken(t, john)
	if h, _ := probe.Decode(t, fresh); h["kid"] == header["kid"] {
		t.Fatal("the realm signs with the key it had")
	}
	w.load(t, minted) // where the realm's keys do not matter
	probe.WantStatus(t, w.ask(t, old), http.StatusNoContent)
	probe.WantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	w.load(t, provided)
	w.wantServed(t, old)
	probe.WantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	got, _ := w.upstream.Last()
	w.wantTokenOfTheRealm(t, got, w.MCPURL, "USA")

	if err := w.keycloak.RemoveOldSigningKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{minted, provided} {
		w.load(t, mode)
		probe.WantInvalidToken(t, w.ask(t, old))
		probe.WantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	}
}

// wantServed asks until the gateway takes a good token. Until then it has to say that it is
// in trouble, and never that the token is bad.
func (w *world) wantServed(t *testing.T, token string) {
	t.Helper()
	const patience = 45 * time.Second // beyond the half minute between two fetches of keys
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		a := w.ask(t, token)
		if a.Status == http.StatusNoContent {
			return
		}
		probe.WantTrouble(t, a)
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the gateway is still in trouble after %s", patience)
		}
	}
}

// stopped ends Keycloak while a client is at work.
func stopped(t *testing.T, w *world) {
	prepareOutage(t, w)
	yaml, err := os.ReadFile("../../kong.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.Reload(yaml); err != nil { // the project's own, which caches
		t.Fatal(err)
	}
	_ = w.john.Close()
	w.john = w.connect(t, john)
	if _, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused {
		t.Fatalf("before: refused %t, %v", refused, err)
	}
	unseen := w.freshToken(t, jane)
	if err := w.keycloak.Stop(); err != nil {
		t.Fatal(err)
	}
	if text, refused, err := w.john.Call(t.Context(), "list_stocks", nil); err != nil || refused || !strings.Contains(text, "ACME") {
		t.Errorf("a known user: got %s, refused %t, %v; want stocks", text, refused, err)
	}
	probe.WantTrouble(t, w.ask(t, unseen))
	// The gateway's own documents need nobody.
	probe.WantStatus(t, w.outside.Do(t, http.MethodGet, strings.TrimSuffix(w.MCPURL, "/mcp")+"/.well-known/oauth-protected-resource/mcp", ""), http.StatusOK)
}

func restarted(t *testing.T, w *world) {
	body, redirect := nativeClient()
	forgotten := tokenOf(t, w.john)
	_, claims := probe.Decode(t, forgotten)
	if err := w.keycloak.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	// For what is cached the gateway does not ask: the delay of a revocation.
	probe.WantStatus(t, w.ask(t, forgotten), http.StatusOK)
	// Without the cache the token is worth nothing, as its session is gone.
	w.load(t, minted)
	probe.WantInvalidToken(t, w.ask(t, forgotten))
	// Its client is unknown, too: the user sees an error page, and the client has to
	// register again.
	id, _ := claims["azp"].(string)
	c := &client{w: w, id: id}
	a := w.outside.Do(t, http.MethodGet, c.authorizationURL(redirect, "verifier", nil), "")
	if a.Status != http.StatusBadRequest || !strings.Contains(a.Body, "Client not found") {
		t.Errorf("login of a forgotten client: got status %d, want 400 and Client not found", a.Status)
	}
	// Whoever registers and signs in again is served, with nothing restarted but Keycloak.
	fresh, _ := w.mustRegister(t, body).logIn(t, w.person(t, john), redirect).Object()["access_token"].(string)
	probe.WantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	w.load(t, provided)
	w.wantServed(t, fresh)
	got, _ := w.upstream.Last()
	w.wantTokenOfTheRealm(t, got, w.MCPURL, "USA")
}
