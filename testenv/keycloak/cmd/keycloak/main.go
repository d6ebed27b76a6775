// Command keycloak runs the pinned Keycloak with the realm of this project on loopback until
// Ctrl-C, for trying things by hand. Secrets and passwords are made for the run and printed.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"phantomtoken/testenv/keycloak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "keycloak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("keycloak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	realm := flags.String("realm", "deploy/keycloak/mcp-realm.json", "file with the realm to import")
	resource := flags.String("resource", "http://127.0.0.1:8000/mcp", "URL of the MCP server, as clients know it")
	advisor := flags.String("advisor", "http://127.0.0.1:8000/advisor/mcp", "URL of the second MCP server")
	api := flags.String("api", "http://127.0.0.1:8000/api", "URL of the API for clients that speak no MCP")
	listen := flags.String("listen", "127.0.0.1:8180", "address for clients and browsers")
	management := flags.String("management", "127.0.0.1:8190", "address of the management interface")
	fetch := flags.Bool("fetch", false, "fetch, check and build Keycloak, and start nothing")
	verbose := flags.Bool("log", false, "print Keycloak's log")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := io.Discard
	if *verbose {
		log = stderr
	}
	if *fetch {
		folder, err := keycloak.Prepare(ctx, stderr)
		if err == nil {
			fmt.Fprintln(stdout, folder)
		}
		return err
	}
	text, err := os.ReadFile(*realm)
	if err != nil {
		return fmt.Errorf("reading the realm: %w", err)
	}
	env := map[string]string{
		"MCP_RESOURCE_URL":          *resource,
		"ADVISOR_RESOURCE_URL":      *advisor,
		"API_RESOURCE_URL":          *api,
		"API_GATEWAY_CLIENT_SECRET": rand.Text(),
		"MCP_SERVER_CLIENT_SECRET":  rand.Text(),
		"DEMO_USER_PASSWORD":        strings.ToLower(rand.Text()[:12]),
	}
	server, err := keycloak.Start(ctx, keycloak.Config{Realm: text, Env: env, Listen: *listen, Management: *management, Log: log})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "issuer                     %s\n", server.Issuer())
	fmt.Fprintf(stdout, "introspection endpoint     %s\n", server.Endpoint("token/introspect"))
	fmt.Fprintf(stdout, "api-gateway-client secret  %s\n", env["API_GATEWAY_CLIENT_SECRET"])
	fmt.Fprintf(stdout, "mcp-server secret          %s\n", env["MCP_SERVER_CLIENT_SECRET"])
	fmt.Fprintf(stdout, "users                      john.doe@demo.example, jane.roe@demo.example\n")
	fmt.Fprintf(stdout, "their password             %s\n", env["DEMO_USER_PASSWORD"])
	fmt.Fprintf(stdout, "admin console              %s/admin/, user admin, password %s\n", server.URL(), server.AdminPassword())
	fmt.Fprintln(stdout, "Ctrl-C stops it.")
	<-ctx.Done()
	if err := server.Close(); err != nil {
		return errors.Join(errors.New("stopping"), err)
	}
	fmt.Fprintln(stdout, "stopped")
	return nil
}
