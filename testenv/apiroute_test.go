package testenv_test

import (
	"net/http"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/authserver"
)

// ordinaryClient goes to the API through the gateway, without MCP.
func ordinaryClient(t *testing.T, w *world) {
	get := func(token string) answer {
		return w.do(t, http.MethodGet, w.APIResource+"/stocks", "", "Authorization", "Bearer "+token)
	}
	w.take(t)
	a := get(w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: w.APIResource}))
	wantStatus(t, a, http.StatusOK)
	if !strings.Contains(a.body, `"ACME"`) {
		t.Errorf("body: got %s, want stocks of the USA", a.body)
	}
	// The token of the MCP server is for the MCP server.
	wantStatus(t, get(w.readToken()), http.StatusUnauthorized)
	wantStatus(t, w.ask(t, w.MCPURL, w.AuthServer.IssueToken(authserver.Grant{Scope: testenv.ScopeRead, Resource: w.APIResource})), http.StatusUnauthorized)

	a = w.do(t, http.MethodGet, w.APIResource+"/stocks", "")
	wantStatus(t, a, http.StatusUnauthorized)
	if want := w.origin() + `/.well-known/oauth-protected-resource/api"`; !strings.Contains(a.header.Get("WWW-Authenticate"), want) {
		t.Errorf("challenge: got %s, want the metadata of the API", a.header.Get("WWW-Authenticate"))
	}
}
