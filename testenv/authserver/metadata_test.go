package authserver_test

import (
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"phantomtoken/testenv/authserver"
)

func TestMetadata(t *testing.T) {
	s := start(t)
	a := s.get("/.well-known/oauth-authorization-server")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s", a.status, a.header.Get("Content-Type"))
	}
	got := a.object(t)
	list := func(v ...any) []any { return v }
	for name, want := range map[string]any{
		"issuer":                           s.Issuer(),
		"authorization_endpoint":           s.Issuer() + "/authorize",
		"token_endpoint":                   s.Issuer() + "/token",
		"registration_endpoint":            s.Issuer() + "/register",
		"introspection_endpoint":           s.IntrospectionEndpoint(),
		"revocation_endpoint":              s.Issuer() + "/revoke",
		"jwks_uri":                         s.Issuer() + "/jwks.json",
		"scopes_supported":                 list("stocks/read", "stocks/trade"),
		"response_types_supported":         list("code"),
		"grant_types_supported":            list("authorization_code", "client_credentials"),
		"code_challenge_methods_supported": list("S256"),
		"authorization_response_iss_parameter_supported": true,
		"client_id_metadata_document_supported":          true,
		"token_endpoint_auth_methods_supported":          list("none", "client_secret_basic", "client_secret_post"),
		"introspection_endpoint_auth_methods_supported":  list("client_secret_basic", "client_secret_post"),
		"revocation_endpoint_auth_methods_supported":     list("none", "client_secret_basic", "client_secret_post"),
		"protected_resources":                            list(resource, otherResource),
		"request_uri_parameter_supported":                false,
	} {
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	for name, v := range got {
		if l, ok := v.([]any); ok && len(l) == 0 {
			t.Errorf("%s: a member without a value must be left out (RFC 8414 §3.2)", name)
		}
	}
}

// TestMetadataPlaces looks where clients look, for issuers with and without a path.
func TestMetadataPlaces(t *testing.T) {
	tests := []struct {
		name   string
		issuer string
		found  []string
		absent []string
	}{
		{
			name:   "no path",
			issuer: "",
			found:  []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"},
			absent: []string{"/.well-known/oauth-authorization-server/realms/demo", "/.well-known/oauth-authorization-server/", "/.well-known/oauth-protected-resource", "/"},
		},
		{
			name:   "path",
			issuer: "/realms/demo",
			found: []string{
				"/.well-known/oauth-authorization-server/realms/demo",
				"/.well-known/openid-configuration/realms/demo",
				"/realms/demo/.well-known/oauth-authorization-server",
				"/realms/demo/.well-known/openid-configuration",
			},
			absent: []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/token", "//realms/demo/token"},
		},
		{
			name:   "path with slash",
			issuer: "/realms/demo/",
			found:  []string{"/.well-known/oauth-authorization-server/realms/demo", "/realms/demo/.well-known/openid-configuration"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(c *authserver.Config) { c.Issuer = tt.issuer })
			for _, path := range tt.found {
				a := s.get(path)
				if a.status != http.StatusOK {
					t.Errorf("%s: got %d, want 200", path, a.status)
					continue
				}
				got := a.object(t)
				if got["issuer"] != s.Issuer() || !strings.HasSuffix(s.Issuer(), tt.issuer) {
					t.Errorf("%s: issuer got %v, want %v", path, got["issuer"], s.Issuer())
				}
				jwks, err := url.Parse(got["jwks_uri"].(string))
				if err != nil || s.get(jwks.Path).status != http.StatusOK {
					t.Errorf("%s: jwks_uri %v cannot be fetched", path, got["jwks_uri"])
				}
			}
			for _, path := range tt.absent {
				wantError(t, s.get(path), http.StatusNotFound, "not_found")
			}
		})
	}
}

// TestMetadataSuitsLibraries has two libraries of real clients read the metadata.
func TestMetadataSuitsLibraries(t *testing.T) {
	for _, issuer := range []string{"", "/realms/demo"} {
		t.Run("issuer "+issuer, func(t *testing.T) {
			s := start(t, func(c *authserver.Config) { c.Issuer = issuer })
			meta, err := oauthex.GetAuthServerMeta(t.Context(), s.origin()+"/.well-known/oauth-authorization-server"+issuer, s.Issuer(), client(nil))
			if err != nil || meta == nil {
				t.Fatalf("oauthex: got %v, %v", meta, err)
			}
			if !meta.ClientIDMetadataDocumentSupported || !meta.AuthorizationResponseIssParameterSupported || meta.RegistrationEndpoint == "" {
				t.Errorf("oauthex: got %+v", meta)
			}
			ctx := oidc.ClientContext(t.Context(), client(nil))
			provider, err := oidc.NewProvider(ctx, s.Issuer())
			if err != nil {
				t.Fatalf("go-oidc: %v", err)
			}
			jwt, err := s.SignJWT("JWT", map[string]any{"iss": s.Issuer(), "aud": "x", "sub": john, "exp": s.clock.Now().Unix() + 60})
			if err != nil {
				t.Fatal(err)
			}
			verifier := provider.VerifierContext(ctx, &oidc.Config{ClientID: "x", Now: s.clock.Now})
			if _, err := verifier.Verify(ctx, jwt); err != nil {
				t.Errorf("go-oidc: a JWT of this server: %v", err)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	s := start(t)
	tests := []struct {
		path   string
		method string
		open   bool
	}{
		{path: "/.well-known/oauth-authorization-server", method: "GET", open: true},
		{path: "/.well-known/openid-configuration", method: "GET", open: true},
		{path: "/jwks.json", method: "GET", open: true},
		{path: "/register", method: "POST", open: true},
		{path: "/token", method: "POST", open: true},
		{path: "/revoke", method: "POST", open: true},
		{path: "/introspect", method: "POST"},
		{path: "/authorize", method: "GET"},
		{path: "/login", method: "POST"},
		{path: "/consent", method: "POST"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			a := do(t, client(nil), request(t, http.MethodOptions, s.Issuer()+tt.path, nil,
				"Origin", "http://localhost:6274", "Access-Control-Request-Method", tt.method,
				"Access-Control-Request-Headers", "authorization,content-type,mcp-protocol-version"))
			if !tt.open {
				if a.status != http.StatusMethodNotAllowed || a.header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("got %d %v, want 405 and no CORS", a.status, a.header)
				}
				return
			}
			allowed := strings.ToLower(a.header.Get("Access-Control-Allow-Headers"))
			for _, name := range []string{"authorization", "content-type", "mcp-protocol-version"} {
				if !strings.Contains(allowed, name) {
					t.Errorf("header %s is not allowed: %q", name, allowed)
				}
			}
			if a.status != http.StatusNoContent || !strings.Contains(a.header.Get("Access-Control-Allow-Methods"), tt.method) {
				t.Errorf("got %d %v", a.status, a.header)
			}
			if a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials must not be allowed")
			}
		})
	}
	t.Run("errors too", func(t *testing.T) {
		for _, a := range []answer{s.register(`{}`), s.post("/token", nil)} {
			if a.status < 400 || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("got %d with Access-Control-Allow-Origin %q, want *", a.status, a.header.Get("Access-Control-Allow-Origin"))
			}
		}
	})
}

func TestMethods(t *testing.T) {
	s := start(t)
	for path, allow := range map[string]string{
		"/authorize": "GET", "/introspect": "POST", "/token": "OPTIONS, POST", "/consent": "GET, POST", "/jwks.json": "GET, OPTIONS",
	} {
		a := do(t, client(nil), request(t, http.MethodDelete, s.Issuer()+path, nil))
		wantError(t, a, http.StatusMethodNotAllowed, "method_not_allowed")
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow got %q, want %q", path, got, allow)
		}
	}
	if a := do(t, client(nil), request(t, http.MethodHead, s.Issuer()+"/jwks.json", nil)); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: got %d %q", a.status, a.body)
	}
	if a := s.get("/healthz"); a.status != http.StatusOK || a.body != `{"status":"ok"}` {
		t.Errorf("healthz: got %d %s", a.status, a.body)
	}
}

func TestConfig(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name   string
		change func(*authserver.Config)
		want   string
	}{
		{"http issuer", func(c *authserver.Config) { c.Issuer = "http://idp.example" }, "expected https"},
		{"issuer with query", func(c *authserver.Config) { c.Issuer = "https://idp.example?x" }, "without query"},
		{"issuer with user", func(c *authserver.Config) { c.Issuer = "https://u@idp.example" }, "user information"},
		{"no issuer on all interfaces", func(c *authserver.Config) { c.Listen = "0.0.0.0:0" }, "all interfaces"},
		{"address taken", func(c *authserver.Config) { c.Listen = taken.Addr().String() }, "listening"},
		{"control on all interfaces", func(c *authserver.Config) { c.ControlListen = "0.0.0.0:0" }, "loopback"},
		{"scope with space", func(c *authserver.Config) { c.Scopes = []authserver.Scope{{Name: "a b"}} }, `"a b"`},
		{"relative resource", func(c *authserver.Config) { c.Resources = []string{"/mcp"} }, `"/mcp"`},
		{"unknown default resource", func(c *authserver.Config) { c.DefaultResource = "https://x.example" }, "default resource"},
		{"user twice", func(c *authserver.Config) { c.Users = append(c.Users, c.Users[0]) }, "unique names"},
		{"user without password", func(c *authserver.Config) { c.Users = []authserver.User{{Name: "x"}} }, "passwords"},
		{"reserved user claim", func(c *authserver.Config) { c.Users[0].Claims = map[string]any{"aud": "x"} }, `"aud"`},
		{"client twice", func(c *authserver.Config) { c.Clients = append(c.Clients, c.Clients[0]) }, "twice"},
		{"client without id", func(c *authserver.Config) { c.Clients = []authserver.Client{{}} }, "expected an id"},
		{"basic without secret", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", AuthMethod: "client_secret_basic"}}
		}, "expected a secret"},
		{"none with secret", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", Secret: "hush-hush", AuthMethod: "none"}}
		}, "expected no secret"},
		{"unknown auth method", func(c *authserver.Config) { c.Clients = []authserver.Client{{ID: "x", AuthMethod: "magic"}} }, `"magic"`},
		{"public client credentials", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", ClientCredentials: true}}
		}, "client credentials"},
		{"client with unknown scope", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", Scopes: []string{"nope"}}}
		}, "nope"},
		{"client with http redirect", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", RedirectURIs: []string{"http://app.example/cb"}}}
		}, "app.example"},
		{"reserved client claim", func(c *authserver.Config) {
			c.Clients = []authserver.Client{{ID: "x", Claims: map[string]any{"sub": "y"}}}
		}, `"sub"`},
		{"redirect scheme", func(c *authserver.Config) { c.RedirectSchemes = []string{"http"} }, "private-use"},
		{"jwt form", func(c *authserver.Config) { c.JWTIntrospection = "Other" }, `"Other"`},
		{"negative lifetime", func(c *authserver.Config) { c.TokenLifetime = -1 }, "positive"},
		{"negative registrations", func(c *authserver.Config) { c.MaxRegistrations = -1 }, "positive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := baseConfig()
			tt.change(&cfg)
			s, err := authserver.Start(t.Context(), cfg)
			if err == nil {
				s.Close()
				t.Fatal("expected an error, got none")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hush-hush") {
				t.Errorf("the error holds a secret: %q", err)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := authserver.Start(t.Context(), authserver.Config{TokenLifetime: -1, MaxRegistrations: -1})
		if err == nil || strings.Count(err.Error(), "expected") != 2 {
			t.Errorf("got %v, want both mistakes", err)
		}
	})
}
