package tokencache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/tokencache"
)

// Callers share a call and its outcome, also when it fails; the next one tries again.
//
// Covers: TX-13
func TestExchangedIsCalledOnceForAllWhoWait(t *testing.T) {
	broken := errors.New("down")
	for _, outcome := range []error{nil, broken} {
		synctest.Test(t, func(t *testing.T) {
			e := active(time.Now().Add(time.Hour))
			proceed, calls := make(chan struct{}), 0
			call := func(context.Context) (string, time.Time, error) {
				calls++
				<-proceed
				return "exchanged", time.Now().Add(time.Minute), outcome
			}
			type result struct {
				token string
				err   error
			}
			results := make(chan result)
			for range 16 {
				go func() {
					token, err := e.Exchanged(t.Context(), [32]byte{}, time.Now(), time.Second, time.Minute, call)
					results <- result{token, err}
				}()
			}
			synctest.Wait()
			close(proceed)
			for range 16 {
				if r := <-results; !errors.Is(r.err, outcome) || (r.token == "exchanged") != (outcome == nil) {
					t.Errorf("got %q, %v, want the outcome %v", r.token, r.err, outcome)
				}
			}
			if calls != 1 {
				t.Errorf("%d calls, want 1", calls)
			}
			if _, kept := e.Phantom([32]byte{}, time.Now()); kept != (outcome == nil) {
				t.Errorf("kept = %v after outcome %v", kept, outcome)
			}
			if token, err := e.Exchanged(t.Context(), [32]byte{}, time.Now(), time.Second, time.Minute, call); err == nil && token != "exchanged" {
				t.Errorf("got %q, %v", token, err)
			}
			if want := map[bool]int{true: 1, false: 2}[outcome == nil]; calls != want {
				t.Errorf("%d calls after another request, want %d", calls, want)
			}
		})
	}
}

// A caller that leaves hurts nobody; a call that does not end is ended by the timeout.
func TestExchangedIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := active(time.Now().Add(time.Hour))
		endless := func(ctx context.Context) (string, time.Time, error) {
			<-ctx.Done()
			return "", time.Time{}, ctx.Err()
		}
		first, leave := context.WithCancel(t.Context())
		go leave()
		if _, err := e.Exchanged(first, [32]byte{}, time.Now(), 0, time.Minute, endless); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		begin := time.Now()
		if _, err := e.Exchanged(t.Context(), [32]byte{}, time.Now(), 0, time.Minute, endless); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("took %v, want what was left of the minute", took)
		}
		if _, err := e.Exchanged(first, [32]byte{}, time.Now(), 0, time.Minute, endless); !errors.Is(err, context.Canceled) {
			t.Errorf("caller that had left before: got %v, want context.Canceled", err)
		}
	})
}

func TestExchangeThatPanicsLeavesTheEntryUsable(t *testing.T) {
	e := active(time.Now().Add(time.Hour))
	var panicked *tokencache.PanicError
	if _, err := e.Exchanged(t.Context(), [32]byte{}, time.Now(), 0, time.Minute, func(context.Context) (string, time.Time, error) { panic("bug") }); !errors.As(err, &panicked) {
		t.Errorf("got %v, want a PanicError", err)
	}
	good := func(context.Context) (string, time.Time, error) { return "t", time.Now().Add(time.Minute), nil }
	if got, err := e.Exchanged(t.Context(), [32]byte{}, time.Now(), 0, time.Minute, good); got != "t" || err != nil {
		t.Errorf("got %q, %v, want a token", got, err)
	}
}
