package authserver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"phantomtoken/testenv/authserver"
)

// TestGoSDK has the official Go client log in, by registration and by metadata document,
// to a resource that it knows only by a challenge.
func TestGoSDK(t *testing.T) {
	tests := []struct {
		name   string
		change func(*auth.AuthorizationCodeHandlerConfig, *documentHost)
	}{
		{"registration", func(c *auth.AuthorizationCodeHandlerConfig, _ *documentHost) {
			c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName: "Go client", RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
			}}
		}},
		{"public registration", func(c *auth.AuthorizationCodeHandlerConfig, _ *documentHost) {
			c.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName: "Go client", RedirectURIs: []string{callback}, TokenEndpointAuthMethod: "none",
			}}
		}},
		{"metadata document", func(c *auth.AuthorizationCodeHandlerConfig, h *documentHost) {
			c.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: h.id()}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			documents := newDocumentHost(t)
			var s *server
			var mcp *httptest.Server
			mcp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"resource":%q,"authorization_servers":[%q],"scopes_supported":["stocks/read"]}`, mcp.URL+"/mcp", s.Issuer())
			}))
			defer mcp.Close()
			s = start(t, documents.trusting, func(c *authserver.Config) { c.Resources = []string{mcp.URL + "/mcp"} })

			cfg := &auth.AuthorizationCodeHandlerConfig{
				RedirectURL: callback,
				Client:      client(nil),
				AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
					if !strings.HasPrefix(args.URL, s.Issuer()+"/authorize?") {
						return nil, fmt.Errorf("unexpected authorization URL")
					}
					req := request(t, http.MethodGet, args.URL, nil)
					got := s.browser().allow(req.URL.Query())
					return &auth.AuthorizationResult{Code: got.Get("code"), State: got.Get("state"), Iss: got.Get("iss")}, nil
				},
			}
			tt.change(cfg, documents)
			handler, err := auth.NewAuthorizationCodeHandler(cfg)
			if err != nil {
				t.Fatal(err)
			}
			refused := &http.Response{StatusCode: http.StatusUnauthorized, Body: http.NoBody, Header: http.Header{
				"Www-Authenticate": {`Bearer resource_metadata="` + mcp.URL + `/.well-known/oauth-protected-resource/mcp", scope="stocks/read"`},
			}}
			if err := handler.Authorize(t.Context(), request(t, http.MethodPost, mcp.URL+"/mcp", nil), refused); err != nil {
				t.Fatalf("Authorize: %v", err)
			}
			source, err := handler.TokenSource(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			token, err := source.Token()
			if err != nil {
				t.Fatal(err)
			}
			if token.RefreshToken != "" {
				t.Error("got a refresh token")
			}
			if got := s.introspect(token.AccessToken).object(t); got["aud"] != mcp.URL+"/mcp" || got["scope"] != "stocks/read" || got["sub"] != john {
				t.Errorf("introspection: got %v", got)
			}
		})
	}
}
