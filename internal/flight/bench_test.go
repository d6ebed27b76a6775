package flight_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/flight"
)

// Each benchmark stands beside a baseline that does the same work without the cache's
// promises, so that the price of the promises can be read as a ratio.

// goroutines is how many requests are under way at one time.
const goroutines = 64

// baseline is a map behind a mutex: no bounds, no order of use, no sharing of fetches.
type baseline struct {
	mu     sync.Mutex
	values map[flight.Key]*kept
}

type kept struct {
	value  string
	expiry time.Time
}

func (b *baseline) get(k flight.Key) (string, bool) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.values[k]; v != nil && now.Before(v.expiry) {
		return v.value, true
	}
	return "", false
}

func (b *baseline) put(k flight.Key, value string, expiry time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values[k] = &kept{value, expiry}
}

// key is the i-th of evenly distributed keys.
func key(i int) flight.Key {
	var k flight.Key
	binary.BigEndian.PutUint64(k[:], uint64(i+1)*0x9e3779b97f4a7c15)
	return k
}

// BenchmarkHit is 64 goroutines that ask for one value, or each for another one.
func BenchmarkHit(b *testing.B) {
	end := time.Now().Add(time.Hour)
	run := func(b *testing.B, keys int, get func(flight.Key) bool) {
		b.ReportAllocs()
		b.SetParallelism((goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		var started atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			k := key(int(started.Add(1)) % keys)
			for pb.Next() {
				if !get(k) {
					b.Error("not found")
				}
			}
		})
	}
	for _, n := range []struct {
		name string
		keys int
	}{{"one key", 1}, {"many keys", goroutines}} {
		c := newCache(b, flight.Config{RefreshAhead: 0.2})
		m := &baseline{values: map[flight.Key]*kept{}}
		fetch := func(context.Context) (flight.Value[string], error) {
			return flight.Value[string]{V: "token", Expiry: end}, nil
		}
		for i := range n.keys {
			m.put(key(i), "token", end)
			if _, _, err := c.Do(b.Context(), key(i), time.Minute, fetch); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(n.name+"/get", func(b *testing.B) {
			run(b, n.keys, func(k flight.Key) bool { _, ok := c.Get(k); return ok })
		})
		b.Run(n.name+"/do", func(b *testing.B) {
			run(b, n.keys, func(k flight.Key) bool {
				_, outcome, _ := c.Do(b.Context(), k, time.Minute, fetch)
				return outcome == flight.Cached
			})
		})
		b.Run(n.name+"/baseline", func(b *testing.B) {
			run(b, n.keys, func(k flight.Key) bool { _, ok := m.get(k); return ok })
		})
	}
}

// BenchmarkStampede is 1000 callers that arrive together at one cold key. fetches/op is how
// often the value is made: once, where the baseline makes it a thousand times.
func BenchmarkStampede(b *testing.B) {
	const callers = 1000
	end := time.Now().Add(time.Hour)
	run := func(b *testing.B, do func(k flight.Key, fetch func())) {
		var fetches atomic.Int64
		for i := range b.N {
			made := make(chan struct{}) // the value is ready when all have arrived
			var arrived, gone sync.WaitGroup
			arrived.Add(callers)
			for range callers {
				gone.Go(func() {
					arrived.Done()
					do(key(i), func() {
						fetches.Add(1)
						<-made
					})
				})
			}
			arrived.Wait()
			close(made)
			gone.Wait()
		}
		b.ReportMetric(float64(fetches.Load())/float64(b.N), "fetches/op")
	}
	b.Run("cache", func(b *testing.B) {
		c := newCache(b, flight.Config{})
		run(b, func(k flight.Key, fetch func()) {
			if _, _, err := c.Do(b.Context(), k, time.Minute, func(context.Context) (flight.Value[string], error) {
				fetch()
				return flight.Value[string]{V: "token", Expiry: end}, nil
			}); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("baseline", func(b *testing.B) {
		m := &baseline{values: map[flight.Key]*kept{}}
		run(b, func(k flight.Key, fetch func()) {
			if _, ok := m.get(k); !ok {
				fetch()
				m.put(k, "token", end)
			}
		})
	})
}

// BenchmarkFlood is different keys, each asked for once. bytes is what the heap holds
// afterwards: it stays within the bound, where the baseline's grows with every key. Run it
// with -benchtime=1000000x to see the difference. bytes/value is what one value takes.
func BenchmarkFlood(b *testing.B) {
	end := time.Now().Add(time.Hour)
	run := func(b *testing.B, one func(i int), held func() int) {
		before := heap()
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			one(i)
		}
		b.StopTimer()
		after := max(heap(), before)
		b.ReportMetric(float64(after-before), "bytes")
		b.ReportMetric(float64(after-before)/float64(held()), "bytes/value")
	}
	b.Run("cache", func(b *testing.B) {
		c := newCache(b, flight.Config{})
		run(b, func(i int) {
			if _, _, err := c.Do(b.Context(), key(i), time.Minute, func(context.Context) (flight.Value[string], error) {
				return flight.Value[string]{V: "token", Expiry: end}, nil
			}); err != nil {
				b.Error(err)
			}
		}, c.Len)
		b.ReportMetric(float64(c.Bytes()), "estimated-bytes")
		runtime.KeepAlive(c)
	})
	b.Run("baseline", func(b *testing.B) {
		m := &baseline{values: map[flight.Key]*kept{}}
		run(b, func(i int) {
			if _, ok := m.get(key(i)); !ok {
				m.put(key(i), "token", end)
			}
		}, func() int { return len(m.values) })
		runtime.KeepAlive(m)
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func newCache(t testing.TB, cfg flight.Config) *flight.Cache[string] {
	t.Helper()
	c, err := flight.New[string](cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}
