// Command advisor serves the sample MCP server that calls another one, at the path
// /advisor/mcp.
//
//	ADVISOR_LISTEN              address, default 127.0.0.1:9300
//	ADVISOR_ISSUER              the gateway's issuer of phantom tokens, required
//	ADVISOR_AUDIENCE            name of this server in aud, required
//	ADVISOR_STOCKS_URL          MCP endpoint of the stocks server, required
//	ADVISOR_STOCKS_AUDIENCE     its name, required
//	ADVISOR_TOKEN_ENDPOINT      of the sidecar, required
//	ADVISOR_CLIENT_ID           of this server at the sidecar, default advisor
//	ADVISOR_CLIENT_SECRET       the secret, required
//	ADVISOR_INSECURE_HTTP       true: sidecar and stocks server may be asked by http on another machine
//	ADVISOR_RESOURCE_METADATA_URL  public URL of the resource metadata
//
// With -healthcheck it asks the server that runs with the same environment whether it does,
// and exits with 0 or 1.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"

	"github.com/caarlos0/env/v11"

	"phantomtoken/testenv/advisor"
	"phantomtoken/testenv/loopback"
)

// The environment.
const (
	prefix        = "ADVISOR_"
	defaultListen = "127.0.0.1:9300"
)

type config struct {
	Listen              string `env:"LISTEN" envDefault:"127.0.0.1:9300"`
	Issuer              string `env:"ISSUER,required,notEmpty"`
	Audience            string `env:"AUDIENCE,required,notEmpty"`
	StocksURL           string `env:"STOCKS_URL,required,notEmpty"`
	StocksAudience      string `env:"STOCKS_AUDIENCE,required,notEmpty"`
	TokenEndpoint       string `env:"TOKEN_ENDPOINT,required,notEmpty"`
	ClientID            string `env:"CLIENT_ID" envDefault:"advisor"`
	ClientSecret        string `env:"CLIENT_SECRET,required,notEmpty"`
	InsecureHTTP        bool   `env:"INSECURE_HTTP"`
	ResourceMetadataURL string `env:"RESOURCE_METADATA_URL"`
}

func main() {
	os.Exit(loopback.Main("advisor", prefix, defaultListen, run))
}

func run(ctx context.Context, logger *slog.Logger) error {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Prefix: prefix})
	if err != nil {
		return err
	}
	handler, err := advisor.New(advisor.Config{
		Issuer:              cfg.Issuer,
		Audience:            cfg.Audience,
		StocksURL:           cfg.StocksURL,
		StocksAudience:      cfg.StocksAudience,
		TokenEndpoint:       cfg.TokenEndpoint,
		ClientID:            cfg.ClientID,
		ClientSecret:        cfg.ClientSecret,
		InsecureAllowHTTP:   cfg.InsecureHTTP,
		ResourceMetadataURL: cfg.ResourceMetadataURL,
		Logger:              logger,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/advisor/mcp", handler)
	return loopback.Run(ctx, cfg.Listen, loopback.WithHealth(mux), logger)
}
