package oidcprovider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"phantomtoken/testenv/subprocess"
)

const (
	readyTimeout = 30 * time.Second // a second, but for a busy machine
	stopTimeout  = 10 * time.Second
)

// The users that server.mjs knows. Its page to sign in takes any password.
const (
	John = "john.doe@demo.example" // of the region USA
	Jane = "jane.roe@demo.example" // of the region Europe
)

// Config is an oidc-provider to be started. All fields but Log are required.
type Config struct {
	// Listen is the address, a port of 127.0.0.1.
	Listen string
	// Resources are the resources (RFC 8707) that it gives tokens for.
	Resources []string
	// ClientSecret is the secret of api-gateway-client, which introspects tokens.
	ClientSecret string
	// Log gets what the program prints; nil discards it.
	Log io.Writer
}

// Server is an oidc-provider. Create it with Start. Only one goroutine may call Stop, Resume
// and Close; the other methods are safe for concurrent use.
type Server struct {
	cfg     Config
	folder  string
	client  *http.Client
	process *subprocess.Process // nil while stopped
}

// Start starts an oidc-provider and returns when it is ready. ctx bounds the start; Close
// ends the server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" || len(cfg.Resources) == 0 || cfg.ClientSecret == "" {
		return nil, errors.New("starting oidc-provider: expected Listen, Resources and ClientSecret in the Config")
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	folder, err := Prepare(ctx, cfg.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, folder: folder,
		client: &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, Timeout: 5 * time.Second},
	}
	if err := s.Resume(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Resume starts a stopped server again, at the same address. It has forgotten everything:
// clients, sessions, tokens and its keys.
func (s *Server) Resume(ctx context.Context) (err error) {
	if s.process != nil {
		return errors.New("starting oidc-provider: expected it to be stopped, it runs")
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"NODE_ENV=production",
		"ISSUER=" + s.Issuer(),
		"RESOURCES=" + strings.Join(s.cfg.Resources, " "),
		"API_GATEWAY_CLIENT_SECRET=" + s.cfg.ClientSecret,
	}
	s.process, err = subprocess.Start(subprocess.Config{
		Name: "oidc-provider", Path: "node", Args: []string{"server.mjs"}, Dir: s.folder, Env: env, Output: s.cfg.Log, Leash: true,
	})
	if err != nil {
		return err
	}
	return s.process.Ready(ctx, s.client, s.Issuer()+"/.well-known/openid-configuration", readyTimeout)
}

// Stop ends the process and waits for it. The server can be started again with Resume.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	err := s.process.Stop(stopTimeout)
	s.process = nil
	return err
}

// Close ends the process, if it runs. What it knew is gone with it.
func (s *Server) Close() error { return s.Stop() }

// Issuer is the issuer URL.
func (s *Server) Issuer() string { return "http://" + s.cfg.Listen }

// IntrospectionEndpoint is where the gateway asks about tokens (RFC 7662).
func (s *Server) IntrospectionEndpoint() string { return s.Issuer() + "/token/introspection" }

// AuthorizationEndpoint is where clients send their users.
func (s *Server) AuthorizationEndpoint() string { return s.Issuer() + "/auth" }

// TokenEndpoint is where clients get tokens.
func (s *Server) TokenEndpoint() string { return s.Issuer() + "/token" }

// RevocationEndpoint is where clients give tokens back (RFC 7009).
func (s *Server) RevocationEndpoint() string { return s.Issuer() + "/token/revocation" }

// RegistrationEndpoint is where clients register themselves (RFC 7591).
func (s *Server) RegistrationEndpoint() string { return s.Issuer() + "/reg" }
