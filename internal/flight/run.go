package flight

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// flight is one fetch under way. value and err are set before done is closed.
type flight[V any] struct {
	done     chan struct{}
	value    Value[V]
	err      error
	replaces *entry[V] // what a refresh is for; nil for a miss
}

// refreshPause is how long a refresh that failed is not tried again.
const refreshPause = 5 * time.Second

// refreshGain is how much longer than its predecessor a refreshed value must live for
// another refresh to be worth a call. Whole seconds of exp make less of a gain by chance.
const refreshGain = 2 * time.Second

// run is the goroutine of one flight.
func (c *Cache[V]) run(ctx context.Context, s *shard[V], key Key, f *flight[V], timeout time.Duration, fetch Fetch[V]) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	Guard(func() error {
		var err error
		f.value, err = fetch(ctx)
		return err
	}, func(err error) {
		if f.err = err; err != nil {
			f.value = Value[V]{}
		}
		c.land(s, key, f)
	})
}

// land keeps what f brought unless key was removed meanwhile. A no replaces the value that
// was to be refreshed, since who gave it has taken it back; trouble leaves it.
func (c *Cache[V]) land(s *shard[V], key Key, f *flight[V]) {
	now, end := nanos(c.now()), nanos(f.value.Expiry)
	s.mu.Lock()
	if s.flights[key] == f {
		delete(s.flights, key)
		old := f.replaces
		inUse := old != nil && now < old.expiry && s.find(key) == old
		switch {
		case inUse && f.err == nil && f.value.negative() && now >= end:
			s.remove(key) // taken back, and not for keeping either
		case inUse && (f.err != nil || now >= end):
			old.refreshAt.Store(now + int64(refreshPause))
		case f.err != nil || now >= end:
		default:
			s.store(key, c.entry(&f.value, old, now, end))
		}
	}
	s.mu.Unlock()
	close(f.done)
}

// entry is v as it is kept from now to end.
func (c *Cache[V]) entry(v *Value[V], old *entry[V], now, end int64) *entry[V] {
	e := &entry[V]{v: v.V, err: v.Err, negative: v.negative(), expiry: end, cost: int64(v.Bytes) + overhead}
	e.refreshAt.Store(never)
	gains := old == nil || end-old.expiry >= int64(refreshGain)
	if c.refresh > 0 && !e.negative && !v.Final && gains {
		e.refreshAt.Store(end - int64(float64(end-now)*c.refresh))
	}
	return e
}

// Guard calls call in this goroutine and then land with its error, which is a [PanicError]
// when call panicked or ended the goroutine: those who wait must hear of it whatever
// happens.
func Guard(call func() error, land func(error)) {
	var err error = &PanicError{reason: "the goroutine ended"}
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
		land(err)
	}()
	err = call()
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
