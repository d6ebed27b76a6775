//go:build keycloak

package keycloak_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/keycloak"
	"phantomtoken/testenv/probe"
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
	programs      testenv.Binaries
	keycloak      *keycloak.Server
	password      string
	gatewaySecret string // of api-gateway-client
	mcpSecret     string // of mcp-server
	outside       *probe.Caller
	upstream      *probe.Upstream
	john, jane    *agent.Agent

	whole   testing.TB // the test of all sentences, for what outlives one
	outage  *sidecar   // started while Keycloak was well
	phantom struct{ seen, unseen string }
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
	w := &world{whole: t, password: strings.ToLower(rand.Text()[:12]), gatewaySecret: rand.Text(), mcpSecret: rand.Text()}

	built := make(chan error, 1) // the programs, while Keycloak starts
	folder := t.TempDir()
	go func() {
		var err error
		w.programs, err = testenv.Build(t.Context(), folder)
		built <- err
	}()
	log := &testenv.Log{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Keycloak's log ends with\n%s", probe.Tail(log.String()))
		}
	})
	w.keycloak, err = keycloak.Start(t.Context(), keycloak.Config{
		Realm: realm, Listen: addresses[1], Management: addresses[2], Log: log,
		Env: map[string]string{
			"MCP_RESOURCE_URL":          "http://" + gateway + "/mcp",
			"ADVISOR_RESOURCE_URL":      "http://" + gateway + "/advisor/mcp",
			"API_RESOURCE_URL":          "http://" + gateway + "/api",
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
		Binaries: w.programs,
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
		URL: w.MCPURL, Name: "Agent of " + user, User: user, Password: w.password, Wrap: w.Recorder.Transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask sends an MCP request with a token through the gateway.
func (w *world) ask(t *testing.T, token string) probe.Answer {
	t.Helper()
	return w.outside.AskMCP(t, w.MCPURL, token)
}

// post sends a form to an endpoint of Keycloak.
func (w *world) post(t *testing.T, endpoint string, form url.Values) probe.Answer {
	t.Helper()
	return w.outside.Post(t, w.keycloak.Endpoint(endpoint), form)
}

// route is a kong.yml with one route to upstream that the plugin protects, at the MCP URL;
// config lines are added to the plugin's configuration and may take the place of others.
func (w *world) route(upstream string, lines ...string) []byte {
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
  url: ` + upstream + `
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
	w.loadTo(t, w.upstream.URL(), lines...)
}

// loadTo does the same with another upstream.
func (w *world) loadTo(t *testing.T, upstream string, lines ...string) {
	t.Helper()
	if err := w.Gateway.Reload(w.route(upstream, lines...)); err != nil {
		t.Fatal(err)
	}
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
