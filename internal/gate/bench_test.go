package gate_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

// benchProvider is an introspection endpoint on loopback that finds every token active
// but those that begin with "bad".
func benchProvider(b *testing.B) (endpoint string, calls *atomic.Int64) {
	b.Helper()
	calls = new(atomic.Int64)
	body := claims(map[string]any{"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.FormValue("token"), "bad") {
			_, _ = io.WriteString(w, `{"active":false}`)
			return
		}
		_, _ = io.WriteString(w, body)
	}))
	b.Cleanup(srv.Close)
	return srv.URL, calls
}

func benchGate(b *testing.B, endpoint string) (*gate.Gate, *tokencache.Cache) {
	b.Helper()
	client, err := introspection.New(introspection.Config{Endpoint: endpoint, ClientID: "gateway", ClientSecret: "secret", TokenTypeHint: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	key, err := keyring.Generate("ES256")
	if err != nil {
		b.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		b.Fatal(err)
	}
	cache, err := tokencache.New(tokencache.Config{})
	if err != nil {
		b.Fatal(err)
	}
	res, err := oauth.ParseResource(resourceURL)
	if err != nil {
		b.Fatal(err)
	}
	g, err := gate.New(gate.Config{
		Resource: res,
		Metadata: oauth.ProtectedResourceMetadata{AuthorizationServers: []string{idpURL}},
		Token:    gate.TokenPolicy{Scopes: oauth.Scopes{"mcp:read"}, MaxLength: 16384},
		Phantom: &gate.Mint{
			Keys: ring, Issuer: issuerURL, Audience: upstreamAud, Lifetime: 5 * time.Minute, Claims: map[string]string{"region": "region"},
		},
		CORS:         gate.CORS{Enabled: true},
		Introspector: client, Cache: cache, CacheTTL: 5 * time.Minute, NegativeTTL: 5 * time.Second, Timeout: 10 * time.Second,
	})
	if err != nil {
		b.Fatal(err)
	}
	return g, cache
}

// benchRequest has the headers an MCP client sends.
func benchRequest(token string) gate.Request {
	return request("/mcp", "host", "gw.example.com", "user-agent", "client/1.0", "accept", "application/json, text/event-stream",
		"content-type", "application/json", "mcp-protocol-version", "2026-07-28", "mcp-method", "tools/call", "mcp-name", "fetch_stock_prices",
		"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "content-length", "120", "authorization", "Bearer "+token)
}

// BenchmarkHit is the hot path: a known token. The limit is what no gate can do without:
// hashing the token and finding the answer.
func BenchmarkHit(b *testing.B) {
	b.Run("gate", func(b *testing.B) {
		endpoint, _ := benchProvider(b)
		g, _ := benchGate(b, endpoint)
		r := benchRequest(goodToken)
		b.ReportAllocs()
		for b.Loop() {
			if g.Decide(context.Background(), r, &kong{}).Forward == nil {
				b.Fatal("refused")
			}
		}
	})
	b.Run("baseline", func(b *testing.B) {
		var mu sync.Mutex
		known := map[[32]byte]string{sha256.Sum256([]byte(goodToken)): "Bearer phantom"}
		r := benchRequest(goodToken)
		b.ReportAllocs()
		for b.Loop() {
			for _, h := range r.Headers {
				if h.Name == "authorization" {
					mu.Lock()
					_, ok := known[sha256.Sum256([]byte(strings.TrimPrefix(h.Value, "Bearer ")))]
					mu.Unlock()
					if !ok {
						b.Fatal("unknown")
					}
				}
			}
		}
	})
}

// BenchmarkMiss is the first request of a token: one introspection call and one ES256
// signature. The limit is that call by net/http and that signature alone.
func BenchmarkMiss(b *testing.B) {
	b.Run("gate", func(b *testing.B) {
		endpoint, _ := benchProvider(b)
		g, _ := benchGate(b, endpoint)
		n := 0
		for b.Loop() {
			n++
			if g.Decide(context.Background(), benchRequest(fmt.Sprintf("token%d", n)), &kong{}).Forward == nil {
				b.Fatal("refused")
			}
		}
	})
	b.Run("baseline", func(b *testing.B) {
		endpoint, _ := benchProvider(b)
		key, err := keyring.Generate("ES256")
		if err != nil {
			b.Fatal(err)
		}
		ring, err := keyring.NewRing(key)
		if err != nil {
			b.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for b.Loop() {
			resp, err := client.PostForm(endpoint, url.Values{"token": {goodToken}})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
			if _, err := ring.Mint(keyring.Token{
				Issuer: issuerURL, Subject: "john.doe", Audience: []string{upstreamAud}, ClientID: "c",
				IssuedAt: time.Now(), Expiry: time.Now().Add(time.Minute),
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStampede lets 64 requests come at once with one cold token. The provider must
// be asked once; idp_calls/op says how often it was.
func BenchmarkStampede(b *testing.B) {
	stampede := func(b *testing.B, one func(token string)) {
		n := 0
		for b.Loop() {
			n++
			token := fmt.Sprintf("cold%d", n)
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() { one(token) })
			}
			wg.Wait()
		}
	}
	b.Run("gate", func(b *testing.B) {
		endpoint, calls := benchProvider(b)
		g, _ := benchGate(b, endpoint)
		stampede(b, func(token string) {
			if g.Decide(context.Background(), benchRequest(token), &kong{}).Forward == nil {
				b.Error("refused")
			}
		})
		b.ReportMetric(float64(calls.Load())/float64(b.N), "idp_calls/op")
	})
	b.Run("baseline", func(b *testing.B) {
		endpoint, calls := benchProvider(b)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		defer client.CloseIdleConnections()
		stampede(b, func(token string) {
			resp, err := client.PostForm(endpoint, url.Values{"token": {token}})
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
		b.ReportMetric(float64(calls.Load())/float64(b.N), "idp_calls/op")
	})
}

// BenchmarkFlood sends random tokens, none of them good. Memory must stay flat:
// heap_bytes/token is what one more token costs when the cache is full.
func BenchmarkFlood(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	b.Run("gate", func(b *testing.B) {
		endpoint, _ := benchProvider(b)
		g, cache := benchGate(b, endpoint)
		before, n := heap(), 0
		for b.Loop() {
			n++
			if g.Decide(context.Background(), benchRequest(fmt.Sprintf("bad%d", n)), &kong{}).Answer == nil {
				b.Fatal("let through")
			}
		}
		b.ReportMetric(float64(max(heap(), before)-before)/float64(n), "heap_bytes/token")
		b.ReportMetric(float64(cache.Bytes())/float64(max(cache.Len(), 1)), "cache_bytes/entry")
	})
	b.Run("baseline", func(b *testing.B) {
		endpoint, _ := benchProvider(b)
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		n := 0
		for b.Loop() {
			n++
			resp, err := client.PostForm(endpoint, url.Values{"token": {fmt.Sprintf("bad%d", n)}})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
}
