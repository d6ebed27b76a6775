package mcpserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/mcpserver/bearer"
)

// Config is what the server needs to know. Issuer, Audience and APIURL are required; the
// other fields say when they are.
type Config struct {
	Issuer   string // the gateway's issuer of phantom tokens
	Sidecar  string // a second issuer: the sidecar, for servers that call this one with exchanged tokens; empty: none
	Audience string // the name of this server in aud

	APIURL string // base URL of the stocks API, or of the egress proxy in its place

	// These four are for a server that exchanges tokens itself. Without any of them, APIURL
	// is the egress proxy.
	APIAudience   string // name of the API, as the sidecar knows it
	TokenEndpoint string // of the sidecar
	ClientID      string // of this server at the sidecar
	ClientSecret  string

	// InsecureAllowHTTP accepts TokenEndpoint and APIURL of plain http on another machine, for
	// a network that is trusted. Optional.
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
	verifier, err := bearer.New(bearer.Config{
		Issuers: []string{cfg.Issuer, cfg.Sidecar}, Audience: cfg.Audience,
		Transport: cfg.Transport, Now: cfg.Now, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	if cfg.Issuer == "" || cfg.APIURL == "" {
		return nil, errors.New("configuring MCP server: expected the URLs of the gateway's issuer and of the stocks API, got an empty one")
	}
	api, err := cfg.way()
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	server, err := newServer(&upstream{
		url: cfg.APIURL,
		http: &http.Client{
			Transport:     api.transport,
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("configuring MCP server: %w", err)
	}
	server.AddReceivingMiddleware(api.middleware)
	handler := mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true},
	)
	return auth.RequireBearerToken(verifier, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Scopes:              []string{scopeRead}, // every token for this server has it, more is up to the API
	})(handler), nil
}

// way chooses how the API is called.
func (c Config) way() (way, error) {
	if c.APIAudience+c.TokenEndpoint+c.ClientID+c.ClientSecret == "" {
		return byProxy(c)
	}
	return byLibrary(c)
}
