package tokencache_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/tokencache"
)

// Each benchmark stands beside a baseline that does the same work without the cache's
// promises, so that the price of the promises can be read as a ratio.

// goroutines is how many requests are under way at one time.
const goroutines = 64

// baseline is a map behind a mutex: no bounds, no order of use, no sharing of fetches.
type baseline struct {
	mu      sync.Mutex
	entries map[tokencache.Key]*tokencache.Entry
}

func (b *baseline) get(k tokencache.Key) *tokencache.Entry {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[k]; e != nil && now.Before(e.Expiry) {
		return e
	}
	return nil
}

func (b *baseline) put(k tokencache.Key, e *tokencache.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[k] = e
}

// BenchmarkHit is 64 requests at a time that all bear one token.
func BenchmarkHit(b *testing.B) {
	const token = "7f3a91c2-5b7e-4f8e-9c5c-1b1f5b7e4f8e"
	e := active(time.Now().Add(time.Hour))
	run := func(b *testing.B, get func() bool) {
		b.ReportAllocs()
		b.SetParallelism((goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if !get() {
					b.Error("not found")
				}
			}
		})
	}
	b.Run("cache", func(b *testing.B) {
		c := newCache(b, tokencache.Config{})
		put(b, c, token, e)
		run(b, func() bool { _, ok := c.Get(key(token)); return ok })
	})
	b.Run("baseline", func(b *testing.B) {
		m := &baseline{entries: map[tokencache.Key]*tokencache.Entry{key(token): e}}
		run(b, func() bool { return m.get(key(token)) != nil })
	})
}

// BenchmarkMinted is the phantom token of a hit.
func BenchmarkMinted(b *testing.B) {
	end := time.Now().Add(time.Hour)
	e := active(end)
	mint := func() (string, time.Time, error) { return "phantom", end, nil }
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := e.Minted([32]byte{}, time.Now(), 30*time.Second, mint); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkStampede is 64 requests that arrive together with a token nobody knows yet.
// calls/op is how often the provider is asked: 1, where the baseline asks 64 times.
func BenchmarkStampede(b *testing.B) {
	run := func(b *testing.B, do func(k tokencache.Key, fetch func() *tokencache.Entry)) {
		var calls atomic.Int64
		e := active(time.Now().Add(time.Hour))
		for i := range b.N {
			var k tokencache.Key
			binary.BigEndian.PutUint64(k[:], uint64(i))
			answer := make(chan struct{}) // the provider answers when all have arrived
			var arrived, gone sync.WaitGroup
			arrived.Add(goroutines)
			for range goroutines {
				gone.Go(func() {
					arrived.Done()
					do(k, func() *tokencache.Entry {
						calls.Add(1)
						<-answer
						return e
					})
				})
			}
			arrived.Wait()
			close(answer)
			gone.Wait()
		}
		b.ReportMetric(float64(calls.Load())/float64(b.N), "calls/op")
	}
	b.Run("cache", func(b *testing.B) {
		c := newCache(b, tokencache.Config{})
		run(b, func(k tokencache.Key, fetch func() *tokencache.Entry) {
			if _, _, err := c.Do(b.Context(), k, time.Minute, func(context.Context) (*tokencache.Entry, error) { return fetch(), nil }); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("baseline", func(b *testing.B) {
		m := &baseline{entries: map[tokencache.Key]*tokencache.Entry{}}
		run(b, func(k tokencache.Key, fetch func() *tokencache.Entry) {
			if m.get(k) == nil {
				m.put(k, fetch())
			}
		})
	})
}

// BenchmarkFlood is random tokens, each seen once. bytes is what the heap holds
// afterwards: it stays within the bound, where the baseline's grows with every token. Run
// it with -benchtime=1000000x to see the difference.
func BenchmarkFlood(b *testing.B) {
	const bound = 8 << 20
	run := func(b *testing.B, one func(k tokencache.Key)) {
		before := heap()
		b.ReportAllocs()
		b.ResetTimer()
		var k tokencache.Key
		for i := range b.N {
			binary.BigEndian.PutUint64(k[:], uint64(i)*0x9e3779b97f4a7c15)
			one(k)
		}
		b.StopTimer()
		after := max(heap(), before)
		b.ReportMetric(float64(after-before), "bytes")
	}
	end := time.Now().Add(time.Hour)
	b.Run("cache", func(b *testing.B) {
		c := newCache(b, tokencache.Config{MaxBytes: bound})
		run(b, func(k tokencache.Key) {
			if _, _, err := c.Do(b.Context(), k, time.Minute, func(context.Context) (*tokencache.Entry, error) { return inactive(end), nil }); err != nil {
				b.Error(err)
			}
		})
		b.ReportMetric(float64(c.Bytes()), "estimated-bytes")
		runtime.KeepAlive(c)
	})
	b.Run("baseline", func(b *testing.B) {
		m := &baseline{entries: map[tokencache.Key]*tokencache.Entry{}}
		run(b, func(k tokencache.Key) {
			if m.get(k) == nil {
				m.put(k, inactive(end))
			}
		})
		runtime.KeepAlive(m)
	})
}
