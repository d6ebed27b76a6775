package mcpserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/accesstoken"
	"phantomtoken/tokenexchange"
)

// Config is what the server needs to know. All fields are required, except the last five.
type Config struct {
	Issuer   string // the gateway's issuer of phantom tokens
	Audience string // the name of this server in aud

	APIURL      string // base URL of the stocks API
	APIAudience string // its name, as the sidecar knows it

	TokenEndpoint string // of the sidecar
	ClientID      string // of this server at the sidecar
	ClientSecret  string

	// InsecureAllowHTTP accepts a TokenEndpoint of plain http on another machine, for a
	// network that is trusted. Optional.
	InsecureAllowHTTP bool
	// ResourceMetadataURL is where clients find the metadata of this server. The gateway
	// answers for it; it stands in the challenge of this server too. Optional.
	ResourceMetadataURL string
	Transport           http.RoundTripper // makes all outgoing calls; nil: one of its own, without proxy
	Now                 func() time.Time  // nil: time.Now
	Logger              *slog.Logger      // nil: discard
}

// New returns the server as a handler for its MCP endpoint. It makes no call; the gateway,
// the sidecar and the API may start later.
func New(cfg Config) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}
	}
	verifier, err := accesstoken.New(accesstoken.Config{
		Issuer: cfg.Issuer, Audience: cfg.Audience, Transport: cfg.Transport, Now: cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	exchange, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: cfg.TokenEndpoint, ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret,
		Transport: cfg.Transport, InsecureAllowHTTP: cfg.InsecureAllowHTTP, Now: cfg.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	if cfg.APIURL == "" || cfg.APIAudience == "" {
		return nil, errors.New("configuring MCP server: expected the URL and the audience of the stocks API, got an empty one")
	}
	server, err := newServer(&upstream{
		url:      cfg.APIURL,
		audience: cfg.APIAudience,
		exchange: exchange,
		http: &http.Client{
			Transport:     cfg.Transport,
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	handler := mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true},
	)
	return auth.RequireBearerToken(authenticate(verifier, cfg.Logger), &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Scopes:              []string{scopeRead}, // every token for this server has it, more is up to the API
	})(handler), nil
}
