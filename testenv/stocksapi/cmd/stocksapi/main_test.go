package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it ends as soon as it serves
	logger := slog.New(slog.DiscardHandler)

	err := run(ctx, logger)
	if err == nil || !strings.Contains(err.Error(), "STOCKS_API_ISSUER") || !strings.Contains(err.Error(), "STOCKS_API_AUDIENCE") {
		t.Errorf("without environment: got %v, want the names of what is missing", err)
	}
	t.Setenv("STOCKS_API_LISTEN", "127.0.0.1:0")
	t.Setenv("STOCKS_API_ISSUER", "http://127.0.0.1:1")
	t.Setenv("STOCKS_API_AUDIENCE", "https://api.example")
	if err := run(ctx, logger); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
