package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/internal/keyring"
	"phantomtoken/kong-plugin/pluginserver"
)

const (
	testSecret = "marked-client-secret"
	testToken  = "marked-access-token"
)

// mintConfig is a configuration that mints.
func mintConfig(t testing.TB, idp *idp) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.jwk")
	if _, err := keyring.LoadOrCreate(file, ""); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"introspection_endpoint": idp.URL + "/introspect",
		"client_id":              "gateway",
		"client_secret":          testSecret,
		"scope":                  "stocks/read",
		"resource":               "http://127.0.0.1:8000/mcp",
		"authorization_servers":  []string{idp.URL},
		"phantom_token": map[string]any{
			"issuer":           "http://127.0.0.1:8000/phantom",
			"audience":         "https://mcp.internal.example",
			"signing_key_file": file,
			"claims":           map[string]string{"region": "region"},
		},
	}
}

func with(config map[string]any, further map[string]any) map[string]any {
	out := maps.Clone(config)
	maps.Copy(out, further)
	return out
}

func bearer(token string, further ...pluginserver.Header) httpRequest {
	return httpRequest{
		method: http.MethodPost, target: "/mcp",
		headers: append([]pluginserver.Header{{Name: "host", Value: "127.0.0.1:8000"}, {Name: "authorization", Value: "Bearer " + token}}, further...),
		route:   &kong_plugin_protocol.Route{Paths: []string{"/mcp"}},
	}
}

func goodClaims(idp *idp) map[string]any {
	return map[string]any{
		"active": true, "sub": "john", "client_id": "mcp-client", "scope": "stocks/read", "region": "USA",
		"aud": "http://127.0.0.1:8000/mcp", "iss": idp.URL, "exp": time.Now().Add(15 * time.Minute).Unix(),
	}
}

// TestRequestGoesThroughWithThePhantomTokenOnly follows one request through the plugin's
// own path: what Kong is asked, what is changed, and that the access token stays behind.
//
// Covers: MCP-17, BC-13, JW-17
func TestRequestGoesThroughWithThePhantomTokenOnly(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	for range 2 {
		got := route.do(bearer(testToken,
			pluginserver.Header{Name: "x_consumer_id", Value: "root"},
			pluginserver.Header{Name: "x-consumer-id", Value: "root"},
			pluginserver.Header{Name: "x-authenticated-sub", Value: "root"},
			pluginserver.Header{Name: "dpop", Value: "proof"},
			pluginserver.Header{Name: "proxy-authorization", Value: "Basic x"},
			pluginserver.Header{Name: "x-latin", Value: "caf\xe9"},
			pluginserver.Header{Name: "mcp-session-id", Value: "s"},
			pluginserver.Header{Name: "origin", Value: "https://inspector.example"},
		))
		if got.status != 0 {
			t.Fatalf("answered %d %s, want it forwarded; log:\n%s", got.status, got.body, p.log)
		}
		token, ok := strings.CutPrefix(got.upstream["Authorization"], "Bearer ")
		claims := jwtClaims(t, token)
		if !ok || claims["sub"] != "john" || claims["aud"] != "https://mcp.internal.example" || claims["region"] != "USA" {
			t.Errorf("Authorization = %q with claims %v", got.upstream["Authorization"], claims)
		}
		delete(got.upstream, "Authorization")
		want := map[string]string{
			"x_consumer_id": "", "x-consumer-id": "", "x-authenticated-sub": "", "dpop": "", "proxy-authorization": "",
		}
		if !maps.Equal(got.upstream, want) {
			t.Errorf("changed request headers are %v, want %v", got.upstream, want)
		}
		if got.header["Access-Control-Allow-Origin"] != "*" {
			t.Errorf("response headers are %v, want CORS", got.header)
		}
	}
	if idp.calls.Load() != 1 {
		t.Errorf("%d introspections of one token, want 1", idp.calls.Load())
	}
	noSecrets(t, p)
}

// TestHotPathAsksKongTwice pins what a cached request costs: two questions, one change.
func TestHotPathAsksKongTwice(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	route.do(bearer(testToken))
	got := route.do(bearer(testToken))
	want := []string{"request.get_headers", "request.get_path_with_query", "service.request.set_header"}
	if !slices.Equal(got.methods, want) {
		t.Errorf("calls are %v, want %v", got.methods, want)
	}
}

func TestRefusalReachesTheClient(t *testing.T) {
	idp := startIDP(t)
	idp.says(map[string]any{"active": false})
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	got := route.do(bearer(testToken))
	if got.status != 401 || !strings.HasPrefix(got.header["WWW-Authenticate"], `Bearer error="invalid_token"`) ||
		got.header["Content-Type"] != "application/json" || got.header["Cache-Control"] != "no-store" {
		t.Errorf("answer is %+v, want 401 invalid_token", got)
	}
	none := bearer(testToken)
	none.headers = nil
	got = route.do(none)
	want := `Bearer resource_metadata="http://127.0.0.1:8000/.well-known/oauth-protected-resource/mcp", scope="stocks/read"`
	if got.status != 401 || got.header["WWW-Authenticate"] != want {
		t.Errorf("answer without credentials is %+v, want 401 with %s", got, want)
	}
	noSecrets(t, p)
}

func TestMetadataAndKeysAreServed(t *testing.T) {
	idp := startIDP(t)
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	for target, want := range map[string]string{
		"/.well-known/oauth-protected-resource/mcp":           `"resource":"http://127.0.0.1:8000/mcp"`,
		"/.well-known/oauth-protected-resource":               `"scopes_supported":["stocks/read"]`,
		"/phantom/jwks.json":                                  `"alg":"ES256"`,
		"/.well-known/oauth-authorization-server/phantom":     `"issuer":"http://127.0.0.1:8000/phantom"`,
		"/phantom/.well-known/openid-configuration?anything=": `"jwks_uri":"http://127.0.0.1:8000/phantom/jwks.json"`,
	} {
		got := route.do(httpRequest{method: http.MethodGet, target: target})
		if got.status != 200 || !strings.Contains(got.body, want) {
			t.Errorf("GET %s = %d %s, want %s in it", target, got.status, got.body, want)
		}
	}
}

// TestLuaConfigurationWorks runs a configuration of the Lua plugin of this name, which has
// only its seven keys: the JWT of the provider's answer goes upstream, the resource is
// that of the route, and an audience counts when there is one.
//
// Covers: IN-15
func TestLuaConfigurationWorks(t *testing.T) {
	key, err := keyring.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	mint := func(audience string) string {
		token, err := ring.Mint(keyring.Token{
			Issuer: "https://idp.example.com", Subject: "john", ClientID: "web", Audience: []string{audience},
			IssuedAt: time.Now(), Expiry: time.Now().Add(time.Minute), Scope: []string{"read", "write"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ours, foreign := mint("https://gw.example.com/api"), mint("https://other.example.com")

	idp := startIDP(t)
	idp.setAnswer(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept"); got != "application/jwt" {
			t.Errorf("Accept = %q, want application/jwt", got)
		}
		if id, secret, _ := r.BasicAuth(); id != "gateway" || secret != testSecret {
			t.Errorf("client authentication = %q", id)
		}
		switch r.FormValue("token") {
		case "ours":
			w.Header().Set("Content-Type", "application/jwt")
			_, _ = w.Write([]byte(ours))
		case "foreign":
			w.Header().Set("Content-Type", "application/jwt")
			_, _ = w.Write([]byte(foreign))
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	p := startPlugin(t)
	route := p.instance(1, map[string]any{
		"introspection_endpoint": idp.URL + "/introspect",
		"client_id":              "gateway",
		"client_secret":          testSecret,
		"token_cache_seconds":    300,
		"scope":                  "read write",
		"trusted_web_origins":    []string{"https://app.example.com"},
		"verify_ssl":             true,
	})
	tests := []struct {
		name, token  string
		wantStatus   int
		wantUpstream string
	}{
		{name: "Good", token: "ours", wantUpstream: "Bearer " + ours},
		{name: "AudienceOfAnotherServer", token: "foreign", wantStatus: 401},
		{name: "Inactive", token: "unknown", wantStatus: 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := bearer(tt.token)
			req.route = &kong_plugin_protocol.Route{Hosts: []string{"gw.example.com"}, Paths: []string{"/api"}}
			got := route.do(req)
			if got.status != tt.wantStatus || got.upstream["Authorization"] != tt.wantUpstream {
				t.Errorf("answer is %d, Authorization %q; want %d, %q; log:\n%s", got.status, got.upstream["Authorization"], tt.wantStatus, tt.wantUpstream, p.log)
			}
		})
	}
	if !strings.Contains(p.log.String(), "when_present") {
		t.Errorf("log is\n%s\nwant a warning about the audience", p.log)
	}
}

func TestRouteIsAskedForOnce(t *testing.T) {
	idp := startIDP(t)
	idp.says(map[string]any{"active": false})
	p := startPlugin(t)
	route := p.instance(1, map[string]any{
		"introspection_endpoint": idp.URL + "/introspect", "client_id": "a", "client_secret": testSecret,
	})
	asked := 0
	for range 3 {
		req := bearer(testToken)
		req.rawRoute = []byte("\xff\xff") // what nobody can decode leaves the route unknown
		got := route.do(req)
		if got.status != 401 {
			t.Errorf("answer is %d, want 401", got.status)
		}
		if slices.Contains(got.methods, "router.get_route") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("the route was asked for %d times, want 1", asked)
	}
}

// A request with as many header fields as Kong hands out may have more, and an identity
// header behind them would go upstream.
func TestRequestWithTooManyHeadersIsRefused(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	tests := []struct {
		name string
		n    int
		same bool
		want int
	}{
		{name: "Below", n: 997, want: 0},
		{name: "ManyNames", n: 998, want: 431},
		{name: "OneNameManyTimes", n: 998, same: true, want: 431},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := bearer(testToken) // has two
			for i := range tt.n {
				name := "x"
				if !tt.same {
					name = fmt.Sprintf("x-%d", i)
				}
				req.headers = append(req.headers, pluginserver.Header{Name: name, Value: "y"})
			}
			if got := route.do(req); got.status != tt.want {
				t.Errorf("answer is %d, want %d", got.status, tt.want)
			}
		})
	}
}

func TestUndecodableHeadersFailClosed(t *testing.T) {
	idp := startIDP(t)
	p := startPlugin(t)
	route := p.instance(1, mintConfig(t, idp))
	c := p.dial()
	defer c.conn.Close()
	c.send(&kong_plugin_protocol.RpcCall{Sequence: 1, Call: &kong_plugin_protocol.RpcCall_CmdHandleEvent{
		CmdHandleEvent: &kong_plugin_protocol.CmdHandleEvent{InstanceId: route.id, EventName: "access"},
	}})
	for range 4 { // two questions: name and argument each
		c.read()
	}
	c.write([]byte("\x0a\x7fshort"))
	c.send(&kong_plugin_protocol.String{V: "/mcp"})
	if method := string(c.read()); method != "kong.response.exit" {
		t.Fatalf("plugin calls %q, want kong.response.exit", method)
	}
	var exit kong_plugin_protocol.ExitArgs
	c.decode(c.read(), &exit)
	if exit.Status != 500 {
		t.Errorf("exit = %v, want 500", &exit)
	}
}

// TestConfigurationThatCannotWorkStaysLocal: its routes answer 500, the log says why once
// a minute, and other routes go on.
func TestConfigurationThatCannotWorkStaysLocal(t *testing.T) {
	idp := startIDP(t)
	idp.says(goodClaims(idp))
	p := startPlugin(t)
	good := p.instance(1, mintConfig(t, idp))
	bad := p.instance(2, with(mintConfig(t, idp), map[string]any{"client_secret": "", "scope": "offline_access"}))
	worse := p.instance(3, map[string]any{"client_secret": []int{1}})

	const line = "plugin configuration cannot work"
	complaints := func() int { return strings.Count(p.log.String(), line) }
	if complaints() != 2 {
		t.Fatalf("%d complaints at start, want 2; log:\n%s", complaints(), p.log)
	}
	for range 5 {
		for _, route := range []*kongRoute{bad, worse} {
			got := route.do(bearer(testToken))
			if got.status != 500 || got.body != `{"error":"server_error"}` || got.header["Cache-Control"] != "no-store" || len(got.upstream) != 0 {
				t.Errorf("answer is %+v, want 500 server_error", got)
			}
		}
		if got := good.do(bearer(testToken)); got.status != 0 {
			t.Errorf("the other route answers %d, want it to go on", got.status)
		}
	}
	if complaints() != 2 {
		t.Errorf("%d complaints, want 2: not one a request", complaints())
	}
	p.clock.Advance(time.Minute)
	bad.do(bearer(testToken))
	bad.do(bearer(testToken))
	if complaints() != 3 {
		t.Errorf("%d complaints after a minute, want 3", complaints())
	}
	for _, field := range []string{"client_secret: expected a secret", "scope: ", "client_secret: expected string"} {
		if !strings.Contains(p.log.String(), field) {
			t.Errorf("log is\n%s\nwant %q in it", p.log, field)
		}
	}
}

func TestConcurrentWorkersShareOneIntrospection(t *testing.T) {
	idp := startIDP(t)
	proceed := make(chan struct{})
	idp.setAnswer(func(w http.ResponseWriter, _ *http.Request) {
		<-proceed
		writeJSON(w, goodClaims(idp))
	})
	p := startPlugin(t)
	config := mintConfig(t, idp)
	first := p.instance(1, config)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			route := p.instance(1, config)
			if route.id != first.id {
				t.Errorf("instance %d, want %d", route.id, first.id)
			}
			for range 4 {
				if got := route.do(bearer(testToken)); got.status != 0 {
					t.Errorf("answer is %d, want it forwarded", got.status)
				}
			}
		})
	}
	close(proceed)
	workers.Wait()
	if idp.calls.Load() != 1 {
		t.Errorf("%d introspections, want 1", idp.calls.Load())
	}
}

func jwtClaims(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %q", token)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(b, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// noSecrets fails when the log holds a token or a secret.
func noSecrets(t testing.TB, p *plugin) {
	t.Helper()
	for _, secret := range []string{testSecret, testToken} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("log holds %q:\n%s", secret, p.log)
		}
	}
}
