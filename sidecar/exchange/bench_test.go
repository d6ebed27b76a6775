package exchange_test

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/sidecar/exchange"
)

// BenchmarkStampede has many callers ask for one cold key at a provider that takes 50 ms. One
// operation is one stampede. p99/latency is how long the callers wait, each from its own
// start, against the latency of the provider; that of one caller alone has the call over
// loopback and the verification of the answer in it too.
func BenchmarkStampede(b *testing.B) {
	const latency = 50 * time.Millisecond
	for _, callers := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			p := newProvider(b, func(c *exchange.Config) { c.Logger, c.Observe = nil, nil })
			p.during = func(r *http.Request) {
				select {
				case <-time.After(latency):
				case <-r.Context().Done():
				}
			}
			waits := make([]time.Duration, callers)
			var all []float64
			stampedes := 0
			b.ReportAllocs()
			for b.Loop() {
				stampedes++
				req := p.w.request(nil)
				var group sync.WaitGroup
				for i := range waits {
					group.Go(func() {
						begin := time.Now()
						if _, err := p.w.x.Exchange(b.Context(), req); err != nil {
							b.Error(err)
						}
						waits[i] = time.Since(begin)
					})
				}
				group.Wait()
				slices.Sort(waits)
				all = append(all, float64(waits[callers*99/100])/float64(latency))
			}
			slices.Sort(all)
			b.ReportMetric(float64(p.asked())/float64(stampedes), "provider-calls/op")
			b.ReportMetric(all[len(all)/2], "p99/latency")
		})
	}
}

// BenchmarkFlood exchanges the tokens of ever other users. Memory must stay flat: once the
// cache is full, heap_bytes/kept is what one kept token costs, whatever the number of users
// (-benchtime 1000000x for a million).
func BenchmarkFlood(b *testing.B) {
	const kept = 10_000
	w := newWorld(b, usual, func(c *exchange.Config) {
		c.Logger, c.Observe, c.CacheEntries = nil, nil, kept
	})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, n := heap(), 0
	for b.Loop() {
		n++
		b.StopTimer()
		req := w.request(func(r *exchange.Request) {
			r.SubjectToken = w.mint(func(k *keyring.Token) { k.Subject = fmt.Sprint("user", n) })
		})
		b.StartTimer()
		w.exchange(req)
	}
	entries := min(n, kept)
	b.ReportMetric(float64(max(heap(), before)-before)/float64(entries), "heap_bytes/kept")
	b.ReportMetric(float64(w.x.CacheBytes())/float64(entries), "cache_bytes/kept")
	runtime.KeepAlive(w)
}
