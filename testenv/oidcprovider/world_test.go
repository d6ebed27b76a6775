//go:build oidcprovider

package oidcprovider_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/oidcprovider"
	"phantomtoken/testenv/recorder"
)

// world is an oidc-provider and the whole chain behind it: gateway with the real plugin and
// the project's kong.yml, sidecar, MCP server, stocks API.
type world struct {
	*testenv.Stack
	provider   *oidcprovider.Server
	secret     string // of api-gateway-client
	outside    *http.Client
	john, jane *agent.Agent

	upstream *httptest.Server // an MCP server of which only the token counts
	mu       sync.Mutex
	arrived  []string // tokens that reached upstream
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
	log := &lockedBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of oidc-provider ends with\n%s", tail(log.String()))
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
			t.Logf("the log of the chain ends with\n%s", tail(w.Log.String()))
		}
	})
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	w.outside = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	w.upstream = httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(w.upstream.Close)
	return w
}

// receive keeps the token of a request that the gateway let through.
func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived = append(w.arrived, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	rw.WriteHeader(http.StatusNoContent)
}

// lastArrived is the token that reached the upstream last, and how many have.
func (w *world) lastArrived() (token string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n = len(w.arrived); n > 0 {
		token = w.arrived[n-1]
	}
	return token, n
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
  url: ` + w.upstream.URL + `
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

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// object is the body as a JSON object, or nil.
func (a answer) object() map[string]any {
	var out map[string]any
	_ = json.Unmarshal([]byte(a.body), &out)
	return out
}

func (w *world) do(t *testing.T, address, contentType, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.outside.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// ask sends an MCP request with a token through the gateway.
func (w *world) ask(t *testing.T, token string) answer {
	t.Helper()
	return w.do(t, w.MCPURL, "application/json", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		"Accept", "application/json, text/event-stream", "MCP-Protocol-Version", "2025-11-25", "Authorization", "Bearer "+token)
}

func (w *world) post(t *testing.T, endpoint string, form url.Values, header ...string) answer {
	t.Helper()
	return w.do(t, endpoint, "application/x-www-form-urlencoded", form.Encode(), header...)
}

const redirect = "http://127.0.0.1:43210/callback"

// client is a public OAuth client by hand.
type client struct {
	w  *world
	id string
}

func (w *world) register(t *testing.T) *client {
	t.Helper()
	a := w.do(t, w.provider.RegistrationEndpoint(), "application/json", `{"client_name": "Native application", "application_type": "native",
		"redirect_uris": ["`+redirect+`"], "grant_types": ["authorization_code"], "response_types": ["code"], "token_endpoint_auth_method": "none"}`)
	id, _ := a.object()["client_id"].(string)
	if a.status != http.StatusCreated || id == "" {
		t.Fatalf("registration: got status %d, %s; want 201", a.status, a.body)
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
	a := c.w.post(t, c.w.provider.TokenEndpoint(), form)
	token, _ := a.object()["access_token"].(string)
	if token == "" {
		t.Fatalf("token endpoint: got status %d, %s; want a token", a.status, a.body)
	}
	return token
}

// introspect asks about a token as the gateway does.
func (w *world) introspect(t *testing.T, token string) map[string]any {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte("api-gateway-client:" + w.secret))
	a := w.post(t, w.provider.IntrospectionEndpoint(), url.Values{"token": {token}}, "Authorization", "Basic "+basic)
	wantStatus(t, a, http.StatusOK)
	return a.object()
}

func tokenOf(t *testing.T, a *agent.Agent) string {
	t.Helper()
	token, err := a.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claimsOf reads the payload of a JWT.
func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a JWT, got a token of %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
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

func wantStatus(t *testing.T, a answer, want int) {
	t.Helper()
	if a.status != want {
		t.Errorf("status: got %d, want %d; challenge %q, body %.300s", a.status, want, a.header.Get("WWW-Authenticate"), a.body)
	}
}

// wantInvalidToken is what a client must see to sign its user in again.
func wantInvalidToken(t *testing.T, a answer) {
	t.Helper()
	wantStatus(t, a, http.StatusUnauthorized)
	if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: got %s, want error invalid_token", challenge)
	}
}

// wantTrouble is what a client must see while nobody can say what its token is worth: no
// challenge, or it would throw the token away.
func wantTrouble(t *testing.T, a answer) {
	t.Helper()
	wantStatus(t, a, http.StatusServiceUnavailable)
	if a.header.Get("WWW-Authenticate") != "" || a.header.Get("Retry-After") == "" {
		t.Errorf("got challenge %q, Retry-After %q; want none and a time", a.header.Get("WWW-Authenticate"), a.header.Get("Retry-After"))
	}
}

// tail is the end of a log, for failures.
func tail(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-30):], "\n")
}

// lockedBuffer keeps what a process prints.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
