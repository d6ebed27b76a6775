package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 20 * time.Second // longer than the longest decision
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// stopTimeout is how long running requests may take to end after a signal.
	stopTimeout = 10 * time.Second
)

// serve answers requests on listener until ctx ends, then lets running requests end. It
// closes listener.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	var unused unusedConns
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         unused.track,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(unused.close) // runs once the listener is closed
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	logger.Info("serving", "address", listener.Addr().String())

	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	logger.Info("stopping")
	stopCtx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := server.Shutdown(stopCtx)
	if err != nil {
		err = fmt.Errorf("stopping: requests were still running after %s: %w", stopTimeout, errors.Join(err, server.Close()))
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	logger.Info("stopped")
	return err
}

// unusedConns are connections on which no request came yet. Clients open some in advance,
// and Shutdown would wait seconds for each.
type unusedConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// track is for http.Server.ConnState.
func (u *unusedConns) track(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(u.conns, conn)
	case u.closed: // accepted at the last moment
		_ = conn.Close()
	case u.conns == nil:
		u.conns = map[net.Conn]struct{}{conn: {}}
	default:
		u.conns[conn] = struct{}{}
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for conn := range u.conns {
		_ = conn.Close() // nobody is being answered on it
	}
}
