//go:build keycloak

package mcpclients_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/testenv/mcpclients"
	"phantomtoken/testenv/recorder"
)

// TestClientsWithKeycloak says in sentences what MCP clients of others do with the gateway in
// front of them and a real Keycloak behind it. Each client knows the URL of the MCP server and
// nothing else, and its user does what the browser wants.
//
// Covers: CL-01, CL-02, CL-03, CL-05, CF-08
func TestClientsWithKeycloak(t *testing.T) {
	showAll(t, start(t, withKeycloak))
}

// TestClientsWithTheSampleServer does the same with the authorization server of the
// demonstration, which wants of clients what a real one wants.
func TestClientsWithTheSampleServer(t *testing.T) {
	showAll(t, start(t, withSample))
}

func showAll(t *testing.T, w *world) {
	for _, c := range mcpclients.Clients() {
		t.Run(c.Name+" "+c.Version, func(t *testing.T) {
			v := &visit{w: w, client: c, user: john, credentials: t.TempDir()}
			for i, p := range []struct {
				name string
				show func(t *testing.T, v *visit)
			}{
				{"finds everything from the URL, registers, signs its user in and gets the prices of their region", findsEverything},
				{"calls again with what it kept, without a login", callsAgain},
				{"signs its user in again when the session has ended, with the client that it had", signsInAgain},
				{"gets the prices of another region for another user", otherUser},
			} {
				if !t.Run(p.name, func(t *testing.T) { p.show(t, v) }) && i == 0 {
					t.Fatal("without a first call nothing else can be shown")
				}
			}
		})
	}
}

func findsEverything(t *testing.T, v *visit) {
	s := v.call(t)
	t.Logf("what it sent:\n%s", conversation(s.wire))
	wantStocks(t, s, "ACME", "DUFF")

	// 401, and the challenge leads to the metadata.
	mcp := s.at(gateway, "/mcp")
	if len(mcp) == 0 || mcp[0].Status != http.StatusUnauthorized || mcp[0].RequestHeader.Get("Authorization") != "" {
		t.Fatal("expected a first request without a token and 401")
	}
	wantOne(t, "metadata of the resource", s.at(gateway, "/.well-known/oauth-protected-resource/mcp"), http.StatusOK, true)
	for _, e := range s.wire {
		if e.Status == http.StatusNotFound {
			t.Errorf("%s: got 404: it guessed what challenge and metadata say", e.URL)
		}
	}

	// Registration, by itself.
	registration := wantOne(t, "registration", s.posts(authServer, "regist"), http.StatusCreated, false)
	var asked struct {
		Name         string   `json:"client_name"`
		RedirectURIs []string `json:"redirect_uris"`
	}
	if err := json.Unmarshal(registration.RequestBody, &asked); err != nil || len(asked.RedirectURIs) != 1 {
		t.Fatalf("registration: got %s, %v; want one redirect", registration.RequestBody, err)
	}
	t.Logf("registration: %s", registration.RequestBody)

	// Login and consent, with PKCE, for this resource.
	if len(s.authorizations) != 1 {
		t.Fatalf("logins: got %d, want 1", len(s.authorizations))
	}
	query := s.authorizations[0].Query()
	for name, want := range map[string]string{
		"response_type": "code", "code_challenge_method": "S256", "resource": v.w.mcpURL, "scope": "stocks/read", "redirect_uri": asked.RedirectURIs[0],
	} {
		if got := query.Get(name); got != want {
			t.Errorf("authorization request: %s: got %q, want %q", name, got, want)
		}
	}
	if query.Get("state") == "" || query.Get("code_challenge") == "" {
		t.Error("authorization request: expected state and code_challenge")
	}
	var seen strings.Builder
	for _, page := range s.pages {
		seen.WriteString(page.Text + "\n")
	}
	for _, want := range []string{asked.Name, "Read stock prices of your region"} {
		if !strings.Contains(seen.String(), want) {
			t.Errorf("pages: got %q, want %q in them", seen.String(), want)
		}
	}

	// The code for a token, and the token at the gateway.
	form := wantForm(t, wantOne(t, "token request", s.posts(authServer, "/token"), http.StatusOK, false))
	if form.Get("grant_type") != "authorization_code" || form.Get("resource") != v.w.mcpURL || form.Get("code_verifier") == "" {
		t.Errorf("token request: got grant %q, resource %q; want authorization_code for %s with a verifier", form.Get("grant_type"), form.Get("resource"), v.w.mcpURL)
	}
	if last := mcp[len(mcp)-1]; !strings.HasPrefix(last.RequestHeader.Get("Authorization"), "Bearer ") {
		t.Error("expected the last request to have a token")
	}
}

func callsAgain(t *testing.T, v *visit) {
	s := v.call(t)
	t.Logf("what it sent:\n%s", conversation(s.wire))
	wantStocks(t, s, "ACME", "DUFF")
	if n := len(s.authorizations) + len(s.posts(authServer, "")); n > 0 {
		t.Errorf("got %d logins, registrations and token requests, want none", n)
	}
}

func signsInAgain(t *testing.T, v *visit) {
	v.w.endSessions(t, v.user)
	s := v.call(t)
	t.Logf("what it sent:\n%s", conversation(s.wire))
	wantStocks(t, s, "ACME", "DUFF")
	if len(s.authorizations) != 1 || len(s.posts(authServer, "regist")) != 0 {
		t.Errorf("got %d logins, %d registrations; want 1, none", len(s.authorizations), len(s.posts(authServer, "regist")))
	}
}

func otherUser(t *testing.T, v *visit) {
	hers := &visit{w: v.w, client: v.client, user: jane, credentials: t.TempDir()}
	wantStocks(t, hers.call(t), "DUFF", "ACME")
}

func wantStocks(t *testing.T, s seen, symbol, not string) {
	t.Helper()
	if !strings.Contains(s.text, `"`+symbol+`"`) || strings.Contains(s.text, `"`+not+`"`) {
		t.Errorf("stocks: got %s, want %s and not %s", s.text, symbol, not)
	}
}

// wantOne returns the first of some exchanges. There must be one, of more if that is said, and
// all with that status.
func wantOne(t *testing.T, what string, all []*recorder.Exchange, status int, more bool) *recorder.Exchange {
	t.Helper()
	if len(all) == 0 || len(all) > 1 && !more {
		t.Fatalf("%s: got %d requests, want one", what, len(all))
	}
	for _, e := range all {
		if e.Status != status {
			t.Fatalf("%s: got status %d, want %d: %s", what, e.Status, status, e.Body)
		}
	}
	return all[0]
}

func wantForm(t *testing.T, e *recorder.Exchange) url.Values {
	t.Helper()
	form, err := url.ParseQuery(string(e.RequestBody))
	if err != nil {
		t.Fatal(err)
	}
	return form
}
