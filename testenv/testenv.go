package testenv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/mcpserver"
	"phantomtoken/testenv/recorder"
	"phantomtoken/testenv/stocksapi"
)

// Names that the parts of a stack know each other by.
const (
	// MCPAudience is the audience of phantom tokens: the MCP server.
	MCPAudience = "https://mcp.internal.example"
	// APIAudience is the audience of exchanged tokens: the stocks API.
	APIAudience = "https://api.demo.example"
	// ScopeRead and ScopeTrade are the scopes there are.
	ScopeRead  = "stocks/read"
	ScopeTrade = "stocks/trade"

	gatewayClient = "api-gateway-client" // at the authorization server
	mcpClient     = "mcp-server"         // at the sidecar
)

// The parties of a conversation, as the recorder names them.
const (
	Gateway    = "gateway"
	AuthServer = "authorization server"
	MCPServer  = "MCP server"
	Sidecar    = "sidecar"
	StocksAPI  = "stocks API"
)

// Options shape a stack. The zero value builds the programs, uses the kong.yml of this
// project and free ports.
type Options struct {
	// Binaries are programs built before; zero builds them.
	Binaries Binaries
	// KongYAML takes the place of the project's kong.yml. It may use the addresses of that
	// file; they are replaced by those of the run.
	KongYAML []byte
	// Folder keeps the signing keys, created when absent. Empty: a folder that is removed
	// at the end.
	Folder string
	// DefaultPorts uses the ports that kong.yml names, as far as they are free, and opens
	// the control port of the authorization server.
	DefaultPorts bool
	// Observe is called with every exchange that passes, when it has ended.
	Observe func(*recorder.Exchange)
	// Wrap may put something in front of the MCP server and the stocks API; who is one of
	// those names.
	Wrap func(who string, h http.Handler) http.Handler
	// Log gets a copy of what is written to Stack.Log.
	Log io.Writer
}

// Stack is a running chain. Its fields must not be changed.
type Stack struct {
	MCPURL        string // the one thing a client knows
	OtherResource string // a resource that the authorization server knows too, elsewhere
	PhantomIssuer string // issuer of phantom tokens
	MCPServerURL  string // the MCP server behind the gateway
	APIURL        string // the stocks API
	SidecarURL    string // the sidecar, its issuer too
	ControlURL    string // of the authorization server; empty without DefaultPorts

	Gateway    *kongtest.Gateway
	AuthServer *authserver.Server
	Users      []authserver.User // John in the USA, Jane in Europe

	Recorder *recorder.Recorder
	Log      *Log
	// Secrets are those made for this run: passwords, client secrets, private keys.
	Secrets []string

	documents *documentHost
	closers   []func() error // in the order of starting
}

// run is what is needed while starting.
type run struct {
	opts  Options
	stack *Stack

	folder                                                string
	binaries                                              Binaries
	gateway, authServer, mcpServer, api, sidecar, control string // addresses
	gatewaySecret, mcpSecret                              string
	phantomKey, sidecarKey                                string // files
	introspection                                         string // address of the tap
	ports                                                 *ports
}

// Start starts a stack. ctx bounds the starting and ends nothing afterwards: call Close.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	r := &run{opts: opts, stack: &Stack{
		Log:      &Log{also: opts.Log},
		Recorder: recorder.New(opts.Observe),
	}}
	for _, step := range []func(context.Context) error{
		r.prepareFolder,
		r.prepareBinaries,
		r.prepareAddresses,
		r.prepareSecrets,
		r.startDocumentHost,
		r.startAuthServer,
		r.startIntrospectionTap,
		r.startSidecar,
		r.startStocksAPI,
		r.startMCPServer,
		r.startGateway,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("starting test environment: %w", err), r.stack.Close())
		}
	}
	return r.stack, nil
}

// Close stops everything, last started first, and waits for it. Call it once.
func (s *Stack) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Publish serves a client metadata document under an https URL that the authorization
// server trusts, and returns the URL. It fills in client_id.
func (s *Stack) Publish(document map[string]any) (string, error) {
	return s.documents.publish(document)
}

func (r *run) onClose(f func() error) { r.stack.closers = append(r.stack.closers, f) }

func (r *run) secret() string {
	s := rand.Text()
	r.stack.Secrets = append(r.stack.Secrets, s)
	return s
}

// password is a secret that people can type.
func (r *run) password() string {
	s := strings.ToLower(rand.Text()[:12])
	r.stack.Secrets = append(r.stack.Secrets, s)
	return s
}

func (r *run) prepareFolder(context.Context) (err error) {
	if r.opts.Folder != "" {
		// Absolute, because the plugin reads its key in a working directory of its own.
		if r.folder, err = filepath.Abs(r.opts.Folder); err != nil {
			return fmt.Errorf("finding the folder for keys: %w", err)
		}
		return os.MkdirAll(r.folder, 0o700)
	}
	folder, err := os.MkdirTemp("", "phantom-token-")
	if err != nil {
		return fmt.Errorf("making a folder for keys: %w", err)
	}
	r.folder = folder
	r.onClose(func() error { return os.RemoveAll(folder) })
	return nil
}

func (r *run) prepareBinaries(ctx context.Context) (err error) {
	r.binaries = r.opts.Binaries
	if r.binaries == (Binaries{}) {
		r.binaries, err = Build(ctx, filepath.Join(r.folder, "bin"))
	}
	return err
}

func (r *run) prepareAddresses(context.Context) error {
	r.ports = &ports{fixed: r.opts.DefaultPorts, held: map[string]net.Listener{}}
	r.onClose(r.ports.releaseAll)
	for _, a := range []struct {
		to   *string
		port int
	}{
		{&r.gateway, portGateway},
		{&r.authServer, portAuthServer},
		{&r.control, portControl},
		{&r.mcpServer, portMCPServer},
		{&r.api, portStocksAPI},
		{&r.sidecar, portSidecar},
	} {
		addr, err := r.ports.reserve(a.port)
		if err != nil {
			return err
		}
		*a.to = addr
	}
	s := r.stack
	s.MCPURL = "http://" + r.gateway + "/mcp"
	s.OtherResource = "http://" + r.gateway + "/other"
	s.PhantomIssuer = "http://" + r.gateway + "/phantom"
	s.MCPServerURL = "http://" + r.mcpServer + "/mcp"
	s.APIURL = "http://" + r.api
	s.SidecarURL = "http://" + r.sidecar
	s.Recorder.Name(r.gateway, Gateway)
	s.Recorder.Name(r.authServer, AuthServer)
	s.Recorder.Name(r.mcpServer, MCPServer)
	s.Recorder.Name(r.api, StocksAPI)
	s.Recorder.Name(r.sidecar, Sidecar)
	return nil
}

func (r *run) prepareSecrets(context.Context) error {
	r.gatewaySecret, r.mcpSecret = r.secret(), r.secret()
	r.stack.Users = []authserver.User{
		{Name: "john.doe@demo.example", Password: r.password(), Region: "USA"},
		{Name: "jane.roe@demo.example", Password: r.password(), Region: "Europe"},
	}
	r.phantomKey = filepath.Join(r.folder, "phantom-token.jwk")
	r.sidecarKey = filepath.Join(r.folder, "sidecar.jwk")
	for _, file := range []string{r.phantomKey, r.sidecarKey} {
		if _, err := keyring.LoadOrCreate(file, "ES256"); err != nil {
			return fmt.Errorf("preparing signing key: %w", err)
		}
		if err := r.noteKey(file); err != nil {
			return fmt.Errorf("preparing signing key: %w", err)
		}
	}
	return nil
}

// noteKey counts the private part of a key among the secrets.
func (r *run) noteKey(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var key struct {
		D string `json:"d"`
	}
	if err := json.Unmarshal(data, &key); err != nil || key.D == "" {
		return fmt.Errorf("expected a private JWK in %s", file)
	}
	r.stack.Secrets = append(r.stack.Secrets, key.D)
	return nil
}

func (r *run) startDocumentHost(context.Context) (err error) {
	if r.stack.documents, err = newDocumentHost(r.stack.Log.logger("client metadata host")); err != nil {
		return fmt.Errorf("client metadata host: %w", err)
	}
	r.onClose(r.stack.documents.server.Close)
	return nil
}

func (r *run) startAuthServer(ctx context.Context) error {
	cfg := authserver.Config{
		Listen: r.authServer,
		Users:  r.stack.Users,
		Clients: []authserver.Client{{
			ID: gatewayClient, Secret: r.gatewaySecret, Name: "API gateway",
		}},
		Resources: []string{r.stack.MCPURL, r.stack.OtherResource},
		Scopes: []authserver.Scope{
			{Name: ScopeRead, Description: "Read stock prices of your region"},
			{Name: ScopeTrade, Description: "Place stock orders in your name"},
		},
		ClientMetadataHosts: []string{r.stack.documents.server.Addr()},
		ClientMetadataCAs:   r.stack.documents.cas,
		Logger:              r.stack.Log.logger(AuthServer),
	}
	if r.opts.DefaultPorts {
		cfg.ControlListen = r.control
	}
	if err := errors.Join(r.ports.release(r.authServer), r.ports.release(r.control)); err != nil {
		return err
	}
	// Its life is the stack's, not that of the starting.
	server, err := authserver.Start(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return fmt.Errorf("authorization server: %w", err)
	}
	r.stack.AuthServer, r.stack.ControlURL = server, server.ControlURL()
	r.onClose(server.Close)
	return nil
}

// startIntrospectionTap puts a recorder between the plugin, which is a process of its own,
// and the introspection endpoint.
func (r *run) startIntrospectionTap(context.Context) error {
	target, err := url.Parse("http://" + r.authServer)
	if err != nil {
		return fmt.Errorf("introspection tap: %w", err)
	}
	transport := &http.Transport{Proxy: nil}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
		},
		Transport: transport,
		// An endpoint that breaks off its connection looks the same through the tap.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
		ErrorLog: nil,
	}
	tap := r.stack.Recorder.Handler(Gateway, AuthServer, proxy)
	server, err := loopback.Serve("", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Host = r.authServer // whom the plugin means to ask
		tap.ServeHTTP(w, req)
	}), r.stack.Log.logger("introspection tap"))
	if err != nil {
		return fmt.Errorf("introspection tap: %w", err)
	}
	r.introspection = server.Addr()
	r.onClose(func() error {
		transport.CloseIdleConnections()
		return server.Close()
	})
	return nil
}

func (r *run) startSidecar(ctx context.Context) error {
	if err := r.ports.release(r.sidecar); err != nil {
		return err
	}
	const client = "TOKEN_EXCHANGE_CLIENTS_0_"
	p, err := startProcess(r.binaries.Sidecar, []string{
		"TOKEN_EXCHANGE_LISTEN=" + r.sidecar,
		"TOKEN_EXCHANGE_ISSUER=" + r.stack.SidecarURL,
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE=" + r.sidecarKey,
		"TOKEN_EXCHANGE_SUBJECT_ISSUER=" + r.stack.PhantomIssuer,
		"TOKEN_EXCHANGE_SUBJECT_KEY_FILES=" + r.phantomKey,
		client + "ID=" + mcpClient,
		client + "SECRET=" + r.mcpSecret,
		client + "SUBJECT_AUDIENCE=" + MCPAudience,
		client + "AUDIENCES_0_NAME=" + APIAudience,
		client + "AUDIENCES_0_SCOPES=" + ScopeRead + "," + ScopeTrade,
		client + "AUDIENCES_0_CLAIMS=region,client_type,client_assurance_level",
	}, r.stack.Log)
	if err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	r.onClose(p.stop)
	httpClient := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, Timeout: time.Second}
	if err := p.ready(ctx, httpClient, r.stack.SidecarURL+"/readyz"); err != nil {
		return fmt.Errorf("sidecar: %w", err)
	}
	return nil
}

func (r *run) startStocksAPI(context.Context) error {
	transport := &http.Transport{Proxy: nil}
	handler, err := stocksapi.New(stocksapi.Config{
		Issuer:    r.stack.SidecarURL,
		Audience:  APIAudience,
		Transport: r.stack.Recorder.Transport(StocksAPI, transport),
		Logger:    r.stack.Log.logger(StocksAPI),
	})
	if err != nil {
		return err
	}
	if err := r.ports.release(r.api); err != nil {
		return err
	}
	server, err := loopback.Serve(r.api, r.wrap(StocksAPI, handler), r.stack.Log.logger(StocksAPI))
	if err != nil {
		return fmt.Errorf("stocks API: %w", err)
	}
	r.onClose(func() error {
		transport.CloseIdleConnections()
		return server.Close()
	})
	return nil
}

func (r *run) wrap(who string, h http.Handler) http.Handler {
	if r.opts.Wrap == nil {
		return h
	}
	return r.opts.Wrap(who, h)
}

func (r *run) startMCPServer(context.Context) error {
	transport := &http.Transport{Proxy: nil}
	handler, err := mcpserver.New(mcpserver.Config{
		Issuer:        r.stack.PhantomIssuer,
		Audience:      MCPAudience,
		APIURL:        r.stack.APIURL,
		APIAudience:   APIAudience,
		TokenEndpoint: r.stack.SidecarURL + "/token",
		ClientID:      mcpClient,
		ClientSecret:  r.mcpSecret,
		Transport:     r.stack.Recorder.Transport(MCPServer, transport),
		Logger:        r.stack.Log.logger(MCPServer),
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	if err := r.ports.release(r.mcpServer); err != nil {
		return err
	}
	server, err := loopback.Serve(r.mcpServer, r.stack.Recorder.Handler(Gateway, MCPServer, r.wrap(MCPServer, mux)), r.stack.Log.logger(MCPServer))
	if err != nil {
		return fmt.Errorf("MCP server: %w", err)
	}
	r.onClose(func() error {
		transport.CloseIdleConnections()
		return server.Close()
	})
	return nil
}

func (r *run) startGateway(ctx context.Context) error {
	yaml := r.opts.KongYAML
	if yaml == nil {
		root, err := moduleRoot(ctx)
		if err != nil {
			return err
		}
		if yaml, err = os.ReadFile(filepath.Join(root, "kong.yml")); err != nil {
			return fmt.Errorf("reading kong.yml: %w", err)
		}
	}
	if err := r.ports.release(r.gateway); err != nil {
		return err
	}
	gateway, err := kongtest.Start(context.WithoutCancel(ctx), kongtest.Config{
		YAML: yaml,
		Addresses: map[string]string{
			address(portGateway):                    r.gateway,
			address(portAuthServer):                 r.authServer,
			address(portAuthServer) + "/introspect": r.introspection + "/introspect",
			address(portMCPServer):                  r.mcpServer,
		},
		Plugins: map[string]string{"phantom-token": r.binaries.Plugin},
		Listen:  r.gateway,
		Env: map[string]string{
			"GATEWAY_CLIENT_SECRET":    r.gatewaySecret,
			"PHANTOM_SIGNING_KEY_FILE": r.phantomKey,
		},
		Log: r.stack.Log,
	})
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	r.stack.Gateway = gateway
	r.onClose(gateway.Close)
	return nil
}
