//go:build keycloak

package keycloak_test

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/probe"
)

// mistaken is a policy file with audiences that Keycloak has no tokens for.
const mistaken = `version: 1
audiences:
  https://api.demo.example: {issue: idp, scopes: [stocks/read, stocks/trade, profile]}
  https://unknown.example: {issue: idp, scopes: [stocks/read]}
  stocks-dashboard: {issue: idp, scopes: [stocks/read]}
callers:
  mcp-server:
    subject_audience: mcp-server
    authentication: {secret_variables: [MCP_SERVER_CLIENT_SECRET]}
    audiences:
      https://api.demo.example: {scopes: [stocks/read, stocks/trade, profile]}
      https://unknown.example: {scopes: [stocks/read]}
      stocks-dashboard: {scopes: [stocks/read]}
`

// delegationRefused is the table of docs/keycloak.md: what is wrong, what the caller reads,
// and what the log says, which names the setting.
func delegationRefused(t *testing.T, w *world) {
	shared := w.startSidecar(t, mistaken, nil)
	for _, tt := range []struct {
		name     string
		policy   string            // of a sidecar of its own; empty: mistaken
		settings map[string]string // of a sidecar of its own; nil: the shared one
		phantom  func(t *testing.T) string
		audience string // empty: the API
		scope    string // empty: stocks/read
		status   int
		code     string
		reads    string // what the caller reads; empty: that the log says more
		log      []string
	}{
		{name: "ScopeThatTheUserDidNotGrant", scope: "stocks/trade", status: http.StatusBadRequest, code: "invalid_scope",
			reads: "is not granted to the subject token", log: []string{`"reason":"scope"`}},
		{name: "ScopeThatTheClientLacks", phantom: w.phantomWithProfile, scope: "stocks/read profile", status: http.StatusBadRequest, code: "invalid_scope",
			reads: "the identity provider does not grant the scopes for this token",
			log:   []string{"audiences.https://api.demo.example.scopes: the provider refuses the scopes to TOKEN_EXCHANGE_IDP_CLIENT_ID"}},
		{name: "UnknownAudience", audience: "https://unknown.example", status: http.StatusInternalServerError, code: "server_error",
			log: []string{"audiences.https://unknown.example: the provider knows no such audience", "Keycloak: a client of this id"}},
		{name: "AudienceToWhichNoScopeLeads", audience: "stocks-dashboard", status: http.StatusInternalServerError, code: "server_error",
			log: []string{"audiences.stocks-dashboard: the scopes that are asked for do not lead to this audience", "add an audience mapper"}},
		{name: "ExchangeSwitchedOff", phantom: w.phantomAndNoExchange, status: http.StatusInternalServerError, code: "server_error",
			log: []string{"the provider does not let TOKEN_EXCHANGE_IDP_CLIENT_ID exchange tokens; switch it on there"}},
		{name: "WrongSecret", settings: map[string]string{"IDP_CLIENT_SECRET": "not-the-secret-of-the-sidecar"}, status: http.StatusInternalServerError, code: "server_error",
			log: []string{"the provider refuses our own credentials at its token endpoint", "TOKEN_EXCHANGE_IDP_CLIENT_SECRET"}},
		{name: "ClientThatIsNotInTheAudience", phantom: w.phantomForOthers, policy: strings.Replace(mistaken, "subject_audience: mcp-server", "subject_audience: "+w.MCPURL, 1),
			settings: map[string]string{"SUBJECT_MODE": "introspection"}, status: http.StatusBadRequest, code: "unauthorized_client", reads: "the identity provider does not let this token be exchanged",
			log: []string{"TOKEN_EXCHANGE_IDP_CLIENT_ID is not in the audience of the phantom token"}},
		{name: "WrongEndpoint", settings: map[string]string{"IDP_TOKEN_ENDPOINT": w.keycloak.Issuer() + "/token"}, status: http.StatusInternalServerError, code: "server_error",
			log: []string{"TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT: expected an endpoint of RFC 8693, got something else"}},
		{name: "SessionEnded", phantom: w.phantomWithoutSession, status: http.StatusBadRequest, code: "invalid_request",
			reads: "the identity provider does not take it for an exchange: revoked, expired", log: []string{"revoked or expired since it was checked"}},
		{name: "TokenMintedByTheGateway", phantom: func(t *testing.T) string { return w.freshPhantom(t, john, minted) }, status: http.StatusBadRequest, code: "invalid_request",
			reads: "TOKEN_EXCHANGE_SUBJECT_ISSUER", log: []string{`"reason":"subject_token"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, phantom := shared, ""
			if tt.settings != nil {
				s = w.startSidecar(t, cmp.Or(tt.policy, mistaken), tt.settings)
			}
			if tt.phantom != nil {
				phantom = tt.phantom(t)
			} else {
				phantom = w.freshPhantom(t, john, exchanged)
			}
			before := len(w.Log.String())
			a := s.exchange(t, phantom, cmp.Or(tt.audience, testenv.APIAudience), cmp.Or(tt.scope, "stocks/read"))
			probe.WantStatus(t, a, tt.status)
			reads := cmp.Or(tt.reads, "the identity provider gave no token that can be used; the log of the sidecar says why")
			if a.Text("error") != tt.code || !strings.Contains(a.Text("error_description"), reads) || a.Text("access_token") != "" {
				t.Errorf("the caller: got %s, want %s with %q", a.Body, tt.code, reads)
			}
			probe.WantLog(t, w.Log, before, append(tt.log, "token exchange decided")...)
		})
	}
	t.Run("AndAllIsWellOtherwise", func(t *testing.T) {
		probe.WantStatus(t, shared.exchange(t, w.freshPhantom(t, john, exchanged), testenv.APIAudience, "stocks/read"), http.StatusOK)
	})
}

// phantomWithProfile has a scope that the sidecar's client does not have in the realm.
func (w *world) phantomWithProfile(t *testing.T) string {
	t.Helper()
	body, redirect := nativeClient()
	c := w.mustRegister(t, body)
	c.scope = "stocks/read profile"
	token := c.logIn(t, w.person(t, john), redirect).Text("access_token")
	w.load(t, provided)
	probe.WantStatus(t, w.ask(t, token), http.StatusNoContent)
	phantom, _ := w.upstream.Last()
	return phantom
}

// phantomAndNoExchange switches the exchange off for the sidecar's client, until the end of
// the test.
func (w *world) phantomAndNoExchange(t *testing.T) string {
	t.Helper()
	phantom := w.freshPhantom(t, john, exchanged)
	const attribute = "standard.token.exchange.enabled"
	if err := w.keycloak.SetClientAttribute(t.Context(), sidecarClient, attribute, "false"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // when the context of the test has ended
		if err := w.keycloak.SetClientAttribute(context.Background(), sidecarClient, attribute, "true"); err != nil {
			t.Error(err)
		}
	})
	return phantom
}

// phantomForOthers takes the sidecar's client out of the scope, until the end of the test. In
// mode exchange the gateway itself would get no token then.
func (w *world) phantomForOthers(t *testing.T) string {
	t.Helper()
	restore, err := w.keycloak.RemoveMapper(t.Context(), "stocks/read", "audience mcp-server")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := restore(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w.freshPhantom(t, john, provided)
}

func (w *world) phantomWithoutSession(t *testing.T) string {
	t.Helper()
	phantom := w.freshPhantom(t, jane, exchanged)
	if err := w.keycloak.EndSessions(t.Context(), jane); err != nil {
		t.Fatal(err)
	}
	return phantom
}
