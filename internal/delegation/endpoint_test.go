package delegation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// other is a request with a subject token of its own, so that memory has no part in it.
func other(i int) delegation.Request {
	req := request()
	req.SubjectToken = fmt.Sprintf("token-%d", i)
	return req
}

// TestCircuitOfTheTokenEndpoint: what opens it is what opens that of introspection.
//
// Covers: TX-14
func TestCircuitOfTheTokenEndpoint(t *testing.T) {
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	silence := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		hangs  bool
		opens  bool
	}{
		{name: "connection broken", answer: hangUp, opens: true},
		{name: "no answer in time", answer: silence, hangs: true, opens: true},
		{name: "502", answer: bare(502), opens: true},
		{name: "503", answer: refuse(503, "temporarily_unavailable", ""), opens: true},
		{name: "504", answer: bare(504), opens: true},
		{name: "OneTokenThatTheProviderChokesOnDoesNotShutOutAll", answer: bare(500)},
		{name: "400", answer: refuse(400, "invalid_grant", "")},
		{name: "403", answer: bare(403)},
		{name: "404", answer: bare(404)},
		{name: "429", answer: bare(429)},
		{name: "redirect", answer: bare(302)},
		{name: "HTML", answer: bare(200)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.hurry = tt.hangs
			w.answers(tt.answer)
			for i := range 12 {
				_, err := w.target.Exchange(t.Context(), other(i))
				if err == nil {
					t.Fatal("got a token")
				}
			}
			if want := map[bool]int{true: 5, false: 12}[tt.opens]; w.calls() != want {
				t.Fatalf("of 12 calls %d arrived, want %d", w.calls(), want)
			}
			if w.endpoint.Answers() == tt.opens {
				t.Errorf("Answers() = %v", tt.opens)
			}
			if !tt.opens {
				return
			}
			_, err := w.exchange()
			e := w.wantKind(err, delegation.KindUnavailable)
			if e.RetryAfter != time.Second || !strings.Contains(e.Error(), "not asked, because the endpoint failed 5 times in a row") {
				t.Errorf("got %v to repeat in %v, want the circuit and a second", e, e.RetryAfter)
			}
			w.answers(nil)
			w.hurry = false
			w.step(time.Second)
			if !w.endpoint.Answers() { // or nobody would send the call that finds out
				t.Error("Answers() = false when the pause is over")
			}
			w.wantToken(w.exchange())
			w.wantToken(w.exchange())
			if log := w.logged(); strings.Count(log, "token endpoint does not answer, calls are paused") != 1 || strings.Count(log, "token endpoint answers again") != 1 {
				t.Errorf("log is\n%s\nwant one line for the pause and one for its end", log)
			}
		})
	}
}

func TestServerThatIsDownOpensTheCircuit(t *testing.T) {
	w := newWorld(t)
	w.server.Close()
	for i := range 6 {
		_, err := w.target.Exchange(t.Context(), other(i))
		e := w.wantKind(err, delegation.KindUnavailable)
		if open := strings.Contains(e.Error(), "not asked"); open != (i == 5) {
			t.Errorf("call %d: got %v", i+1, e)
		}
	}
}

// Those who leave say nothing of the endpoint.
func TestCallersThatLeaveDoNotOpenTheCircuit(t *testing.T) {
	w := newWorld(t)
	w.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for i := range 8 {
		ctx, leave := context.WithCancel(t.Context())
		w.answers(func(_ http.ResponseWriter, r *http.Request) {
			leave()
			<-r.Context().Done()
		})
		_, err := w.target.Exchange(ctx, other(i))
		if e := w.wantKind(err, delegation.KindUnavailable); !errors.Is(e, context.Canceled) {
			t.Errorf("got %v, want that the caller left", e)
		}
	}
	w.answers(nil)
	w.wantToken(w.exchange())
}

// limit is 429 with a Retry-After field.
func limit(field string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Retry-After", field)
		rw.WriteHeader(http.StatusTooManyRequests)
	}
}

// TestRateLimitOfTheProvider: nobody calls for the time it asks for, for five seconds at
// most, and all are told how long that still is.
//
// Covers: TX-14
func TestRateLimitOfTheProvider(t *testing.T) {
	for _, tt := range []struct {
		name  string
		field string
		says  time.Duration
		pause time.Duration
	}{
		{"seconds", "3", 3 * time.Second, 3 * time.Second},
		{"a date", start.Add(4 * time.Second).UTC().Format(http.TimeFormat), 4 * time.Second, 4 * time.Second},
		{"LimitOfOneUserPausesNobodyForLong", "17", 17 * time.Second, 5 * time.Second},
		{"ADayIsNotHeeded", "86400", 30 * time.Second, 5 * time.Second},
		{"NumberThatOverflows", "99999999999999999999", 0, 0},
		{"Negative", "-5", 0, 0},
		{"nothing", "", 0, 0},
		{"Zero", "0", 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.answers(limit(tt.field))
			_, err := w.exchange()
			if e := w.wantKind(err, delegation.KindUnavailable); e.RetryAfter != tt.says {
				t.Errorf("repeat in %v, want %v", e.RetryAfter, tt.says)
			}
			w.answers(nil)
			if w.endpoint.Answers() == (tt.pause > 0) {
				t.Errorf("Answers() = %v", tt.pause > 0)
			}
			if tt.pause > 0 {
				w.step(tt.pause - 2*time.Second)
				_, err = w.target.Exchange(t.Context(), other(1))
				if e := w.wantKind(err, delegation.KindUnavailable); e.RetryAfter != 2*time.Second || !strings.Contains(e.Error(), "limits our calls (status 429)") {
					t.Errorf("got %v to repeat in %v, want the limit and 2 s", e, e.RetryAfter)
				}
				w.step(2 * time.Second)
			}
			w.wantToken(w.target.Exchange(t.Context(), other(1)))
			if w.calls() != 2 {
				t.Errorf("%d calls, want 2", w.calls())
			}
			if got := strings.Count(w.logged(), "token endpoint limits our calls"); got != map[bool]int{true: 1, false: 0}[tt.pause > 0] {
				t.Errorf("%d log lines:\n%s", got, w.logged())
			}
		})
	}
}

// A provider that goes on limiting us is left alone for longer and longer; any other answer
// ends that.
func TestRateLimitsInARowPauseLonger(t *testing.T) {
	w := newWorld(t)
	for round := range 2 {
		for i, pause := range []time.Duration{5, 10, 20, 30, 30} {
			pause *= time.Second
			w.answers(limit("3600"))
			_, err := w.target.Exchange(t.Context(), other(10*round+i))
			w.wantKind(err, delegation.KindUnavailable)
			w.step(pause - time.Second)
			_, err = w.exchange()
			if e := w.wantKind(err, delegation.KindUnavailable); e.RetryAfter != time.Second {
				t.Fatalf("limit %d: repeat in %v, want 1 s", i+1, e.RetryAfter)
			}
			w.step(time.Second)
		}
		w.answers(refuse(400, "invalid_target", ""))
		_, err := w.target.Exchange(t.Context(), other(10*round+9))
		w.wantKind(err, delegation.KindTarget)
	}
}

// Limits that come at one time are one.
func TestRateLimitsAtOneTimeAreOne(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	var arrived, all sync.WaitGroup
	w.answers(func(rw http.ResponseWriter, r *http.Request) {
		arrived.Done()
		<-release
		limit("3600")(rw, r)
	})
	arrived.Add(8)
	for i := range 8 {
		all.Go(func() { _, _ = w.target.Exchange(t.Context(), other(i)) })
	}
	arrived.Wait()
	close(release)
	all.Wait()
	w.answers(nil)
	w.step(5 * time.Second)
	w.wantToken(w.exchange())
}

// A late and shorter limit does not shorten one that is under way.
func TestTheLongestLimitCounts(t *testing.T) {
	w := newWorld(t)
	entered, first := make(chan struct{}), make(chan struct{})
	w.answers(func(rw http.ResponseWriter, r *http.Request) {
		close(entered)
		<-first
		limit("1")(rw, r)
	})
	var all sync.WaitGroup
	all.Go(func() { _, _ = w.target.Exchange(t.Context(), other(1)) })
	<-entered
	w.answers(limit("5"))
	_, _ = w.target.Exchange(t.Context(), other(2))
	close(first)
	all.Wait()
	w.answers(nil)
	w.step(4 * time.Second)
	_, err := w.exchange()
	if e := w.wantKind(err, delegation.KindUnavailable); e.RetryAfter != time.Second {
		t.Errorf("repeat in %v, want 1 s", e.RetryAfter)
	}
}

// Retry-After beside other trouble is passed on, within the same bounds, and pauses nothing
// by itself.
func TestRetryAfterOfAnOutage(t *testing.T) {
	w := newWorld(t)
	w.answers(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Retry-After", "3600")
		rw.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err := w.exchange()
	if e := w.wantKind(err, delegation.KindUnavailable); e.RetryAfter != 30*time.Second {
		t.Errorf("repeat in %v, want 30 s", e.RetryAfter)
	}
	w.answers(nil)
	w.wantToken(w.exchange())
}

// A provider that hangs holds a bounded number of callers; those beyond leave when their
// time is over and do not count against the endpoint.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 64
		var mu sync.Mutex
		calls := 0
		release := make(chan struct{})
		endpoint, err := delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: exchanger(func(context.Context, tokenexchange.Request) (*tokenexchange.Response, error) {
			mu.Lock()
			calls++
			mu.Unlock()
			<-release
			return nil, &tokenexchange.Error{Status: 400, Code: "invalid_grant"}
		})})
		if err != nil {
			t.Fatal(err)
		}
		target := bareTarget(t, endpoint)
		var all sync.WaitGroup
		for i := range bound {
			all.Go(func() { _, _ = target.Exchange(t.Context(), other(i)) })
		}
		synctest.Wait()
		for i := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := target.Exchange(ctx, other(bound+i))
			var e *delegation.Error
			if !errors.As(err, &e) || e.Kind != delegation.KindUnavailable || !strings.Contains(e.Error(), "all 64 calls to the token endpoint are taken") {
				t.Errorf("got %v, want that all places are taken", err)
			}
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := target.Exchange(gone, other(1000)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the caller left", err)
		}
		if calls != bound {
			t.Errorf("%d calls at one time, want %d", calls, bound)
		}
		close(release)
		all.Wait()
		var e *delegation.Error
		if _, err := target.Exchange(t.Context(), other(2000)); !errors.As(err, &e) || e.Kind != delegation.KindSubject {
			t.Errorf("got %v, want a call that is answered", err)
		}
	})
}

// A panic in a call takes neither a place nor the probe with it.
func TestPanicLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	broken := true
	w.connect(exchanger(func(ctx context.Context, _ tokenexchange.Request) (*tokenexchange.Response, error) {
		if broken {
			panic("a fault")
		}
		return nil, &tokenexchange.Error{Status: 400, Code: "invalid_grant"}
	}))
	for range 100 {
		func() {
			defer func() { _ = recover() }()
			_, _ = w.exchange()
		}()
	}
	broken = false
	_, err := w.exchange()
	w.wantKind(err, delegation.KindSubject)
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			req := other(i % 4)
			req.Scope = oauth.Scopes{"stocks/read"}
			if _, err := w.target.Exchange(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
