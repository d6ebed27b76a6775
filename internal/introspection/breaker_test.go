package introspection_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
)

// switchable is an endpoint whose behaviour the test changes, and a client with a clock.
type switchable struct {
	*endpoint
	client *introspection.Client
	clk    *clock
	lines  logs
	behave atomic.Pointer[http.HandlerFunc]
}

func newSwitchable(t *testing.T, behave http.HandlerFunc) *switchable {
	t.Helper()
	s := &switchable{clk: newClock()}
	s.set(behave)
	s.endpoint = start(t, func(w http.ResponseWriter, r *http.Request) { (*s.behave.Load())(w, r) })
	s.client = newClient(t, introspection.Config{Endpoint: s.URL, Now: s.clk.now, Logger: s.lines.logger()})
	return s
}

func (s *switchable) set(behave http.HandlerFunc) { s.behave.Store(&behave) }

// kind is how a call ends: "" is well.
func (s *switchable) kind(t *testing.T) introspection.Kind {
	t.Helper()
	_, err := s.client.Introspect(t.Context(), "token")
	if err == nil {
		return ""
	}
	e, ok := err.(*introspection.Error)
	if !ok {
		t.Fatalf("got %T, want *Error", err)
	}
	return e.Kind
}

var (
	well   = json200(`{"active":true}`)
	broken = answer(502, "text/html", "<html>")
)

// Covers: IN-09
func TestCircuitOpensAndCloses(t *testing.T) {
	s := newSwitchable(t, broken)
	for i := range 5 {
		if got := s.kind(t); got != introspection.KindStatus {
			t.Fatalf("call %d: got %s, want status", i, got)
		}
	}
	// The pauses double from one second to ten, each ends with one probe.
	asked := 5
	for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		s.clk.step(pause*time.Second - 1)
		for range 3 {
			if got := s.kind(t); got != introspection.KindCircuit {
				t.Fatalf("during a pause of %d s: got %s, want circuit", pause, got)
			}
		}
		s.clk.step(1)
		if got := s.kind(t); got != introspection.KindStatus {
			t.Fatalf("after a pause of %d s: got %s, want a probe that fails", pause, got)
		}
		asked++
		if n := len(s.asked()); n != asked {
			t.Fatalf("after a pause of %d s: the endpoint was asked %d times, want %d", pause, n, asked)
		}
	}
	s.set(well)
	s.clk.step(10 * time.Second)
	if got := s.kind(t); got != "" {
		t.Errorf("the probe after recovery: got %s, want an answer", got)
	}
	// Closed means closed: it takes five failures again, and the pause is short again.
	s.set(broken)
	for i := range 5 {
		if got := s.kind(t); got != introspection.KindStatus {
			t.Errorf("second outage, call %d: got %s, want status", i, got)
		}
	}
	if got := s.kind(t); got != introspection.KindCircuit {
		t.Errorf("second outage: got %s, want circuit", got)
	}
	s.clk.step(time.Second)
	s.set(well)
	if got := s.kind(t); got != "" {
		t.Errorf("after a second: got %s, want an answer", got)
	}
	text := s.lines.String()
	if n := strings.Count(text, "level=ERROR"); n != 8 {
		t.Errorf("got %d lines about pauses, want one for each of 8; log:\n%s", n, text)
	}
	if n := strings.Count(text, "answers again"); n != 2 {
		t.Errorf("got %d lines about recoveries, want 2; log:\n%s", n, text)
	}
}

func TestWhatOpensTheCircuit(t *testing.T) {
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		name   string
		behave http.HandlerFunc
		opens  bool
	}{
		{name: "OneTokenThatTheProviderChokesOnDoesNotShutOutAll", behave: answer(500, "", "")},
		{name: "502", behave: answer(502, "", ""), opens: true},
		{name: "504", behave: answer(504, "", ""), opens: true},
		{name: "503", behave: answer(503, "", ""), opens: true},
		{name: "connection broken", behave: hangUp, opens: true},
		{name: "400", behave: answer(400, "", "")},
		{name: "401", behave: answer(401, "", "")},
		{name: "403", behave: answer(403, "", "")},
		{name: "404", behave: answer(404, "", "")},
		{name: "429", behave: answer(429, "", "")},
		{name: "redirect", behave: answer(302, "", "")},
		{name: "malformed", behave: json200("<html>")},
		{name: "other media type", behave: answer(200, "text/html", "<html>")},
		{name: "too large", behave: json200(strings.Repeat(" ", 2<<20))},
		{name: "inactive", behave: json200(`{"active":false}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSwitchable(t, tt.behave)
			for range 20 {
				s.kind(t)
			}
			want := 20
			if tt.opens {
				want = 5
			}
			if n := len(s.asked()); n != want {
				t.Errorf("of 20 calls %d arrived, want %d", n, want)
			}
		})
	}
}

func TestTimeoutsOpenTheCircuit(t *testing.T) {
	release := make(chan struct{})
	e := start(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	c := newClient(t, introspection.Config{Endpoint: e.URL, Timeout: short, Now: newClock().now})
	for range 5 {
		got, err := c.Introspect(t.Context(), "token")
		wantKind(t, got, err, introspection.KindTimeout)
	}
	got, err := c.Introspect(t.Context(), "token")
	wantKind(t, got, err, introspection.KindCircuit)
}

func TestFailuresMustBeInARow(t *testing.T) {
	s := newSwitchable(t, well)
	for range 10 {
		s.set(broken)
		for i := range 4 {
			if got := s.kind(t); got != introspection.KindStatus {
				t.Fatalf("failure %d: got %s, want status", i, got)
			}
		}
		s.set(well)
		if got := s.kind(t); got != "" {
			t.Fatalf("after 4 failures: got %s, want an answer", got)
		}
	}
}

// gate lets calls into the handler and holds them there until told.
type gate struct{ arrived, release chan struct{} }

func newGate() *gate {
	return &gate{arrived: make(chan struct{}, 64), release: make(chan struct{})}
}

func (g *gate) then(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.arrived <- struct{}{}
		select {
		case <-g.release:
		case <-r.Context().Done():
		}
		h(w, r)
	}
}

func TestOneProbeAtATime(t *testing.T) {
	s := newSwitchable(t, broken)
	for range 5 {
		s.kind(t)
	}
	s.clk.step(time.Second)
	g := newGate()
	s.set(g.then(well))
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := s.kind(t); got != "" {
			t.Errorf("the probe: got %s, want an answer", got)
		}
	})
	<-g.arrived
	s.clk.step(time.Hour)
	for range 10 {
		if got := s.kind(t); got != introspection.KindCircuit {
			t.Errorf("beside the probe: got %s, want circuit", got)
		}
	}
	close(g.release)
	wg.Wait()
	if got := s.kind(t); got != "" {
		t.Errorf("after the probe: got %s, want an answer", got)
	}
}

// A probe whose caller leaves has found out nothing; it must not block the next one.
func TestProbeOfACallerWhoLeft(t *testing.T) {
	s := newSwitchable(t, broken)
	for range 5 {
		s.kind(t)
	}
	s.clk.step(time.Second)
	g := newGate()
	s.set(g.then(well))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.client.Introspect(ctx, "token")
		done <- err
	}()
	<-g.arrived
	cancel()
	wantKind(t, nil, <-done, introspection.KindCanceled)
	s.set(well)
	if got := s.kind(t); got != "" {
		t.Errorf("the next call: got %s, want a probe that is answered", got)
	}
}

// Calls from before the outage was noticed come back one by one. They open the circuit
// once and do not prolong the pause.
func TestLateFailuresDoNotProlongThePause(t *testing.T) {
	g := newGate()
	s := newSwitchable(t, g.then(broken))
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() { s.kind(t) })
	}
	for range 40 {
		<-g.arrived
	}
	close(g.release)
	wg.Wait()
	if n := strings.Count(s.lines.String(), "level=ERROR"); n != 1 {
		t.Errorf("got %d pauses, want 1; log:\n%s", n, s.lines.String())
	}
	s.set(well)
	s.clk.step(time.Second)
	if got := s.kind(t); got != "" {
		t.Errorf("after a second: got %s, want an answer", got)
	}
}
