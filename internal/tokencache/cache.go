package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"phantomtoken/internal/flight"
)

// Config is what shapes a Cache. The zero value is ready for use.
type Config struct {
	// MaxEntries bounds the number of entries. Zero means 50,000.
	MaxEntries int
	// MaxBytes bounds the memory of the entries, estimated. Zero means 64 MiB. An entry
	// that alone exceeds a sixteenth of it is not stored.
	MaxBytes int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Hit says where an entry came from.
type Hit = flight.Outcome

const (
	// Miss means that this caller's fetch was run.
	Miss = flight.Miss
	// Shared means that the fetch of another caller, under way already, was waited for.
	Shared = flight.Shared
	// Cached means that the entry was in the cache.
	Cached = flight.Cached
)

// PanicError is the error of a fetch that panicked or ended its goroutine.
type PanicError = flight.PanicError

// Cache holds entries by key. It is safe for concurrent use and owns no goroutine except
// those of the fetches under way.
type Cache struct {
	entries *flight.Cache[*Entry]
}

// New returns an empty cache.
func New(cfg Config) (*Cache, error) {
	var errs []error
	if cfg.MaxEntries < 0 {
		errs = append(errs, fmt.Errorf("cache.max_entries: expected a positive number, got %d", cfg.MaxEntries))
	}
	if cfg.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("cache.max_bytes: expected a positive number, got %d", cfg.MaxBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	entries, err := flight.New[*Entry](flight.Config{MaxEntries: cfg.MaxEntries, MaxBytes: cfg.MaxBytes, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	return &Cache{entries: entries}, nil
}

// Bounds raises the bounds to entries and bytes where these are larger. Several users of
// one cache thus agree on the largest wish.
func (c *Cache) Bounds(entries int, bytes int64) { c.entries.Bounds(entries, bytes) }

// Get returns the live entry of key and reports whether there is one.
func (c *Cache) Get(key Key) (*Entry, bool) { return c.entries.Get(key) }

// Do returns the live entry of key. When there is none it runs fetch, once for all
// callers that ask meanwhile, and stores what it returns.
//
// The fetch runs under a context that carries the values of the first caller's but is not
// cancelled with it, only after timeout; it must return when that context ends. A caller
// whose own ctx ends leaves with ctx.Err() and hurts nobody: the fetch goes on for the
// others and for the cache.
//
// Errors of fetch reach every waiting caller and are not stored. An entry that is over
// already (see [Entry.Expiry]) reaches them too and is not stored either. A fetch that
// panics ends as a [PanicError].
func (c *Cache) Do(ctx context.Context, key Key, timeout time.Duration, fetch func(ctx context.Context) (*Entry, error)) (*Entry, Hit, error) {
	if e, ok := c.entries.Get(key); ok { // without making a function
		return e, Cached, nil
	}
	return c.entries.Do(ctx, key, timeout, func(ctx context.Context) (flight.Value[*Entry], error) {
		e, err := fetch(ctx)
		switch {
		case err != nil:
			return flight.Value[*Entry]{}, err
		case e == nil:
			return flight.Value[*Entry]{}, errors.New("fetching a cache entry: expected an entry or an error, got neither")
		}
		return flight.Value[*Entry]{V: e, Negative: e.negative(), Expiry: e.end(), Bytes: e.cost()}, nil
	})
}

// Remove forgets the entry of key. A fetch of it that is under way is not stored.
func (c *Cache) Remove(key Key) { c.entries.Remove(key) }

// Len is the number of entries, those included that are over and not yet evicted.
func (c *Cache) Len() int { return c.entries.Len() }

// Bytes is about how much memory the entries occupy.
func (c *Cache) Bytes() int64 { return c.entries.Bytes() }
