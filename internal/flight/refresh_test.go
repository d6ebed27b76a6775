package flight_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/flight"
)

// source makes values on demand and counts.
type source struct {
	calls int
	next  flight.Value[string]
	err   error
	wait  chan struct{} // nil: answers at once
}

func (s *source) fetch(context.Context) (flight.Value[string], error) {
	s.calls++
	if s.wait != nil {
		<-s.wait
	}
	return s.next, s.err
}

// ask must be answered at once by what is in the cache.
func (s *source) ask(t *testing.T, c *flight.Cache[string], want string) {
	t.Helper()
	start := time.Now()
	v, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch)
	if v != want || outcome != flight.Cached || err != nil || !time.Now().Equal(start) {
		t.Errorf("got %q, %v, %v, want %q at once", v, outcome, err, want)
	}
	synctest.Wait() // for the call behind it
}

func (s *source) called(t *testing.T, want int) {
	t.Helper()
	if s.calls != want {
		t.Errorf("got %d calls, want %d", s.calls, want)
	}
}

// bubble runs test with a cache that has a value "1" of 100 seconds, made by the first call.
func bubble(t *testing.T, name string, test func(t *testing.T, c *flight.Cache[string], s *source)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newCache(t, flight.Config{RefreshAhead: 0.2})
			s := &source{next: lasts("1", 100*time.Second)}
			if _, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch); outcome != flight.Miss || err != nil {
				t.Fatalf("got %v, %v", outcome, err)
			}
			test(t, c, s)
		})
	})
}

func TestRefreshAhead(t *testing.T) {
	// at lets the fake clock of the bubble go on.
	at := func(d time.Duration) { <-time.After(d) }

	bubble(t, "not before the last fifth", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(79 * time.Second)
		s.ask(t, c, "1")
		s.called(t, 1)
	})
	bubble(t, "in the last fifth, once, behind the callers", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		if has(c, key(1)) {
			t.Error("Get returned a value that is due, want it left to Do")
		}
		s.wait, s.next = make(chan struct{}), lasts("2", 100*time.Second)
		for range 10 {
			s.ask(t, c, "1")
		}
		s.called(t, 2)
		close(s.wait)
		synctest.Wait()
		s.ask(t, c, "2")
		s.called(t, 2)
		at(79 * time.Second)
		s.ask(t, c, "2")
		s.called(t, 2)
	})
	bubble(t, "ends when nobody asks", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(time.Hour)
		s.called(t, 1)
	})
	bubble(t, "a failure disturbs nobody and is tried again after a pause", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		s.err = errors.New("down")
		for second := range 16 { // of the 20 that are left
			for range 10 {
				s.ask(t, c, "1")
			}
			s.called(t, 2+second/5)
			at(time.Second)
		}
		s.err, s.next = nil, lasts("2", 100*time.Second)
		s.ask(t, c, "1")
		s.ask(t, c, "1")
		at(3 * time.Second)
		s.ask(t, c, "1")
		s.ask(t, c, "1")
	})
	bubble(t, "a panic disturbs nobody", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		if v, _, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) { panic("x") }); v != "1" || err != nil {
			t.Errorf("got %q, %v, want the old value", v, err)
		}
		synctest.Wait()
		s.ask(t, c, "1")
	})
	bubble(t, "a value that is over is not taken for a new one", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		s.next = lasts("2", -time.Second)
		s.ask(t, c, "1")
		s.ask(t, c, "1")
	})
	bubble(t, "RevokedAtRefreshIsNotServedOn", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		no := errors.New("no")
		s.next = flight.Value[string]{Err: no, Expiry: time.Now().Add(5 * time.Second)}
		s.ask(t, c, "1") // starts the call that is refused
		for range 5 {
			if _, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch); outcome != flight.Cached || !errors.Is(err, no) {
				t.Errorf("after the refusal: got %v, %v, want it from the cache", outcome, err)
			}
			at(time.Second)
		}
		s.called(t, 2)
		if _, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch); outcome != flight.Miss || !errors.Is(err, no) {
			t.Errorf("when it is forgotten: got %v, %v, want another call", outcome, err)
		}
	})
	bubble(t, "a no takes the place of the value", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		s.next = lasts("no", 100*time.Second)
		s.next.Negative = true
		s.ask(t, c, "1")
		s.ask(t, c, "no")
		s.called(t, 2)
	})
	bubble(t, "a refusal that is not kept ends the value", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		no := errors.New("no")
		s.next = flight.Value[string]{Err: no}
		s.ask(t, c, "1")
		if _, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch); outcome != flight.Miss || !errors.Is(err, no) {
			t.Errorf("got %v, %v, want another call", outcome, err)
		}
	})
	bubble(t, "no refresh of what ends with something else", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		s.next = lasts("2", 21*time.Second) // one second of chance more than the first
		s.ask(t, c, "1")
		for range 20 {
			s.ask(t, c, "2")
			at(time.Second)
		}
		s.called(t, 2)
	})
	bubble(t, "no refresh of what the fetch calls final", func(t *testing.T, c *flight.Cache[string], s *source) {
		c.Remove(key(1))
		s.next = lasts("2", 100*time.Second)
		s.next.Final = true
		if _, _, err := c.Do(t.Context(), key(1), time.Minute, s.fetch); err != nil {
			t.Fatal(err)
		}
		at(99 * time.Second)
		s.ask(t, c, "2")
		s.called(t, 2)
	})
	bubble(t, "who comes after the end joins the refresh under way", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(99 * time.Second)
		s.wait, s.next = make(chan struct{}), lasts("2", 100*time.Second)
		s.ask(t, c, "1")
		at(2 * time.Second)
		got := make(chan answer, 1)
		go func() {
			v, outcome, err := c.Do(t.Context(), key(1), time.Minute, s.fetch)
			got <- answer{v, outcome, err}
		}()
		synctest.Wait()
		close(s.wait)
		if a := <-got; a.v != "2" || a.outcome != flight.Shared || a.err != nil {
			t.Errorf("got %+v, want the refreshed value", a)
		}
		s.called(t, 2)
	})
	bubble(t, "removed meanwhile, it is not brought back", func(t *testing.T, c *flight.Cache[string], s *source) {
		at(80 * time.Second)
		s.wait, s.next = make(chan struct{}), lasts("2", 100*time.Second)
		s.ask(t, c, "1")
		c.Remove(key(1))
		close(s.wait)
		synctest.Wait()
		if n := c.Len(); n != 0 {
			t.Errorf("Len = %d, want nothing", n)
		}
	})
}
