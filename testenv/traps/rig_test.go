// Package traps_test proves, through the real plugin binary behind the embedded gateway,
// that the known ways to break MCP clients are avoided and that hostile input gets the
// answer it deserves.
package traps_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
)

const (
	resource     = "https://gw.example.com/mcp"
	metadataURL  = "https://gw.example.com/.well-known/oauth-protected-resource/mcp"
	clientID     = "api-gateway-client"
	clientSecret = "s3cret:with%strange+characters"

	upstreamAudience = "https://orders.internal"
)

var pluginBinary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "traps")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	pluginBinary = filepath.Join(dir, "phantom-token")
	build := exec.Command("go", "build", "-o", pluginBinary, "phantomtoken/kong-plugin")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the plugin:", err)
		return 1
	}
	return m.Run()
}

// syncBuffer collects log lines of several writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// rig is a gateway with the real plugin between a client and an upstream that records
// what reaches it.
type rig struct {
	t    *testing.T
	idp  *authserver.Server
	gw   *kongtest.Gateway
	log  *syncBuffer
	host string // Host header the client sends
	yaml string // kong.yml

	mu       sync.Mutex
	upstream []*http.Request // as received, bodies read
}

// options change a rig before it starts.
type options struct {
	config     string            // further lines of the plugin's config, indented by none
	endpoint   string            // introspection endpoint; empty: the authorization server's
	issuer     string            // of the authorization server; empty: its own URL
	upstream   http.HandlerFunc  // behaviour of the upstream after recording
	env        map[string]string // further variables for vault references
	noDefault  bool              // config holds the whole plugin configuration
	noExchange bool              // the authorization server does not let the gateway exchange tokens
	beside     string            // further plugins of the service, as elements of a list
	entities   string            // further top-level members of kong.yml
	override   string            // top-level lines "name: value" that replace those of the default
}

func start(t *testing.T, o options) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, log: &syncBuffer{}, host: "gw.example.com"}

	var err error
	r.idp, err = authserver.Start(ctx, authserver.Config{
		Issuer:    o.issuer,
		Users:     []authserver.User{{Name: "john.doe@demo.example", Password: "correct horse", Region: "USA"}},
		Clients:   []authserver.Client{{ID: clientID, Secret: clientSecret, TokenExchange: !o.noExchange}},
		Resources: []string{resource, "https://gw.example.com/other"},
		Scopes: []authserver.Scope{
			{Name: "mcp:read", Description: "Read", Audiences: []string{upstreamAudience}},
			{Name: "mcp:write", Description: "Write", Audiences: []string{"https://writers.internal"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.idp.Close() })

	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.mu.Lock()
		r.upstream = append(r.upstream, req)
		r.mu.Unlock()
		if o.upstream != nil {
			o.upstream(w, req)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"upstream":true}`)
	}))
	t.Cleanup(up.Close)

	key := filepath.Join(t.TempDir(), "gateway.jwk")
	if _, err := keyring.LoadOrCreate(key, "ES256"); err != nil {
		t.Fatal(err)
	}
	endpoint := o.endpoint
	if endpoint == "" {
		endpoint = r.idp.IntrospectionEndpoint()
	}
	config := o.config
	if !o.noDefault {
		config = fmt.Sprintf(`introspection_endpoint: %s
client_id: %s
client_secret: "{vault://env/gateway-client-secret}"
scope: mcp:read
resource: %s
authorization_servers: [%q]
metadata:
  resource_name: Example MCP
  scopes_supported: ["mcp:read"]
phantom_token:
  issuer: https://gw.example.com/internal
  audience: https://orders.internal
  signing_key_file: %s
  claims: {region: region}
`, endpoint, clientID, resource, r.idp.Issuer(), key) + o.config
	}
	config = replaceKeys(config, strings.ReplaceAll(o.override, "KEY", key))
	config = strings.ReplaceAll(config, "ISSUER", r.idp.Issuer())
	r.yaml = fmt.Sprintf(`_format_version: "3.0"
services:
- name: mcp
  url: %s
  plugins:
  - name: phantom-token
    config:
%s
%s
  routes:
  - name: mcp
    paths: ["/"]
    strip_path: false
- name: open
  url: %s
  routes:
  - name: open
    paths: ["/unprotected"]
    strip_path: false
%s
`, up.URL, indent(config, "      "), indent(o.beside, "  "), up.URL, o.entities)

	env := map[string]string{"GATEWAY_CLIENT_SECRET": clientSecret}
	for k, v := range o.env {
		env[k] = v
	}
	r.gw, err = kongtest.Start(ctx, kongtest.Config{
		YAML: []byte(r.yaml), Plugins: map[string]string{"phantom-token": pluginBinary}, Env: env, Log: r.log,
	})
	if err != nil {
		t.Fatalf("starting the gateway: %v\n%s", err, r.log)
	}
	t.Cleanup(func() {
		if err := r.gw.Close(); err != nil {
			t.Errorf("closing the gateway: %v", err)
		}
		r.checkLog()
	})
	return r
}

// replaceKeys puts the one-line members of override in the place of those of config.
func replaceKeys(config, override string) string {
	for line := range strings.Lines(override) {
		name, _, _ := strings.Cut(line, ":")
		var kept []string
		skipping := false
		for l := range strings.Lines(config) {
			if !strings.HasPrefix(l, " ") {
				skipping = strings.HasPrefix(l, name+":")
			}
			if !skipping {
				kept = append(kept, l)
			}
		}
		config = strings.Join(kept, "") + line
	}
	return config
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+by)
}

// wholeLog stops the gateway, so that every line of it and of its plugin has arrived, and
// returns the log.
func (r *rig) wholeLog() string {
	r.t.Helper()
	if err := r.gw.Close(); err != nil {
		r.t.Errorf("closing the gateway: %v", err)
	}
	return r.log.String()
}

// secrets are what must never stand in a log line: every token of the test and the
// gateway's own secret.
func (r *rig) checkLog() {
	for _, line := range strings.Split(r.log.String(), "\n") {
		if strings.Contains(line, clientSecret) || strings.Contains(line, "s3cret") || strings.Contains(line, "MARKED") || strings.Contains(line, "eyJ") {
			r.t.Errorf("log line holds a token or a secret: %s", line)
		}
	}
}

func (r *rig) token(g authserver.Grant) string {
	if g.User == "" && !g.NoUser {
		g.User = "john.doe@demo.example"
	}
	if g.Resource == "" {
		g.Resource = resource
	}
	if g.Scope == "" {
		g.Scope = "mcp:read"
	}
	if g.ClientID == "" {
		g.ClientID = "mcp-client"
	}
	return r.idp.IssueToken(g)
}

func (r *rig) seen() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*http.Request(nil), r.upstream...)
}

// response is an HTTP response with its body read.
type response struct {
	*http.Response
	body string
}

func (r *rig) do(method, path, token string, headers ...string) response {
	r.t.Helper()
	return r.send(method, path, token, "", headers...)
}

func (r *rig) send(method, path, token, body string, headers ...string) response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.gw.URL()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = r.host
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	client := &http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", method, path, err, r.log)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response{resp, string(b)}
}

// raw sends bytes as they are and returns the first response as text.
func (r *rig) raw(request string) string {
	r.t.Helper()
	u, err := url.Parse(r.gw.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	// The gateway may answer and close before it has read everything.
	_, _ = io.WriteString(conn, request)
	b, _ := io.ReadAll(conn)
	return string(b)
}

func (r response) challenge() string { return r.Header.Get("WWW-Authenticate") }

func (r *rig) wantStatus(got response, status int) {
	r.t.Helper()
	if got.StatusCode != status {
		r.t.Errorf("%s %s: got %d %s, want %d\n%s", got.Request.Method, got.Request.URL.Path, got.StatusCode, got.body, status, r.log)
	}
}
