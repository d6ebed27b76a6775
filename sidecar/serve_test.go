package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

func tcpAddr(t *testing.T, s string) net.Addr {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// TestStopLetsRequestsEnd: the request that is being answered gets its answer, a
// connection that nobody uses does not hold up the end.
func TestStopLetsRequestsEnd(t *testing.T) {
	listener := listen(t)
	entered, finish := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		io.WriteString(w, "answer")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, handler, slog.New(slog.DiscardHandler)) }()

	unused, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()
	type result struct {
		body string
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		res, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			answered <- result{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answered <- result{string(body), err}
	}()
	<-entered
	stop()
	// The unused connection ends only once the stop is under way.
	if _, err := unused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("unused connection: got %v, want its end", err)
	}
	if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		conn.Close()
		t.Error("a new connection was accepted after the stop")
	}
	close(finish)
	if got := <-answered; got.err != nil || got.body != "answer" {
		t.Errorf("running request: got %q, error %v", got.body, got.err)
	}
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("serve: got error %v", err)
		}
	case <-time.After(4 * time.Second): // net/http alone would wait 5 s for an unused connection
		t.Error("serve did not end")
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func TestServeReportsListenerError(t *testing.T) {
	listener := listen(t)
	listener.Close()
	if err := serve(t.Context(), listener, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v, want that of the listener", err)
	}
}
