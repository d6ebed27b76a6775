package breaker_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/breaker"
)

// bench is a breaker with a clock that the test moves.
type bench struct {
	t   *testing.T
	now time.Time
	log bytes.Buffer
	*breaker.Breaker
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.Unix(1_800_000_000, 0)}
	b.Breaker = breaker.New(breaker.Config{
		Opened: "endpoint is silent", Closed: "endpoint speaks",
		Now:    func() time.Time { return b.now },
		Logger: slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	return b
}

// call makes one call with this outcome and reports whether it was let through.
func (b *bench) call(v breaker.Verdict) bool {
	b.t.Helper()
	ticket, err := b.Start()
	if err != nil {
		return false
	}
	b.End(ticket, v)
	return true
}

func (b *bench) open() {
	b.t.Helper()
	for i := range 5 {
		if !b.call(breaker.Failing) {
			b.t.Fatalf("call %d of an outage was not let through", i+1)
		}
	}
}

func TestFiveFailuresInARowOpen(t *testing.T) {
	const none, well, fail = breaker.Neutral, breaker.Healthy, breaker.Failing
	for _, tt := range []struct {
		name     string
		verdicts []breaker.Verdict
		opens    bool
	}{
		{"five failures", []breaker.Verdict{fail, fail, fail, fail, fail}, true},
		{"four failures", []breaker.Verdict{fail, fail, fail, fail}, false},
		{"an answer in between", []breaker.Verdict{fail, fail, fail, fail, well, fail, fail, fail, fail}, false},
		{"what says nothing in between", []breaker.Verdict{fail, fail, fail, fail, none, fail}, true},
		{"nothing but neutral", []breaker.Verdict{none, none, none, none, none, none}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			for _, v := range tt.verdicts {
				b.call(v)
			}
			if got := !b.call(breaker.Healthy); got != tt.opens {
				t.Errorf("open = %v, want %v", got, tt.opens)
			}
		})
	}
}

// The pauses double from one second to ten, each ends with one probe.
func TestPausesGrow(t *testing.T) {
	b := newBench(t)
	if b.open(); !b.Paused() {
		t.Error("not paused after five failures")
	}
	for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		pause *= time.Second
		b.now = b.now.Add(pause - time.Millisecond)
		_, err := b.Start()
		var open *breaker.OpenError
		if !errors.As(err, &open) || open.Pause != pause || open.Remaining != time.Millisecond {
			t.Fatalf("got %#v, want a pause of %v with 1 ms left", err, pause)
		}
		b.now = b.now.Add(time.Millisecond)
		if b.Paused() { // or nobody would send the call that finds out
			t.Fatalf("paused when %v are over", pause)
		}
		if !b.call(breaker.Failing) {
			t.Fatalf("no probe after %v", pause)
		}
	}
	b.now = b.now.Add(10 * time.Second)
	for range 2 {
		if !b.call(breaker.Healthy) {
			t.Error("not closed by an answer")
		}
		if b.Paused() {
			t.Error("paused after an answer")
		}
	}
	b.open() // it takes five failures again
	b.now = b.now.Add(time.Second)
	if !b.call(breaker.Healthy) {
		t.Error("the pause of another outage is longer than a second")
	}
	if log := b.log.String(); strings.Count(log, `level=ERROR msg="endpoint is silent" pause_seconds=`) != 8 || strings.Count(log, `level=INFO msg="endpoint speaks"`) != 2 {
		t.Errorf("log is\n%s\nwant 8 pauses and 2 recoveries", log)
	}
}

func TestOneProbeAtATime(t *testing.T) {
	b := newBench(t)
	b.open()
	b.now = b.now.Add(time.Second)
	probe, err := b.Start()
	if err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(time.Hour)
	if !b.Paused() {
		t.Error("not paused beside the probe")
	}
	_, err = b.Start()
	if open := (*breaker.OpenError)(nil); !errors.As(err, &open) || open.Remaining != 0 {
		t.Errorf("beside the probe: got %v, want a refusal of unknown length", err)
	}
	b.End(probe, breaker.Neutral) // its caller left: the next one finds out
	if probe, err = b.Start(); err != nil {
		t.Fatalf("after a probe that found out nothing: %v", err)
	}
	b.End(probe, breaker.Healthy)
	if !b.call(breaker.Healthy) {
		t.Error("not closed by the probe")
	}
}

// Calls from before the opening have no say: neither do they prolong the pause, nor does a
// late answer end it.
func TestLateCallsHaveNoSay(t *testing.T) {
	b := newBench(t)
	var late []breaker.Ticket
	for range 10 {
		ticket, err := b.Start()
		if err != nil {
			t.Fatal(err)
		}
		late = append(late, ticket)
	}
	b.open()
	for i, ticket := range late {
		b.End(ticket, breaker.Verdict(1+i%2))
	}
	if b.call(breaker.Healthy) {
		t.Error("a late answer closed the circuit")
	}
	b.now = b.now.Add(time.Second)
	if !b.call(breaker.Healthy) {
		t.Error("late failures prolonged the pause")
	}
}

func TestConcurrentCalls(t *testing.T) {
	b := breaker.New(breaker.Config{Opened: "o", Closed: "c"})
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			if ticket, err := b.Start(); err == nil {
				b.End(ticket, breaker.Verdict(i%3))
			}
		})
	}
	all.Wait()
}
