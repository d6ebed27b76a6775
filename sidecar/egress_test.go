package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// routed is usual with a route below /stocks to upstream.
func routed(upstream string) string {
	return usual + fmt.Sprintf("egress:\n  caller: mcp-server\n  routes:\n  - {path: /stocks, strip_path: true, upstream: %q, audience: %q}\n", upstream, api)
}

// testAPI takes tokens that the sidecar made for it.
type testAPI struct {
	*httptest.Server
	seen    sync.Map // tokens
	refuse  atomic.Int32
	stream  chan string // what /stream sends
	headers chan http.Header
}

// newAPI is an API that verifies tokens with the key in the sidecar's key file, which it reads
// when the first request comes; without one it takes all tokens.
func newAPI(t testing.TB, keyFile func() string) *testAPI {
	t.Helper()
	a := &testAPI{stream: make(chan string), headers: make(chan http.Header, 100)}
	verifier := sync.OnceValues(func() (*keyring.Verifier, error) {
		return keyring.NewVerifier(keyring.VerifierConfig{Issuer: issuer, Audiences: []string{api}, Keys: ring(t, keyFile())})
	})
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		var err error
		if keyFile != nil {
			var v *keyring.Verifier
			if v, err = verifier(); err == nil {
				_, err = v.Verify(r.Context(), token)
			}
		}
		a.seen.Store(token, true)
		select {
		case a.headers <- r.Header.Clone():
		default:
		}
		if err != nil || a.refuse.Add(-1) >= 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/stream" {
			fmt.Fprintf(w, "%s %s", r.Method, r.URL.Path)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for event := range a.stream {
			fmt.Fprintf(w, "data: %s\n\n", event)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// through is a client of the egress proxy.
func (p *process) through(t testing.TB) *http.Client {
	t.Helper()
	network, address := "tcp", p.address["egress"]
	if path, ok := strings.CutPrefix(variable(p.environ, "TOKEN_EXCHANGE_EGRESS_LISTEN"), "unix:"); ok {
		network, address = "unix", path
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// call is a call of the application with a phantom token.
func call(t testing.TB, client *http.Client, path, subject string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://app"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+subject)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func bodyOf(t testing.TB, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestEgress: the application sends plain HTTP with its phantom token, over TCP or a socket,
// and the API gets a token of its own; a token that it refuses is replaced once.
func TestEgress(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			listen := "127.0.0.1:0"
			if network == "unix" {
				listen = "unix:" + filepath.Join(t.TempDir(), "egress.sock")
			}
			var environ []string
			a := newAPI(t, func() string { return variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE") })
			environ = environment(t, routed(a.URL), map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": listen})
			p := start(t, environ)
			client, subject := p.through(t), mint(t, environ, nil)
			if res := call(t, client, "/stocks/prices", subject); res.StatusCode != 200 || bodyOf(t, res) != "GET /prices" {
				t.Errorf("got %d", res.StatusCode)
			}
			a.refuse.Store(1)
			if res := call(t, client, "/stocks/prices", subject); res.StatusCode != 401 {
				t.Errorf("a new token that the API refuses: got %d, want its 401", res.StatusCode)
			}
			eventually(t, "another token for one that the API refuses", func() bool { // which it gets when it is some seconds old
				a.refuse.Store(1)
				return call(t, client, "/stocks/prices", subject).StatusCode == 200
			})
			count := 0
			a.seen.Range(func(_, _ any) bool { count++; return true })
			if _, leaked := a.seen.Load(subject); leaked || count != 2 {
				t.Errorf("the API saw %d tokens, the phantom token among them: %t; want two of its own", count, leaked)
			}
			if res := call(t, client, "/other", subject); res.StatusCode != 404 {
				t.Errorf("no route: got %d, want 404", res.StatusCode)
			}
			if res := call(t, client, "/stocks/prices", "MARKED.PHANTOM.TOKEN"); res.StatusCode != 401 {
				t.Errorf("not a token: got %d, want 401", res.StatusCode)
			}
			p.stop(t)
			withoutSecrets(t, "log", p.log(), subject)
		})
	}
}

// TestReloadLeavesStreamsAlone: a stream that runs while the policy takes its route away goes
// on to its own end; new requests have the new routes.
func TestReloadLeavesStreamsAlone(t *testing.T) {
	t.Parallel()
	var environ []string
	a := newAPI(t, func() string { return variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE") })
	environ = environment(t, routed(a.URL), map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0"})
	p := start(t, environ)
	client, subject := p.through(t), mint(t, environ, nil)
	go func() { a.stream <- "one" }()
	stream := call(t, client, "/stocks/stream", subject)
	events := bufio.NewReader(stream.Body)
	if got, err := events.ReadString('\n'); err != nil || got != "data: one\n" {
		t.Fatalf("got %q, error %v", got, err)
	}
	mark := p.mark()
	rewrite(t, variable(environ, "TOKEN_EXCHANGE_POLICY_FILE"), usual)
	p.used(t, mark, usual)
	if res := call(t, client, "/stocks/prices", subject); res.StatusCode != 404 {
		t.Errorf("a route that is gone: got %d, want 404", res.StatusCode)
	}
	a.stream <- "two"
	close(a.stream)
	if rest, err := io.ReadAll(events); err != nil || string(rest) != "\ndata: two\n\n" {
		t.Errorf("the stream: got %q, error %v, want its second event and its end", rest, err)
	}
	p.stop(t)
}

// TestStopCutsStreamsInTheEnd: a stream that never ends holds the end up for ten seconds.
func TestStopCutsStreamsInTheEnd(t *testing.T) {
	t.Parallel()
	var environ []string
	a := newAPI(t, func() string { return variable(environ, "TOKEN_EXCHANGE_SIGNING_KEY_FILE") })
	environ = environment(t, routed(a.URL), map[string]string{"TOKEN_EXCHANGE_EGRESS_LISTEN": "127.0.0.1:0"})
	p := start(t, environ)
	go func() { a.stream <- "one" }()
	defer close(a.stream)
	stream := call(t, p.through(t), "/stocks/stream", mint(t, environ, nil))
	if _, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.stop(t)
	if took := time.Since(began); took < stopTimeout || took > stopTimeout+20*time.Second {
		t.Errorf("ended after %s, want %s", took, stopTimeout)
	}
	if p.find(0, func(l line) bool {
		return l.is("requests were cut off, they had not ended in time") && l["door"] == "egress"
	}) == nil {
		t.Errorf("log: %s", p.story())
	}
}

// TestUnusable: an answer of the provider that must not be used is told from every other
// failure, so that the application reads 502 and not a fault of the sidecar.
//
// Covers: TX-08
func TestUnusable(t *testing.T) {
	for _, tc := range []struct {
		name string
		kind delegation.Kind
		want bool
	}{
		{"answer that must not be used", delegation.KindUnacceptable, true},
		{"our own settings", delegation.KindConfiguration, false},
		{"no answer", delegation.KindUnavailable, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused := &exchange.Refusal{
				Answer: &tokenexchange.Error{Code: tokenexchange.ErrorServerError, Status: http.StatusInternalServerError},
				Cause:  &delegation.Error{Kind: tc.kind},
			}
			if got := errors.Is(unusable(refused), tokenexchange.ErrUnacceptable); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
	if err := errors.New("other"); !errors.Is(unusable(err), err) {
		t.Error("another error was lost")
	}
}
