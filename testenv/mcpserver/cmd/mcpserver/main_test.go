package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it ends as soon as it serves
	logger := slog.New(slog.DiscardHandler)

	err := run(ctx, logger)
	if err == nil || !strings.Contains(err.Error(), "MCP_SERVER_ISSUER") || !strings.Contains(err.Error(), "MCP_SERVER_AUDIENCE") {
		t.Errorf("without environment: got %v, want the names of what is missing", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a-secret-of-the-server\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"LISTEN": "127.0.0.1:0", "ISSUER": "http://127.0.0.1:1/phantom", "AUDIENCE": "https://mcp.example",
		"API_URL": "http://127.0.0.1:2/", "API_AUDIENCE": "https://api.example",
		"TOKEN_ENDPOINT": "http://127.0.0.1:3/token", "CLIENT_SECRET_FILE": secret,
	} {
		t.Setenv("MCP_SERVER_"+name, value)
	}
	if err := run(ctx, logger); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestRunNeedsASecret(t *testing.T) {
	for name, value := range map[string]string{
		"LISTEN": "127.0.0.1:0", "ISSUER": "http://127.0.0.1:1/phantom", "AUDIENCE": "https://mcp.example",
		"API_URL": "http://127.0.0.1:2/", "API_AUDIENCE": "https://api.example",
		"TOKEN_ENDPOINT": "http://sidecar:9200/token", "INSECURE_HTTP": "true",
	} {
		t.Setenv("MCP_SERVER_"+name, value)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logger := slog.New(slog.DiscardHandler)
	if err := run(ctx, logger); err == nil || !strings.Contains(err.Error(), "MCP_SERVER_CLIENT_SECRET_FILE") {
		t.Errorf("without a secret: got %v, want the names of the two settings", err)
	}
	t.Setenv("MCP_SERVER_CLIENT_SECRET", "a-secret-of-the-server")
	if err := run(ctx, logger); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// Without a token endpoint the token that was received goes to the API's URL: a slip must not
// lead there.
func TestRunThroughProxy(t *testing.T) {
	for name, value := range map[string]string{
		"LISTEN": "127.0.0.1:0", "ISSUER": "http://127.0.0.1:1/phantom", "AUDIENCE": "https://mcp.example", "API_URL": "http://127.0.0.1:9201",
	} {
		t.Setenv("MCP_SERVER_"+name, value)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logger := slog.New(slog.DiscardHandler)
	if err := run(ctx, logger); err != nil {
		t.Errorf("without credentials: got %v, want nil", err)
	}
	t.Setenv("MCP_SERVER_CLIENT_SECRET", "a-secret-of-the-server")
	if err := run(ctx, logger); err == nil || !strings.Contains(err.Error(), "MCP_SERVER_TOKEN_ENDPOINT") {
		t.Errorf("a secret without token endpoint: got %v, want the name of the setting", err)
	}
}
