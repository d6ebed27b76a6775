package exchange_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"phantomtoken/sidecar/exchange"
)

// BenchmarkStampede has many callers ask for one cold key at a provider that takes 50 ms. One
// operation is one stampede. p99/latency is how long the callers wait, each from its own
// start, against the latency of the call that the first of them made.
func BenchmarkStampede(b *testing.B) {
	const latency = 50 * time.Millisecond
	for _, callers := range []int{64, 1000} {
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
