package subprocess_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/testenv/subprocess"
)

// shell starts a shell script and returns its process and the lines it prints.
func shell(t *testing.T, leash bool, script string) (*subprocess.Process, *bufio.Scanner) {
	t.Helper()
	r, w := io.Pipe()
	p, err := subprocess.Start(subprocess.Config{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Output: w, Leash: leash,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Stop(time.Second)
		_ = r.Close()
	})
	return p, bufio.NewScanner(r)
}

func line(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatalf("expected a line, got %v", s.Err())
	}
	return s.Text()
}

// A program may start others, and they hold its output: it has not ended before they have.
func TestStopEndsTheGroup(t *testing.T) {
	p, lines := shell(t, false, `sleep 60 & echo started; wait`)
	line(t, lines)
	if err := p.Stop(10 * time.Second); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if err := p.Stop(time.Second); err != nil { // it is stopped
		t.Errorf("second Stop: got %v, want nil", err)
	}
}

func TestStopKillsWhoDoesNotEnd(t *testing.T) {
	p, lines := shell(t, false, `trap '' TERM; echo ready; while :; do sleep 60; done`)
	line(t, lines)
	if err := p.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed after 50ms") {
		t.Errorf("got %v, want that it was killed", err)
	}
	if p.Err() == nil {
		t.Error("Err: got nil, want the signal")
	}
}

func TestErrIsTheExitStatus(t *testing.T) {
	p, lines := shell(t, true, `echo ready; read -r _; exit 3`)
	line(t, lines)
	if err := p.Err(); err != nil {
		t.Errorf("while it runs: got %v, want nil", err)
	}
	good, _ := shell(t, false, `exit 0`)
	<-good.Exited()
	if err := good.Err(); err != nil {
		t.Errorf("exit status 0: got %v, want nil", err)
	}
	bad, _ := shell(t, false, `exit 3`)
	<-bad.Exited()
	if err := bad.Err(); err == nil || !strings.Contains(err.Error(), "3") {
		t.Errorf("got %v, want exit status 3", err)
	}
}

// The environment is what was given, nothing is inherited, and standard input is empty
// without a leash.
func TestStartsWithNothingOfOurs(t *testing.T) {
	t.Setenv("OF_THE_TEST", "yes")
	p, lines := shell(t, false, `echo "[$OF_THE_TEST]"; cat; echo end`)
	if got := line(t, lines) + line(t, lines); got != "[]end" {
		t.Errorf("got %s, want []end", got)
	}
	<-p.Exited()
	if _, err := subprocess.Start(subprocess.Config{Path: "/no/such/program"}); err == nil || !strings.Contains(err.Error(), "starting /no/such/program") {
		t.Errorf("got %v, want its name", err)
	}
}

func TestReady(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/third" || asked.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name, script, path string
		ctx                context.Context
		limit              time.Duration
		want               string // in the error; empty: none
	}{
		{"AtLast", "sleep 60", "/third", t.Context(), time.Minute, ""},
		{"Never", "sleep 60", "/", t.Context(), 30 * time.Millisecond, "not ready after 30ms"},
		{"EndedBefore", "exit 4", "/", t.Context(), time.Minute, "exit status 4"},
		{"EndedWell", "exit 0", "/", t.Context(), time.Minute, "ended by itself"},
		{"NobodyWaits", "sleep 60", "/", cancelled, time.Minute, "context canceled"},
		{"NoURL", "sleep 60", "/%zz", t.Context(), time.Minute, "asking whether script is ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := shell(t, false, tt.script)
			err := p.Ready(tt.ctx, server.Client(), server.URL+tt.path, tt.limit)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
