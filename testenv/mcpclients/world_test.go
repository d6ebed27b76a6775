//go:build keycloak

package mcpclients_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"phantomtoken/testenv"
	"phantomtoken/testenv/agent"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/keycloak"
	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/mcpclients"
	"phantomtoken/testenv/probe"
	"phantomtoken/testenv/recorder"
)

const (
	john = "john.doe@demo.example" // of the USA
	jane = "jane.roe@demo.example" // of Europe
)

// world is the whole chain with something in front of the gateway and of the authorization
// server that writes down what clients send them. Clients know the gateway by mcpURL.
type world struct {
	*testenv.Stack
	folder   string // of the installed clients
	mcpURL   string
	issuer   string
	password map[string]string // of the users
	wire     *recorder.Recorder
	log      *testenv.Log // of the clients

	endSessions func(t *testing.T, user string) // at the authorization server
}

// The parties on the wire.
const (
	client     = "client"
	gateway    = "gateway"
	authServer = "authorization server"
)

// provider starts an authorization server behind a front. Its tokens are for resource.
type provider func(t *testing.T, w *world, front string, resource string) (listen string, p *testenv.Provider)

func start(t *testing.T, begin provider) *world {
	t.Helper()
	folder, err := mcpclients.Find()
	if err != nil {
		t.Fatal(err)
	}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = testenv.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	gatewayFront, behind, authFront := addresses[0], addresses[1], addresses[2]
	w := &world{folder: folder, mcpURL: "http://" + gatewayFront + "/mcp", wire: recorder.New(nil), log: &testenv.Log{}}
	listen, p := begin(t, w, authFront, w.mcpURL)
	w.issuer = p.Issuer

	yaml, err := os.ReadFile("../../kong.yml")
	if err != nil {
		t.Fatal(err)
	}
	// The project's own configuration, under the name of the front, and without a cache: what
	// happens to a token is seen at once.
	text := strings.ReplaceAll(string(yaml), "localhost:8000", gatewayFront)
	text = strings.ReplaceAll(text, "token_cache_seconds: 300", "token_cache_seconds: 0")
	w.Stack, err = testenv.Start(t.Context(), testenv.Options{Listen: behind, Provider: p, KongYAML: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("closing the stack: %v", err)
		}
		if t.Failed() {
			t.Logf("the log of the clients ends with\n%s", probe.Tail(w.log.String()))
			t.Logf("the log of the chain ends with\n%s", probe.Tail(w.Log.String()))
		}
	})
	w.front(t, gatewayFront, behind, gateway)
	w.front(t, authFront, listen, authServer)
	return w
}

// front passes everything on and writes it down.
func (w *world) front(t *testing.T, listen, target, who string) {
	t.Helper()
	transport := &http.Transport{Proxy: nil}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1, // event streams
		Transport:     transport,
	}
	server, err := loopback.Serve(listen, w.wire.Handler(client, who, proxy), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
}

// withKeycloak starts a Keycloak with the realm of this project.
func withKeycloak(t *testing.T, w *world, front, resource string) (string, *testenv.Provider) {
	realm, err := os.ReadFile("../../deploy/keycloak/mcp-realm.json")
	if err != nil {
		t.Fatal(err)
	}
	var listen, management string
	for _, address := range []*string{&listen, &management} {
		if *address, err = testenv.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	password, secret := strings.ToLower(rand.Text()[:12]), rand.Text()
	w.password = map[string]string{john: password, jane: password}
	log := &testenv.Log{}
	server, err := keycloak.Start(t.Context(), keycloak.Config{
		Realm: realm, Listen: listen, Management: management, PublicURL: "http://" + front, Log: log,
		Env: map[string]string{
			"MCP_RESOURCE_URL":          resource,
			"API_RESOURCE_URL":          strings.TrimSuffix(resource, "/mcp") + "/api",
			"ADVISOR_RESOURCE_URL":      strings.TrimSuffix(resource, "/mcp") + "/advisor/mcp",
			"API_GATEWAY_CLIENT_SECRET": secret,
			"MCP_SERVER_CLIENT_SECRET":  rand.Text(),
			"DEMO_USER_PASSWORD":        password,
		},
	})
	if err != nil {
		t.Fatalf("%v\nKeycloak's log ends with\n%s", err, probe.Tail(log.String()))
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("closing Keycloak: %v", err)
		}
	})
	w.endSessions = func(t *testing.T, user string) {
		if err := server.EndSessions(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	introspection := strings.Replace(server.Endpoint("token/introspect"), front, listen, 1)
	return listen, &testenv.Provider{Issuer: server.Issuer(), IntrospectionEndpoint: introspection, ClientSecret: secret}
}

// withSample starts the authorization server of the demonstration.
func withSample(t *testing.T, w *world, front, resource string) (string, *testenv.Provider) {
	listen, err := testenv.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	w.password = map[string]string{john: rand.Text(), jane: rand.Text()}
	secret := rand.Text()
	claims := map[string]any{"client_type": "mcp", "client_assurance_level": 1}
	server, err := authserver.Start(t.Context(), authserver.Config{
		Issuer: "http://" + front, Listen: listen,
		Users: []authserver.User{
			{Name: john, Password: w.password[john], Region: "USA", Claims: claims},
			{Name: jane, Password: w.password[jane], Region: "Europe", Claims: claims},
		},
		Clients:   []authserver.Client{{ID: "api-gateway-client", Secret: secret}},
		Resources: []string{resource},
		Scopes:    []authserver.Scope{{Name: testenv.ScopeRead, Description: "Read stock prices of your region"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w.endSessions = func(*testing.T, string) { // it has none; there are tokens
		for _, e := range w.wire.All() {
			var answer struct {
				AccessToken string `json:"access_token"`
			}
			if json.Unmarshal(e.Body, &answer) == nil && answer.AccessToken != "" {
				server.Revoke(answer.AccessToken)
			}
		}
	}
	introspection := strings.Replace(server.IntrospectionEndpoint(), front, listen, 1)
	return listen, &testenv.Provider{Issuer: server.Issuer(), IntrospectionEndpoint: introspection, ClientSecret: secret}
}

// visit is a client in the hands of one user, with what it kept from earlier calls.
type visit struct {
	w           *world
	client      mcpclients.Client
	user        string
	credentials string
}

// seen is what one call showed.
type seen struct {
	text           string
	authorizations []*url.URL           // where the client sent its user
	wire           []*recorder.Exchange // what it sent
	pages          []agent.Page         // what its user saw
}

// call calls list_stocks by a new process of the client, and does for the user what the
// browser wants.
func (v *visit) call(t *testing.T) seen {
	t.Helper()
	person, err := agent.NewPerson(v.user, v.w.password[v.user])
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	var out seen
	v.w.take(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out.text, err = v.client.Call(ctx, v.w.folder, mcpclients.Call{
		URL: v.w.mcpURL, Credentials: v.credentials, Tool: "list_stocks", Log: v.w.log,
		Browse: func(ctx context.Context, address string) error {
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			out.authorizations = append(out.authorizations, u)
			redirect := u.Query().Get("redirect_uri")
			result, err := person.Authorize(ctx, address, redirect)
			if err != nil {
				return err
			}
			return comeBack(ctx, redirect+"?"+result.Encode())
		},
	})
	out.wire, out.pages = v.w.take(t), person.Pages
	if err != nil {
		t.Errorf("what it sent:\n%s", conversation(out.wire))
		t.Fatal(err)
	}
	return out
}

// comeBack is the redirect to the client. Some clients listen for it only when they have opened
// the browser, and no person is as fast as this one.
func comeBack(ctx context.Context, address string) error {
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		res, err := transport.RoundTrip(req)
		switch {
		case err == nil:
			_ = res.Body.Close()
			if res.StatusCode >= http.StatusBadRequest {
				return fmt.Errorf("expected the client's page after the login, got status %d", res.StatusCode)
			}
			return nil
		case !errors.Is(err, syscall.ECONNREFUSED):
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("expected the client to listen for the redirect: %w", context.Cause(ctx))
		}
	}
}

func (w *world) take(t *testing.T) []*recorder.Exchange {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := w.wire.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// at are the exchanges with a party whose path ends with suffix.
func (s seen) at(who, suffix string) []*recorder.Exchange {
	var out []*recorder.Exchange
	for _, e := range s.wire {
		if u, err := url.Parse(e.URL); err == nil && e.To == who && strings.HasSuffix(u.Path, suffix) {
			out = append(out, e)
		}
	}
	return out
}

// posts are the requests of the client itself to a party that do something, with a word in
// their path.
func (s seen) posts(who, word string) []*recorder.Exchange {
	var out []*recorder.Exchange
	for _, e := range s.wire {
		if u, err := url.Parse(e.URL); err == nil && e.To == who && e.Method == http.MethodPost && !inBrowser(e) && strings.Contains(u.Path, word) {
			out = append(out, e)
		}
	}
	return out
}

// inBrowser reports whether a request is of the user's browser and not of the client.
func inBrowser(e *recorder.Exchange) bool {
	return strings.Contains(e.RequestHeader.Get("Accept"), "text/html")
}

// conversation is what a client sent, a line for each request, without tokens. What its user
// did in the browser is left out.
func conversation(wire []*recorder.Exchange) string {
	var b strings.Builder
	for _, e := range wire {
		u, err := url.Parse(e.URL)
		if err != nil || inBrowser(e) {
			continue
		}
		credential := ""
		if scheme, _, ok := strings.Cut(e.RequestHeader.Get("Authorization"), " "); ok {
			credential = " with " + scheme
		}
		method := ""
		if m := e.RequestHeader.Get("Mcp-Method"); m != "" {
			method = " " + m
		}
		fmt.Fprintf(&b, "%-20s %-6s %s%s%s → %d; Accept %q, User-Agent %q, MCP-Protocol-Version %q\n", e.To, e.Method, u.Path, method, credential, e.Status,
			e.RequestHeader.Get("Accept"), e.RequestHeader.Get("User-Agent"), e.RequestHeader.Get("MCP-Protocol-Version"))
	}
	return b.String()
}
