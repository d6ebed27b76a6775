package advisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/testenv/mcpserver/bearer"
	"phantomtoken/tokenexchange"
)

// Config is what the server needs to know. All fields are required, except the last five.
type Config struct {
	Issuer   string // the gateway's issuer of phantom tokens
	Audience string // the name of this server in aud

	StocksURL      string // MCP endpoint of the stocks server
	StocksAudience string // its name, as the sidecar knows it

	TokenEndpoint string // of the sidecar
	ClientID      string // of this server at the sidecar
	ClientSecret  string

	// InsecureAllowHTTP accepts TokenEndpoint and StocksURL of plain http on another machine,
	// for a network that is trusted. Optional.
	InsecureAllowHTTP bool
	// ResourceMetadataURL is where clients find the metadata of this server. Optional.
	ResourceMetadataURL string
	Transport           http.RoundTripper // makes all outgoing calls; nil: one of its own, without proxy
	Now                 func() time.Time  // nil: time.Now
	Logger              *slog.Logger      // nil: discard
}

// scopeUse is what a token must have to use this server at all. What a tool needs beyond it,
// the stocks server demands.
const scopeUse = "advisor/use"

// callTimeout bounds a call of the stocks server. Its tools end sooner.
const callTimeout = 30 * time.Second

// New returns the server as a handler for its MCP endpoint. It makes no call; the gateway,
// the sidecar and the stocks server may start later.
func New(cfg Config) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}
	}
	upstream, err := newStocks(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring advisor: %w", err)
	}
	verifier, err := bearer.New(bearer.Config{
		Issuers: []string{cfg.Issuer}, Audience: cfg.Audience,
		Transport: cfg.Transport, Now: cfg.Now, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring advisor: %w", err)
	}
	server, err := newServer(upstream, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("configuring advisor: %w", err)
	}
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			if extra := req.GetExtra(); extra != nil {
				ctx = tokenexchange.WithHeader(ctx, extra.Header)
			}
			return next(ctx, method, req)
		}
	})
	handler := mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true},
	)
	return auth.RequireBearerToken(verifier, &auth.RequireBearerTokenOptions{
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Scopes:              []string{scopeUse},
	})(handler), nil
}

// newStocks returns the stocks server, called with exchanged tokens.
func newStocks(cfg Config) (*stocks, error) {
	if cfg.StocksAudience == "" {
		return nil, errors.New("expected the audience of the stocks server, got nothing")
	}
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: cfg.TokenEndpoint, ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret,
		Cache:     &tokenexchange.CacheConfig{},
		Transport: cfg.Transport, InsecureAllowHTTP: cfg.InsecureAllowHTTP, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client,
		// No scope is named, because any tool may be called at that URL: the policy file of the
		// sidecar says what the advisor may have there.
		Targets:           []tokenexchange.Target{{URL: cfg.StocksURL, Audience: []string{cfg.StocksAudience}}},
		Base:              cfg.Transport,
		InsecureAllowHTTP: cfg.InsecureAllowHTTP,
	})
	if err != nil {
		return nil, err
	}
	return &stocks{url: cfg.StocksURL, http: &http.Client{
		Transport:     transport,
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}
