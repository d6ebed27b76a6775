package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// delegated is a policy whose only audience is the identity provider's.
const delegated = `version: 1
audiences:
  https://api.demo.example: {issue: idp, scopes: [stocks/read]}
callers:
  mcp-server:
    subject_audience: https://mcp.internal.example
    authentication: {secret_variables: [MCP_SERVER_SECRET]}
    audiences:
      https://api.demo.example: {scopes: [stocks/read]}
`

const idpSecret = "MARKED-SECRET-at-the-provider"

// providerSettings is an identity provider that nobody asks; change may alter it.
func providerSettings(change map[string]string) map[string]string {
	settings := map[string]string{
		"TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT": "https://idp.example/token",
		"TOKEN_EXCHANGE_IDP_CLIENT_ID":      "token-exchange",
		"TOKEN_EXCHANGE_IDP_CLIENT_SECRET":  idpSecret,
	}
	maps.Copy(settings, change)
	return settings
}

// testProvider is an identity provider that exchanges its own tokens (RFC 8693), which the
// gateway passes on as phantom tokens.
type testProvider struct {
	*httptest.Server
	environ []string
	calls   atomic.Int32
	down    atomic.Bool
	headers chan http.Header
}

func newProviderServer(t testing.TB) *testProvider {
	t.Helper()
	idp := &testProvider{headers: make(chan http.Header, 100)}
	idp.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { idp.exchange(t, w, r) }))
	t.Cleanup(idp.Close)
	return idp
}

// start runs a sidecar that is a client of the provider.
func (idp *testProvider) start(t testing.TB, policyText string, change map[string]string) *process {
	t.Helper()
	settings := providerSettings(map[string]string{"TOKEN_EXCHANGE_SUBJECT_MODE": "exchange", "TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT": idp.URL})
	maps.Copy(settings, change)
	idp.environ = environment(t, policyText, settings)
	return start(t, idp.environ)
}

func (idp *testProvider) exchange(t testing.TB, w http.ResponseWriter, r *http.Request) {
	idp.calls.Add(1)
	select {
	case idp.headers <- r.Header.Clone():
	default:
	}
	if idp.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	keys := ring(t, variable(idp.environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES"))
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: gateway, Audiences: []string{"https://mcp.internal.example"}, Keys: keys})
	if err != nil {
		t.Error(err)
	}
	id, password, _ := r.BasicAuth()
	subject, err := verifier.Verify(r.Context(), r.PostFormValue("subject_token"))
	w.Header().Set("Content-Type", "application/json")
	if err != nil || id != "token-exchange" || password != idpSecret || r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_request","error_description":"MARKED words of the provider"}`)
		return
	}
	token, err := keys.Mint(keyring.Token{
		Issuer: gateway, Subject: subject.Introspection.Subject, Audience: []string{r.PostFormValue("audience")}, ClientID: id,
		IssuedAt: time.Now(), Expiry: time.Now().Add(3 * time.Minute), Scope: oauth.Scopes(strings.Fields(r.PostFormValue("scope"))),
	})
	if err != nil {
		t.Error(err)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer",
		"expires_in": 180, "scope": r.PostFormValue("scope"),
	})
}

// TestProviderIssues: a token for an audience with issue: idp is the identity provider's, and
// is asked for once.
func TestProviderIssues(t *testing.T) {
	t.Parallel()
	idp := newProviderServer(t)
	p := idp.start(t, delegated, nil)
	subject := mint(t, p.environ, nil)
	res := p.exchange(t, subject, api)
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: gateway, Audiences: []string{api}, Keys: ring(t, variable(p.environ, "TOKEN_EXCHANGE_SUBJECT_KEY_FILES"))})
	if err != nil {
		t.Fatal(err)
	}
	verified, err := verifier.Verify(t.Context(), res.AccessToken)
	if err != nil || verified.Introspection.Subject != "john" || verified.Introspection.ClientID != "token-exchange" {
		t.Errorf("got %+v, error %v, want the provider's token for john", verified, err)
	}
	if again := p.exchange(t, subject, api); again.AccessToken != res.AccessToken || idp.calls.Load() != 1 {
		t.Errorf("got another token, or %d calls, want one", idp.calls.Load())
	}
	p.stop(t)
	withoutSecrets(t, "log", p.log(), subject, res.AccessToken)
	if p.find(0, func(l line) bool { return l["outcome"] == "granted" && l["issue"] == "idp" }) == nil {
		t.Errorf("no audit line with issue idp: %s", p.log())
	}
}

// TestReadinessAndTheProvider: a provider that is down at the start is no reason not to start.
// Once it was found not to answer, readiness says so: not ready where all audiences need it,
// ready for the others where some do.
func TestReadinessAndTheProvider(t *testing.T) {
	t.Parallel()
	idp := newProviderServer(t)
	idp.down.Store(true)
	p := idp.start(t, delegated, nil)
	if status, text := p.get(t, "/readyz"); status != 200 || text != "ready\n" {
		t.Errorf("before the first call: got %d %q, want 200", status, text)
	}
	eventually(t, "the provider to be given up", func() bool {
		_, err := p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: mint(t, p.environ, nil), Audience: []string{api}})
		if !errors.Is(err, tokenexchange.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		status, text := p.get(t, "/readyz")
		return status == 503 && text == "the identity provider does not answer\n"
	})
	mark := p.mark()
	mixed := strings.Replace(strings.Replace(withReports(), "scopes: [stocks/read, stocks/trade]\n", "scopes: [stocks/read, stocks/trade]\n    issue: idp\n", 1), "    claims: {region: region}\n", "", 1)
	rewrite(t, variable(p.environ, "TOKEN_EXCHANGE_POLICY_FILE"), mixed)
	p.used(t, mark, mixed)
	eventually(t, "another call that fails", func() bool {
		_, _ = p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: mint(t, p.environ, nil), Audience: []string{api}})
		status, text := p.get(t, "/readyz")
		return status == 200 && text == "ready for 1 of 2 audiences: the identity provider does not answer\n"
	})
	p.exchange(t, mint(t, p.environ, nil), reports) // minted here
	idp.down.Store(false)
	eventually(t, "the provider to be asked again", func() bool {
		_, err := p.tokens(t, nil).Exchange(t.Context(), tokenexchange.Request{SubjectToken: mint(t, p.environ, nil), Audience: []string{api}})
		return err == nil
	})
	if status, text := p.get(t, "/readyz"); status != 200 || text != "ready\n" {
		t.Errorf("with the provider up: got %d %q", status, text)
	}
	p.stop(t)
	withoutSecrets(t, "log", p.log())
}
