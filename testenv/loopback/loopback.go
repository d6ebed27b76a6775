// Package loopback runs an HTTP handler on a local address and stops it again. The sample
// services of the test environment are served by it, alone as commands or all together in
// one process.
package loopback

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// grace is how long Close waits for requests in flight. Event streams never end by
// themselves, so it is short.
const grace = 2 * time.Second

// Server is a running HTTP server. Create it with Serve or ServeTLS.
type Server struct {
	url  string
	addr string
	http *http.Server
	done chan error
}

// Serve listens on addr, "host:port", and serves h until Close. An empty addr means a free
// port of 127.0.0.1. logger gets what net/http has to say; nil discards it.
func Serve(addr string, h http.Handler, logger *slog.Logger) (*Server, error) {
	return serve(addr, nil, h, logger)
}

// ServeTLS is Serve for https.
func ServeTLS(addr string, certificate tls.Certificate, h http.Handler, logger *slog.Logger) (*Server, error) {
	return serve(addr, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, h, logger)
}

func serve(addr string, config *tls.Config, h http.Handler, logger *slog.Logger) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	s := &Server{
		addr: l.Addr().String(),
		url:  "http://" + l.Addr().String(),
		http: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		},
		done: make(chan error, 1),
	}
	if config != nil {
		l = tls.NewListener(l, config)
		s.url = "https://" + s.addr
	}
	go func() { s.done <- s.http.Serve(l) }()
	return s, nil
}

// Addr is the address the server listens on, "host:port".
func (s *Server) Addr() string { return s.addr }

// URL is the base URL of the server, without a slash at the end.
func (s *Server) URL() string { return s.url }

// Close stops the server: no new connections, a short wait for requests in flight, then
// their connections are cut. It returns when the listener is gone. Call it once.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stopping server on %s: %w", s.addr, err)
	}
	return nil
}

// Run serves h on addr until ctx ends.
func Run(ctx context.Context, addr string, h http.Handler, logger *slog.Logger) error {
	s, err := Serve(addr, h, logger)
	if err != nil {
		return err
	}
	if logger != nil {
		logger.Info("listening", "addr", s.Addr())
	}
	select {
	case <-ctx.Done():
		return s.Close()
	case served := <-s.done:
		return fmt.Errorf("serving on %s: %w", s.addr, served)
	}
}
