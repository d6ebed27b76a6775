// Command mcpserver serves the sample MCP server at the path /mcp.
//
//	MCP_SERVER_LISTEN              address, default 127.0.0.1:9000
//	MCP_SERVER_ISSUER              the gateway's issuer of phantom tokens, required
//	MCP_SERVER_SIDECAR             the sidecar's issuer, for servers that call this one
//	MCP_SERVER_AUDIENCE            name of this server in aud, required
//	MCP_SERVER_API_URL             base URL of the stocks API, or of the egress proxy; required
//	MCP_SERVER_RESOURCE_METADATA_URL  public URL of the resource metadata
//
// For a server that exchanges tokens itself. Without a token endpoint, the API's URL is that
// of the egress proxy, and none of these is needed:
//
//	MCP_SERVER_TOKEN_ENDPOINT      of the sidecar
//	MCP_SERVER_API_AUDIENCE        name of the API
//	MCP_SERVER_CLIENT_ID           of this server at the sidecar, default mcp-server
//	MCP_SERVER_CLIENT_SECRET       the secret, this or the next is required
//	MCP_SERVER_CLIENT_SECRET_FILE  file with the secret
//	MCP_SERVER_INSECURE_HTTP       true: sidecar and API may be asked by http on another machine
//
// With -healthcheck it asks the server that runs with the same environment whether it does,
// and exits with 0 or 1.
package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/caarlos0/env/v11"

	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/mcpserver"
)

// The environment.
const (
	prefix        = "MCP_SERVER_"
	defaultListen = "127.0.0.1:9000"
)

type config struct {
	Listen              string `env:"LISTEN" envDefault:"127.0.0.1:9000"`
	Issuer              string `env:"ISSUER,required,notEmpty"`
	Sidecar             string `env:"SIDECAR"`
	Audience            string `env:"AUDIENCE,required,notEmpty"`
	APIURL              string `env:"API_URL,required,notEmpty"`
	APIAudience         string `env:"API_AUDIENCE"`
	TokenEndpoint       string `env:"TOKEN_ENDPOINT"`
	ClientID            string `env:"CLIENT_ID" envDefault:"mcp-server"`
	ClientSecret        string `env:"CLIENT_SECRET"`
	ClientSecretFile    string `env:"CLIENT_SECRET_FILE,file"`
	InsecureHTTP        bool   `env:"INSECURE_HTTP"`
	ResourceMetadataURL string `env:"RESOURCE_METADATA_URL"`
}

func main() {
	os.Exit(loopback.Main("MCP server", prefix, defaultListen, run))
}

func run(ctx context.Context, logger *slog.Logger) error {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Prefix: prefix})
	if err != nil {
		return err
	}
	handlerConfig := mcpserver.Config{
		Issuer:              cfg.Issuer,
		Sidecar:             cfg.Sidecar,
		Audience:            cfg.Audience,
		APIURL:              strings.TrimSuffix(cfg.APIURL, "/"),
		InsecureAllowHTTP:   cfg.InsecureHTTP,
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Logger:              logger,
	}
	secret := cmp.Or(cfg.ClientSecret, strings.TrimSpace(cfg.ClientSecretFile)) // editors end files with a newline
	switch {
	case cfg.TokenEndpoint != "" && secret == "":
		return errors.New("expected MCP_SERVER_CLIENT_SECRET or MCP_SERVER_CLIENT_SECRET_FILE, got neither")
	case cfg.TokenEndpoint != "":
		handlerConfig.APIAudience, handlerConfig.TokenEndpoint = cfg.APIAudience, cfg.TokenEndpoint
		handlerConfig.ClientID, handlerConfig.ClientSecret = cfg.ClientID, secret
	case secret != "" || cfg.APIAudience != "": // a slip would send the received token to the API
		return errors.New("expected MCP_SERVER_TOKEN_ENDPOINT beside the secret and the audience of the API, or none of them")
	}
	handler, err := mcpserver.New(handlerConfig)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	return loopback.Run(ctx, cfg.Listen, loopback.WithHealth(mux), logger)
}
