package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
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
	// tracesTimeout is how long the last traces may take after that.
	tracesTimeout = 3 * time.Second
)

// newServer makes a server for short requests.
func (s *sidecar) newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
}

// serve answers requests on all doors until ctx ends, then lets running requests end. It
// closes the listeners.
func (s *sidecar) serve(ctx context.Context, doors []*door, hup <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background := make(chan struct{})
	go func() {
		defer close(background)
		s.run(ctx, hup)
	}()

	served := make(chan error, len(doors))
	for _, d := range doors {
		go func() { served <- d.server.Serve(d.listener) }()
		s.logger.Info("serving", "door", d.name, "address", d.listener.Addr().String())
	}
	var failed error
	running := len(doors)
	select {
	case err := <-served:
		running--
		failed = fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		s.logger.Info("stopping")
	}
	cancel()
	stopCtx, cancelStop := context.WithTimeout(context.Background(), stopTimeout)
	defer cancelStop()
	errs := make(chan error, len(doors))
	for _, d := range doors { // together: none needs another
		go func() { errs <- d.stop(stopCtx, s.logger) }()
	}
	for range doors {
		failed = errors.Join(failed, <-errs)
	}
	for range running {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			failed = errors.Join(failed, err)
		}
	}
	awaitBackground(stopCtx, background, s.logger)
	s.logger.Info("stopped")
	return failed
}

// awaitBackground waits until what goes on behind the requests has ended, but not for ever: a
// file may be on a file system that hangs, and the process would have to be killed.
func awaitBackground(ctx context.Context, background <-chan struct{}, logger *slog.Logger) {
	select {
	case <-background:
		return
	default: // both may be true
	}
	select {
	case <-background:
	case <-ctx.Done():
		logger.Warn("reading policy or keys was cut off, it had not ended in time", "after", stopTimeout.String())
	}
}

// stop closes the door and lets running requests end. A stream may go on for hours: what
// takes too long is cut off, which is no failure.
func (d *door) stop(ctx context.Context, logger *slog.Logger) error {
	err := d.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("requests were cut off, they had not ended in time", "door", d.name, "after", stopTimeout.String())
		err = d.server.Close()
	}
	if err != nil {
		return fmt.Errorf("stopping %s: %w", d.name, err)
	}
	return nil
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
