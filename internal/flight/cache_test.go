package flight_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"phantomtoken/internal/flight"
)

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  flight.Config
		want string // empty: accepted
	}{
		{name: "nothing set", cfg: flight.Config{}},
		{name: "entries", cfg: flight.Config{MaxEntries: -1}, want: "MaxEntries: expected a positive number, got -1"},
		{name: "bytes", cfg: flight.Config{MaxBytes: -2}, want: "MaxBytes: expected a positive number, got -2"},
		{name: "all of a life", cfg: flight.Config{RefreshAhead: 1}, want: "RefreshAhead"},
		{name: "no number", cfg: flight.Config{RefreshAhead: -0.1}, want: "RefreshAhead"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := flight.New[string](tt.cfg)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestValueEnds(t *testing.T) {
	refused := errors.New("no")
	for _, tt := range []struct {
		name string
		life time.Duration
		err  error
		kept bool
	}{
		{name: "value", life: 5 * time.Minute, kept: true},
		{name: "refusal", life: 5 * time.Second, err: refused, kept: true},
		{name: "value without a life", life: 0},
		{name: "value that is over", life: -time.Second},
		{name: "refusal that is over", life: -time.Second, err: refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clk := newClock()
			c := newCache(t, flight.Config{Now: clk.now})
			v := clk.lasts("v", tt.life)
			v.Err = tt.err
			put(t, c, key(1), v)
			if !tt.kept {
				if n := c.Len(); n != 0 {
					t.Errorf("Len = %d, want nothing kept", n)
				}
				return
			}
			ask := func() flight.Outcome {
				_, outcome, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) {
					return flight.Value[string]{}, nil
				})
				if outcome == flight.Cached && err != tt.err {
					t.Errorf("got error %v, want %v", err, tt.err)
				}
				return outcome
			}
			clk.step(tt.life - 1)
			if got := ask(); got != flight.Cached {
				t.Errorf("just before its end: got %v, want cached", got)
			}
			clk.step(1)
			if got := ask(); got != flight.Miss {
				t.Errorf("at its end: got %v, want a miss", got)
			}
			if n, b := c.Len(), c.Bytes(); n != 0 || b != 0 {
				t.Errorf("afterwards: got %d values, %d bytes, want none", n, b)
			}
		})
	}
}

// A time that int64 nanoseconds cannot hold must not wrap around into the past or future.
func TestFarTimes(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{Now: clk.now, RefreshAhead: 0.2})
	put(t, c, key(1), flight.Value[string]{V: "v", Expiry: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)})
	if !has(c, key(1)) {
		t.Error("a value until the year 9999 is not there")
	}
	put(t, c, key(2), flight.Value[string]{V: "v", Expiry: time.Time{}})
	if has(c, key(2)) {
		t.Error("a value of the year 1 is there")
	}
}

// A machine that slept has a monotonic clock that stood still; the wall clock went on.
func TestValueEndsByTheWallClock(t *testing.T) {
	now := time.Now()
	c := newCache(t, flight.Config{Now: func() time.Time { return now }})
	put(t, c, key(1), flight.Value[string]{V: "v", Expiry: now.Add(time.Minute)})
	// The first word of a Time with a monotonic reading counts wall seconds from bit 30 on.
	*(*uint64)(unsafe.Pointer(&now)) += 120 << 30
	if has(c, key(1)) {
		t.Error("after the sleep: got the value, want none")
	}
}

func TestTroubleIsNotKept(t *testing.T) {
	c := newCache(t, flight.Config{Now: newClock().now})
	down := errors.New("down")
	for range 3 {
		v, outcome, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) {
			return newClock().lasts("must not count", time.Hour), down
		})
		if v != "" || outcome != flight.Miss || !errors.Is(err, down) {
			t.Errorf("got %q, %v, %v, want a miss with the error of fetch", v, outcome, err)
		}
	}
	if n := c.Len(); n != 0 {
		t.Errorf("Len = %d, want 0", n)
	}
}

// Refusals must not push out values in use, and find some room where all is in use.
func TestFloodOfRefusalsLeavesValuesInUse(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{MaxEntries: 100, Now: clk.now})
	for i := range 80 {
		put(t, c, key(i), clk.lasts("v", time.Hour))
	}
	refusal := flight.Value[string]{Err: errors.New("no"), Expiry: clk.now().Add(time.Hour)}
	for i := range 10_000 {
		put(t, c, key(1000+i), refusal)
	}
	for i := range 80 {
		if !has(c, key(i)) {
			t.Errorf("value %d was pushed out", i)
		}
	}
	for i := range 200 {
		put(t, c, key(20_000+i), clk.lasts("v", time.Hour))
	}
	put(t, c, key(30_000), refusal)
	if _, outcome, _ := c.Do(t.Context(), key(30_000), time.Minute, nil); outcome != flight.Cached {
		t.Errorf("refusal in a full cache: got %v, want it kept", outcome)
	}
	if n := c.Len(); n != 100 {
		t.Errorf("Len = %d, want the cache full", n)
	}
}

func TestEvictionSparesWhatIsAskedFor(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{MaxEntries: 10, Now: clk.now})
	put(t, c, key(0), clk.lasts("in use", time.Hour))
	for i := range 1000 {
		put(t, c, key(1+i), clk.lasts("v", time.Hour))
		if !has(c, key(0)) {
			t.Fatalf("after %d others: the value in use is gone", i+1)
		}
	}
	if n := c.Len(); n != 10 {
		t.Errorf("Len = %d, want 10", n)
	}
}

// However many entries are in use, an eviction ends.
func TestEvictionWhenAllIsInUse(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{MaxEntries: 500, Now: clk.now})
	for i := range 500 {
		put(t, c, key(i), clk.lasts("v", time.Hour))
	}
	for round := range 100 {
		for i := range 500 {
			has(c, key(i))
		}
		put(t, c, key(1000+round), clk.lasts("v", time.Hour))
		if n := c.Len(); n != 500 {
			t.Fatalf("Len = %d, want 500", n)
		}
	}
}

func TestBounds(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{MaxBytes: 100 << 10, Now: clk.now})
	large := clk.lasts("v", time.Hour)
	large.Bytes = 8 << 10
	for i := range 50 {
		put(t, c, key(i), large)
	}
	if n, b := c.Len(), c.Bytes(); n < 3 || n > 12 || b > 100<<10 {
		t.Errorf("got %d values, %d bytes, want a few within %d", n, b, 100<<10)
	}
	before := c.Len()
	large.Bytes = 200 << 10
	put(t, c, key(100), large)
	if has(c, key(100)) || c.Len() != before {
		t.Errorf("a value larger than the bound: got it kept or others evicted (%d of %d left), want neither", c.Len(), before)
	}
	c.Bounds(0, 1<<20)
	put(t, c, key(100), large)
	if !has(c, key(100)) {
		t.Error("after raising the bound: the value is not kept")
	}
	c.Bounds(1, 1)
	if put(t, c, key(101), large); !has(c, key(101)) {
		t.Error("a lower bound lowered it")
	}
}

// A large cache is made of parts; they share its bounds.
func TestFloodStaysWithinBounds(t *testing.T) {
	const entries, size = 20_000, 32 << 20
	clk := newClock()
	c := newCache(t, flight.Config{MaxEntries: entries, MaxBytes: size, Now: clk.now})
	v := clk.lasts("v", time.Hour)
	v.Bytes = 500
	for i := range 100_000 {
		put(t, c, key(i), v)
		if i%5000 != 0 {
			continue
		}
		if n, b := c.Len(), c.Bytes(); n > entries || b > size {
			t.Fatalf("after %d: got %d values, %d bytes", i, n, b)
		}
	}
	if n := c.Len(); n < entries*9/10 {
		t.Errorf("Len = %d, want it nearly full", n)
	}
	if n := c.Flights(); n != 0 {
		t.Errorf("%d fetches under way, want none", n)
	}
}

// The estimate must be close enough to the heap for a bound in bytes to mean something.
func TestBytesAreCloseToTheHeap(t *testing.T) {
	const values = 10_000
	clk := newClock()
	c := newCache(t, flight.Config{Now: clk.now})
	before := heap()
	for i := range values {
		v := clk.lasts(strings.Repeat("t", 800), time.Hour)
		v.Bytes = 800
		put(t, c, key(i), v)
	}
	real := float64(heap() - before)
	ratio := float64(c.Bytes()) / real
	t.Logf("%d bytes estimated, %.0f on the heap, %.2f", c.Bytes()/values, real/values, ratio)
	if ratio < 0.7 || ratio > 1.5 {
		t.Errorf("estimate / heap = %.2f, want within 0.7 and 1.5", ratio)
	}
}

func TestEvictsOnlyTheStaleValue(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{Now: clk.now})
	put(t, c, key(1), clk.lasts("new", time.Hour))
	is := func(want string) func(string) bool { return func(v string) bool { return v == want } }
	for _, tt := range []struct {
		name string
		key  int
		v    string
		want bool
	}{
		{name: "an older value", key: 1, v: "old", want: false},
		{name: "a value of another key", key: 2, v: "new", want: false},
		{name: "the value", key: 1, v: "new", want: true},
		{name: "the value again", key: 1, v: "new", want: false},
	} {
		if got := c.Evict(key(tt.key), is(tt.v)); got != tt.want {
			t.Errorf("%s: Evict = %v, want %v", tt.name, got, tt.want)
		}
		if got := has(c, key(1)); got == (tt.want || tt.name == "the value again") {
			t.Errorf("%s: value is there: %v", tt.name, got)
		}
	}
	put(t, c, key(3), flight.Value[string]{Err: errors.New("no"), Expiry: clk.now().Add(time.Hour)})
	if c.Evict(key(3), func(string) bool { return true }) {
		t.Error("a refusal was evicted as stale")
	}
	if c.Remove(key(3)); c.Len() != 0 || c.Bytes() != 0 {
		t.Errorf("after Remove: got %d values, %d bytes", c.Len(), c.Bytes())
	}
}

func TestConcurrentUseKeepsTheAccounts(t *testing.T) {
	clk := newClock()
	c := newCache(t, flight.Config{MaxEntries: 20, MaxBytes: 20 << 10, RefreshAhead: 0.5, Now: clk.now})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				k := key((i*7 + g*13) % 50)
				switch i % 6 {
				case 0:
					c.Remove(k)
				case 1:
					c.Get(k)
				case 2:
					c.Evict(k, func(v string) bool { return v == fmt.Sprint(i-3) })
				case 3:
					clk.step(time.Millisecond)
				default:
					want := errors.New("no")
					_, _, err := c.Do(t.Context(), k, time.Minute, func(context.Context) (flight.Value[string], error) {
						v := clk.lasts(fmt.Sprint(i), 50*time.Millisecond)
						v.Bytes = 500
						if i%5 == 0 {
							v.Err = want
						}
						return v, nil
					})
					if err != nil && err.Error() != "no" {
						t.Errorf("Do: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n, b := c.Len(), c.Bytes(); n > 20 || b > 20<<10 {
		t.Errorf("got %d values, %d bytes, want at most 20, %d", n, b, 20<<10)
	}
	for i := range 50 {
		c.Remove(key(i))
	}
	if n, b := c.Len(), c.Bytes(); n != 0 || b != 0 {
		t.Errorf("after removing all: got %d values, %d bytes, want 0, 0", n, b)
	}
}
