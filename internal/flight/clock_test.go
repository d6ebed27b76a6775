package flight_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/flight"
)

// clock is a clock that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// lasts is a value that lives for d.
func (c *clock) lasts(v string, d time.Duration) flight.Value[string] {
	return flight.Value[string]{V: v, Expiry: c.now().Add(d)}
}

// put keeps v and fails the test when it is not asked for.
func put(t testing.TB, c *flight.Cache[string], k flight.Key, v flight.Value[string]) {
	t.Helper()
	_, outcome, err := c.Do(t.Context(), k, time.Minute, func(context.Context) (flight.Value[string], error) { return v, nil })
	if err != v.Err || outcome != flight.Miss {
		t.Fatalf("Do: got %v, %v, want a miss", outcome, err)
	}
}

func has(c *flight.Cache[string], k flight.Key) bool {
	_, ok := c.Get(k)
	return ok
}
