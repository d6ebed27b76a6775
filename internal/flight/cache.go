package flight

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Key finds a value. It must be evenly distributed, as a SHA-256 is.
type Key = [32]byte

// Config is what shapes a Cache. The zero value is ready for use.
type Config struct {
	// MaxEntries bounds the number of values. Zero means 50,000.
	MaxEntries int
	// MaxBytes bounds the memory of the values, estimated. Zero means 64 MiB. A large cache
	// is made of 16 parts that share the bounds evenly; a value that alone exceeds the share
	// of a part is not kept.
	MaxBytes int64
	// RefreshAhead is the part of its life, from 0 to below 1, in which a value that is
	// asked for is replaced behind the callers, also by a no. Zero means never.
	RefreshAhead float64
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

// Parts of a large cache: enough that callers on many cores seldom meet at one lock, and
// so few that the even share of a part is still close to the whole in use.
const (
	manyShards   = 16
	shardEntries = 1024    // a part is not worth it for fewer
	shardBytes   = 1 << 20 // nor for less, and large values must fit in
)

func (c Config) shards() int {
	if c.maxEntries() < manyShards*shardEntries || c.maxBytes() < manyShards*shardBytes {
		return 1
	}
	return manyShards
}

// Value is what a fetch returns.
type Value[V any] struct {
	V V
	// Err is a definite refusal. Who asks before Expiry gets it as the error of Do, without
	// a call. Trouble must be the error of the fetch instead.
	Err error
	// Negative marks a V that says no. It stands with the refusals, on their share.
	Negative bool
	// Expiry is the end of the value. When it is over already, or zero, those who wait get
	// the value and it is not kept.
	Expiry time.Time
	// Bytes is about how much memory V and Err take; the cache adds what it needs itself.
	Bytes int
	// Final means that no other fetch would give a longer life, so that the value is not
	// refreshed ahead.
	Final bool
}

func (v *Value[V]) negative() bool { return v.Negative || v.Err != nil }

// Fetch makes the value of a key. It must return when ctx ends. Its error is trouble and
// is never kept; see [Value.Err] for a refusal.
type Fetch[V any] func(ctx context.Context) (Value[V], error)

// Outcome says where the answer of [Cache.Do] came from.
type Outcome int

const (
	// Miss means that this caller's fetch was run.
	Miss Outcome = iota
	// Shared means that the fetch of another caller, under way already, was waited for.
	Shared
	// Cached means that the value, or the refusal, was in the cache.
	Cached
)

// String is the word for logs: miss, shared or cached.
func (o Outcome) String() string {
	switch o {
	case Shared:
		return "shared"
	case Cached:
		return "cached"
	default:
		return "miss"
	}
}

// Cache holds values by key. It is safe for concurrent use and owns no goroutine except
// those of the fetches under way.
type Cache[V any] struct {
	now     func() time.Time
	refresh float64
	shards  []*shard[V]
}

// New returns an empty cache. The error names every field that has to change.
func New[V any](cfg Config) (*Cache[V], error) {
	var errs []error
	if cfg.MaxEntries < 0 {
		errs = append(errs, fmt.Errorf("MaxEntries: expected a positive number, got %d", cfg.MaxEntries))
	}
	if cfg.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBytes: expected a positive number, got %d", cfg.MaxBytes))
	}
	if !(cfg.RefreshAhead >= 0 && cfg.RefreshAhead < 1) {
		errs = append(errs, fmt.Errorf("RefreshAhead: expected a part from 0 to below 1, got %g", cfg.RefreshAhead))
	}
	c := &Cache[V]{now: cfg.now(), refresh: cfg.RefreshAhead, shards: make([]*shard[V], cfg.shards())}
	for i := range c.shards {
		s, err := newShard[V](cfg.maxEntries()/len(c.shards), cfg.maxBytes()/int64(len(c.shards)))
		errs = append(errs, err)
		c.shards[i] = s
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Cache[V]) shard(key Key) *shard[V] { return c.shards[int(key[0])%len(c.shards)] }

// Get returns the value of key that can be used as it is, and reports whether there is
// one: it is live and needs no refresh, and it is no refusal with an error. Everything else
// is for [Cache.Do]. Asking here first saves the making of a fetch.
func (c *Cache[V]) Get(key Key) (V, bool) {
	now := nanos(c.now())
	s := c.shard(key)
	e := s.peek(key)
	switch {
	case e == nil:
	case now >= e.expiry:
		s.mu.Lock()
		s.live(key, now)
		s.mu.Unlock()
	case e.err == nil && now < e.refreshAt.Load():
		e.use()
		return e.v, true
	}
	var none V
	return none, false
}

// Do returns the live value of key. When there is none it runs fetch, once for all callers
// that ask meanwhile, and keeps what it returns until its end.
//
// The fetch runs under a context that carries the values of the first caller's but is not
// cancelled with it, only after timeout, which must be positive. A caller whose own ctx
// ends leaves with ctx.Err() and hurts nobody: the fetch goes on for the others and for the
// cache. A caller whose ctx has ended already starts none.
//
// An error of fetch reaches every caller that waits and is not kept. A fetch that panics
// ends as a [PanicError].
func (c *Cache[V]) Do(ctx context.Context, key Key, timeout time.Duration, fetch Fetch[V]) (V, Outcome, error) {
	now := nanos(c.now())
	s := c.shard(key)
	if e := s.peek(key); e != nil && now < e.expiry {
		e.use()
		if now >= e.refreshAt.Load() {
			c.refreshBehind(ctx, s, key, e, timeout, fetch)
		}
		return e.v, Cached, e.err
	}

	s.mu.Lock()
	if e := s.live(key, now); e != nil { // somebody else was first
		s.mu.Unlock()
		return e.v, Cached, e.err
	}
	outcome := Shared
	f := s.flights[key]
	if f == nil {
		outcome = Miss
		if err := ctx.Err(); err != nil {
			s.mu.Unlock()
			var none V
			return none, outcome, err
		}
		f = &flight[V]{done: make(chan struct{})}
		s.flights[key] = f
		go c.run(context.WithoutCancel(ctx), s, key, f, timeout, fetch)
	}
	s.mu.Unlock()

	select {
	case <-f.done:
		if f.err != nil {
			return f.value.V, outcome, f.err
		}
		return f.value.V, outcome, f.value.Err
	case <-ctx.Done():
		var none V
		return none, outcome, ctx.Err()
	}
}

// refreshBehind starts the fetch that is to replace e, unless somebody did already.
func (c *Cache[V]) refreshBehind(ctx context.Context, s *shard[V], key Key, e *entry[V], timeout time.Duration, fetch Fetch[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.refreshAt.Load() == never || s.flights[key] != nil {
		return
	}
	if current, ok := s.active.lru.Peek(key); !ok || current != e {
		return
	}
	e.refreshAt.Store(never) // callers need not look again until it has landed
	f := &flight[V]{done: make(chan struct{}), replaces: e}
	s.flights[key] = f
	go c.run(context.WithoutCancel(ctx), s, key, f, timeout, fetch)
}

// Evict forgets the value of key if stale says so, for example because it is still the one
// that was refused elsewhere: whoever comes late with bad news about an old value does not
// take the new one away. It reports whether a value was forgotten. stale runs under a lock:
// it must only look. Refusals are not asked about and stay.
func (c *Cache[V]) Evict(key Key, stale func(V) bool) bool {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.active.lru.Peek(key)
	if !ok || !stale(e.v) {
		return false
	}
	s.remove(key)
	return true
}

// Remove forgets the value or refusal of key, whatever it is. A fetch of it that is under
// way is not kept: what was asked for before may be older than the reason to forget it.
func (c *Cache[V]) Remove(key Key) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flights, key)
	s.remove(key)
}

// Bounds raises the bounds to entries and bytes where these are larger. Several users of
// one cache thus agree on the largest wish.
func (c *Cache[V]) Bounds(entries int, bytes int64) {
	n := len(c.shards)
	for _, s := range c.shards {
		s.mu.Lock()
		s.maxEntries = max(s.maxEntries, entries/n)
		s.maxBytes = max(s.maxBytes, bytes/int64(n))
		s.mu.Unlock()
	}
}

// Len is the number of values and refusals, those included that are over and not yet
// evicted.
func (c *Cache[V]) Len() int {
	n := 0
	for _, s := range c.shards {
		s.mu.RLock()
		n += s.len()
		s.mu.RUnlock()
	}
	return n
}

// Bytes is about how much memory they occupy.
func (c *Cache[V]) Bytes() int64 {
	var n int64
	for _, s := range c.shards {
		s.mu.RLock()
		n += s.bytes()
		s.mu.RUnlock()
	}
	return n
}

// Flights is how many fetches are under way.
func (c *Cache[V]) Flights() int {
	n := 0
	for _, s := range c.shards {
		s.mu.RLock()
		n += len(s.flights)
		s.mu.RUnlock()
	}
	return n
}

// never is a time that does not come.
const never = math.MaxInt64

// nanos is t by the wall clock, which goes on while a machine sleeps, unlike the monotonic
// one. Times beyond the range of int64, such as the zero Time or the year 9999, become its
// ends.
func nanos(t time.Time) int64 {
	const limit = math.MaxInt64 / int64(time.Second) // a few seconds are lost at the ends
	switch s := t.Unix(); {
	case s >= limit:
		return never
	case s <= -limit:
		return math.MinInt64
	}
	return t.UnixNano()
}
