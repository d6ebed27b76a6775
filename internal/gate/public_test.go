package gate_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// Covers: MCP-03, MCP-04, MCP-05, MCP-06, MCP-24, MCP-25, PR-02, PR-03, PR-04, PR-05, PR-06, PR-07, PR-08, PR-10, PR-15, CO-07
func TestPublicPaths(t *testing.T) {
	const document = `{"resource":"https://gw.example.com/mcp","authorization_servers":["https://idp.example.com/realms/mcp"],"scopes_supported":["mcp:read"],"bearer_methods_supported":["header"],"resource_name":"Example MCP"}`
	tests := []struct {
		name, path, method string
		headers            []string
		status             int
		body               string
	}{
		{name: "path form", path: "/.well-known/oauth-protected-resource/mcp", status: 200, body: document},
		{name: "path form with slash", path: "/.well-known/oauth-protected-resource/mcp/", status: 200, body: document},
		{name: "root form", path: "/.well-known/oauth-protected-resource", status: 200, body: document},
		{name: "root form with slash and query", path: "/.well-known/oauth-protected-resource/?x=1", status: 200, body: document},
		{name: "head", path: "/.well-known/oauth-protected-resource/mcp", method: http.MethodHead, status: 200, body: document},
		{name: "absolute form", path: "http://gw.example.com/.well-known/oauth-protected-resource/mcp", status: 200, body: document},
		{name: "with a bad token", path: "/.well-known/oauth-protected-resource/mcp", headers: []string{"authorization", "Bearer bad"}, status: 200, body: document},
		{name: "with malformed credentials", path: "/.well-known/oauth-protected-resource/mcp", headers: []string{"authorization", "Bearer a b"}, status: 200, body: document},
		{name: "with a protocol version", path: "/.well-known/oauth-protected-resource/mcp", headers: []string{"mcp-protocol-version", "2026-07-28"}, status: 200, body: document},
		{name: "post", path: "/.well-known/oauth-protected-resource/mcp", method: http.MethodPost, status: 405},
		{name: "unknown suffix", path: "/.well-known/oauth-protected-resource/nonexistent", status: 404},
		{name: "longer path", path: "/.well-known/oauth-protected-resource/mcp/x", status: 404},
		{name: "authorization server at root", path: "/.well-known/oauth-authorization-server", status: 404},
		{name: "authorization server path form", path: "/.well-known/oauth-authorization-server/mcp", status: 404},
		{name: "openid at root", path: "/.well-known/openid-configuration", status: 404},
		{name: "openid appended", path: "/mcp/.well-known/openid-configuration", status: 404},
		{name: "register", path: "/register", method: http.MethodPost, status: 404},
		{name: "authorize", path: "/authorize", status: 404},
		{name: "token", path: "/token", method: http.MethodPost, status: 404},
		{name: "token with credentials is an ordinary request", path: "/token", headers: []string{"authorization", "Bearer bad"}, status: 401},
		{name: "lookalike needs a token", path: "/.well-known/oauth-protected-resourceX", status: 401},
		{name: "endpoint needs a token", path: "/mcp", status: 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			if tt.method == "" {
				tt.method = http.MethodGet
			}
			d := w.decideAt(request(tt.path, tt.headers...), &kong{method: tt.method})
			if d.Answer == nil || d.Answer.Status != tt.status {
				t.Fatalf("got %+v, want status %d", d.Answer, tt.status)
			}
			if tt.body != "" && string(d.Answer.Body) != tt.body {
				t.Errorf("body = %s, want %s", d.Answer.Body, tt.body)
			}
			if !json.Valid(d.Answer.Body) || headerOf(d.Answer.Headers, "Content-Type") != "application/json" {
				t.Errorf("got\n%s\nwant JSON", wire(d.Answer))
			}
			if got := headerOf(d.Answer.Headers, "Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("Access-Control-Allow-Origin = %q, want *", got)
			}
			cache := headerOf(d.Answer.Headers, "Cache-Control")
			if want := map[bool]string{true: "public, max-age=300", false: "no-store"}[tt.status == 200]; cache != want {
				t.Errorf("Cache-Control = %q, want %q", cache, want)
			}
		})
	}
}

func TestRootMetadataCanBeSwitchedOff(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.MetadataAtRoot = false })
	if d := w.decideAt(request("/.well-known/oauth-protected-resource"), &kong{method: "GET"}); d.Answer.Status != 404 {
		t.Errorf("status = %d, want 404", d.Answer.Status)
	}
}

// Covers: JW-14
func TestServesTheIssuersKeys(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) {
		issuer, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: issuerURL}, c.Phantom.(*gate.Mint).Keys)
		if err != nil {
			t.Fatal(err)
		}
		c.Issuers = []*keyring.Issuer{issuer}
	})
	for _, path := range []string{"/internal/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/internal"} {
		d := w.decideAt(request(path), &kong{method: "GET"})
		if d.Answer == nil || d.Answer.Status != 200 || !strings.Contains(string(d.Answer.Body), `"issuer":"`+issuerURL+`"`) {
			t.Errorf("%s: got %+v, want the issuer's metadata", path, d.Answer)
		}
	}
	d := w.decideAt(request("/internal"+keyring.JWKSPath), &kong{method: "GET"})
	if d.Answer == nil || string(d.Answer.Body) != string(w.ring.JWKS()) {
		t.Errorf("got %+v, want the JWKS", d.Answer)
	}
}

// Covers: CO-01, CO-02, CO-03, CO-04, CO-08, CO-09, CO-11, MCP-43
func TestCrossOrigin(t *testing.T) {
	listed := func(c *gate.Config) { c.CORS.Origins = []string{"https://inspector.example"} }
	tests := []struct {
		name, path, method string
		change             func(*gate.Config)
		headers            []string
		status             int
		want               map[string]string // "" means absent
	}{
		{
			name: "preflight", method: "OPTIONS",
			headers: []string{"origin", "https://any.example", "access-control-request-method", "DELETE", "access-control-request-headers", "authorization, mcp-param-region, mcp-protocol-version", "access-control-request-private-network", "true"},
			status:  204,
			want: map[string]string{
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
				"Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID, DPoP, traceparent, tracestate, mcp-param-region",
				"Access-Control-Max-Age":       "3600", "Access-Control-Allow-Credentials": "", "WWW-Authenticate": "",
			},
		},
		{
			name: "InjectedHeaderNameInPreflight", method: "OPTIONS",
			headers: []string{"origin", "https://any.example", "access-control-request-method", "POST", "access-control-request-headers", "mcp-param-a b, mcp-param-, mcp-param-\"x"},
			status:  204,
			want:    map[string]string{"Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID, DPoP, traceparent, tracestate"},
		},
		{
			name: "preflight of metadata", method: "OPTIONS", path: "/.well-known/oauth-protected-resource/mcp", change: listed,
			headers: []string{"origin", "https://other.example", "access-control-request-method", "GET"},
			status:  204, want: map[string]string{"Access-Control-Allow-Origin": "*"},
		},
		{
			name: "OptionsWithoutPreflightHeadersNeedsAToken", method: "OPTIONS", headers: []string{"origin", "https://any.example"},
			status: 401,
		},
		{
			name: "PreflightHeadersOnAnotherMethodNeedAToken", method: "POST",
			headers: []string{"origin", "https://any.example", "access-control-request-method", "POST"}, status: 401,
		},
		{
			name: "listed origin", change: listed, headers: []string{"origin", "https://inspector.example"}, status: 401,
			want: map[string]string{"Access-Control-Allow-Origin": "https://inspector.example", "Vary": "Origin", "Access-Control-Allow-Credentials": "true"},
		},
		{
			name: "listed origin preflight", change: listed, method: "OPTIONS",
			headers: []string{"origin", "https://inspector.example", "access-control-request-method", "POST"}, status: 204,
			want: map[string]string{"Access-Control-Allow-Origin": "https://inspector.example", "Vary": "Origin"},
		},
		{
			name: "RejectsOtherOrigin", change: listed, headers: []string{"origin", "https://evil.example", "authorization", "Bearer " + goodToken}, status: 403,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Vary": "Origin", "WWW-Authenticate": ""},
		},
		{
			name: "RejectsOtherOriginPreflight", change: listed, method: "OPTIONS",
			headers: []string{"origin", "https://evil.example", "access-control-request-method", "POST"}, status: 403,
			want: map[string]string{"Access-Control-Allow-Origin": ""},
		},
		{
			name: "RejectsNullOrigin", change: listed, headers: []string{"origin", "null"}, status: 403,
			want: map[string]string{"Access-Control-Allow-Origin": ""},
		},
		{
			name: "own origin", change: listed, headers: []string{"origin", "https://gw.example.com"}, status: 401,
			want: map[string]string{"Access-Control-Allow-Origin": "https://gw.example.com"},
		},
		{
			name: "no origin", change: listed, status: 401, want: map[string]string{"Access-Control-Allow-Origin": "", "Vary": "Origin"},
		},
		{
			name: "switched off", change: func(c *gate.Config) { c.CORS.Enabled = false }, method: "OPTIONS",
			headers: []string{"origin", "https://any.example", "access-control-request-method", "POST"}, status: 401,
			want: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Expose-Headers": ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.change)
			if tt.path == "" {
				tt.path = "/mcp"
			}
			d := w.decideAt(request(tt.path, tt.headers...), &kong{method: tt.method})
			if d.Answer == nil || d.Answer.Status != tt.status {
				t.Fatalf("got %+v, want status %d", d, tt.status)
			}
			for name, want := range tt.want {
				if got := headerOf(d.Answer.Headers, name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestBrowsersReadTheUpstreamsResponse(t *testing.T) {
	w := newWorld(t, nil)
	d := w.decide(request("/mcp", "authorization", "Bearer "+goodToken, "origin", "https://any.example"))
	if d.Forward == nil || headerOf(d.Forward.Response, "Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(headerOf(d.Forward.Response, "Access-Control-Expose-Headers"), "Mcp-Session-Id") {
		t.Errorf("got %+v, want cross-origin headers on the response", d.Forward)
	}
	if d := w.bearer(goodToken); len(d.Forward.Response) != 0 {
		t.Errorf("response headers without Origin = %v, want none", d.Forward.Response)
	}
}

// A configuration of the Lua plugin has no resource: it comes from the route.
//
// Covers: CH-12, CH-16
func TestResourceFromTheRoute(t *testing.T) {
	legacy := func(servers ...string) func(*gate.Config) {
		return func(c *gate.Config) {
			c.Resource = oauth.Resource{}
			c.Metadata = oauth.ProtectedResourceMetadata{AuthorizationServers: servers}
			c.Token.AudienceCheck = gate.AudienceWhenPresent
		}
	}
	const derived = "https://mcp.demo.example/"
	tests := []struct {
		name      string
		servers   []string
		kong      kong
		answer    string
		headers   []string
		status    int
		challenge string
	}{
		{
			name: "challenge without metadata has a realm", kong: kong{route: gate.Route{Hosts: []string{"mcp.demo.example"}, Paths: []string{"/"}}},
			status: 401, challenge: `Bearer realm="phantom-token", scope="mcp:read"`,
		},
		{
			name: "challenge with metadata", servers: []string{idpURL}, kong: kong{route: gate.Route{Hosts: []string{"mcp.demo.example"}, Paths: []string{"/"}}},
			status: 401, challenge: `Bearer resource_metadata="https://mcp.demo.example/.well-known/oauth-protected-resource", scope="mcp:read"`,
		},
		{
			name: "one path", servers: []string{idpURL}, kong: kong{route: gate.Route{Hosts: []string{"a.example"}, Paths: []string{"/mcp", "/.well-known/oauth-protected-resource/mcp", "~/x$"}}},
			status: 401, challenge: `Bearer resource_metadata="https://a.example/.well-known/oauth-protected-resource/mcp", scope="mcp:read"`,
		},
		{
			name: "ForgedHostDoesNotDecide", servers: []string{idpURL},
			kong:   kong{host: "evil.example", route: gate.Route{Hosts: []string{"a.example", "b.example"}}},
			status: 401, challenge: `Bearer realm="phantom-token", scope="mcp:read"`,
		},
		{
			name: "host chooses among the route's", servers: []string{idpURL},
			kong:   kong{host: "b.example", route: gate.Route{Hosts: []string{"a.example", "b.example"}}},
			status: 401, challenge: `Bearer resource_metadata="https://b.example/.well-known/oauth-protected-resource", scope="mcp:read"`,
		},
		{
			name: "WildcardHostIsNoResource", servers: []string{idpURL},
			kong:   kong{host: "evil.example.com", route: gate.Route{Hosts: []string{"*.example.com"}}},
			status: 401, challenge: `Bearer realm="phantom-token", scope="mcp:read"`,
		},
		{
			name: "audience names the derived resource", kong: kong{route: gate.Route{Hosts: []string{"mcp.demo.example"}, Paths: []string{"/"}}},
			answer: claims(map[string]any{"aud": `"` + derived + `"`}), headers: []string{"authorization", "Bearer " + goodToken},
		},
		{
			name: "answer without audience", kong: kong{route: gate.Route{Hosts: []string{"mcp.demo.example"}}},
			answer: claims(map[string]any{"aud": nil}), headers: []string{"authorization", "Bearer " + goodToken},
		},
		{
			name: "RejectsOtherAudience", kong: kong{route: gate.Route{Hosts: []string{"mcp.demo.example"}}},
			answer: claims(map[string]any{"aud": `"https://other.example"`}), headers: []string{"authorization", "Bearer " + goodToken},
			status: 401, challenge: `Bearer realm="phantom-token", error="invalid_token", error_description="The access token is invalid, expired or not intended for this resource", scope="mcp:read"`,
		},
		{
			name: "AudienceThatCannotBeCheckedIsRefused", kong: kong{route: gate.Route{Paths: []string{"/api"}}},
			answer: claims(nil), headers: []string{"authorization", "Bearer " + goodToken}, status: 500,
		},
		{
			name: "UnknownRouteIsNoWayAround", kong: kong{routeErr: errors.New("closed")},
			answer: claims(nil), headers: []string{"authorization", "Bearer " + goodToken}, status: 500,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, legacy(tt.servers...))
			if tt.answer != "" {
				w.idp.answer[goodToken] = tt.answer
			}
			d := w.decideAt(request("/", tt.headers...), &tt.kong)
			if tt.status == 0 {
				if d.Forward == nil {
					t.Fatalf("got %s, want forwarded", wire(d.Answer))
				}
				return
			}
			if d.Answer == nil || d.Answer.Status != tt.status || headerOf(d.Answer.Headers, "WWW-Authenticate") != tt.challenge {
				t.Fatalf("got %+v, want %d %s", d.Answer, tt.status, tt.challenge)
			}
		})
	}
}

// A plugin of a service serves several routes: a token for one must not open the other.
func TestRejectsTokenOfAnotherRouteOfTheService(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) {
		c.Resource = oauth.Resource{}
		c.Token.AudienceCheck = gate.AudienceWhenPresent
	})
	w.idp.answer[goodToken] = claims(map[string]any{"aud": `"https://a.example/one"`})
	one := &kong{route: gate.Route{Hosts: []string{"a.example"}, Paths: []string{"/one"}}}
	two := &kong{route: gate.Route{Hosts: []string{"a.example"}, Paths: []string{"/two"}}}
	for range 2 {
		if d := w.decideAt(request("/one", "authorization", "Bearer "+goodToken), one); d.Forward == nil {
			t.Errorf("own route: got %s, want forwarded", wire(d.Answer))
		}
		if d := w.decideAt(request("/two", "authorization", "Bearer "+goodToken), two); d.Answer == nil || d.Answer.Status != 401 {
			t.Errorf("other route: got %+v, want 401", d)
		}
	}
}

// The hot path asks Kong nothing beyond what the request brings.
func TestHotPathAsksNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.bearer(goodToken)
	k := &kong{}
	if d := w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), k); d.Forward == nil || len(k.questions) != 0 {
		t.Errorf("questions = %v, want none", k.questions)
	}
}

func FuzzCredential(f *testing.F) {
	for _, s := range []string{"Bearer a", "bearer a, b", "Basic x, Bearer y", "", "Bearer", "Bearer \xff", "DPoP x", "Bearer =", "Bearer a=b"} {
		f.Add(s, "/mcp?access_token=x")
		f.Add(s, "/mcp")
	}
	f.Fuzz(func(t *testing.T, authorization, target string) {
		w := newWorld(t, nil)
		d := w.decide(request(target, "authorization", authorization))
		if d.Forward != nil {
			if scheme, token, _ := strings.Cut(strings.Trim(authorization, " \t"), " "); !strings.EqualFold(scheme, "bearer") || strings.Trim(token, " ") != goodToken {
				t.Errorf("Authorization %q was let through", authorization)
			}
			return
		}
		if !slices.Contains([]int{200, 204, 400, 401, 404, 405}, d.Answer.Status) {
			t.Errorf("Authorization %q: status %d", authorization, d.Answer.Status)
		}
		if c := headerOf(d.Answer.Headers, "WWW-Authenticate"); strings.ContainsFunc(c, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("challenge %q holds control or non-ASCII characters", c)
		}
	})
}
