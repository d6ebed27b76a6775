package tokencache_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/tokencache"
)

// Every test here runs in a synctest bubble, which fails when a goroutine is left over.

type outcome struct {
	entry *tokencache.Entry
	hit   tokencache.Hit
	err   error
}

// Covers: CA-05
func TestConcurrentMissesFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, tokencache.Config{})
		var calls atomic.Int32
		release := make(chan struct{})
		want := active(time.Now().Add(time.Hour))
		outcomes := make(chan outcome, 200)
		for range 200 {
			go func() {
				e, hit, err := c.Do(t.Context(), key("cold"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
					calls.Add(1)
					<-release
					return want, nil
				})
				outcomes <- outcome{e, hit, err}
			}()
		}
		synctest.Wait() // all 200 wait for the answer
		close(release)
		hits := map[tokencache.Hit]int{}
		for range 200 {
			o := <-outcomes
			if o.entry != want || o.err != nil {
				t.Errorf("got %v, %v, want the one entry", o.entry, o.err)
			}
			hits[o.hit]++
		}
		if n := calls.Load(); n != 1 || hits[tokencache.Miss] != 1 || hits[tokencache.Shared] != 199 {
			t.Errorf("got %d calls, %v, want 1 call, 1 miss, 199 shared", n, hits)
		}
		if _, hit, err := c.Do(t.Context(), key("cold"), time.Minute, nil); hit != tokencache.Cached || err != nil {
			t.Errorf("afterwards: got %v, %v, want cached", hit, err)
		}
	})
}

// Covers: CA-05
func TestCallerThatLeavesHurtsNobody(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave []int // callers that leave, 0 is the first
	}{
		{name: "the first", leave: []int{0}},
		{name: "a later one", leave: []int{2}},
		{name: "all but one", leave: []int{0, 1, 2}},
		{name: "all", leave: []int{0, 1, 2, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, tokencache.Config{})
				release := make(chan struct{})
				want := active(time.Now().Add(time.Hour))
				var outcomes [4]outcome
				var cancels [4]context.CancelFunc
				var left [4]bool
				var wg sync.WaitGroup
				for i := range outcomes {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					cancels[i] = cancel
					wg.Go(func() {
						e, hit, err := c.Do(ctx, key("cold"), time.Minute, func(ctx context.Context) (*tokencache.Entry, error) {
							select {
							case <-release:
								return want, nil
							case <-ctx.Done():
								return nil, ctx.Err()
							}
						})
						outcomes[i] = outcome{e, hit, err}
					})
					synctest.Wait() // so that caller 0 is the first
				}
				for _, i := range tt.leave {
					cancels[i]()
					left[i] = true
				}
				synctest.Wait()
				close(release)
				wg.Wait()
				for i, o := range outcomes {
					switch {
					case left[i] && (o.entry != nil || !errors.Is(o.err, context.Canceled)):
						t.Errorf("caller %d, who left: got %v, %v, want context.Canceled", i, o.entry, o.err)
					case !left[i] && (o.entry != want || o.err != nil):
						t.Errorf("caller %d, who stayed: got %v, %v, want the entry", i, o.entry, o.err)
					}
				}
				synctest.Wait()
				if !has(c, "cold") {
					t.Error("the answer is not in the cache")
				}
			})
		})
	}
}

func TestCallerLeavesAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, tokencache.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		release := make(chan struct{})
		defer close(release)
		start := time.Now()
		_, _, err := c.Do(ctx, key("cold"), time.Minute, func(ctx context.Context) (*tokencache.Entry, error) {
			<-release
			return nil, ctx.Err()
		})
		if took := time.Since(start); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v, want context.DeadlineExceeded after 1s", err, took)
		}
	})
}

type ctxKey struct{}

func TestFetchContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, tokencache.Config{})
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "trace"), time.Hour)
		defer cancel()
		start := time.Now()
		_, _, err := c.Do(ctx, key("cold"), 3*time.Second, func(ctx context.Context) (*tokencache.Entry, error) {
			if got := ctx.Value(ctxKey{}); got != "trace" {
				t.Errorf("value of the first caller: got %v, want it passed on", got)
			}
			<-ctx.Done() // a provider that never answers
			return nil, ctx.Err()
		})
		if took := time.Since(start); took != 3*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %v, want context.DeadlineExceeded after 3s", err, took)
		}
	})
}

func TestNothingIsFetchedForACallerWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, tokencache.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := c.Do(ctx, key("cold"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
			t.Error("fetch was run")
			return nil, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func TestFetchThatFailsOddlyIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fetch func() (*tokencache.Entry, error)
		want  string
		panic bool
	}{
		{name: "panic with a value", fetch: func() (*tokencache.Entry, error) { panic("CANARY-secret") }, want: "type string", panic: true},
		{name: "panic of the runtime", fetch: func() (*tokencache.Entry, error) { return make([]*tokencache.Entry, 0, 1)[len("x")], nil }, want: "out of range", panic: true},
		{name: "end of the goroutine", fetch: func() (*tokencache.Entry, error) { runtime.Goexit(); return nil, nil }, want: "goroutine ended", panic: true},
		{name: "neither entry nor error", fetch: func() (*tokencache.Entry, error) { return nil, nil }, want: "got neither"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, tokencache.Config{})
				release := make(chan struct{})
				outcomes := make(chan outcome, 3)
				for range 3 {
					go func() {
						e, hit, err := c.Do(t.Context(), key("cold"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
							<-release
							return tt.fetch()
						})
						outcomes <- outcome{e, hit, err}
					}()
				}
				synctest.Wait()
				close(release)
				for range 3 {
					o := <-outcomes
					if o.entry != nil || o.err == nil || !strings.Contains(o.err.Error(), tt.want) {
						t.Fatalf("got %v, %v, want an error about %q", o.entry, o.err, tt.want)
					}
					if strings.Contains(o.err.Error(), "CANARY") {
						t.Errorf("got %q, want the value of the panic left out", o.err)
					}
					var p *tokencache.PanicError
					if errors.As(o.err, &p) != tt.panic {
						t.Errorf("got %T, want a PanicError: %v", o.err, tt.panic)
					}
				}
				if c.Len() != 0 || c.Flights() != 0 {
					t.Errorf("got %d entries, %d fetches under way, want none", c.Len(), c.Flights())
				}
				put(t, c, "cold", active(time.Now().Add(time.Hour))) // the key is not stuck
			})
		})
	}
}

// A revocation while the answer is on its way: the answer may be older.
func TestRemovedWhileFetchedIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, tokencache.Config{})
		release := make(chan struct{})
		first := make(chan outcome, 1)
		go func() {
			e, hit, err := c.Do(t.Context(), key("token"), time.Minute, func(context.Context) (*tokencache.Entry, error) {
				<-release
				return active(time.Now().Add(time.Hour)), nil
			})
			first <- outcome{e, hit, err}
		}()
		synctest.Wait()
		c.Remove(key("token"))
		put(t, c, "token", inactive(time.Now().Add(time.Hour))) // asks anew, does not join
		close(release)
		if o := <-first; o.err != nil || !o.entry.Introspection.Active {
			t.Errorf("who asked before the revocation: got %v, %v, want the answer of then", o.entry, o.err)
		}
		e, ok := c.Get(key("token"))
		if !ok || e.Introspection.Active {
			t.Errorf("after it: got %v, %v, want the inactive entry", e, ok)
		}
	})
}
