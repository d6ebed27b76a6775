// Command stocksapi serves the sample stocks API.
//
//	STOCKS_API_LISTEN    address, default 127.0.0.1:9100
//	STOCKS_API_ISSUER    issuer whose tokens are trusted, required
//	STOCKS_API_GATEWAY   a second one: the gateway's issuer of phantom tokens
//	STOCKS_API_AUDIENCE  name of this API in aud, required
//	STOCKS_API_ORDERS_THROUGH  the one server, by its name at that issuer, whose orders are accepted
//
// With -healthcheck it asks the server that runs with the same environment whether it does,
// and exits with 0 or 1.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/caarlos0/env/v11"

	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/stocksapi"
)

// The environment.
const (
	prefix        = "STOCKS_API_"
	defaultListen = "127.0.0.1:9100"
)

type config struct {
	Listen   string `env:"LISTEN" envDefault:"127.0.0.1:9100"`
	Issuer   string `env:"ISSUER,required,notEmpty"`
	Gateway  string `env:"GATEWAY"`
	Audience string `env:"AUDIENCE,required,notEmpty"`

	OrdersThrough string `env:"ORDERS_THROUGH"`
}

func main() {
	os.Exit(loopback.Main("stocks API", prefix, defaultListen, run))
}

func run(ctx context.Context, logger *slog.Logger) error {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Prefix: prefix})
	if err != nil {
		return err
	}
	handler, err := stocksapi.New(stocksapi.Config{
		Issuer: cfg.Issuer, Gateway: cfg.Gateway, Audience: cfg.Audience, OrdersThrough: cfg.OrdersThrough, Logger: logger,
	})
	if err != nil {
		return err
	}
	return loopback.Run(ctx, cfg.Listen, loopback.WithHealth(handler), logger)
}
