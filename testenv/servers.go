package testenv

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"

	"phantomtoken/testenv/advisor"
	"phantomtoken/testenv/loopback"
	"phantomtoken/testenv/mcpserver"
	"phantomtoken/testenv/stocksapi"
)

// The servers behind the gateway. They run in this process, each with an http.Transport of
// its own.

// transport is what a server makes its calls with, recorded.
func (r *run) transport(who string) http.RoundTripper {
	transport := &http.Transport{Proxy: nil}
	r.onClose(func() error {
		transport.CloseIdleConnections()
		return nil
	})
	return r.stack.Recorder.Transport(who, transport)
}

// serve has a handler answer at an address that was reserved for it.
func (r *run) serve(who, addr string, h http.Handler) error {
	if err := r.ports.release(addr); err != nil {
		return err
	}
	server, err := loopback.Serve(addr, h, r.stack.Log.logger(who))
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	r.onClose(server.Close)
	return nil
}

func (r *run) wrap(who string, h http.Handler) http.Handler {
	if r.opts.Wrap == nil {
		return h
	}
	return r.opts.Wrap(who, h)
}

// startStocksAPI serves the API at two addresses. What its callers in this process ask is
// recorded where they are; the egress proxy is another process.
func (r *run) startStocksAPI(context.Context) error {
	handler, err := stocksapi.New(stocksapi.Config{
		Issuer:        r.stack.SidecarURL,
		Gateway:       r.stack.PhantomIssuer,
		Audience:      APIAudience,
		OrdersThrough: mcpClient,
		Transport:     r.transport(StocksAPI),
		Logger:        r.stack.Log.logger(StocksAPI),
	})
	if err != nil {
		return err
	}
	handler = r.wrap(StocksAPI, handler)
	if err := r.serve(StocksAPI, r.api, handler); err != nil {
		return err
	}
	return r.serve(StocksAPI, r.apiForEgress, r.stack.Recorder.Handler(Egress, StocksAPI, handler))
}

// mcpServer is the MCP server in both of its configurations.
type mcpServer struct {
	byLibrary, byProxy http.Handler
	proxied            atomic.Bool // byProxy is in use
}

// ServeHTTP answers with the configuration of the moment. The server keeps no sessions, so
// clients do not notice a change.
func (m *mcpServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if m.proxied.Load() {
		m.byProxy.ServeHTTP(w, req)
		return
	}
	m.byLibrary.ServeHTTP(w, req)
}

// CallAPI chooses how the MCP server calls the stocks API from now on. It is safe for
// concurrent use.
func (s *Stack) CallAPI(way Way) { s.mcpServer.proxied.Store(way == ByProxy) }

// startMCPServer serves the MCP server at two addresses, for the gateway and for the advisor.
func (r *run) startMCPServer(context.Context) error {
	cfg := mcpserver.Config{
		Issuer:    r.stack.PhantomIssuer,
		Sidecar:   r.stack.SidecarURL,
		Audience:  MCPAudience,
		APIURL:    r.stack.EgressURL,
		Transport: r.transport(MCPServer),
		Logger:    r.stack.Log.logger(MCPServer),
	}
	server := &r.stack.mcpServer
	r.stack.CallAPI(r.opts.Way)
	var err error
	if server.byProxy, err = mcpserver.New(cfg); err != nil {
		return err
	}
	cfg.APIURL, cfg.APIAudience = r.stack.APIURL, APIAudience
	cfg.TokenEndpoint, cfg.ClientID, cfg.ClientSecret = r.stack.SidecarURL+"/token", mcpClient, r.mcpSecret
	if server.byLibrary, err = mcpserver.New(cfg); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", server)
	handler := r.wrap(MCPServer, mux)
	if err := r.serve(MCPServer, r.mcpServer, r.stack.Recorder.Handler(Gateway, MCPServer, handler)); err != nil {
		return err
	}
	return r.serve(MCPServer, r.mcpServerForAdvisor, handler)
}

func (r *run) startAdvisor(context.Context) error {
	handler, err := advisor.New(advisor.Config{
		Issuer:         r.stack.PhantomIssuer,
		Audience:       AdvisorAudience,
		StocksURL:      "http://" + r.mcpServerForAdvisor + "/mcp",
		StocksAudience: MCPAudience,
		TokenEndpoint:  r.stack.SidecarURL + "/token",
		ClientID:       advisorClient,
		ClientSecret:   r.advisorSecret,
		Transport:      r.transport(Advisor),
		Logger:         r.stack.Log.logger(Advisor),
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/advisor/mcp", handler)
	return r.serve(Advisor, r.advisor, r.stack.Recorder.Handler(Gateway, Advisor, mux))
}
