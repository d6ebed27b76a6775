package tokencache_test

import (
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
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

func newCache(t testing.TB, cfg tokencache.Config) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(cfg)
	if err != nil {
		t.Fatalf("New(%+v): %v", cfg, err)
	}
	return c
}

func active(expiry time.Time) *tokencache.Entry {
	return &tokencache.Entry{
		Introspection: &oauth.Introspection{Active: true, Subject: "john.doe", Claims: map[string]any{"sub": "john.doe"}},
		Expiry:        expiry,
	}
}

func inactive(expiry time.Time) *tokencache.Entry {
	return &tokencache.Entry{Introspection: &oauth.Introspection{}, Expiry: expiry}
}
