// Command mcpserver serves the sample MCP server at the path /mcp.
//
//	MCP_SERVER_LISTEN              address, default 127.0.0.1:9000
//	MCP_SERVER_ISSUER              the gateway's issuer of phantom tokens, required
//	MCP_SERVER_AUDIENCE            name of this server in aud, required
//	MCP_SERVER_API_URL             base URL of the stocks API, required
//	MCP_SERVER_API_AUDIENCE        its name, required
//	MCP_SERVER_TOKEN_ENDPOINT      of the sidecar, required
//	MCP_SERVER_CLIENT_ID           of this server at the sidecar, default mcp-server
//	MCP_SERVER_CLIENT_SECRET_FILE  file with the secret, required
//	MCP_SERVER_RESOURCE_METADATA_URL  public URL of the resource metadata
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/caarlos0/env/v11"

	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/mcpserver"
)

type config struct {
	Listen              string `env:"LISTEN" envDefault:"127.0.0.1:9000"`
	Issuer              string `env:"ISSUER,required,notEmpty"`
	Audience            string `env:"AUDIENCE,required,notEmpty"`
	APIURL              string `env:"API_URL,required,notEmpty"`
	APIAudience         string `env:"API_AUDIENCE,required,notEmpty"`
	TokenEndpoint       string `env:"TOKEN_ENDPOINT,required,notEmpty"`
	ClientID            string `env:"CLIENT_ID" envDefault:"mcp-server"`
	ClientSecret        string `env:"CLIENT_SECRET_FILE,required,notEmpty,file"`
	ResourceMetadataURL string `env:"RESOURCE_METADATA_URL"`
}

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, logger); err != nil {
		logger.Error("MCP server ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, logger *slog.Logger) error {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Prefix: "MCP_SERVER_"})
	if err != nil {
		return err
	}
	handler, err := mcpserver.New(mcpserver.Config{
		Issuer:              cfg.Issuer,
		Audience:            cfg.Audience,
		APIURL:              strings.TrimSuffix(cfg.APIURL, "/"),
		APIAudience:         cfg.APIAudience,
		TokenEndpoint:       cfg.TokenEndpoint,
		ClientID:            cfg.ClientID,
		ClientSecret:        strings.TrimSpace(cfg.ClientSecret), // editors end files with a newline
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Logger:              logger,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	return loopback.Run(ctx, cfg.Listen, mux, logger)
}
