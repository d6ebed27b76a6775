package egress_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/sidecar/egress"
)

// pool is a buffer pool as the proxy has one.
type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }

// benchProxies are the proxy and what it is compared with: httputil.ReverseProxy alone on the
// same transport with a token that is always there; as it comes; flushing as the proxy does;
// and with a buffer pool too.
func benchProxies(b *testing.B, upstream string) []struct {
	name string
	url  string
} {
	b.Helper()
	proxy, err := egress.New(egress.Config{
		Routes: []egress.Route{{Path: "/", Upstream: parseURL(b, upstream), Audience: audience, Scopes: []string{"stocks/read"}}},
		Tokens: sourceFunc(func() string { return "exchanged-1" }),
	})
	if err != nil {
		b.Fatal(err)
	}
	serve := func(h http.Handler) string {
		server := httptest.NewUnstartedServer(nil)
		server.Config = egress.NewServer(h, nil)
		server.Start()
		b.Cleanup(server.Close)
		return server.URL
	}
	target := parseURL(b, upstream)
	alone := func(flush time.Duration, buffers httputil.BufferPool) string {
		return serve(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header.Set("Authorization", "Bearer exchanged-1")
			},
			Transport:     proxy.Transport(),
			FlushInterval: flush,
			BufferPool:    buffers,
		})
	}
	b.Cleanup(proxy.Close)
	return []struct{ name, url string }{
		{"baseline", alone(0, nil)},
		{"baseline-flushing", alone(-1, nil)},
		{"baseline-flushing-pooled", alone(-1, new(pool))},
		{"egress", serve(proxy)},
	}
}

func benchClient(b *testing.B) *http.Transport {
	client := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	b.Cleanup(client.CloseIdleConnections)
	return client
}

func benchRequest(b *testing.B, method, url string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(b.Context(), method, url, body)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+phantom)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Header.Set("User-Agent", "bench")
	return r
}

// BenchmarkRequest is one small call, as most are: a GET, and a POST whose body is recorded.
func BenchmarkRequest(b *testing.B) {
	answer := []byte(strings.Repeat("x", 1024))
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	b.Cleanup(upstream.Close)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		b.Run(method, func(b *testing.B) {
			for _, proxy := range benchProxies(b, upstream.URL) {
				b.Run(proxy.name, func(b *testing.B) {
					client := benchClient(b)
					b.ReportAllocs()
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							var body io.Reader
							if method == http.MethodPost {
								body = strings.NewReader(string(answer))
							}
							res, err := client.RoundTrip(benchRequest(b, method, proxy.url+"/stocks/ACME?day=1", body))
							if err != nil {
								b.Error(err)
								return
							}
							if n, err := io.Copy(io.Discard, res.Body); n != int64(len(answer)) || err != nil || res.StatusCode != 200 {
								b.Errorf("expected 200 with %d bytes, got %d with %d, %v", len(answer), res.StatusCode, n, err)
								return
							}
							_ = res.Body.Close()
						}
					})
				})
			}
		})
	}
}

// BenchmarkFirstByte is the time from the first byte of an event stream at the API to the
// application, and back: the API sends the next event when it is told to.
func BenchmarkFirstByte(b *testing.B) {
	next := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		flush := http.NewResponseController(w).Flush
		_ = flush()
		for {
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
			_, _ = io.WriteString(w, "data\n\n")
			_ = flush()
		}
	}))
	b.Cleanup(upstream.Close)
	for _, proxy := range append(benchProxies(b, upstream.URL), struct{ name, url string }{"baseline-without-proxy", upstream.URL}) {
		b.Run(proxy.name, func(b *testing.B) {
			res, err := benchClient(b).RoundTrip(benchRequest(b, http.MethodGet, proxy.url, nil))
			if err != nil {
				b.Fatal(err)
			}
			defer res.Body.Close()
			event := make([]byte, len("data\n\n"))
			for b.Loop() {
				next <- struct{}{}
				if _, err := io.ReadFull(res.Body, event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLargeAnswer is the throughput of an answer that does not end soon.
func BenchmarkLargeAnswer(b *testing.B) {
	const size = 64 << 20
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, &zeros{size})
	}))
	b.Cleanup(upstream.Close)
	for _, proxy := range benchProxies(b, upstream.URL) {
		b.Run(proxy.name, func(b *testing.B) {
			client := benchClient(b)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				res, err := client.RoundTrip(benchRequest(b, http.MethodGet, proxy.url, nil))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
					b.Fatalf("expected %d bytes, got %d, %v", size, n, err)
				}
				_ = res.Body.Close()
			}
		})
	}
}
