//go:build keycloak

package keycloak_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/keycloak"
	"phantomtoken/testenv/recorder"
)

const (
	john = "john.doe@demo.example"
	jane = "jane.roe@demo.example"
)

// world is a Keycloak with the realm of this project and the whole chain behind it: gateway
// with the real plugin, sidecar, MCP server, stocks API.
type world struct {
	*testenv.Stack
	keycloak      *keycloak.Server
	password      string
	gatewaySecret string // of api-gateway-client
	mcpSecret     string // of mcp-server
	outside       *http.Client
	john, jane    *agent.Agent

	upstream *httptest.Server // an MCP server of which only the token counts
	mu       sync.Mutex
	arrived  []string // tokens that reached upstream
}

func start(t *testing.T) *world {
	t.Helper()
	realm, err := os.ReadFile(realmFile)
	if err != nil {
		t.Fatal(err)
	}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = testenv.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	gateway := addresses[0]
	w := &world{password: strings.ToLower(rand.Text()[:12]), gatewaySecret: rand.Text(), mcpSecret: rand.Text()}

	built := make(chan error, 1) // the programs, while Keycloak starts
	var programs testenv.Binaries
	folder := t.TempDir()
	go func() {
		var err error
		programs, err = testenv.Build(t.Context(), folder)
		built <- err
	}()
	log := &lockedBuffer{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Keycloak's log ends with\n%s", tail(log.String(), 30))
		}
	})
	w.keycloak, err = keycloak.Start(t.Context(), keycloak.Config{
		Realm: realm, Listen: addresses[1], Management: addresses[2], Log: log,
		Env: map[string]string{
			"MCP_RESOURCE_URL":          "http://" + gateway + "/mcp",
			"API_GATEWAY_CLIENT_SECRET": w.gatewaySecret,
			"MCP_SERVER_CLIENT_SECRET":  w.mcpSecret,
			"DEMO_USER_PASSWORD":        w.password,
		},
	})
	if buildErr := <-built; err == nil {
		err = buildErr
	}
	if w.keycloak != nil {
		t.Cleanup(func() {
			if err := w.keycloak.Close(); err != nil {
				t.Errorf("closing Keycloak: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Stack, err = testenv.Start(t.Context(), testenv.Options{
		Binaries: programs,
		Listen:   gateway,
		Provider: &testenv.Provider{
			Issuer: w.keycloak.Issuer(), IntrospectionEndpoint: w.keycloak.Endpoint("token/introspect"), ClientSecret: w.gatewaySecret,
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
			t.Logf("the log of the chain ends with\n%s", tail(w.Log.String(), 30))
		}
	})
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	w.outside = &http.Client{
		Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
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
		URL: w.MCPURL, Name: "Agent of " + user, User: user, Password: w.password, Wrap: w.Recorder.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) challenge() string { return a.header.Get("WWW-Authenticate") }

// object is the body as a JSON object, or nil.
func (a answer) object() map[string]any {
	var out map[string]any
	_ = json.Unmarshal([]byte(a.body), &out)
	return out
}

func (w *world) do(t *testing.T, method, address, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
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
	return w.do(t, http.MethodPost, w.MCPURL, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream",
		"MCP-Protocol-Version", "2025-11-25", "Authorization", "Bearer "+token)
}

// post sends a form to an endpoint of Keycloak.
func (w *world) post(t *testing.T, endpoint string, form url.Values) answer {
	t.Helper()
	return w.do(t, http.MethodPost, w.keycloak.Endpoint(endpoint), form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// route is a kong.yml with one route that the plugin protects, at the MCP URL; config lines
// are added to the plugin's configuration and may take the place of others.
func (w *world) route(lines ...string) []byte {
	config := []string{
		"introspection_endpoint: " + w.keycloak.Endpoint("token/introspect"),
		"client_id: api-gateway-client",
		`client_secret: "{vault://env/gateway-client-secret}"`,
		"token_cache_seconds: 0",
		"resource: " + w.MCPURL,
		"authorization_servers: [" + w.keycloak.Issuer() + "]",
		"scope: stocks/read",
		"token: {issuer: " + w.keycloak.Issuer() + "}",
	}
	for _, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		kept := config[:0]
		for _, c := range config {
			if !strings.HasPrefix(c, name+":") {
				kept = append(kept, c)
			}
		}
		config = append(kept, line)
	}
	return []byte(`_format_version: "3.0"
services:
- name: mcp
  url: ` + w.upstream.URL + `
  plugins:
  - name: phantom-token
    config:
      ` + strings.Join(config, "\n      ") + `
  routes:
  - name: mcp
    paths: ["/"]
    strip_path: false
`)
}

const (
	minted   = `phantom_token: {mode: mint, issuer: https://gw.example.com/phantom, audience: https://mcp.internal.example, signing_key_file: "{vault://env/phantom-signing-key-file}"}`
	provided = `phantom_token: {mode: introspection}`
	// The audience is a client of the realm, and the scopes lead to it.
	exchanged = `phantom_token: {mode: exchange, audience: mcp-server}`
)

// load makes the gateway protect the test's own upstream, with a configuration of its own.
func (w *world) load(t *testing.T, lines ...string) {
	t.Helper()
	if err := w.Gateway.Reload(w.route(lines...)); err != nil {
		t.Fatal(err)
	}
}

// decode reads header and payload of a JWT.
func decode(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a JWT, got a token of %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func tokenOf(t *testing.T, a *agent.Agent) string {
	t.Helper()
	token, err := a.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// between returns the exchanges of two parties whose path ends with suffix.
func between(all []*recorder.Exchange, from, to, suffix string) []*recorder.Exchange {
	var out []*recorder.Exchange
	for _, e := range all {
		u, err := url.Parse(e.URL)
		if err == nil && e.From == from && e.To == to && strings.HasSuffix(u.Path, suffix) {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) take(t *testing.T) []*recorder.Exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := w.Recorder.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func bearer(e *recorder.Exchange) string {
	return strings.TrimPrefix(e.RequestHeader.Get("Authorization"), "Bearer ")
}

func wantStatus(t *testing.T, a answer, want int) {
	t.Helper()
	if a.status != want {
		t.Errorf("status: got %d, want %d; challenge %q, body %s", a.status, want, a.challenge(), tail(a.body, 3))
	}
}

// wantInvalidToken is what a client must see to sign its user in again.
func wantInvalidToken(t *testing.T, a answer) {
	t.Helper()
	wantStatus(t, a, http.StatusUnauthorized)
	if !strings.HasPrefix(a.challenge(), `Bearer error="invalid_token"`) {
		t.Errorf("WWW-Authenticate: got %s, want error invalid_token", a.challenge())
	}
}

// wantTrouble is what a client must see while nobody can say what its token is worth: no
// challenge, or it would throw the token away.
func wantTrouble(t *testing.T, a answer) {
	t.Helper()
	wantStatus(t, a, http.StatusServiceUnavailable)
	if a.challenge() != "" || a.header.Get("Retry-After") == "" {
		t.Errorf("got challenge %q, Retry-After %q; want none and a time", a.challenge(), a.header.Get("Retry-After"))
	}
}

// tail is the end of a text, for failures.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
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
