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
		if !l.Take("198.51.100.7") {
			continue
		}
		e, _, err := c.Do(t.Context(), key(rand.Text()), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			calls++
			return inactive(clk.now().Add(time.Second)), nil
		})
		if err != nil {
			t.Fatalf("Do: %v", err)
		}
		if e.Introspection.Active {
			l.Return("198.51.100.7")
		}
	}
	if calls != 20 {
		t.Errorf("1000 random tokens: got %d calls, want the burst of 20", calls)
	}
	if !l.Take("203.0.113.9") {
		t.Error("another address is refused, want it untouched")
	}
}

// A thousand guesses at the same moment find no more budget than one after the other.
func TestTokenFishingInABurstIsBounded(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(60, 20, 100, clk.now)
	taken := 0
	for range 1000 { // none has been answered yet
		if l.Take("198.51.100.7") {
			taken++
		}
	}
	if taken != 20 {
		t.Errorf("1000 guesses before the first answer: %d went through, want the burst of 20", taken)
	}
	for range 20 {
		l.Return("198.51.100.7")
	}
	if !l.Take("198.51.100.7") {
		t.Error("good tokens used up the budget, want it given back")
	}
}

func TestLimiterRefills(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(60, 3, 10, clk.now)
	for range 10 { // more than there is: no debt
		l.Take("a")
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
		if got := l.Take("a"); got != tt.want {
			t.Errorf("%s: Take = %v, want %v", tt.name, got, tt.want)
		}
	}
	clk.step(24 * time.Hour)
	for i := range 4 {
		if got, want := l.Take("a"), i < 3; got != want {
			t.Errorf("after a day, failure %d: Take = %v, want %v: no more than the burst is saved up", i, got, want)
		}
	}
}

func TestLimiterWithAClockSetBack(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(60, 3, 10, clk.now)
	l.Take("a")
	clk.step(-time.Hour)
	for i := range 3 {
		if got, want := l.Take("a"), i < 2; got != want {
			t.Errorf("failure %d after it: Take = %v, want %v: it takes nothing and gives nothing", i, got, want)
		}
	}
}

func TestLimiterIsBounded(t *testing.T) {
	clk := newClock()
	l := tokencache.NewLimiter(1, 1, 10, clk.now)
	for i := range 11 {
		l.Take(fmt.Sprint(i))
	}
	// Good tokens of many must not push anybody out for long.
	for i := range 9 {
		source := fmt.Sprint("new ", i)
		l.Take(source)
		l.Return(source)
	}
	if l.Take("10") {
		t.Error("the latest source: allowed, want it limited")
	}
	if !l.Take("0") {
		t.Error("the source longest unheard of: still limited, want it forgotten beyond 10")
	}
}

func TestLimiterOff(t *testing.T) {
	for _, perMinute := range []int{0, -1} {
		l := tokencache.NewLimiter(perMinute, 1, 1, nil)
		for range 100 {
			l.Take("a")
		}
		if l.Return("a"); l != nil || !l.Take("a") {
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
				if l.Take(source) && i%2 == 0 {
					l.Return(source)
				}
			}
		})
	}
	wg.Wait()
}
