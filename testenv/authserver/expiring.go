package authserver

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// expiring is a bounded map whose entries die at their own time; when it is full, the
// oldest entry makes room. Not safe for concurrent use.
type expiring[V any] struct {
	entries *simplelru.LRU[digest, expiringEntry[V]]
}

type expiringEntry[V any] struct {
	value  V
	expiry time.Time
}

// newExpiring makes a map of at most size entries; size must be positive.
func newExpiring[V any](size int) *expiring[V] {
	entries, _ := simplelru.NewLRU[digest, expiringEntry[V]](size, nil) // fails for size < 1 only
	return &expiring[V]{entries: entries}
}

func (e *expiring[V]) put(key digest, value V, expiry time.Time) {
	e.entries.Add(key, expiringEntry[V]{value, expiry})
}

// get returns a live entry. It does not make it younger: age is what counts.
func (e *expiring[V]) get(key digest, now time.Time) (V, bool) {
	entry, ok := e.entries.Peek(key)
	if !ok || !now.Before(entry.expiry) {
		var zero V
		return zero, false
	}
	return entry.value, true
}

func (e *expiring[V]) remove(key digest) { e.entries.Remove(key) }
