package flight

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shard is a part of the cache: the keys that begin with certain bits.
type shard[V any] struct {
	mu         sync.RWMutex // guards what follows; never held during a fetch
	maxEntries int
	maxBytes   int64
	active     shelf[V]
	negative   shelf[V]
	flights    map[Key]*flight[V]
}

// shelf is one order of arrival. Values and negative ones stand on different shelves, so
// that each can be evicted without searching.
type shelf[V any] struct {
	lru   *simplelru.LRU[Key, *entry[V]]
	bytes int64
}

// entry is a value that is kept. What is not atomic never changes.
type entry[V any] struct {
	v        V
	err      error
	negative bool
	expiry   int64 // nanoseconds since 1970
	cost     int64

	refreshAt atomic.Int64 // from when on asking for it starts a refresh
	used      atomic.Bool  // asked for since it was last spared
}

// overhead is about what the cache allocates for an entry beside the value: the entry, the
// element of its list and the slot of its map. TestBytesAreCloseToTheHeap keeps it honest.
const overhead = 320

// use notes that e was asked for. It writes only once, so that a value in use by many
// cores stays in the caches of all of them.
func (e *entry[V]) use() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

func newShard[V any](entries int, bytes int64) (*shard[V], error) {
	// The lists have no bound of their own: the bounds are of both together.
	active, err := simplelru.NewLRU[Key, *entry[V]](math.MaxInt, nil)
	if err != nil {
		return nil, err
	}
	negative, err := simplelru.NewLRU[Key, *entry[V]](math.MaxInt, nil)
	if err != nil {
		return nil, err
	}
	return &shard[V]{
		maxEntries: entries,
		maxBytes:   bytes,
		active:     shelf[V]{lru: active},
		negative:   shelf[V]{lru: negative},
		flights:    map[Key]*flight[V]{},
	}, nil
}

// peek returns the entry of key, live or not, or nil. It moves nothing, so that callers
// read side by side.
func (s *shard[V]) peek(key Key) *entry[V] {
	s.mu.RLock()
	e := s.find(key)
	s.mu.RUnlock()
	return e
}

func (s *shard[V]) find(key Key) *entry[V] {
	e, ok := s.active.lru.Peek(key)
	if !ok && s.negative.lru.Len() > 0 {
		e, _ = s.negative.lru.Peek(key)
	}
	return e
}

// live returns the live entry of key or nil, and drops one that is over.
func (s *shard[V]) live(key Key, now int64) *entry[V] {
	e := s.find(key)
	if e == nil {
		return nil
	}
	if now < e.expiry {
		e.use()
		return e
	}
	s.remove(key)
	return nil
}

func (s *shard[V]) len() int     { return s.active.lru.Len() + s.negative.lru.Len() }
func (s *shard[V]) bytes() int64 { return s.active.bytes + s.negative.bytes }

func (s *shard[V]) remove(key Key) {
	s.active.remove(key)
	s.negative.remove(key)
}

func (s *shard[V]) store(key Key, e *entry[V]) {
	s.remove(key)
	if e.cost > s.maxBytes {
		return
	}
	on := &s.active
	if e.negative {
		on = &s.negative
	}
	on.lru.Add(key, e)
	on.bytes += e.cost
	for s.len() > s.maxEntries || s.bytes() > s.maxBytes {
		s.evict()
	}
}

// evict drops one entry: a negative one as long as these take more than an eighth of the
// room, so that they neither push out the values in use nor vanish at once when the cache
// is full of those.
func (s *shard[V]) evict() {
	greedy := s.negative.lru.Len() > s.maxEntries/8 || s.negative.bytes > s.maxBytes/8
	if s.negative.lru.Len() > 0 && (greedy || s.active.lru.Len() == 0) {
		s.negative.evict()
		return
	}
	s.active.evict()
}

func (s *shelf[V]) remove(key Key) {
	if old, ok := s.lru.Peek(key); ok {
		s.bytes -= old.cost
		s.lru.Remove(key)
	}
}

// chances bounds the work of one eviction.
const chances = 64

// evict drops the oldest entry. One that was asked for since it was last looked at is
// spared and counts as new. That is close to the order of use, and reading needs no lock
// that excludes other readers.
func (s *shelf[V]) evict() {
	for range chances {
		key, e, ok := s.lru.GetOldest()
		if !ok || !e.used.Load() {
			break
		}
		e.used.Store(false)
		s.lru.Get(key) // makes it the newest
	}
	if _, old, ok := s.lru.RemoveOldest(); ok {
		s.bytes -= old.cost
	}
}
