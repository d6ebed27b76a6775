package flight_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/flight"
)

// Every test here runs in a synctest bubble, which fails when a goroutine is left over.

type answer struct {
	v       string
	outcome flight.Outcome
	err     error
}

func lasts(v string, d time.Duration) flight.Value[string] {
	return flight.Value[string]{V: v, Expiry: time.Now().Add(d)}
}

func TestThousandCallersOfOneColdKey(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value flight.Value[string]
		err   error
	}{
		{name: "value", value: flight.Value[string]{V: "v", Expiry: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{name: "value that is not kept", value: flight.Value[string]{V: "v"}},
		{name: "refusal", value: flight.Value[string]{Err: errors.New("no"), Expiry: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{name: "trouble", err: errors.New("down")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, flight.Config{})
				var calls atomic.Int32
				release := make(chan struct{})
				answers := make(chan answer, 1000)
				for range 1000 {
					go func() {
						v, outcome, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) {
							calls.Add(1)
							<-release
							return tt.value, tt.err
						})
						answers <- answer{v, outcome, err}
					}()
				}
				synctest.Wait() // all of them wait
				close(release)
				outcomes := map[flight.Outcome]int{}
				for range 1000 {
					a := <-answers
					if want := errors.Join(tt.err, tt.value.Err); a.v != tt.value.V || (a.err == nil) != (want == nil) {
						t.Errorf("got %q, %v, want %q, %v", a.v, a.err, tt.value.V, want)
					}
					outcomes[a.outcome]++
				}
				if n := calls.Load(); n != 1 || outcomes[flight.Miss] != 1 || outcomes[flight.Shared] != 999 {
					t.Errorf("got %d calls, %v, want 1 call, 1 miss, 999 shared", n, outcomes)
				}
			})
		})
	}
}

func TestLeaderThatLeavesHurtsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, flight.Config{})
		type traceKey struct{}
		release := make(chan struct{})
		leader, cancel := context.WithCancel(context.WithValue(t.Context(), traceKey{}, "trace"))
		answers := make(chan answer, 2)
		do := func(ctx context.Context) {
			v, outcome, err := c.Do(ctx, key(1), time.Minute, func(ctx context.Context) (flight.Value[string], error) {
				if ctx.Value(traceKey{}) != "trace" {
					t.Error("the values of the leader are not passed on")
				}
				select {
				case <-release:
					return lasts("v", time.Hour), nil
				case <-ctx.Done():
					return flight.Value[string]{}, ctx.Err()
				}
			})
			answers <- answer{v, outcome, err}
		}
		go do(leader)
		synctest.Wait()
		go do(t.Context())
		synctest.Wait()
		cancel()
		if a := <-answers; !errors.Is(a.err, context.Canceled) || a.v != "" {
			t.Errorf("the leader: got %+v, want context.Canceled", a)
		}
		close(release)
		if a := <-answers; a.err != nil || a.v != "v" || a.outcome != flight.Shared {
			t.Errorf("the follower: got %+v, want the value", a)
		}
		if _, _, err := c.Do(leader, key(2), time.Minute, func(context.Context) (flight.Value[string], error) {
			t.Error("a fetch was started for a caller who has left")
			return flight.Value[string]{}, nil
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		if v, _, err := c.Do(leader, key(1), time.Minute, nil); v != "v" || err != nil {
			t.Errorf("a value that is there: got %q, %v, want it", v, err)
		}
	})
}

func TestFetchIsBoundedByItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, flight.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		_, _, err := c.Do(ctx, key(1), 3*time.Second, func(ctx context.Context) (flight.Value[string], error) {
			<-ctx.Done()
			return flight.Value[string]{}, ctx.Err()
		})
		if took := time.Since(start); took != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v, want context.DeadlineExceeded after 3s", err, took)
		}
	})
}

func TestFetchThatFailsOddlyIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fetch func()
		want  string
	}{
		{name: "panic with a value", fetch: func() { panic("CANARY-secret") }, want: "type string"},
		{name: "panic of the runtime", fetch: func() { _ = make([]int, 0, 1)[len("x")] }, want: "out of range"},
		{name: "end of the goroutine", fetch: runtime.Goexit, want: "goroutine ended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, flight.Config{})
				_, _, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) {
					tt.fetch()
					return lasts("v", time.Hour), nil
				})
				var p *flight.PanicError
				if !errors.As(err, &p) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "CANARY") {
					t.Errorf("got %v, want a PanicError about %q without the value", err, tt.want)
				}
				put(t, c, key(1), lasts("v", time.Hour)) // the key is not stuck
			})
		})
	}
}

// What was asked for before a removal may be older than the reason for it.
func TestRemovedWhileFetchedIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, flight.Config{})
		release := make(chan struct{})
		first := make(chan answer, 1)
		go func() {
			v, outcome, err := c.Do(t.Context(), key(1), time.Minute, func(context.Context) (flight.Value[string], error) {
				<-release
				return lasts("old", time.Hour), nil
			})
			first <- answer{v, outcome, err}
		}()
		synctest.Wait()
		c.Remove(key(1))
		put(t, c, key(1), lasts("new", time.Hour)) // asks anew, does not join
		close(release)
		if a := <-first; a.err != nil || a.v != "old" {
			t.Errorf("who asked before: got %+v, want the answer of then", a)
		}
		if v, _ := c.Get(key(1)); v != "new" {
			t.Errorf("afterwards: got %q, want the new value", v)
		}
	})
}
