package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"phantomtoken/internal/oauth"
	"phantomtoken/testenv/authserver"
)

func TestIntrospectionClients(t *testing.T) {
	s := start(t, func(c *authserver.Config) {
		c.Clients = append(c.Clients,
			authserver.Client{ID: "only-basic", Secret: "x", AuthMethod: "client_secret_basic"},
			authserver.Client{ID: "only-post", Secret: "x", AuthMethod: "client_secret_post"},
			authserver.Client{ID: "static-public"},
		)
	})
	reg := s.register(`{"redirect_uris":["` + callback + `"]}`).object(t)
	token := s.IssueToken(authserver.Grant{})
	form := func(v ...string) url.Values {
		out := url.Values{"token": {token}}
		for i := 0; i < len(v); i += 2 {
			out.Add(v[i], v[i+1])
		}
		return out
	}
	tests := []struct {
		name   string
		form   url.Values
		auth   string
		status int
		code   string
	}{
		{name: "basic", form: form(), auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 200},
		{name: "post", form: form("client_id", "api-gateway-client", "client_secret", "s3cret:with%odd+chars"), status: 200},
		{name: "basic with its own client_id", form: form("client_id", "api-gateway-client"), auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 200},
		{name: "hint", form: form("token_type_hint", "access_token"), auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 200},
		{name: "scheme in lower case", form: form(), auth: strings.Replace(basic("api-gateway-client", "s3cret:with%odd+chars"), "Basic", "basic", 1), status: 200},
		{name: "nobody", form: form(), status: 401, code: "invalid_client"},
		{name: "wrong secret", form: form(), auth: basic("api-gateway-client", "guess"), status: 401, code: "invalid_client"},
		{name: "no secret", form: form("client_id", "api-gateway-client"), status: 401, code: "invalid_client"},
		{name: "unknown client", form: form(), auth: basic("nobody", "x"), status: 401, code: "invalid_client"},
		{name: "RejectsUnencodedSecret", form: form(), auth: "Basic YXBpLWdhdGV3YXktY2xpZW50OnMzY3JldDp3aXRoJW9kZCtjaGFycw==", status: 401, code: "invalid_client"},
		{name: "RejectsTokenAsCredential", form: form(), auth: "Bearer " + token, status: 401, code: "invalid_client"},
		{name: "RejectsSecondCredential", form: form("client_secret", "x"), auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 400, code: "invalid_request"},
		{name: "other method than registered: basic", form: form(), auth: basic("only-post", "x"), status: 401, code: "invalid_client"},
		{name: "other method than registered: post", form: form("client_id", "only-basic", "client_secret", "x"), status: 401, code: "invalid_client"},
		{name: "RejectsDynamicClient", form: form(), auth: basic(reg["client_id"].(string), reg["client_secret"].(string)), status: 403, code: "unauthorized_client"},
		{name: "RejectsPublicClient", form: form("client_id", s.publicClient()), status: 403, code: "unauthorized_client"},
		{name: "RejectsStaticPublicClient", form: form("client_id", "static-public"), status: 403, code: "unauthorized_client"},
		{name: "no token", form: url.Values{}, auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 400, code: "invalid_request"},
		{name: "RejectsSecondToken", form: form("token", "other"), auth: basic("api-gateway-client", "s3cret:with%odd+chars"), status: 400, code: "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var header []string
			if tt.auth != "" {
				header = []string{"Authorization", tt.auth}
			}
			a := s.post("/introspect", tt.form, header...)
			if tt.code != "" {
				wantError(t, a, tt.status, tt.code)
				return
			}
			if got, err := oauth.ParseIntrospection([]byte(a.body)); a.status != tt.status || err != nil || !got.Active {
				t.Errorf("got %d %v %s", a.status, err, a.body)
			}
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("got headers %v", a.header)
			}
		})
	}
	t.Run("RejectsGet", func(t *testing.T) {
		wantError(t, s.get("/introspect?token="+token), http.StatusMethodNotAllowed, "method_not_allowed")
	})
	t.Run("RejectsTokenInURL", func(t *testing.T) {
		wantError(t, s.post("/introspect?token="+token, nil, "Authorization", basic("api-gateway-client", "s3cret:with%odd+chars")), http.StatusBadRequest, "invalid_request")
	})
	t.Run("garbage is inactive", func(t *testing.T) {
		for _, garbage := range []string{"x", "a+b/c=&d", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("a", 20<<10), "\x00\xff"} {
			if a := s.introspect(garbage); a.status != http.StatusOK || a.body != `{"active":false}` {
				t.Errorf("%.20q: got %d %s", garbage, a.status, a.body)
			}
		}
	})
}

// TestJWTIntrospection checks the JWT forms of two products: which Accept header gives
// what.
func TestJWTIntrospection(t *testing.T) {
	const exact, list = "application/jwt", "application/json, application/jwt;q=0.9"
	tests := []struct {
		name   string
		form   authserver.JWTForm
		accept string
		active bool
		status int
		media  string
		member bool // jwt in the JSON
	}{
		{name: "off", form: authserver.JWTOff, accept: exact, active: true, status: 200, media: "application/json"},
		{name: "Curity", form: authserver.JWTCurity, accept: exact, active: true, status: 200, media: "application/jwt"},
		{name: "Curity, list", form: authserver.JWTCurity, accept: list, active: true, status: 200, media: "application/jwt"},
		{name: "Curity, JSON wanted", form: authserver.JWTCurity, accept: "application/json", active: true, status: 200, media: "application/json"},
		{name: "Curity, inactive", form: authserver.JWTCurity, accept: exact, status: 204},
		{name: "Curity, inactive, JSON wanted", form: authserver.JWTCurity, status: 200, media: "application/json"},
		{name: "Keycloak", form: authserver.JWTKeycloak, accept: exact, active: true, status: 200, media: "application/json", member: true},
		{name: "Keycloak, list", form: authserver.JWTKeycloak, accept: list, active: true, status: 200, media: "application/json"},
		{name: "Keycloak, inactive", form: authserver.JWTKeycloak, accept: exact, status: 200, media: "application/json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(c *authserver.Config) { c.JWTIntrospection = tt.form })
			token := "unknown"
			if tt.active {
				token = s.IssueToken(authserver.Grant{Resource: resource, Scope: "stocks/read"})
			}
			a := s.introspect(token, "Accept", tt.accept)
			if a.status != tt.status || a.header.Get("Content-Type") != tt.media {
				t.Fatalf("got %d %q, want %d %q", a.status, a.header.Get("Content-Type"), tt.status, tt.media)
			}
			var jwt string
			switch tt.media {
			case "":
				if a.body != "" {
					t.Errorf("got a body: %s", a.body)
				}
			case "application/jwt":
				jwt = a.body
			default:
				object := a.object(t)
				jwt, _ = object["jwt"].(string)
				if (jwt != "") != tt.member || object["active"] != tt.active {
					t.Errorf("got active %v, jwt %t; want %t, %t", object["active"], jwt != "", tt.active, tt.member)
				}
			}
			if jwt == "" {
				return
			}
			ctx := oidc.ClientContext(t.Context(), client(nil))
			provider, err := oidc.NewProvider(ctx, s.Issuer())
			if err != nil {
				t.Fatal(err)
			}
			verified, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: resource, Now: s.clock.Now}).Verify(ctx, jwt)
			if err != nil {
				t.Fatalf("verifying: %v", err)
			}
			var claims map[string]any
			if err := verified.Claims(&claims); err != nil {
				t.Fatal(err)
			}
			if claims["sub"] != john || claims["scope"] != "stocks/read" || claims["region"] != "USA" || claims["active"] != nil {
				t.Errorf("claims: got %v", claims)
			}
		})
	}
}
