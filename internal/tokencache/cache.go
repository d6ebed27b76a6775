package tokencache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Config is what shapes a Cache. The zero value is ready for use.
type Config struct {
	// MaxEntries bounds the number of entries. Zero means 50,000.
	MaxEntries int
	// MaxBytes bounds the memory of the entries, estimated. Zero means 64 MiB. An entry
	// that alone exceeds it is not stored.
	MaxBytes int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (c Config) maxEntries() int {
	if c.MaxEntries == 0 {
		return 50_000
	}
	return c.MaxEntries
}

func (c Config) maxBytes() int64 {
	if c.MaxBytes == 0 {
		return 64 << 20
	}
	return c.MaxBytes
}

func (c Config) now() func() time.Time {
	if c.Now == nil {
		return time.Now
	}
	return c.Now
}

// Hit says where an entry came from.
type Hit int

const (
	// Miss means that this caller's fetch was run.
	Miss Hit = iota
	// Shared means that the fetch of another caller, under way already, was waited for.
	Shared
	// Cached means that the entry was in the cache.
	Cached
)

// String is the word for logs: miss, shared or cached.
func (h Hit) String() string {
	switch h {
	case Shared:
		return "shared"
	case Cached:
		return "cached"
	default:
		return "miss"
	}
}

// Cache holds entries by key. It is safe for concurrent use and owns no goroutine except
// those of the fetches under way.
type Cache struct {
	now func() time.Time

	mu         sync.Mutex // guards what follows; never held during a fetch
	maxEntries int
	maxBytes   int64
	active     shelf
	negative   shelf
	flights    map[Key]*flight
}

// shelf is one order of use. Active and negative entries stand on different shelves, so
// that each can be evicted without searching.
type shelf struct {
	lru   *simplelru.LRU[Key, stored]
	bytes int64
}

type stored struct {
	entry *Entry
	cost  int64
}

// flight is one fetch under way. entry and err are set before done is closed.
type flight struct {
	done  chan struct{}
	entry *Entry
	err   error
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
	active, err := newShelf()
	errs = append(errs, err)
	negative, err := newShelf()
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Cache{
		now:        cfg.now(),
		maxEntries: cfg.maxEntries(),
		maxBytes:   cfg.maxBytes(),
		active:     active,
		negative:   negative,
		flights:    map[Key]*flight{},
	}, nil
}

// newShelf has no bound of its own: the bounds are of both shelves together.
func newShelf() (shelf, error) {
	lru, err := simplelru.NewLRU[Key, stored](math.MaxInt, nil)
	return shelf{lru: lru}, err
}

// Bounds raises the bounds to entries and bytes where these are larger. Several users of
// one cache thus agree on the largest wish.
func (c *Cache) Bounds(entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxEntries = max(c.maxEntries, entries)
	c.maxBytes = max(c.maxBytes, bytes)
}

// Get returns the live entry of key and reports whether there is one.
func (c *Cache) Get(key Key) (*Entry, bool) {
	now := c.wallClock()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.lookup(key, now)
	return e, e != nil
}

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
	now := c.wallClock()
	c.mu.Lock()
	if e := c.lookup(key, now); e != nil {
		c.mu.Unlock()
		return e, Cached, nil
	}
	hit := Shared
	f := c.flights[key]
	if f == nil {
		hit = Miss
		if err := ctx.Err(); err != nil {
			c.mu.Unlock()
			return nil, hit, err
		}
		f = &flight{done: make(chan struct{})}
		c.flights[key] = f
		go c.run(context.WithoutCancel(ctx), key, f, timeout, fetch)
	}
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.entry, hit, f.err
	case <-ctx.Done():
		return nil, hit, ctx.Err()
	}
}

// run is the goroutine of one flight.
func (c *Cache) run(ctx context.Context, key Key, f *flight, timeout time.Duration, fetch func(ctx context.Context) (*Entry, error)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Whatever fetch does, panic or end its goroutine, the flight must land: its callers
	// wait, and the next ones would join it.
	f.err = &PanicError{reason: "the goroutine ended"}
	defer func() {
		if v := recover(); v != nil {
			f.entry, f.err = nil, newPanicError(v)
		}
		c.land(key, f)
	}()
	f.entry, f.err = fetch(ctx)
	if f.err != nil {
		f.entry = nil
	} else if f.entry == nil {
		f.err = errors.New("fetching a cache entry: expected an entry or an error, got neither")
	}
}

// land stores the entry of f unless key was removed meanwhile: an answer that was asked
// for before a revocation may be older than the revocation.
func (c *Cache) land(key Key, f *flight) {
	now := c.wallClock()
	c.mu.Lock()
	if c.flights[key] == f {
		delete(c.flights, key)
		if f.entry != nil && now.Before(f.entry.end()) {
			c.store(key, f.entry)
		}
	}
	c.mu.Unlock()
	close(f.done)
}

// Remove forgets the entry of key. A fetch of it that is under way is not stored.
func (c *Cache) Remove(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flights, key)
	c.remove(key)
}

// Len is the number of entries, those included that are over and not yet evicted.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.len()
}

// Bytes is about how much memory the entries occupy.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes()
}

// wallClock drops the monotonic reading, which stands still while a machine sleeps: the
// life of a token goes on meanwhile.
func (c *Cache) wallClock() time.Time { return c.now().Round(0) }

func (c *Cache) len() int     { return c.active.lru.Len() + c.negative.lru.Len() }
func (c *Cache) bytes() int64 { return c.active.bytes + c.negative.bytes }

// lookup returns the live entry of key or nil, and drops one that is over.
func (c *Cache) lookup(key Key, now time.Time) *Entry {
	s, ok := c.active.lru.Get(key)
	if !ok {
		if s, ok = c.negative.lru.Get(key); !ok {
			return nil
		}
	}
	if now.Before(s.entry.end()) {
		return s.entry
	}
	c.remove(key)
	return nil
}

func (c *Cache) remove(key Key) {
	c.active.remove(key)
	c.negative.remove(key)
}

func (c *Cache) store(key Key, e *Entry) {
	c.remove(key)
	cost := e.cost()
	if cost > c.maxBytes {
		return
	}
	on := &c.active
	if e.negative() {
		on = &c.negative
	}
	on.lru.Add(key, stored{entry: e, cost: cost})
	on.bytes += cost
	for c.len() > c.maxEntries || c.bytes() > c.maxBytes {
		c.evict()
	}
}

// evict drops the entry that was unused longest: a negative one as long as these take
// more than an eighth of the cache, so that they neither push out the tokens in use nor
// vanish at once when the cache is full of those.
func (c *Cache) evict() {
	greedy := c.negative.lru.Len() > c.maxEntries/8 || c.negative.bytes > c.maxBytes/8
	if c.negative.lru.Len() > 0 && (greedy || c.active.lru.Len() == 0) {
		c.negative.removeOldest()
		return
	}
	c.active.removeOldest()
}

func (s *shelf) remove(key Key) {
	if old, ok := s.lru.Peek(key); ok {
		s.bytes -= old.cost
		s.lru.Remove(key)
	}
}

func (s *shelf) removeOldest() {
	if _, old, ok := s.lru.RemoveOldest(); ok {
		s.bytes -= old.cost
	}
}

// PanicError is the error of a fetch that panicked or ended its goroutine. The value of
// the panic is not kept, because nobody knows what it holds.
type PanicError struct {
	// Stack is the stack of the goroutine, for the log of the operator.
	Stack []byte

	reason string
}

func newPanicError(v any) *PanicError {
	reason := fmt.Sprintf("a value of type %T", v)
	if err, ok := v.(runtime.Error); ok {
		reason = err.Error()
	}
	return &PanicError{Stack: debug.Stack(), reason: reason}
}

// Error says what kind of panic it was.
func (e *PanicError) Error() string { return "panic while fetching a cache entry: " + e.reason }
