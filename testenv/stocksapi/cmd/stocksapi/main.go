// Command stocksapi serves the sample stocks API.
//
//	STOCKS_API_LISTEN    address, default 127.0.0.1:9100
//	STOCKS_API_ISSUER    issuer whose tokens are trusted, required
//	STOCKS_API_AUDIENCE  name of this API in aud, required
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/caarlos0/env/v11"

	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/stocksapi"
)

type config struct {
	Listen   string `env:"LISTEN" envDefault:"127.0.0.1:9100"`
	Issuer   string `env:"ISSUER,required,notEmpty"`
	Audience string `env:"AUDIENCE,required,notEmpty"`
}

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, logger); err != nil {
		logger.Error("stocks API ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, logger *slog.Logger) error {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Prefix: "STOCKS_API_"})
	if err != nil {
		return err
	}
	handler, err := stocksapi.New(stocksapi.Config{Issuer: cfg.Issuer, Audience: cfg.Audience, Logger: logger})
	if err != nil {
		return err
	}
	return loopback.Run(ctx, cfg.Listen, handler, logger)
}
