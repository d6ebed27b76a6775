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
	if err == nil || !strings.Contains(err.Error(), "ADVISOR_ISSUER") || !strings.Contains(err.Error(), "ADVISOR_CLIENT_SECRET") {
		t.Errorf("without environment: got %v, want the names of what is missing", err)
	}
	for name, value := range map[string]string{
		"LISTEN": "127.0.0.1:0", "ISSUER": "http://127.0.0.1:1/phantom", "AUDIENCE": "https://advisor.example",
		"STOCKS_URL": "http://127.0.0.1:2/mcp", "STOCKS_AUDIENCE": "https://mcp.example",
		"TOKEN_ENDPOINT": "http://127.0.0.1:3/token", "CLIENT_SECRET": "a-secret-of-the-advisor",
	} {
		t.Setenv("ADVISOR_"+name, value)
	}
	if err := run(ctx, logger); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
