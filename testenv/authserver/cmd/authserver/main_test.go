package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRun starts the command, reads what it tells people, asks it, and ends it.
func TestRun(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(users, []byte(`[{"name":"ann","password":"from-the-file","region":"USA"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		env    map[string]string
		want   []string
		hidden []string
	}{
		{
			name: "everything made up",
			want: []string{"issuer ", "api-gateway-client  secret ", "john.doe@demo.example  password "},
		},
		{
			name:   "everything given",
			args:   []string{"-users", users, "-issuer", "/realms/demo", "-resource", "https://gw.example/mcp", "-scope", "a=Do a", "-control", "127.0.0.1:0", "-token-lifetime", "1m", "-jwt", "Curity", "-client-metadata-host", "127.0.0.1", "-redirect-scheme", "cursor", "-default-resource", "https://gw.example/mcp"},
			env:    map[string]string{"AUTHSERVER_CLIENT_ID": "gw", "AUTHSERVER_CLIENT_SECRET": "from-the-environment"},
			want:   []string{"/realms/demo", "gw  secret as in", "ann  password as in", "https://gw.example/mcp", "control "},
			hidden: []string{"from-the-file", "from-the-environment"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			read, write := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, tt.args...), func(name string) string { return tt.env[name] }, write, io.Discard)
				write.CloseWithError(err)
				done <- err
			}()
			var text strings.Builder
			var issuer string
			lines := bufio.NewScanner(read)
			for lines.Scan() {
				text.WriteString(lines.Text() + "\n")
				if after, ok := strings.CutPrefix(lines.Text(), "issuer "); ok {
					issuer = strings.TrimSpace(after)
				}
				if strings.Contains(lines.Text(), "Ctrl-C") {
					break
				}
			}
			for _, want := range tt.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("the text lacks %q:\n%s", want, &text)
				}
			}
			for _, secret := range tt.hidden {
				if strings.Contains(text.String(), secret) {
					t.Errorf("the text holds %q:\n%s", secret, &text)
				}
			}
			resp, err := (&http.Client{Timeout: 5 * time.Second}).Get(issuer + "/.well-known/openid-configuration")
			if err != nil {
				t.Fatalf("%v\n%s", err, &text)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("metadata: got %d", resp.StatusCode)
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(broken, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"argument", []string{"serve"}, "flags only"},
		{"missing users file", []string{"-users", broken + ".x"}, "reading users"},
		{"broken users file", []string{"-users", broken}, "reading users"},
		{"http issuer", []string{"-listen", "127.0.0.1:0", "-issuer", "http://idp.example"}, "expected https"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := run(t.Context(), tt.args, func(string) string { return "" }, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := run(t.Context(), []string{"-h"}, os.Getenv, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: got %v", err)
	}
}
