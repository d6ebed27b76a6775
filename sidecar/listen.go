package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"phantomtoken/internal/oauth"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/egress"
)

// checkAddress reports why nobody can listen on address, as far as can be told without doing
// it: another sidecar may be running there.
func checkAddress(address string) (net.Addr, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("expected host:port: %w", err)
	}
	return addr, nil
}

// checkEgressAddress is checkAddress for the egress proxy, which only this machine may reach.
func checkEgressAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" || strings.HasPrefix(path, "@") {
			return errors.New("expected unix: and the path of a socket")
		}
		return nil
	}
	if _, err := checkAddress(address); err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(address); err != nil || !oauth.IsLoopbackHost(host) {
		return fmt.Errorf("expected a loopback address like 127.0.0.1:9201, or unix: and a path, got %q, which other machines can reach", address)
	}
	return nil
}

// openTLS reads certificates; config is nil where plain http is served. reload reads them
// again.
func openTLS(t *tlsConfig, logger *slog.Logger) (config *tls.Config, reload func() error, err error) {
	if *t == (tlsConfig{}) {
		return nil, nil, nil
	}
	if t.CertificateFile == "" || t.KeyFile == "" {
		return nil, nil, fmt.Errorf("%sTLS_CERTIFICATE_FILE and %sTLS_KEY_FILE: expected both, got one of them or neither", envPrefix, envPrefix)
	}
	return caller.ServerTLS(caller.TLSConfig{CertFile: t.CertificateFile, KeyFile: t.KeyFile, ClientCAFile: t.ClientCAFile, Logger: logger})
}

// door is a listener and the server behind it.
type door struct {
	name     string // in the log
	listener net.Listener
	server   *http.Server
}

// open opens all doors, that of the token endpoint first, and makes the signing key if there
// is none: last, since a sidecar that cannot start must not leave one behind. On error nothing
// is open.
func (s *sidecar) open() (doors []*door, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				_ = d.listener.Close()
			}
		}
	}()
	tokens, err := listenTCP("LISTEN", s.cfg.Listen)
	if err != nil {
		return doors, err
	}
	if s.tls != nil {
		tokens = tls.NewListener(tokens, s.tls)
	}
	doors = append(doors, newDoor("token endpoint", tokens, s.newServer(s.handler())))
	if s.cfg.EgressListen != "" {
		listener, err := egress.Listen(context.Background(), s.cfg.EgressListen, false)
		if err != nil {
			return doors, fmt.Errorf("%sEGRESS_LISTEN: %w", envPrefix, err)
		}
		doors = append(doors, newDoor("egress", listener, egress.NewServer(s.egressHandler(), s.logger)))
	}
	if s.cfg.MetricsListen != "" {
		listener, err := listenTCP("METRICS_LISTEN", s.cfg.MetricsListen)
		if err != nil {
			return doors, err
		}
		doors = append(doors, newDoor("metrics", listener, s.newServer(s.metricsHandler())))
	}
	return doors, s.keys.create()
}

func listenTCP(variable, address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", envPrefix, variable, err)
	}
	return listener, nil
}

func newDoor(name string, listener net.Listener, server *http.Server) *door {
	var unused unusedConns
	server.ConnState = unused.track
	server.RegisterOnShutdown(unused.close) // runs once the listener is closed
	return &door{name: name, listener: listener, server: server}
}
