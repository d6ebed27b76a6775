package egress_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/sidecar/egress"
)

const (
	phantom  = "eyJhbGciOiJFUzI1NiJ9.phantom-token-of-alice.c2lnbmF0dXJl"
	audience = "https://api.example.com"
)

// tokens is a source that issues exchanged-1, exchanged-2 and so on, and keeps the last one.
type tokens struct {
	mu      sync.Mutex
	err     error // of every exchange
	errOnce error // of the exchange after an eviction
	sticky  bool  // evicting does not help
	issued  int
	current string
	calls   []egress.Call
	evicted []string
}

func (t *tokens) Token(_ context.Context, call egress.Call) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, call)
	if t.err != nil {
		return "", t.err
	}
	if len(t.evicted) > 0 && t.errOnce != nil {
		return "", t.errOnce
	}
	if t.current == "" {
		t.issued++
		t.current = fmt.Sprintf("exchanged-%d", t.issued)
	}
	return t.current, nil
}

func (t *tokens) Evict(_ egress.Call, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evicted = append(t.evicted, token)
	if !t.sticky && t.current == token {
		t.current = ""
	}
}

func (t *tokens) seen() (calls []egress.Call, evicted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls, t.evicted
}

// api is an upstream that notes what reached it.
type api struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func (a *api) note(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r.Clone(context.Background()))
}

func (a *api) seen() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// only returns the one request that reached the API.
func (a *api) only(t testing.TB) *http.Request {
	t.Helper()
	requests := a.seen()
	if len(requests) != 1 {
		t.Fatalf("expected 1 request at the API, got %d", len(requests))
	}
	return requests[0]
}

func newAPI(t testing.TB, handler http.HandlerFunc) *api {
	t.Helper()
	a := new(api)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.note(r)
		if handler != nil {
			handler(w, r)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func parseURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// world is a proxy on loopback with its source of tokens.
type world struct {
	*httptest.Server
	tokens   *tokens
	proxy    *egress.Proxy
	log      *syncBuffer
	outcomes chan egress.Outcome
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newWorld(t testing.TB, routes ...egress.Route) *world {
	t.Helper()
	return newWorldWith(t, egress.Config{Routes: routes}, nil)
}

func newWorldWith(t testing.TB, cfg egress.Config, resolver *net.Resolver) *world {
	t.Helper()
	w := &world{tokens: new(tokens), log: new(syncBuffer), outcomes: make(chan egress.Outcome, 64)}
	if cfg.Tokens == nil {
		cfg.Tokens = w.tokens
	}
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Observe = func(o egress.Outcome) { w.outcomes <- o }
	proxy, err := egress.NewWithResolver(cfg, resolver)
	if err != nil {
		t.Fatal(err)
	}
	w.proxy = proxy
	w.Server = httptest.NewUnstartedServer(nil)
	w.Server.Config = egress.NewServer(proxy, nil)
	w.Start()
	t.Cleanup(func() {
		w.Close()
		proxy.Close()
	})
	return w
}

// to is a route for every request to an API.
func to(t testing.TB, base string) egress.Route {
	t.Helper()
	return egress.Route{Path: "/", Upstream: parseURL(t, base), Audience: audience}
}

func (w *world) request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+phantom)
	return r
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (w *world) do(t testing.TB, r *http.Request) answer {
	t.Helper()
	res, err := w.Client().Transport.RoundTrip(r) // no redirects, no cookies
	if err != nil {
		t.Fatalf("calling the proxy: %v", err)
	}
	return read(t, res)
}

func read(t testing.TB, res *http.Response) answer {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return answer{res, string(body)}
}

func (w *world) get(t testing.TB, path string) answer {
	t.Helper()
	return w.do(t, w.request(t, http.MethodGet, path, nil))
}

// raw sends bytes as they are and returns the answer.
func (w *world) raw(t testing.TB, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", w.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return readRaw(t, conn)
}

// outcome waits for the outcome of a request.
func (w *world) outcome(t testing.TB) egress.Outcome {
	t.Helper()
	select {
	case o := <-w.outcomes:
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("expected an outcome, got none")
		return egress.Outcome{}
	}
}

// refused checks that an answer is the proxy's own, with status and code.
func refused(t testing.TB, a answer, status int, code string) {
	t.Helper()
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Errorf("expected a JSON body, got %q", a.body)
	}
	if a.StatusCode != status || body.Error != code || a.Header.Get(egress.HeaderError) != code {
		t.Errorf("expected status %d with error %q, got %d with body %q and %s: %q",
			status, code, a.StatusCode, a.body, egress.HeaderError, a.Header.Get(egress.HeaderError))
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("expected application/json, got %q", got)
	}
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("expected no-store, got %q", got)
	}
}

// passed checks that an answer is the API's.
func passed(t testing.TB, a answer, status int) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get(egress.HeaderError) != "" {
		t.Errorf("expected status %d of the API, got %d with %s: %q and body %q", status, a.StatusCode, egress.HeaderError, a.Header.Get(egress.HeaderError), a.body)
	}
}

// wait waits for an event; the time is for a test that would otherwise never end.
func wait[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("expected %s, got nothing", what)
		return *new(T)
	}
}

// noLeak checks that no goroutine of a proxied connection is left once all is closed.
func (w *world) noLeak(t testing.TB, upstream *api) {
	t.Helper()
	w.CloseClientConnections()
	w.Close()
	w.proxy.Close()
	upstream.CloseClientConnections()
	upstream.Close()
	deadline := time.Now().Add(10 * time.Second)
	stacks := make([]byte, 1<<20)
	for {
		all := string(stacks[:runtime.Stack(stacks, true)])
		if !strings.Contains(all, "httputil.(*ReverseProxy)") && !strings.Contains(all, "httputil.switchProtocolCopier") && !strings.Contains(all, "net/http.(*persistConn)") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("expected no goroutine of the proxy, got\n%s", all)
		}
		runtime.Gosched()
	}
}

// memory is what the process has allocated since it began.
type memory struct{ allocated uint64 }

func (m *memory) read() {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.allocated = stats.TotalAlloc
}
