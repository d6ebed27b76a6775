package tokenexchange_test

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

// subject is a token of the usual length.
func subject() string {
	return jwt(`{"sub":"john.doe","iss":"https://gw.example.com","aud":"https://mcp.internal.example.com","exp":4102444800,"scope":"stocks/read stocks/trade","padding":"` +
		strings.Repeat("x", 500) + `"}`)
}

// BenchmarkExchange is an exchange whose answer is known, beside a map behind a mutex: what
// a program would write that ignores audience, scope, life and bounds. baseline has the token
// itself as its key, which no cache should; baseline-hashed its SHA-256.
func BenchmarkExchange(b *testing.B) {
	req := tokenexchange.Request{SubjectToken: subject(), Audience: []string{"https://api.example"}, Scope: []string{"stocks/read"}}
	b.Run("cached", func(b *testing.B) {
		client := newClient(b, answer(200, "application/json", success("issued", `,"expires_in":3600`)), func(c *tokenexchange.Config) {
			c.Cache, c.Now = &tokenexchange.CacheConfig{}, nil
		})
		if _, err := client.Exchange(b.Context(), req); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if res, err := client.Exchange(b.Context(), req); err != nil || res.AccessToken != "issued" {
					b.Error(res, err)
				}
			}
		})
	})
	b.Run("baseline", func(b *testing.B) {
		var mu sync.Mutex
		tokens := map[string]*tokenexchange.Response{req.SubjectToken: {AccessToken: "issued", ExpiresIn: time.Hour}}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mu.Lock()
				res := tokens[req.SubjectToken]
				mu.Unlock()
				if res == nil {
					b.Error("not found")
				}
			}
		})
	})
	b.Run("baseline-hashed", func(b *testing.B) { baselineHashed(b, req.SubjectToken) })
}

func baselineHashed(b *testing.B, token string) {
	var mu sync.Mutex
	tokens := map[[32]byte]*tokenexchange.Response{sha256.Sum256([]byte(token)): {AccessToken: "issued", ExpiresIn: time.Hour}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key := sha256.Sum256([]byte(token))
			mu.Lock()
			res := tokens[key]
			mu.Unlock()
			if res == nil {
				b.Error("not found")
			}
		}
	})
}

// BenchmarkTransport is a request to an API on loopback with a token that is known, beside
// the same request through http.Transport alone, with a token that was put into it.
func BenchmarkTransport(b *testing.B) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer issued" {
			b.Errorf("got %q", r.Header.Get("Authorization"))
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer api.Close()
	base := &http.Transport{MaxIdleConnsPerHost: 16}
	defer base.CloseIdleConnections()
	client := newClient(b, answer(200, "application/json", success("issued", `,"expires_in":3600`)), func(c *tokenexchange.Config) {
		c.Cache, c.Now = &tokenexchange.CacheConfig{}, nil
	})
	transport, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{
		Client: client, Base: base, Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"https://api.example"}, Scope: []string{"stocks/read"}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := tokenexchange.WithToken(b.Context(), subject())
	run := func(b *testing.B, rt http.RoundTripper, authorization string) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"/stocks", nil)
			if err != nil {
				b.Fatal(err)
			}
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			res, err := rt.RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	b.Run("transport", func(b *testing.B) { run(b, transport, "") })
	b.Run("baseline", func(b *testing.B) { run(b, base, "Bearer issued") })
}
