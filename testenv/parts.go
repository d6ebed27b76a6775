package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"phantomtoken/testenv/authserver"
	"phantomtoken/testenv/kongtest"
	"phantomtoken/testenv/loopback"
)

func (r *run) startDocumentHost(context.Context) (err error) {
	if r.stack.documents, err = newDocumentHost(r.stack.Log.logger("client metadata host")); err != nil {
		return fmt.Errorf("client metadata host: %w", err)
	}
	r.onClose(r.stack.documents.server.Close)
	return nil
}

func (r *run) startAuthServer(ctx context.Context) error {
	if r.opts.Provider != nil {
		return r.useProvider()
	}
	cfg := authserver.Config{
		Listen: r.authServer,
		Users:  r.stack.Users,
		Clients: []authserver.Client{{
			ID: gatewayClient, Secret: r.gatewaySecret, Name: "API gateway",
		}},
		Resources: []string{r.stack.MCPURL, r.stack.AdvisorURL, r.stack.OtherResource, r.stack.APIResource},
		Scopes: []authserver.Scope{
			{Name: ScopeRead, Description: "Read stock prices of your region"},
			{Name: ScopeTrade, Description: "Place stock orders in your name"},
			{Name: ScopeAdvisor, Description: "Ask the stock advisor, which calls the stocks server for you"},
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
	r.issuer, r.introspection = server.Issuer(), server.IntrospectionEndpoint()
	r.onClose(server.Close)
	return nil
}

// startIntrospectionTap puts a recorder between the plugin, which is a process of its own,
// and the introspection endpoint.
func (r *run) startIntrospectionTap(context.Context) error {
	endpoint, err := url.Parse(r.introspection)
	if err != nil {
		return fmt.Errorf("introspection tap: %w", err)
	}
	target := &url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host}
	transport := &http.Transport{Proxy: nil}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = target.Host
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
		req.Host = target.Host // whom the plugin means to ask
		tap.ServeHTTP(w, req)
	}), r.stack.Log.logger("introspection tap"))
	if err != nil {
		return fmt.Errorf("introspection tap: %w", err)
	}
	r.introspection = server.URL() + endpoint.EscapedPath()
	r.onClose(func() error {
		transport.CloseIdleConnections()
		return server.Close()
	})
	return nil
}

func (r *run) startSidecar(ctx context.Context) error {
	if err := errors.Join(r.ports.release(r.sidecar), r.ports.release(r.egress)); err != nil {
		return err
	}
	policy, err := r.policy(ctx)
	if err != nil {
		return err
	}
	p, err := startProcess(r.binaries.Sidecar, []string{
		"TOKEN_EXCHANGE_LISTEN=" + r.sidecar,
		"TOKEN_EXCHANGE_ISSUER=" + r.stack.SidecarURL,
		"TOKEN_EXCHANGE_SIGNING_KEY_FILE=" + r.sidecarKey,
		"TOKEN_EXCHANGE_POLICY_FILE=" + policy,
		"TOKEN_EXCHANGE_EGRESS_LISTEN=" + r.egress,
		"TOKEN_EXCHANGE_SUBJECT_ISSUER=" + r.stack.PhantomIssuer,
		"TOKEN_EXCHANGE_SUBJECT_KEY_FILES=" + r.phantomKey,
		// As the policy file names them.
		"MCP_SERVER_CLIENT_SECRET=" + r.mcpSecret,
		"ADVISOR_CLIENT_SECRET=" + r.advisorSecret,
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
	addresses, err := r.addresses()
	if err != nil {
		return err
	}
	gateway, err := kongtest.Start(context.WithoutCancel(ctx), kongtest.Config{
		YAML:      yaml,
		Addresses: addresses,
		Plugins:   map[string]string{"phantom-token": r.binaries.Plugin},
		Listen:    r.gateway,
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
