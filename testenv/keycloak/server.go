package keycloak

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"phantomtoken/testenv/subprocess"
)

// Config is a Keycloak to be started. Realm is required.
type Config struct {
	// Realm is the realm to import, in Keycloak's JSON. ${NAME} in it is replaced by Env.
	Realm []byte
	// Env holds the values for the realm: secrets, passwords, URLs.
	Env map[string]string
	// Listen is the address that it listens on; empty means 127.0.0.1:8180.
	Listen string
	// PublicURL is where clients and browsers find it when something stands in front of it,
	// without a slash at the end; empty means http:// and Listen.
	PublicURL string
	// Management is the address of the management interface; empty means 127.0.0.1:8190.
	Management string
	// Heap bounds Java's memory, as options of java; empty means -Xms128m -Xmx640m, which
	// is enough for tests and makes a process of about 700 MB.
	Heap string
	// Log gets what Keycloak prints; nil discards it.
	Log io.Writer
}

// Server is a Keycloak. Create it with Start. Only one goroutine may call Stop, Resume and
// Close; the other methods are safe for concurrent use.
type Server struct {
	cfg     Config
	realm   string
	home    string
	admin   string // password of the bootstrap administrator
	client  *http.Client
	process *subprocess.Process // nil while stopped
}

const (
	readyTimeout = 3 * time.Minute // a busy machine with two cores takes a quarter of it
	stopTimeout  = 20 * time.Second
)

// guarded runs kc.sh with its Java child and ends them when standard input ends: when this
// process dies without having stopped them, as tests do that take too long.
const guarded = `exec 3<&0
./bin/kc.sh start --optimized --import-realm </dev/null 3<&- & server=$!
{ read -r _ <&3; kill -TERM $server; } &
wait $server`

const adminName = "admin"

// Start starts a Keycloak and returns when it is ready. ctx bounds the start; Close ends the
// server.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:8180"
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://" + cfg.Listen
	}
	if cfg.Management == "" {
		cfg.Management = "127.0.0.1:8190"
	}
	if cfg.Heap == "" {
		cfg.Heap = "-Xms128m -Xmx640m"
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	var realm struct {
		Realm string `json:"realm"`
	}
	if err := json.Unmarshal(cfg.Realm, &realm); err != nil {
		return nil, fmt.Errorf("reading the realm: %w", err)
	}
	if realm.Realm == "" {
		return nil, errors.New("reading the realm: expected the member realm, got none")
	}
	distribution, err := Prepare(ctx, cfg.Log)
	if err != nil {
		return nil, err
	}
	folder, err := home(distribution, cfg.Realm)
	if err != nil {
		return nil, fmt.Errorf("making a folder for Keycloak: %w", err)
	}
	s := &Server{
		cfg: cfg, realm: realm.Realm, home: folder, admin: rand.Text(),
		client: &http.Client{Transport: &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}, Timeout: 30 * time.Second},
	}
	if err := s.Resume(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Resume starts a stopped server again, at the same addresses. As its database is memory, it
// has forgotten everything since the import: clients, sessions, consents and its keys.
func (s *Server) Resume(ctx context.Context) (err error) {
	if s.process != nil {
		return errors.New("starting Keycloak: expected it to be stopped, it runs")
	}
	env := append(inherited(), buildOptions()...)
	host, port, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("reading the address for clients: %w", err)
	}
	managementHost, managementPort, err := net.SplitHostPort(s.cfg.Management)
	if err != nil {
		return fmt.Errorf("reading the management address: %w", err)
	}
	for _, v := range [][2]string{
		{"KC_CACHE", "local"},       // one node
		{"KC_HTTP_ENABLED", "true"}, // plain http, because it is loopback
		{"KC_HTTP_HOST", host},
		{"KC_HTTP_PORT", port},
		{"KC_HTTP_MANAGEMENT_HOST", managementHost},
		{"KC_HTTP_MANAGEMENT_PORT", managementPort},
		{"KC_HOSTNAME", s.cfg.PublicURL},
		{"KC_BOOTSTRAP_ADMIN_USERNAME", adminName},
		{"KC_BOOTSTRAP_ADMIN_PASSWORD", s.admin},
		{"JAVA_OPTS_KC_HEAP", s.cfg.Heap},
	} {
		env = append(env, v[0]+"="+v[1])
	}
	for name, value := range s.cfg.Env {
		env = append(env, name+"="+value)
	}
	s.process, err = subprocess.Start(subprocess.Config{
		Name: "Keycloak", Path: "/bin/sh", Args: []string{"-c", guarded}, Dir: s.home, Env: env, Output: s.cfg.Log, Leash: true,
	})
	if err != nil {
		return err
	}
	return s.process.Ready(ctx, s.client, "http://"+s.cfg.Management+"/health/ready", readyTimeout)
}

// Stop ends the process and waits for it. The server can be started again with Resume.
func (s *Server) Stop() error {
	s.client.CloseIdleConnections()
	if s.process == nil {
		return nil
	}
	err := s.process.Stop(stopTimeout)
	s.process = nil
	return err
}

// Close ends the process, if it runs, and removes its data.
func (s *Server) Close() error {
	return errors.Join(s.Stop(), os.RemoveAll(s.home))
}

// URL is where clients and browsers find Keycloak, without a slash at the end.
func (s *Server) URL() string { return s.cfg.PublicURL }

// Issuer is the issuer URL of the realm.
func (s *Server) Issuer() string { return s.URL() + "/realms/" + s.realm }

// Endpoint is an OpenID Connect endpoint of the realm: auth, token, token/introspect,
// revoke, certs.
func (s *Server) Endpoint(name string) string {
	return s.Issuer() + "/protocol/openid-connect/" + name
}

// RegistrationEndpoint is where clients register themselves (RFC 7591).
func (s *Server) RegistrationEndpoint() string {
	return s.Issuer() + "/clients-registrations/openid-connect"
}

// AdminPassword is the password of the user "admin" of the admin console, made for this run.
func (s *Server) AdminPassword() string { return s.admin }
