package tokencache_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
)

func key(token string) tokencache.Key { return tokencache.NewKey(token, [32]byte{}) }

// put stores e and fails the test when fetch was not run.
func put(t testing.TB, c *tokencache.Cache, token string, e *tokencache.Entry) {
	t.Helper()
	_, hit, err := c.Do(t.Context(), key(token), time.Minute, func(context.Context) (*tokencache.Entry, error) { return e, nil })
	if err != nil || hit != tokencache.Miss {
		t.Fatalf("Do(%s): got %v, %v, want a miss", token, hit, err)
	}
}

func has(c *tokencache.Cache, token string) bool {
	_, ok := c.Get(key(token))
	return ok
}

func TestNewRefusesNegativeBounds(t *testing.T) {
	_, err := tokencache.New(tokencache.Config{MaxEntries: -1, MaxBytes: -2})
	if err == nil {
		t.Fatal("New: got no error, want one")
	}
	for _, want := range []string{"cache.max_entries", "cache.max_bytes", "-1", "-2"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %q, want it to name %q", err, want)
		}
	}
}

// Covers: CA-01, CA-02
func TestEntryEnds(t *testing.T) {
	for _, tt := range []struct {
		name      string
		ttl, exp  time.Duration // exp zero: the answer has none
		negative  bool
		liveAt    time.Duration
		deadAt    time.Duration
		notStored bool
	}{
		{name: "with the configured life", ttl: 5 * time.Minute, liveAt: 5*time.Minute - 1, deadAt: 5 * time.Minute},
		{name: "with exp when that is earlier", ttl: 5 * time.Minute, exp: 2 * time.Second, liveAt: 2*time.Second - 1, deadAt: 2 * time.Second},
		{name: "with the configured life when exp is later", ttl: time.Minute, exp: time.Hour, liveAt: time.Minute - 1, deadAt: time.Minute},
		{name: "soon when negative", ttl: 5 * time.Second, negative: true, liveAt: 5*time.Second - 1, deadAt: 5 * time.Second},
		{name: "at once without a life", ttl: 0, notStored: true},
		{name: "at once when over already", ttl: -time.Second, notStored: true},
		{name: "at once when exp has passed", ttl: time.Minute, exp: -time.Second, notStored: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clk := newClock()
			c := newCache(t, tokencache.Config{Now: clk.now})
			e := active(clk.now().Add(tt.ttl))
			if tt.negative {
				e = inactive(clk.now().Add(tt.ttl))
			}
			if tt.exp != 0 {
				e.Introspection.Expiry = clk.now().Add(tt.exp)
			}
			put(t, c, "token", e)
			if tt.notStored {
				if n := c.Len(); n != 0 {
					t.Errorf("Len = %d, want nothing stored", n)
				}
				return
			}
			clk.step(tt.liveAt)
			if !has(c, "token") {
				t.Errorf("after %v: got nothing, want the entry", tt.liveAt)
			}
			clk.step(tt.deadAt - tt.liveAt)
			if has(c, "token") {
				t.Errorf("after %v: got the entry, want none", tt.deadAt)
			}
			if n, b := c.Len(), c.Bytes(); n != 0 || b != 0 {
				t.Errorf("after its end was seen: got %d entries, %d bytes, want none", n, b)
			}
		})
	}
}

// A machine that slept has a monotonic clock that stood still; the wall clock went on.
//
// Covers: CA-02
func TestEntryEndsByTheWallClock(t *testing.T) {
	now := time.Now()
	c := newCache(t, tokencache.Config{Now: func() time.Time { return now }})
	put(t, c, "token", active(now.Add(time.Minute)))
	before := now
	// The first word of a Time with a monotonic reading counts wall seconds from bit 30 on.
	*(*uint64)(unsafe.Pointer(&now)) += 120 << 30
	if slept := now.Round(0).Sub(before.Round(0)); slept != 2*time.Minute || now.Sub(before) != 0 {
		t.Fatalf("the sleep: got %v by the wall clock, %v by the monotonic one, want 2m and none", slept, now.Sub(before))
	}
	if has(c, "token") {
		t.Error("after the sleep: got the entry, want none")
	}
}

// Covers: CA-04
func TestInactiveTokenBecomesActive(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{Now: clk.now})
	answer := inactive(clk.now().Add(5 * time.Second))
	ask := func() (bool, tokencache.Hit) {
		e, hit, err := c.Do(t.Context(), key("token"), time.Minute, func(context.Context) (*tokencache.Entry, error) { return answer, nil })
		if err != nil {
			t.Fatalf("Do: %v", err)
		}
		return e.Introspection.Active, hit
	}
	if got, hit := ask(); got || hit != tokencache.Miss {
		t.Errorf("first: got active %v, %v, want inactive, miss", got, hit)
	}
	answer = active(clk.now().Add(time.Hour))
	if got, hit := ask(); got || hit != tokencache.Cached {
		t.Errorf("within the life of the negative entry: got active %v, %v, want inactive, cached", got, hit)
	}
	clk.step(5 * time.Second)
	if got, hit := ask(); !got || hit != tokencache.Miss {
		t.Errorf("after it: got active %v, %v, want active, miss", got, hit)
	}
	if n := c.Len(); n != 1 {
		t.Errorf("Len = %d, want the active entry only", n)
	}
}

// Covers: CA-04
func TestErrorsAreNotStored(t *testing.T) {
	c := newCache(t, tokencache.Config{Now: newClock().now})
	down := errors.New("provider down")
	for i := range 3 {
		e, hit, err := c.Do(t.Context(), key("token"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			return active(newClock().now().Add(time.Hour)), down // the entry must not count
		})
		if e != nil || hit != tokencache.Miss || !errors.Is(err, down) {
			t.Errorf("call %d: got %v, %v, %v, want a miss with the error of fetch", i, e, hit, err)
		}
	}
	if n := c.Len(); n != 0 {
		t.Errorf("Len = %d, want 0", n)
	}
	put(t, c, "token", active(newClock().now().Add(time.Hour)))
}

// Covers: CA-11
func TestExpiredEntryIsNotServedDuringAnOutage(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{Now: clk.now})
	put(t, c, "token", active(clk.now().Add(time.Minute)))
	clk.step(time.Minute)
	down := errors.New("provider down")
	e, _, err := c.Do(t.Context(), key("token"), time.Minute, func(context.Context) (*tokencache.Entry, error) { return nil, down })
	if e != nil || !errors.Is(err, down) {
		t.Errorf("got %v, %v, want the error and no stale entry", e, err)
	}
}

// Covers: CA-09
func TestWithoutLifeEveryRequestFetches(t *testing.T) {
	c := newCache(t, tokencache.Config{Now: newClock().now})
	calls := 0
	for range 5 {
		e, hit, err := c.Do(t.Context(), key("token"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			calls++
			return active(time.Time{}), nil
		})
		if err != nil || e == nil || hit != tokencache.Miss {
			t.Fatalf("Do: got %v, %v, %v, want an entry, miss", e, hit, err)
		}
	}
	if calls != 5 || c.Len() != 0 {
		t.Errorf("got %d calls, %d entries, want 5 and 0", calls, c.Len())
	}
}

func TestRemoveForgets(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{Now: clk.now})
	put(t, c, "good", active(clk.now().Add(time.Hour)))
	put(t, c, "bad", inactive(clk.now().Add(time.Hour)))
	for _, token := range []string{"good", "bad", "unknown"} {
		c.Remove(key(token))
		if has(c, token) {
			t.Errorf("%s is there after Remove", token)
		}
	}
	if n, b := c.Len(), c.Bytes(); n != 0 || b != 0 {
		t.Errorf("got %d entries, %d bytes, want none", n, b)
	}
}

// Covers: CA-07
func TestRandomTokensStayWithinBounds(t *testing.T) {
	const entries, size = 1000, 512 << 10
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: entries, MaxBytes: size, Now: clk.now})
	answers := []*tokencache.Entry{inactive(clk.now().Add(time.Hour)), active(clk.now().Add(time.Hour))}
	random := mathrand.NewChaCha8([32]byte{})
	var k tokencache.Key
	for i := range manyTokens {
		if _, err := random.Read(k[:]); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Do(t.Context(), k, time.Minute, func(context.Context) (*tokencache.Entry, error) { return answers[i%2], nil }); err != nil {
			t.Fatalf("Do: %v", err)
		}
		if i%1000 != 0 {
			continue
		}
		if n, b := c.Len(), c.Bytes(); n > entries || b > size {
			t.Fatalf("after %d tokens: got %d entries, %d bytes, want at most %d, %d", i, n, b, entries, size)
		}
	}
	if n := c.Len(); n < 100 {
		t.Errorf("Len = %d, want a cache that is in use", n)
	}
	if n := c.Flights(); n != 0 {
		t.Errorf("got %d fetches under way, want none", n)
	}
}

// Covers: CA-07
func TestFloodOfInventedTokensLeavesTokensInUse(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: 100, Now: clk.now})
	users := make([]string, 80)
	for i := range users {
		users[i] = fmt.Sprint("user ", i)
		put(t, c, users[i], active(clk.now().Add(time.Hour)))
	}
	for range 10_000 {
		put(t, c, rand.Text(), inactive(clk.now().Add(time.Hour)))
	}
	for _, user := range users {
		if !has(c, user) {
			t.Errorf("%s was pushed out by tokens that nobody has", user)
		}
	}
	if n := c.Len(); n != 100 {
		t.Errorf("Len = %d, want the cache full", n)
	}
}

// A cache full of tokens in use still remembers an inactive one for its short life.
func TestFullCacheKeepsSomeNegativeEntries(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: 80, Now: clk.now})
	for i := range 200 {
		put(t, c, fmt.Sprint("user ", i), active(clk.now().Add(time.Hour)))
	}
	put(t, c, "invented", inactive(clk.now().Add(time.Hour)))
	if !has(c, "invented") {
		t.Error("the negative entry is gone at once, want it kept")
	}
	if has(c, "user 120") || !has(c, "user 199") {
		t.Error("want the tokens unused longest gone and the latest kept")
	}
}

func TestEvictionTakesTheTokenUnusedLongest(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: 3, Now: clk.now})
	for _, token := range []string{"a", "b", "c"} {
		put(t, c, token, active(clk.now().Add(time.Hour)))
	}
	if !has(c, "a") { // uses it
		t.Fatal("a is missing")
	}
	put(t, c, "d", active(clk.now().Add(time.Hour)))
	for token, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if got := has(c, token); got != want {
			t.Errorf("%s: got present %v, want %v", token, got, want)
		}
	}
}

func TestBoundsOnlyRise(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: 2, Now: clk.now})
	fill := func() int {
		for range 20 {
			put(t, c, rand.Text(), active(clk.now().Add(time.Hour)))
		}
		return c.Len()
	}
	if got := fill(); got != 2 {
		t.Errorf("Len = %d, want 2", got)
	}
	c.Bounds(5, 0)
	if got := fill(); got != 5 {
		t.Errorf("after Bounds(5): Len = %d, want 5", got)
	}
	c.Bounds(1, 1)
	if got := fill(); got != 5 {
		t.Errorf("after Bounds(1): Len = %d, want still 5", got)
	}
}

func TestBytesBoundEvicts(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxBytes: 100 << 10, Now: clk.now})
	large := func() *tokencache.Entry {
		e := active(clk.now().Add(time.Hour))
		e.Introspection.Claims = map[string]any{"region": strings.Repeat("x", 8<<10)}
		return e
	}
	for range 50 {
		put(t, c, rand.Text(), large())
	}
	if n, b := c.Len(), c.Bytes(); n < 3 || n > 12 || b > 100<<10 {
		t.Errorf("got %d entries, %d bytes, want a few within %d", n, b, 100<<10)
	}
	huge := active(clk.now().Add(time.Hour))
	huge.JWT = strings.Repeat("x", 200<<10)
	before := c.Len()
	put(t, c, "huge", huge)
	if has(c, "huge") || c.Len() != before {
		t.Errorf("an entry larger than the bound: got it stored or others evicted (%d of %d left), want neither", c.Len(), before)
	}
}

// The estimate must be close enough to the heap for a bound in bytes to mean something.
func TestBytesAreCloseToTheHeap(t *testing.T) {
	const entries = 4000
	token := strings.Repeat("t", 800)
	for _, tt := range []struct {
		name  string
		entry func(i int, end time.Time) *tokencache.Entry
	}{
		{name: "inactive", entry: func(_ int, end time.Time) *tokencache.Entry { return inactive(end) }},
		{name: "active with a phantom token", entry: func(i int, end time.Time) *tokencache.Entry {
			in, err := oauth.ParseIntrospection(fmt.Appendf(nil, `{"active":true,"sub":"user-%d","scope":"stocks/read stocks/trade openid",
				"client_id":"3f9f1f0e-5b7e-4f8e-9c5c-1b1f5b7e4f8e","aud":["https://gw.example.com/mcp","account"],"iss":"https://idp.example",
				"exp":1785240000,"iat":1785239100,"jti":"f1c9d7a2-%d","region":"USA","client_type":"mcp","client_assurance_level":1,
				"realm_access":{"roles":["user","trader"]},"username":"john.doe@demo.example"}`, i, i))
			if err != nil {
				t.Fatal(err)
			}
			in.Expiry = time.Time{}
			e := &tokencache.Entry{Introspection: in, Expiry: end}
			if _, err := e.Minted([32]byte{}, end, 0, func() (string, time.Time, error) {
				return strings.Clone(token), end.Add(time.Hour), nil
			}); err != nil {
				t.Fatal(err)
			}
			return e
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clk := newClock()
			c := newCache(t, tokencache.Config{MaxEntries: entries, MaxBytes: 1 << 30, Now: clk.now})
			before := heap()
			for i := range entries {
				put(t, c, rand.Text(), tt.entry(i, clk.now().Add(time.Hour)))
			}
			real := float64(heap() - before)
			ratio := float64(c.Bytes()) / real
			t.Logf("%d bytes estimated, %.0f on the heap, %.2f", c.Bytes()/entries, real/entries, ratio)
			if ratio < 0.7 || ratio > 2.5 {
				t.Errorf("estimate / heap = %.2f, want within 0.7 and 2.5", ratio)
			}
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestConcurrentUseKeepsTheAccounts(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{MaxEntries: 20, MaxBytes: 60 << 10, Now: clk.now})
	tokens := make([]tokencache.Key, 50)
	for i := range tokens {
		tokens[i] = key(fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				k := tokens[(i*7+g*13)%len(tokens)]
				switch i % 5 {
				case 0:
					c.Remove(k)
				case 1:
					c.Get(k)
				case 2:
					clk.step(time.Millisecond)
				default:
					e, _, err := c.Do(t.Context(), k, time.Minute, func(context.Context) (*tokencache.Entry, error) {
						if i%2 == 0 {
							return inactive(clk.now().Add(50 * time.Millisecond)), nil
						}
						return active(clk.now().Add(time.Second)), nil
					})
					if err != nil || e == nil {
						t.Errorf("Do: got %v, %v, want an entry", e, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n, b := c.Len(), c.Bytes(); n > 20 || b > 60<<10 {
		t.Errorf("got %d entries, %d bytes, want at most 20, %d", n, b, 60<<10)
	}
	for _, k := range tokens {
		c.Remove(k)
	}
	if n, b := c.Len(), c.Bytes(); n != 0 || b != 0 {
		t.Errorf("after removing all: got %d entries, %d bytes, want 0, 0", n, b)
	}
}
