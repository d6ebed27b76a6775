package introspection_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
)

// endpoint is a real HTTP server that records what it is asked.
type endpoint struct {
	*httptest.Server

	mu          sync.Mutex
	requests    []request
	connections int
	now, most   int // requests at one time
}

// request is what arrived, body included.
type request struct {
	method, uri, proto string
	header             http.Header
	body               string
	form               url.Values
}

// start serves answer on loopback until the test ends. It must not run before its
// channels are released: register those cleanups later.
func start(t testing.TB, answer http.HandlerFunc) *endpoint {
	t.Helper()
	e := newEndpoint(t, answer)
	e.Start()
	return e
}

func newEndpoint(t testing.TB, answer http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Errorf("reading the request: %v", err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Errorf("parsing the form: %v", err)
		}
		e.mu.Lock()
		e.requests = append(e.requests, request{r.Method, r.RequestURI, r.Proto, r.Header.Clone(), string(body), form})
		e.now++
		e.most = max(e.most, e.now)
		e.mu.Unlock()
		defer func() {
			e.mu.Lock()
			e.now--
			e.mu.Unlock()
		}()
		answer(w, r)
	}))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	e.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			e.mu.Lock()
			e.connections++
			e.mu.Unlock()
		}
	}
	t.Cleanup(e.Close)
	return e
}

// asked returns the requests so far.
func (e *endpoint) asked() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]request(nil), e.requests...)
}

func (e *endpoint) counts() (connections, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.connections, e.most
}

// answer is a handler with a fixed response.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil // no guessing by the server
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may be gone
	}
}

func json200(body string) http.HandlerFunc { return answer(http.StatusOK, "application/json", body) }

const (
	clientID     = "gateway"
	clientSecret = "s3cret-of-the-gateway"
)

// newClient fills in what every client needs.
func newClient(t testing.TB, cfg introspection.Config) *introspection.Client {
	t.Helper()
	if cfg.ClientID == "" {
		cfg.ClientID = clientID
	}
	if cfg.ClientSecret == "" {
		cfg.ClientSecret = clientSecret
	}
	c, err := introspection.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantKind fails unless err is an Error of kind and unavailable.
func wantKind(t testing.TB, result *introspection.Result, err error, kind introspection.Kind) *introspection.Error {
	t.Helper()
	var e *introspection.Error
	if result != nil || !errors.As(err, &e) || !errors.Is(err, introspection.ErrUnavailable) {
		t.Fatalf("got %+v, %v, want an unavailable *Error", result, err)
	}
	if e.Kind != kind {
		t.Fatalf("got kind %s (%v), want %s", e.Kind, err, kind)
	}
	return e
}

// clock is a clock that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// logs collects log lines of every level.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
