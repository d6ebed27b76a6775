package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
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

// testSidecar is enough of a sidecar to serve doors.
func testSidecar(t *testing.T) *sidecar {
	t.Helper()
	s := testSidecarOf(t, environment(t, usual, nil))
	t.Cleanup(s.close)
	return s
}

func testSidecarOf(t *testing.T, environ []string) *sidecar {
	t.Helper()
	cfg, err := readConfig(environ)
	if err != nil {
		t.Fatal(err)
	}
	s, err := build(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStopLetsRequestsEnd: the request that is being answered gets its answer, a
// connection that nobody uses does not hold up the end.
func TestStopLetsRequestsEnd(t *testing.T) {
	s := testSidecar(t)
	listener := listen(t)
	entered, finish := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		io.WriteString(w, "answer")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, []*door{newDoor("test", listener, s.newServer(handler))}, nil) }()

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

// TestServeReportsListenerError: one door that fails closes the others.
func TestServeReportsListenerError(t *testing.T) {
	s := testSidecar(t)
	broken, good := listen(t), listen(t)
	broken.Close()
	doors := []*door{newDoor("good", good, s.newServer(http.NotFoundHandler())), newDoor("broken", broken, s.newServer(http.NotFoundHandler()))}
	if err := s.serve(t.Context(), doors, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v, want that of the listener", err)
	}
	if conn, err := net.Dial("tcp", good.Addr().String()); err == nil {
		conn.Close()
		t.Error("the other door is still open")
	}
}

// TestStreamIsCutOff: a stream that goes on when the time is over is cut off, which is logged
// and no failure.
func TestStreamIsCutOff(t *testing.T) {
	s := testSidecar(t)
	listener := listen(t)
	cut := make(chan struct{})
	d := newDoor("egress", listener, s.newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(cut)
	})))
	go d.server.Serve(listener)
	res, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	var log bytes.Buffer
	if err := d.stop(over, slog.New(slog.NewJSONHandler(&log, nil))); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	<-cut
	if !strings.Contains(log.String(), `"requests were cut off, they had not ended in time","door":"egress"`) {
		t.Errorf("log: %s", &log)
	}
}

// TestStopDoesNotWaitForAHangingFile: a reload that hangs in the file system does not keep the
// process from ending.
func TestStopDoesNotWaitForAHangingFile(t *testing.T) {
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	const warning = "reading policy or keys was cut off, it had not ended in time"
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	ended := make(chan struct{})
	awaitBackground(over, ended, logger)
	if got := log.String(); !strings.Contains(got, warning) {
		t.Errorf("log: %s, want %s", got, warning)
	}
	log.Reset()
	close(ended)
	awaitBackground(over, ended, logger)
	if log.Len() > 0 {
		t.Errorf("log: %s, want nothing about what has ended", &log)
	}
}

// TestCloseEndsGoroutines: what a sidecar started ends with it.
func TestCloseEndsGoroutines(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	s := testSidecarOf(t, environment(t, delegated, providerSettings(map[string]string{
		"TOKEN_EXCHANGE_SUBJECT_MODE": "exchange", "TOKEN_EXCHANGE_SUBJECT_KEY_FILES": "", "TOKEN_EXCHANGE_SUBJECT_JWKS_URI": server.URL,
		"TOKEN_EXCHANGE_METRICS_LISTEN": "127.0.0.1:0", "TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0",
	})))
	doors, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.serve(ctx, doors, nil) }()
	for _, d := range doors {
		get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+d.listener.Addr().String()+pathReady)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	s.close()
	eventually(t, "the end of all goroutines", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "phantomtoken/") && !strings.Contains(stack, "testing.") {
				return false
			}
		}
		return true
	})
}
