package introspection_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/introspection"
)

// short is a timeout that real sockets run into; nothing else waits for it.
const short = 60 * time.Millisecond

// rawServer gives each accepted connection to serve, counted from 0, and closes it
// afterwards. It ends with the test.
func rawServer(t testing.TB, serve func(n int, conn *net.TCPConn, in *bufio.Reader)) (url string, accepted func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			mu.Lock()
			n := len(conns)
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(n, conn.(*net.TCPConn), bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(conns)
	}
}

// readRequest reads one whole request.
func readRequest(in *bufio.Reader) error {
	r, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// reset closes with a TCP reset instead of an orderly end.
func reset(conn *net.TCPConn) {
	if conn.SetLinger(0) == nil {
		conn.Close()
	}
}

const goodAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"active\":true}"

// drip writes s byte by byte, slowly and for ever again from its end, until the
// connection breaks. Each byte is progress: only a deadline for the whole ends it.
func drip(conn net.Conn, s, again string) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		for i := range len(s) {
			<-tick.C
			if _, err := conn.Write([]byte{s[i]}); err != nil {
				return
			}
		}
		s = again
	}
}

// Covers: IN-09
func TestTroubleOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name     string
		serve    func(n int, conn *net.TCPConn, in *bufio.Reader)
		kind     introspection.Kind
		atLeast  time.Duration // a timeout is not cut short
		accepted int
	}{
		{name: "hang after the request", kind: introspection.KindTimeout, atLeast: short, accepted: 1, serve: func(_ int, _ *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = in.ReadByte() // until the client gives up
			}
		}},
		{name: "slow loris: header drip", kind: introspection.KindTimeout, atLeast: short, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				drip(conn, "HTTP/1.1 200 OK\r\n", "X-Y: z\r\n")
			}
		}},
		{name: "slow loris: body drip", kind: introspection.KindTimeout, atLeast: short, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) != nil {
				return
			}
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"); err == nil {
				drip(conn, " ", " ")
			}
		}},
		{name: "endless 100 Continue", kind: introspection.KindMalformed, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) != nil {
				return
			}
			for {
				if _, err := io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("y", 4000)+"\r\n\r\n"); err != nil {
					return
				}
			}
		}},
		{name: "endless header", kind: introspection.KindMalformed, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) != nil {
				return
			}
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(conn, "X: "+strings.Repeat("y", 1000)+"\r\n")
			}
		}},
		{name: "reset instead of an answer, not tried again", kind: introspection.KindConnection, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				reset(conn)
			}
		}},
		{name: "reset at once", kind: introspection.KindConnection, accepted: 1, serve: func(_ int, conn *net.TCPConn, _ *bufio.Reader) { reset(conn) }},
		{name: "end instead of an answer", kind: introspection.KindConnection, accepted: 1, serve: func(_ int, _ *net.TCPConn, in *bufio.Reader) { _ = readRequest(in) }},
		{name: "reset in the body", kind: introspection.KindConnection, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) != nil {
				return
			}
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"); err == nil {
				reset(conn)
			}
		}},
		{name: "no HTTP", kind: introspection.KindMalformed, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
			}
		}},
		{name: "a broken chunk", kind: introspection.KindMalformed, accepted: 1, serve: func(_ int, conn *net.TCPConn, in *bufio.Reader) {
			if readRequest(in) == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url, accepted := rawServer(t, tt.serve)
			timeout := 5 * time.Second
			if tt.atLeast > 0 {
				timeout = tt.atLeast
			}
			c := newClient(t, introspection.Config{Endpoint: url, Timeout: timeout})
			begin := time.Now()
			got, err := c.Introspect(t.Context(), "token")
			took := time.Since(begin)
			wantKind(t, got, err, tt.kind)
			if took < tt.atLeast || took > 4*time.Second {
				t.Errorf("took %v, want at least %v and not much more", took, tt.atLeast)
			}
			if n := accepted(); n != tt.accepted {
				t.Errorf("got %d connections, want %d", n, tt.accepted)
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, introspection.Config{Endpoint: url})
	got, err := c.Introspect(t.Context(), "token")
	wantKind(t, got, err, introspection.KindConnection)
	if !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "introspection_endpoint") {
		t.Errorf("got %q, want the cause and the setting named", err)
	}
}

// A kept connection that died says nothing about the provider: the question is asked once
// more, on a new connection. One that dies at once again is an error.
//
// Covers: IN-09
func TestResetOfKeptConnectionIsTriedOnce(t *testing.T) {
	for _, tt := range []struct {
		name      string
		breakAt   func(conn *net.TCPConn)
		recovers  bool
		questions int32
	}{
		{name: "reset, then well", breakAt: reset, recovers: true, questions: 3},
		{name: "end, then well", breakAt: func(conn *net.TCPConn) { conn.Close() }, recovers: true, questions: 3},
		{name: "reset, then reset", breakAt: reset, questions: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var questions atomic.Int32
			url, _ := rawServer(t, func(n int, conn *net.TCPConn, in *bufio.Reader) {
				for i := 0; readRequest(in) == nil; i++ {
					questions.Add(1)
					if n == 0 && i == 1 || n > 0 && !tt.recovers {
						tt.breakAt(conn)
						return
					}
					if _, err := io.WriteString(conn, goodAnswer); err != nil {
						return
					}
				}
			})
			c := newClient(t, introspection.Config{Endpoint: url})
			if _, err := c.Introspect(t.Context(), "token"); err != nil {
				t.Fatalf("first: %v", err)
			}
			got, err := c.Introspect(t.Context(), "token")
			if tt.recovers {
				if err != nil || !got.Introspection.Active {
					t.Errorf("second: got %v, %v, want active", got, err)
				}
			} else {
				wantKind(t, got, err, introspection.KindConnection)
			}
			if n := questions.Load(); n != tt.questions {
				t.Errorf("the endpoint was asked %d times, want %d", n, tt.questions)
			}
		})
	}
}

// After a restart of the provider all kept connections are dead, not only the one that
// happens to be used first.
func TestSecondTryUsesANewConnection(t *testing.T) {
	const kept = 3
	arrived, release := make(chan struct{}, kept), make(chan struct{})
	url, accepted := rawServer(t, func(n int, conn *net.TCPConn, in *bufio.Reader) {
		for i := 0; readRequest(in) == nil; i++ {
			if n < kept && i == 0 {
				arrived <- struct{}{}
				<-release
			}
			if n < kept && i == 1 {
				reset(conn)
				return
			}
			if _, err := io.WriteString(conn, goodAnswer); err != nil {
				return
			}
		}
	})
	c := newClient(t, introspection.Config{Endpoint: url})
	var wg sync.WaitGroup
	for range kept {
		wg.Go(func() {
			if _, err := c.Introspect(t.Context(), "token"); err != nil {
				t.Errorf("before the restart: %v", err)
			}
		})
	}
	for range kept {
		<-arrived
	}
	close(release)
	wg.Wait()
	if got, err := c.Introspect(t.Context(), "token"); err != nil || !got.Introspection.Active {
		t.Errorf("after it: got %v, %v, want active", got, err)
	}
	if n := accepted(); n != kept+1 {
		t.Errorf("got %d connections, want %d", n, kept+1)
	}
}

func TestConnectionsAreKeptAndBounded(t *testing.T) {
	const most, calls, later = 4, 60, 20
	arrived, release := make(chan struct{}, calls+later), make(chan struct{})
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		json200(`{"active":true}`)(w, r)
	})
	c := newClient(t, introspection.Config{Endpoint: e.URL, MaxConcurrent: most, Timeout: 30 * time.Second})
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := c.Introspect(t.Context(), "token"); err != nil {
				t.Errorf("Introspect: %v", err)
			}
		})
	}
	for range most {
		<-arrived // as many as may be at one time are there; the others wait
	}
	close(release)
	wg.Wait()
	for range later {
		if _, err := c.Introspect(t.Context(), "token"); err != nil {
			t.Errorf("Introspect: %v", err)
		}
	}
	if connections, now := e.counts(); connections > most || now > most {
		t.Errorf("got %d connections, %d requests at one time, want at most %d", connections, now, most)
	}
	if proto := e.asked()[0].proto; proto != "HTTP/1.1" {
		t.Errorf("got %s, want HTTP/1.1", proto)
	}
}

// hold is a server that answers when told, and a client with room for one call.
func hold(t *testing.T, timeout time.Duration) (c *introspection.Client, arrived, release chan struct{}) {
	t.Helper()
	arrived, release = make(chan struct{}, 10), make(chan struct{})
	e := start(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		json200(`{"active":true}`)(w, r)
	})
	return newClient(t, introspection.Config{Endpoint: e.URL, MaxConcurrent: 1, Timeout: timeout}), arrived, release
}

func TestCallWithoutSlotIsUnavailable(t *testing.T) {
	for _, tt := range []struct {
		name   string
		expire func(ctx context.Context) (context.Context, context.CancelFunc)
		kind   introspection.Kind
		is     error
	}{
		{name: "in time", kind: introspection.KindOverloaded, expire: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, short)
		}},
		{name: "before it was late already", kind: introspection.KindOverloaded, expire: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, -1)
		}},
		{name: "for a caller who left", kind: introspection.KindCanceled, is: context.Canceled, expire: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, arrived, release := hold(t, 30*time.Second)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := c.Introspect(t.Context(), "token"); err != nil {
					t.Errorf("the call that holds the slot: %v", err)
				}
			})
			<-arrived
			ctx, cancel := tt.expire(t.Context())
			defer cancel()
			for range 10 { // more than open the circuit: waiting in vain must not
				got, err := c.Introspect(ctx, "token")
				wantKind(t, got, err, tt.kind)
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("got %v, want %v inside", err, tt.is)
				}
			}
			close(release)
			wg.Wait()
			if _, err := c.Introspect(t.Context(), "token"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestCallerWhoLeavesEndsTheCall(t *testing.T) {
	c, arrived, release := hold(t, 30*time.Second)
	defer close(release)
	for range 10 { // says nothing about the endpoint: the circuit stays closed
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			got, err := c.Introspect(ctx, "token")
			if got != nil {
				t.Errorf("got %v, want nothing", got)
			}
			done <- err
		}()
		<-arrived
		cancel()
		err := <-done
		wantKind(t, nil, err, introspection.KindCanceled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled inside", err)
		}
	}
}

func TestEarlierDeadlineOfTheCallerCounts(t *testing.T) {
	c, _, release := hold(t, time.Hour)
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	got, err := c.Introspect(ctx, "token")
	wantKind(t, got, err, introspection.KindTimeout)
}

// The environment of Kong may name a proxy. Tokens and secrets do not go there.
//
// net/http reads the environment once a process, so the call is made in a process of its
// own: this test, run again.
func TestProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	if os.Getenv("PROXY_TEST") == "again" {
		// An address of TEST-NET-1 (RFC 5737): nobody answers there, but a proxy would.
		c := newClient(t, introspection.Config{Endpoint: "http://192.0.2.1/introspect", Timeout: short})
		if got, err := c.Introspect(t.Context(), "token"); err == nil {
			t.Errorf("got %+v, want an error", got)
		}
		return
	}
	proxy := start(t, json200(`{"active":true}`))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "PROXY_TEST=again", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("the call: %v\n%s", err, out)
	}
	if n := len(proxy.asked()); n != 0 {
		t.Errorf("the proxy was asked %d times, want never", n)
	}
}
