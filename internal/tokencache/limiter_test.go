package tokencache_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/tokencache"
)

// Covers: IN-14
func TestLimiterBoundsTokenFishing(t *testing.T) {
	clk := newClock()
	c := newCache(t, tokencache.Config{Now: clk.now})
	l := tokencache.NewLimiter(60, 20, 100, clk.now)
	calls := 0
	for range 1000 {
		if !l.Allow("198.51.100.7") {
			continue
		}
		e, _, err := c.Do(t.Context(), key(rand.Text()), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			calls++
			return inactive(clk.now().Add(time.Second)), nil
		})
		if err != nil {
			t.Fatalf("Do: %v", err)
		}
		if !e.Introspection.Active {
			l.Fail("198.51.100.7")
		}
	}
	if calls != 20 {
		t.Errorf("1000 random tokens: got %d calls, want the burst of 20", calls)
	}
	if !l.Allow("203.0.113.9") {
		t.Error("another address is refused, want it untouched")
	}
}

func TestLimiterRefills(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(60, 3, 10, clk.now)
	for range 10 { // more than there is: no debt
		l.Fail("a")
	}
	for _, tt := range []struct {
		name string
		step time.Duration
		want bool
	}{
		{name: "spent", step: 0, want: false},
		{name: "not yet", step: 999 * time.Millisecond, want: false},
		{name: "one a second", step: time.Millisecond, want: true},
	} {
		clk.step(tt.step)
		if got := l.Allow("a"); got != tt.want {
			t.Errorf("%s: Allow = %v, want %v", tt.name, got, tt.want)
		}
	}
	clk.step(24 * time.Hour)
	for i := range 4 {
		if got, want := l.Allow("a"), i < 3; got != want {
			t.Errorf("after a day, failure %d: Allow = %v, want %v: no more than the burst is saved up", i, got, want)
		}
		l.Fail("a")
	}
}

func TestLimiterWithAClockSetBack(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(60, 3, 10, clk.now)
	l.Fail("a")
	clk.step(-time.Hour)
	for i := range 3 {
		if got, want := l.Allow("a"), i < 2; got != want {
			t.Errorf("failure %d after it: Allow = %v, want %v: it takes nothing and gives nothing", i, got, want)
		}
		l.Fail("a")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(1, 1, 10, clk.now)
	for i := range 11 {
		l.Fail(fmt.Sprint(i))
	}
	if !l.Allow("0") {
		t.Error("the source longest unheard of: still limited, want it forgotten beyond 10")
	}
	if l.Allow("10") {
		t.Error("the latest source: allowed, want it limited")
	}
	// Asking must not push anybody out.
	for i := range 100 {
		l.Allow(fmt.Sprint("new ", i))
	}
	if l.Allow("10") {
		t.Error("after many questions: allowed, want it limited still")
	}
}

func TestLimiterOff(t *testing.T) {
	for _, perMinute := range []int{0, -1} {
		l := tokencache.NewLimiter(perMinute, 1, 1, nil)
		for range 100 {
			l.Fail("a")
		}
		if l != nil || !l.Allow("a") {
			t.Errorf("NewLimiter(%d): got %v, want nil, which allows all", perMinute, l)
		}
	}
}

func TestLimiterConcurrentUse(t *testing.T) {
	l := tokencache.NewLimiter(1, 100, 4, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				source := fmt.Sprint((g + i) % 6)
				if l.Allow(source) {
					l.Fail(source)
				}
			}
		})
	}
	wg.Wait()
}
