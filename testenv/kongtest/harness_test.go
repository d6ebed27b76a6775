package kongtest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"phantomtoken/testenv/kongtest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// errorLog is the gateway's log of a test, which can wait for lines.
type errorLog struct {
	t  testing.TB
	mu sync.Mutex
	// changed is closed and replaced whenever a line comes.
	changed chan struct{}
	text    bytes.Buffer
}

func newErrorLog(t testing.TB) *errorLog {
	l := &errorLog{t: t, changed: make(chan struct{})}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("error log:\n%s", l.String())
		}
	})
	return l
}

func (l *errorLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *errorLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// count returns how many lines contain text.
func (l *errorLog) count(text string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// await waits until n lines contain text and returns the last of them.
func (l *errorLog) await(text string, n int) string {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		changed := l.changed
		var found []string
		for line := range strings.Lines(l.text.String()) {
			if strings.Contains(line, text) {
				found = append(found, line)
			}
		}
		l.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("log: got %d lines with %q, want %d", len(found), text, n)
		}
	}
}

// upstream is a server behind the gateway that keeps what it got.
type upstream struct {
	*httptest.Server
	requests chan *received
}

// received is a request as the upstream got it.
type received struct {
	*http.Request
	body string
}

// newUpstream answers 200 with the body "ok" unless handler is given.
func newUpstream(t testing.TB, handler http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{requests: make(chan *received, 1000)}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.requests <- &received{r, string(body)}
		if handler != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
			handler(w, r)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) address() string { return u.Listener.Addr().String() }

// got returns the next request.
func (u *upstream) got(t testing.TB) *received {
	t.Helper()
	select {
	case r := <-u.requests:
		return r
	case <-time.After(patience):
		t.Fatal("upstream: got no request")
		return nil
	}
}

// report decodes what the probe plugin found out about this request.
func (r *received) report(t testing.TB) []any {
	t.Helper()
	var report []any
	if err := json.Unmarshal([]byte(r.Header.Get("X-Report")), &report); err != nil {
		t.Fatalf("X-Report: %v in %q", err, r.Header.Get("X-Report"))
	}
	return report
}

// gateway is a kongtest under test.
type gateway struct {
	*kongtest.Gateway
	t        testing.TB
	log      *errorLog
	upstream *upstream
}

// start starts a gateway. The address "upstream:80" of its configuration is that of an
// upstream of the test, if there is one.
func start(t testing.TB, cfg kongtest.Config, up *upstream) *gateway {
	t.Helper()
	g, err := tryStart(t, cfg, up)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tryStart(t testing.TB, cfg kongtest.Config, up *upstream) (*gateway, error) {
	t.Helper()
	log := newErrorLog(t)
	if cfg.Log == nil {
		cfg.Log = log
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "debug"
	}
	if cfg.Env == nil {
		// Under the race detector a plugin's -dump would wait a second at its end.
		cfg.Env = map[string]string{"GORACE": "atexit_sleep_ms=0"}
	}
	if up != nil {
		cfg.Addresses = map[string]string{"upstream:80": up.address()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g, err := kongtest.Start(ctx, cfg)
	if err != nil {
		return &gateway{t: t, log: log}, err
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &gateway{Gateway: g, t: t, log: log, upstream: up}, nil
}

// probed is the configuration of most tests: the probe plugin on the route /p.
const probed = `
_format_version: "3.0"
services:
- name: up
  url: http://upstream:80
  routes:
  - name: p
    paths: ["/p"]
    strip_path: false
    plugins:
    - name: probe
      config: {tag: one}
`

// startProbed starts a gateway with one worker and the probe plugin on the route /p.
func startProbed(t testing.TB) *gateway {
	t.Helper()
	return start(t, kongtest.Config{
		YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}, Workers: 1,
	}, newUpstream(t, nil))
}

// response is a response read to its end.
type response struct {
	*http.Response
	body string
}

// do sends a request with the script for the probe plugin.
func (g *gateway) do(method, path, body string, header map[string]string) *response {
	g.t.Helper()
	req, err := http.NewRequest(method, g.URL()+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return &response{res, string(data)}
}

// script sends GET /p with a script.
func (g *gateway) script(steps string) *response {
	g.t.Helper()
	return g.do("GET", "/p", "", map[string]string{"X-Script": steps})
}

// report runs the script with a report and returns it.
func (g *gateway) report(steps string) []any {
	g.t.Helper()
	steps = strings.TrimSuffix(steps, "]") + `,["report"]]`
	if res := g.script(steps); res.StatusCode != 200 {
		g.t.Fatalf("script %s: got status %d, want 200", steps, res.StatusCode)
	}
	return g.upstream.got(g.t).report(g.t)
}

// raw sends bytes on a connection of its own and returns the response to a request with
// that method.
func (g *gateway) raw(method, text string) *response {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	return readResponse(g.t, bufio.NewReader(conn), method)
}

func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL(), "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

func readResponse(t testing.TB, r *bufio.Reader, method string) *response {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &response{res, string(data)}
}

func unmarshal(t testing.TB, data []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
}

func structString(s string) *structpb.Value { return structpb.NewStringValue(s) }
