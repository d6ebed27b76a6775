//go:build oidcprovider

package oidcprovider_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/oidcprovider"
	"phantomtoken/testenv/probe"
	"phantomtoken/testenv/recorder"
)

// world is an oidc-provider and the whole chain behind it: gateway with the real plugin and
// the project's kong.yml, sidecar, MCP server, stocks API.
type world struct {
	*testenv.Stack
	provider   *oidcprovider.Server
	secret     string // of api-gateway-client
	outside    *probe.Caller
	john, jane *agent.Agent

	upstream *probe.Upstream
}

func start(t *testing.T) *world {
	t.Helper()
	var addresses [2]string
	for i := range addresses {
		var err error
		if addresses[i], err = testenv.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	gateway := "http://" + addresses[0]
	w := &world{secret: rand.Text()}
	var err error
	log := &testenv.Log{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of oidc-provider ends with\n%s", probe.Tail(log.String()))
		}
	})
	w.provider, err = oidcprovider.Start(t.Context(), oidcprovider.Config{
		Listen: addresses[1], Resources: []string{gateway + "/mcp", gateway + "/other"}, ClientSecret: w.secret, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.provider.Close(); err != nil {
			t.Errorf("closing oidc-provider: %v", err)
		}
	})
	w.Stack, err = testenv.Start(t.Context(), testenv.Options{
		Listen: addresses[0],
		Provider: &testenv.Provider{
			Issuer: w.provider.Issuer(), IntrospectionEndpoint: w.provider.IntrospectionEndpoint(), ClientSecret: w.secret,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, a := range []*agent.Agent{w.john, w.jane} {
			if a != nil {
				_ = a.Close()
			}
		}
		if err := w.Close(); err != nil {
			t.Errorf("closing the stack: %v", err)
		}
		if t.Failed() {
			t.Logf("the log of the chain ends with\n%s", probe.Tail(w.Log.String()))
		}
	})
	w.outside, w.upstream = probe.NewCaller(t), probe.NewUpstream(t)
	return w
}

// connect connects an MCP client that knows only the URL of the gateway.
func (w *world) connect(t *testing.T, user string) *agent.Agent {
	t.Helper()
	a, err := agent.Connect(t.Context(), agent.Config{
		URL: w.MCPURL, Name: "Agent of " + user, User: user, Password: "any", Wrap: w.Recorder.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// load makes the gateway protect the test's own upstream at the MCP URL, without a cache.
// The plugin is told the issuer and nothing else of where the provider is.
func (w *world) load(t *testing.T, secret, phantom string) {
	t.Helper()
	err := w.Gateway.Reload([]byte(`_format_version: "3.0"
services:
- name: mcp
  url: ` + w.upstream.URL() + `
  plugins:
  - name: phantom-token
    config:
      client_id: api-gateway-client
      client_secret: "` + secret + `"
      token_cache_seconds: 0
      resource: ` + w.MCPURL + `
      authorization_servers: [` + w.provider.Issuer() + `]
      scope: stocks/read
      token: {issuer: ` + w.provider.Issuer() + `}
      phantom_token: ` + phantom + `
  routes:
  - name: mcp
    paths: ["/"]
    strip_path: false
`))
	if err != nil {
		t.Fatal(err)
	}
}

const (
	// fromEnvironment is the secret of the gateway as kong.yml has it.
	fromEnvironment = "{vault://env/gateway-client-secret}"

	minted    = `{mode: mint, issuer: https://gw.example.com/phantom, audience: https://mcp.internal.example, signing_key_file: "{vault://env/phantom-signing-key-file}", claims: {region: region}}`
	provided  = `{mode: introspection}`
	exchanged = `{mode: exchange, audience: https://mcp.internal.example}`
)

// ask sends an MCP request with a token through the gateway.
func (w *world) ask(t *testing.T, token string) probe.Answer {
	t.Helper()
	return w.outside.AskMCP(t, w.MCPURL, token)
}

// registration sends the registration of a client.
func (w *world) registration(t *testing.T, body string) probe.Answer {
	t.Helper()
	return w.outside.Do(t, http.MethodPost, w.provider.RegistrationEndpoint(), body, "Content-Type", "application/json")
}

const redirect = "http://127.0.0.1:43210/callback"

// client is a public OAuth client by hand.
type client struct {
	w  *world
	id string
}

func (w *world) register(t *testing.T) *client {
	t.Helper()
	a := w.registration(t, `{"client_name": "Native application", "application_type": "native",
		"redirect_uris": ["`+redirect+`"], "grant_types": ["authorization_code"], "response_types": ["code"], "token_endpoint_auth_method": "none"}`)
	id, _ := a.Object()["client_id"].(string)
	if a.Status != http.StatusCreated || id == "" {
		t.Fatalf("registration: got status %d, %s; want 201", a.Status, a.Body)
	}
	return &client{w, id}
}

// authorize sends a user to sign in and to allow access. An empty parameter is left out. It
// returns the parameters of the redirect and the verifier.
func (c *client) authorize(t *testing.T, user string, parameters map[string]string) (result url.Values, verifier string) {
	t.Helper()
	person, err := agent.NewPerson(user, "any")
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {redirect}, "state": {"some state"}, "scope": {"stocks/read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for name, value := range parameters {
		query.Set(name, value)
		if value == "" {
			query.Del(name)
		}
	}
	result, err = person.Authorize(t.Context(), c.w.provider.AuthorizationEndpoint()+"?"+query.Encode(), redirect)
	if err != nil {
		t.Fatal(err)
	}
	return result, verifier
}

// token is an access token for a resource; empty names none.
func (c *client) token(t *testing.T, user, resource string) string {
	t.Helper()
	result, verifier := c.authorize(t, user, map[string]string{"resource": resource})
	form := url.Values{
		"grant_type": {"authorization_code"}, "client_id": {c.id}, "code": {result.Get("code")}, "redirect_uri": {redirect},
		"code_verifier": {verifier},
	}
	if resource != "" {
		form.Set("resource", resource)
	}
	a := c.w.outside.Post(t, c.w.provider.TokenEndpoint(), form)
	token, _ := a.Object()["access_token"].(string)
	if token == "" {
		t.Fatalf("token endpoint: got status %d, %s; want a token", a.Status, a.Body)
	}
	return token
}

// introspect asks about a token as the gateway does.
func (w *world) introspect(t *testing.T, token string) map[string]any {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte("api-gateway-client:" + w.secret))
	a := w.outside.Post(t, w.provider.IntrospectionEndpoint(), url.Values{"token": {token}}, "Authorization", "Basic "+basic)
	probe.WantStatus(t, a, http.StatusOK)
	return a.Object()
}

func tokenOf(t *testing.T, a *agent.Agent) string {
	t.Helper()
	token, err := a.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// lastBearer is the token of the last request between two parties to a path.
func lastBearer(t *testing.T, all []*recorder.Exchange, from, to, path string) string {
	t.Helper()
	for _, e := range slices.Backward(all) {
		u, err := url.Parse(e.URL)
		if err == nil && e.From == from && e.To == to && u.Path == path {
			return strings.TrimPrefix(e.RequestHeader.Get("Authorization"), "Bearer ")
		}
	}
	t.Fatalf("expected a request of the %s to the %s at %s, found none", from, to, path)
	return ""
}

func (w *world) take(t *testing.T) []*recorder.Exchange {
	t.Helper()
	out, err := w.Recorder.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}
