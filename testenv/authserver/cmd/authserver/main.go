// Command authserver runs the authorization server of the test environment alone, for
// trying clients and gateways by hand. It keeps everything in memory.
//
//	authserver -listen 127.0.0.1:8180 -resource http://127.0.0.1:8000/mcp
//
// The client of the gateway, which may introspect, is named by AUTHSERVER_CLIENT_ID and
// AUTHSERVER_CLIENT_SECRET in the environment. Users come from a JSON file:
//
//	[{"name": "john.doe@demo.example", "password": "…", "region": "USA"}]
//
// What is not given is made up and printed at the start.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"phantomtoken/testenv/authserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "authserver:", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg := authserver.Config{
		Logger: slog.New(slog.NewTextHandler(stderr, nil)),
		Scopes: []authserver.Scope{
			{Name: "stocks/read", Description: "Read stock prices of your region"},
			{Name: "stocks/trade", Description: "Place stock orders in your name"},
		},
	}
	var users string
	var scopes []authserver.Scope
	flags := flag.NewFlagSet("authserver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Listen, "listen", "127.0.0.1:8180", "address to listen on")
	flags.StringVar(&cfg.Issuer, "issuer", "", "public URL, or the path of it (default: the URL of -listen)")
	flags.StringVar(&users, "users", "", "JSON file with users (default: two users with passwords made up)")
	flags.StringVar(&cfg.ControlListen, "control", "", "loopback address of the control port (default: none)")
	flags.DurationVar(&cfg.TokenLifetime, "token-lifetime", 0, "life of access tokens (default 15m)")
	flags.StringVar(&cfg.DefaultResource, "default-resource", "", "audience of tokens asked for without resource (default: none)")
	flags.Func("jwt", "JWT form of introspection: Curity or Keycloak (default: none)", func(s string) error {
		cfg.JWTIntrospection = authserver.JWTForm(s)
		return nil
	})
	flags.Func("resource", "protected resource that tokens may be asked for; may be repeated", appendTo(&cfg.Resources))
	flags.Func("client-metadata-host", "host whose client metadata documents may be plain http, loopback or private; may be repeated", appendTo(&cfg.ClientMetadataHosts))
	flags.Func("redirect-scheme", "private-use redirect scheme without a period, such as cursor; may be repeated", appendTo(&cfg.RedirectSchemes))
	flags.Func("scope", "scope and what it allows, name=description; may be repeated (default: two for stocks)", func(s string) error {
		name, description, _ := strings.Cut(s, "=")
		scopes = append(scopes, authserver.Scope{Name: name, Description: description})
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("expected flags only, got %q", flags.Arg(0))
	}
	if scopes != nil {
		cfg.Scopes = scopes
	}
	var err error
	if cfg.Users, err = readUsers(users); err != nil {
		return err
	}
	madeUp := users == ""
	gateway := authserver.Client{ID: getenv("AUTHSERVER_CLIENT_ID"), Secret: getenv("AUTHSERVER_CLIENT_SECRET")}
	if gateway.ID == "" {
		gateway.ID = "api-gateway-client"
	}
	secret := "as in AUTHSERVER_CLIENT_SECRET"
	if gateway.Secret == "" {
		gateway.Secret = rand.Text()
		secret = gateway.Secret
	}
	cfg.Clients = []authserver.Client{gateway}

	server, err := authserver.Start(ctx, cfg)
	if err != nil {
		return err
	}
	introduce(stdout, server, cfg, secret, madeUp)
	<-ctx.Done()
	return server.Close()
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

func readUsers(path string) ([]authserver.User, error) {
	if path == "" {
		return []authserver.User{
			{Name: "john.doe@demo.example", Password: rand.Text(), Region: "USA"},
			{Name: "jane.roe@demo.example", Password: rand.Text(), Region: "Europe"},
		}, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading users: %w", err)
	}
	var in []struct {
		Name     string         `json:"name"`
		Password string         `json:"password"`
		Region   string         `json:"region"`
		Claims   map[string]any `json:"claims"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("reading users: %w", err)
	}
	var out []authserver.User
	for _, u := range in {
		out = append(out, authserver.User(u))
	}
	return out, nil
}

// introduce says what a person needs to go on. Passwords are shown only if they were made
// up here.
func introduce(w io.Writer, server *authserver.Server, cfg authserver.Config, secret string, madeUp bool) {
	fmt.Fprintf(w, "issuer          %s\n", server.Issuer())
	fmt.Fprintf(w, "introspection   %s\n", server.IntrospectionEndpoint())
	fmt.Fprintf(w, "gateway client  %s  secret %s\n", cfg.Clients[0].ID, secret)
	for _, u := range cfg.Users {
		password := "as in the users file"
		if madeUp {
			password = u.Password
		}
		fmt.Fprintf(w, "user            %s  password %s\n", u.Name, password)
	}
	for _, r := range cfg.Resources {
		fmt.Fprintf(w, "resource        %s\n", r)
	}
	if server.ControlURL() != "" {
		fmt.Fprintf(w, "control         %s\n", server.ControlURL())
		fmt.Fprintf(w, "                curl -H 'Content-Type: application/json' -d '{\"scope\": \"stocks/read\"}' %s/tokens\n", server.ControlURL())
	}
	fmt.Fprintln(w, "\nName the issuer in authorization_servers of the gateway, open the MCP URL with a client, and sign in. Ctrl-C ends it.")
}
