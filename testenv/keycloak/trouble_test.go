//go:build keycloak

package keycloak_test

import (
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
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
	if a := c.token(t, ask); a.status != http.StatusBadRequest || a.object()["access_token"] != nil {
		t.Errorf("with the realm as it is: got status %d, want 400 and no token", a.status)
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
	token, _ := c.token(t, ask).object()["access_token"].(string)
	if token == "" {
		t.Fatal("a realm without the policy: expected a token")
	}
	w.load(t, minted)
	_, before := w.lastArrived()
	a := w.ask(t, token)
	wantStatus(t, a, http.StatusForbidden)
	if a.challenge() != "" {
		t.Errorf("WWW-Authenticate: got %s, want none: no other login would help", a.challenge())
	}
	if _, after := w.lastArrived(); after != before {
		t.Error("the request reached the upstream")
	}
}

// ending shows in every mode that a token is good, and that it is not any more after end.
func ending(t *testing.T, w *world, user string, end func(token string)) {
	t.Helper()
	for _, mode := range []string{minted, provided, exchanged} {
		w.load(t, mode)
		token := w.freshToken(t, user)
		wantStatus(t, w.ask(t, token), http.StatusNoContent)
		end(token)
		wantInvalidToken(t, w.ask(t, token))
	}
}

func revoked(t *testing.T, w *world) {
	ending(t, w, john, func(token string) {
		_, claims := decode(t, token)
		client, _ := claims["azp"].(string)
		wantStatus(t, w.post(t, "revoke", url.Values{"token": {token}, "client_id": {client}}), http.StatusOK)
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
	wantStatus(t, w.ask(t, token), http.StatusNoContent)
	enable(false)
	wantInvalidToken(t, w.ask(t, token))
	enable(true) // and the token is good again, as its session never ended
	wantStatus(t, w.ask(t, token), http.StatusNoContent)
}

func wrongSecret(t *testing.T, w *world) {
	token := w.freshToken(t, john)
	w.load(t, minted, "client_secret: not-the-secret-of-the-gateway")
	before := len(w.Log.String())
	wantTrouble(t, w.ask(t, token))
	w.wantLog(t, before, "answers 401 to the gateway itself", "client_secret")
	w.load(t, minted)
	wantStatus(t, w.ask(t, token), http.StatusNoContent)
}

// wantLog waits for a line in the log, after so many bytes, that has all the words. Lines of
// the plugin arrive a moment after its answers.
func (w *world) wantLog(t *testing.T, after int, words ...string) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		log := w.Log.String()[after:]
		for line := range strings.Lines(log) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("log: got %s, want a line with %q", log, words)
			return
		}
	}
}

// keysRotated has the realm sign with another key, then removes the first. In the mode in
// which Keycloak's own JWT goes upstream the plugin verifies it; an unknown key makes it
// fetch the keys, though not within half a minute of the last time.
func keysRotated(t *testing.T, w *world) {
	w.load(t, provided)
	old := w.freshToken(t, john)
	w.wantServed(t, old)
	header, _ := decode(t, old)

	if err := w.keycloak.AddSigningKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := w.freshToken(t, john)
	if h, _ := decode(t, fresh); h["kid"] == header["kid"] {
		t.Fatal("the realm signs with the key it had")
	}
	w.load(t, minted) // where the realm's keys do not matter
	wantStatus(t, w.ask(t, old), http.StatusNoContent)
	wantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	w.load(t, provided)
	w.wantServed(t, old)
	wantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	got, _ := w.lastArrived()
	w.wantTokenOfTheRealm(t, got, w.MCPURL, "USA")

	if err := w.keycloak.RemoveOldSigningKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{minted, provided} {
		w.load(t, mode)
		wantInvalidToken(t, w.ask(t, old))
		wantStatus(t, w.ask(t, fresh), http.StatusNoContent)
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
		if a.status == http.StatusNoContent {
			return
		}
		wantTrouble(t, a)
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the gateway is still in trouble after %s", patience)
		}
	}
}

// stopped ends Keycloak while a client is at work.
func stopped(t *testing.T, w *world) {
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
	wantTrouble(t, w.ask(t, unseen))
	// The gateway's own documents need nobody.
	wantStatus(t, w.do(t, http.MethodGet, strings.TrimSuffix(w.MCPURL, "/mcp")+"/.well-known/oauth-protected-resource/mcp", ""), http.StatusOK)
}

func restarted(t *testing.T, w *world) {
	body, redirect := nativeClient()
	forgotten := tokenOf(t, w.john)
	_, claims := decode(t, forgotten)
	if err := w.keycloak.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	// For what is cached the gateway does not ask: the delay of a revocation.
	wantStatus(t, w.ask(t, forgotten), http.StatusOK)
	// Without the cache the token is worth nothing, as its session is gone.
	w.load(t, minted)
	wantInvalidToken(t, w.ask(t, forgotten))
	// Its client is unknown, too: the user sees an error page, and the client has to
	// register again.
	id, _ := claims["azp"].(string)
	c := &client{w: w, id: id}
	a := w.do(t, http.MethodGet, c.authorizationURL(redirect, "verifier", nil), "")
	if a.status != http.StatusBadRequest || !strings.Contains(a.body, "Client not found") {
		t.Errorf("login of a forgotten client: got status %d, want 400 and Client not found", a.status)
	}
	// Whoever registers and signs in again is served, with nothing restarted but Keycloak.
	fresh, _ := w.mustRegister(t, body).logIn(t, w.person(t, john), redirect).object()["access_token"].(string)
	wantStatus(t, w.ask(t, fresh), http.StatusNoContent)
	w.load(t, provided)
	w.wantServed(t, fresh)
	got, _ := w.lastArrived()
	w.wantTokenOfTheRealm(t, got, w.MCPURL, "USA")
}
