package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
	"phantomtoken/testenv/recorder"
)

// Names that the parts of a stack know each other by.
const (
	// MCPAudience is the audience of phantom tokens: the MCP server.
	MCPAudience = "https://mcp.internal.example"
	// AdvisorAudience is that of phantom tokens for the second MCP server.
	AdvisorAudience = "https://advisor.internal.example"
	// APIAudience is the audience of exchanged tokens: the stocks API.
	APIAudience = "https://api.demo.example"
	// ScopeRead, ScopeTrade and ScopeAdvisor are the scopes there are. The last one is that of
	// the second MCP server, which needs ScopeRead for the first one as well.
	ScopeRead    = "stocks/read"
	ScopeTrade   = "stocks/trade"
	ScopeAdvisor = "advisor/use"

	gatewayClient = "api-gateway-client" // at the authorization server
	mcpClient     = "mcp-server"         // at the sidecar
	advisorClient = "advisor"            // at the sidecar
)

// The parties of a conversation, as the recorder names them.
const (
	Gateway    = "gateway"
	AuthServer = "authorization server"
	Advisor    = "advisor"
	MCPServer  = "MCP server"
	Sidecar    = "sidecar"
	Egress     = "egress proxy" // of the sidecar
	StocksAPI  = "stocks API"
)

// Way is how the MCP server comes by tokens of the stocks API.
type Way string

const (
	// ByLibrary: it exchanges tokens itself, with package tokenexchange. The default.
	ByLibrary Way = "library"
	// ByProxy: it has no credentials and sends what it received to the egress proxy.
	ByProxy Way = "egress proxy"
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
	// Listen is the address of the gateway, for those who must know the MCP URL before the
	// stack starts (FreeAddress). Empty: DefaultPorts decides.
	Listen string
	// Provider is an authorization server that runs already, in the place of the embedded
	// one. nil: the embedded one.
	Provider *Provider
	// Way is how the MCP server calls the stocks API at first, see Stack.CallAPI. Empty:
	// ByLibrary.
	Way Way
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
	AdvisorURL    string // the same for the second MCP server, which calls the first one
	OtherResource string // a resource that the authorization server knows too, elsewhere
	APIResource   string // the stocks API for clients of the gateway
	PhantomIssuer string // issuer of phantom tokens
	MCPServerURL  string // the MCP server behind the gateway
	APIURL        string // the stocks API
	SidecarURL    string // the sidecar, its issuer too
	EgressURL     string // its egress proxy, for the MCP server
	ControlURL    string // of the authorization server; empty without DefaultPorts

	Gateway    *kongtest.Gateway
	AuthServer *authserver.Server // nil with Options.Provider
	Users      []authserver.User  // John in the USA, Jane in Europe; none with Options.Provider

	Recorder *recorder.Recorder
	Log      *Log
	// Secrets are those made for this run: passwords, client secrets, private keys.
	Secrets []string

	mcpServer mcpServer
	documents *documentHost
	closers   []func() error // in the order of starting
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
		r.startAdvisor,
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
