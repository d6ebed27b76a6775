//go:build keycloak

package keycloak_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/probe"
	"phantomtoken/testenv/subprocess"
	"phantomtoken/tokenexchange"
)

// sidecarClient is the client of the realm that the sidecar exchanges tokens as, and
// mcpServerID is the MCP server at the sidecar: two names for two things, although the sample
// calls both by one word.
const (
	sidecarClient = "mcp-server"
	mcpServerID   = "mcp-server"
)

// documentedPolicy is the policy file of docs/keycloak.md.
func documentedPolicy(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/keycloak.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "\n## The sidecar and Keycloak\n")
	_, rest, found := strings.Cut(rest, "```yaml\nversion: 1\n")
	policy, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("expected a policy file in docs/keycloak.md, section The sidecar and Keycloak")
	}
	return "version: 1\n" + policy
}

// sidecar is a sidecar that has Keycloak issue the tokens.
type sidecar struct {
	w      *world
	url    string
	secret string // of the MCP server
}

// sidecarSettings are those of docs/keycloak.md with the addresses of the run, for a gateway
// in mode exchange. more replaces some of them.
func (w *world) sidecarSettings(t testing.TB, s *sidecar, policy string, more map[string]string) []string {
	t.Helper()
	folder := t.TempDir()
	file := filepath.Join(folder, "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"LISTEN":             strings.TrimPrefix(s.url, "http://"),
		"ISSUER":             s.url,
		"SIGNING_KEY_FILE":   filepath.Join(folder, "sidecar.jwk"),
		"POLICY_FILE":        file,
		"SUBJECT_MODE":       "exchange",
		"SUBJECT_ISSUER":     w.keycloak.Issuer(),
		"SUBJECT_JWKS_URI":   w.keycloak.Endpoint("certs"),
		"IDP_TOKEN_ENDPOINT": w.keycloak.Endpoint("token"),
		"IDP_CLIENT_ID":      sidecarClient,
		"IDP_CLIENT_SECRET":  w.mcpSecret,
	}
	env := []string{"MCP_SERVER_CLIENT_SECRET=" + s.secret} // as the policy file names it
	for name, value := range more {
		values[name] = value
	}
	for name, value := range values {
		env = append(env, "TOKEN_EXCHANGE_"+name+"="+value)
	}
	return env
}

func (w *world) newSidecar(t testing.TB) *sidecar {
	t.Helper()
	address, err := testenv.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return &sidecar{w: w, url: "http://" + address, secret: "the-secret-of-the-MCP-server-itself"}
}

// startSidecar runs the real sidecar until the end of the test. It writes to the log of the
// chain.
func (w *world) startSidecar(t testing.TB, policy string, more map[string]string) *sidecar {
	t.Helper()
	s := w.newSidecar(t)
	p, err := subprocess.Start(subprocess.Config{Name: "sidecar", Path: w.programs.Sidecar, Env: w.sidecarSettings(t, s, policy, more), Output: w.Log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	if err := p.Ready(t.Context(), w.outside.Client(), s.url+"/readyz", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return s
}

// exchange asks the sidecar as the MCP server does.
func (s *sidecar) exchange(t *testing.T, subject, audience, scope string) probe.Answer {
	t.Helper()
	return s.w.outside.Post(t, s.url+"/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {mcpServerID}, "client_secret": {s.secret},
		"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience": {audience}, "scope": {scope},
	})
}

// freshPhantom is a phantom token of a new client and a new session of the user.
func (w *world) freshPhantom(t *testing.T, user, mode string) string {
	t.Helper()
	w.load(t, mode)
	probe.WantStatus(t, w.ask(t, w.freshToken(t, user)), http.StatusNoContent)
	token, _ := w.upstream.Last()
	return token
}

// api is an API that has never heard of gateway and sidecar. It trusts tokens of Keycloak that
// are for it, and answers with the region that they name.
type api struct {
	url string

	mu   sync.Mutex
	last string // token
}

func (a *api) token() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (w *world) verifier(t *testing.T, audience string) *oidc.IDTokenVerifier {
	t.Helper()
	provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), w.outside.Client()), w.keycloak.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	return provider.Verifier(&oidc.Config{ClientID: audience})
}

func (w *world) startAPI(t *testing.T) *api {
	t.Helper()
	verifier := w.verifier(t, testenv.APIAudience)
	a := &api{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		verified, err := verifier.Verify(r.Context(), token)
		if err != nil {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		var claims struct {
			Region string `json:"region"`
			Scope  string `json:"scope"`
		}
		if err := verified.Claims(&claims); err != nil || len(verified.Audience) != 1 || !slices.Contains(strings.Fields(claims.Scope), "stocks/read") {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		a.mu.Lock()
		a.last = token
		a.mu.Unlock()
		_ = json.NewEncoder(rw).Encode(map[string]string{"prices of": claims.Region})
	}))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// startMCPServer starts an MCP server that takes tokens of Keycloak, has them exchanged by the
// sidecar and calls the API. It returns its URL.
func (w *world) startMCPServer(t *testing.T, s *sidecar, a *api) string {
	t.Helper()
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := tokenexchange.New(tokenexchange.Config{Endpoint: s.url + "/token", ClientID: mcpServerID, ClientSecret: s.secret, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	exchanging, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client, Base: transport,
		Targets: []tokenexchange.Target{{URL: a.url, Audience: []string{testenv.APIAudience}, Scope: []string{"stocks/read"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	calls := &http.Client{Transport: exchanging, Timeout: 10 * time.Second}
	server := mcp.NewServer(&mcp.Implementation{Name: "stocks", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "list_stocks"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		text, err := fetch(ctx, calls, a.url)
		if err != nil {
			return nil, nil, err
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	verifier := w.verifier(t, sidecarClient)
	verify := func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		verified, err := verifier.Verify(ctx, token)
		if err != nil {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Expiration: verified.Expiry, UserID: verified.Subject}, nil
	}
	streamable := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
	listener := httptest.NewServer(auth.RequireBearerToken(verify, nil)(tokenexchange.Middleware(streamable)))
	t.Cleanup(listener.Close)
	return listener.URL
}

func fetch(ctx context.Context, client *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New("the API answers " + res.Status)
	}
	return string(text), err
}

// delegatedChain follows MCP calls through all of it, with the policy file of the
// documentation: client → plugin → MCP server → sidecar → Keycloak, and → API.
func delegatedChain(t *testing.T, w *world) {
	for _, tt := range []struct{ name, mode, phantom string }{
		{"exchange", "exchange", exchanged},
		{"introspection", "introspection", provided},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := w.startSidecar(t, documentedPolicy(t), map[string]string{"SUBJECT_MODE": tt.mode})
			a := w.startAPI(t)
			w.loadTo(t, w.startMCPServer(t, s, a), tt.phantom)
			for _, user := range []struct {
				agent  *agent.Agent
				region string
			}{{w.john, "USA"}, {w.jane, "Europe"}} {
				before := len(w.Log.String())
				text, refused, err := user.agent.Call(t.Context(), "list_stocks", nil)
				if err != nil || refused || !strings.Contains(text, user.region) {
					t.Fatalf("got %s, refused %t, %v; want prices of %s", text, refused, err, user.region)
				}
				token := a.token()
				w.wantTokenOfTheRealm(t, token, testenv.APIAudience, user.region)
				_, claims := probe.Decode(t, token)
				if claims["aud"] != testenv.APIAudience || claims["azp"] != sidecarClient || claims["act"] != nil {
					t.Errorf("token of the API: got aud %v, azp %v, act %v; want the API alone, %s, none", claims["aud"], claims["azp"], claims["act"], sidecarClient)
				}
				probe.WantLog(t, w.Log, before, "token exchange decided", "granted", "idp", mcpServerID, testenv.APIAudience)
			}
		})
	}
}

// delegatedMinted starts the sidecar with a gateway that mints, which no setting of Keycloak
// would make work.
func delegatedMinted(t *testing.T, w *world) {
	s := w.newSidecar(t)
	for _, args := range [][]string{{"-check"}, nil} {
		cmd := exec.CommandContext(t.Context(), w.programs.Sidecar, args...)
		cmd.Env = w.sidecarSettings(t, s, documentedPolicy(t), map[string]string{"SUBJECT_MODE": "mint"})
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%q: got %v, want an exit status other than 0", args, err)
		}
		for _, want := range []string{
			"audiences." + testenv.APIAudience + ".issue: expected mint, got idp: the gateway mints its phantom tokens itself (TOKEN_EXCHANGE_SUBJECT_MODE is mint)",
			"use issue: mint, or phantom_token.mode exchange at the gateway with TOKEN_EXCHANGE_SUBJECT_MODE=exchange here",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q: got %s, want %q", args, out, want)
			}
		}
	}
}
