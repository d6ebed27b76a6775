package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"reflect"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
)

// open sends a request and returns its answer, the body unread.
func (w *world) open(t testing.TB, r *http.Request) *http.Response {
	t.Helper()
	res, err := w.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("calling the proxy: %v", err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// The header, and each byte of a stream, must arrive before the API writes the next one: the
// API waits until the application says that it has read it. Waiting for more anywhere would be
// a deadlock here.
func TestStreamsByteByByte(t *testing.T) {
	for _, test := range []struct{ name, contentType, length string }{
		{"events", "text/event-stream", ""},
		{"chunks", "application/json", ""},
		{"known length", "application/octet-stream", "5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			next := make(chan struct{})
			upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				if test.length != "" {
					w.Header().Set("Content-Length", test.length)
				}
				w.WriteHeader(http.StatusOK)
				for _, c := range "data:" {
					_ = http.NewResponseController(w).Flush()
					select {
					case <-next:
					case <-r.Context().Done():
						return
					}
					_, _ = io.WriteString(w, string(c))
				}
			})
			w := newWorld(t, to(t, upstream.URL))
			res := w.open(t, w.request(t, http.MethodGet, "/", nil))
			var got []byte
			for range len("data:") {
				next <- struct{}{}
				b := make([]byte, 1)
				if _, err := io.ReadFull(res.Body, b); err != nil {
					t.Fatal(err)
				}
				got = append(got, b...)
			}
			if _, err := res.Body.Read(make([]byte, 1)); err != io.EOF || string(got) != "data:" {
				t.Errorf("expected data: and the end, got %q, %v", got, err)
			}
			w.noLeak(t, upstream)
		})
	}
}

// The application writes, reads the echo, and writes again on the same request.
func TestStreamsBothWaysAtOnce(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = control.Flush()
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
			_, _ = w.Write(b)
			_ = control.Flush()
		}
	})
	w := newWorld(t, to(t, upstream.URL))
	body, app := io.Pipe()
	res := w.open(t, w.request(t, http.MethodPost, "/", body))
	for _, c := range []byte("echo") {
		if _, err := app.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, b); err != nil || b[0] != c {
			t.Fatalf("expected %q, got %q, %v", c, b, err)
		}
	}
	_ = app.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
		t.Errorf("expected the end, got %q, %v", rest, err)
	}
	w.noLeak(t, upstream)
}

// The API ends its answer while the application still sends, and the application waits for the
// end of the answer before it ends its request.
func TestAnswerEndsBeforeTheRequest(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		length string
	}{
		{"stream", 200, "events", ""},
		{"known length", 413, "no", "2"},
		{"no body", 413, "", "0"},
		{"no content", 204, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
				control := http.NewResponseController(w)
				_ = control.EnableFullDuplex()
				_, _ = io.ReadFull(r.Body, make([]byte, 1))
				if test.length != "" {
					w.Header().Set("Content-Length", test.length)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
				_ = control.Flush()
			})
			w := newWorld(t, to(t, upstream.URL))
			body, app := io.Pipe()
			go func() { _, _ = app.Write([]byte("x")) }()
			got := read(t, w.open(t, w.request(t, http.MethodPost, "/", body)))
			_ = app.Close()
			passed(t, got, test.status)
			if got.body != test.body || !got.Close {
				t.Errorf("expected %q as the last answer of its connection, got %q, %t", test.body, got.body, got.Close)
			}
			w.noLeak(t, upstream)
		})
	}
}

// Streams and trailers of an API that speaks HTTP/2.
func TestStreamsHTTP2(t *testing.T) {
	received := make(chan http.Header, 1)
	upstream, ca := tlsAPI(t, true, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced, Phantom-Error")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		_ = control.Flush()
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				break
			}
			_, _ = w.Write(b)
			_ = control.Flush()
		}
		received <- r.Trailer.Clone()
		w.Header().Set("X-Announced", "a")
		w.Header().Set("Phantom-Error", "invalid_token")
		w.Header().Set(http.TrailerPrefix+"X-Late", "b")
	})
	route := to(t, upstream.URL)
	route.CAFile = ca
	w := newWorld(t, route)
	body, app := io.Pipe()
	r := w.request(t, http.MethodPost, "/", body)
	r.Trailer = http.Header{"X-Sum": nil, "X-User": {"forged"}}
	res := w.open(t, r)
	for _, c := range []byte("echo") {
		if _, err := app.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull(res.Body, b); err != nil || b[0] != c {
			t.Fatalf("expected %q, got %q, %v", c, b, err)
		}
	}
	r.Trailer.Set("X-Sum", "1")
	_ = app.Close()
	read(t, res)
	if want, got := (http.Header{"X-Sum": {"1"}}), wait(t, "the trailer of the request", received); !reflect.DeepEqual(got, want) {
		t.Errorf("expected the trailer %v at the API, got %v", want, got)
	}
	if want := (http.Header{"X-Announced": {"a"}, "X-Late": {"b"}}); !reflect.DeepEqual(res.Trailer, want) {
		t.Errorf("expected the trailer %v, got %v", want, res.Trailer)
	}
	if proto := upstream.only(t).Proto; proto != "HTTP/2.0" {
		t.Errorf("expected HTTP/2.0 at the API, got %s", proto)
	}
}

func TestTrailersBothWays(t *testing.T) {
	received := make(chan http.Header, 1)
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		received <- r.Trailer.Clone()
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Announced", "a")
		w.Header().Set(http.TrailerPrefix+"X-Late", "b")
	})
	w := newWorld(t, to(t, upstream.URL))
	request := "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\nAuthorization: Bearer " + phantom +
		"\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization, X-Consumer-Id\r\n\r\n" +
		"2\r\nhi\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer other\r\nX-Consumer-Id: 2\r\nX-Unannounced: 3\r\n\r\n"
	got := w.raw(t, request)
	passed(t, got, http.StatusOK)
	if want := (http.Header{"X-Sum": {"1"}}); !reflect.DeepEqual(<-received, want) {
		t.Errorf("expected the trailer %v alone at the API", want)
	}
	if want := (http.Header{"X-Announced": {"a"}, "X-Late": {"b"}}); !reflect.DeepEqual(got.Trailer, want) {
		t.Errorf("expected the trailer %v, got %v", want, got.Trailer)
	}
}

// zeros are n bytes that are not in memory.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	z.n -= n
	clear(p[:n])
	return int(n), nil
}

// A gibibyte each way, which is nowhere in memory.
func TestLargeBodiesBothWays(t *testing.T) {
	const size = 1 << 30
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Received", fmt.Sprint(n))
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.Copy(w, &zeros{size})
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodPost, "/", &zeros{size})
	r.ContentLength = size
	var before, after memory
	before.read()
	res := w.open(t, r)
	if got := res.Header.Get("X-Received"); got != fmt.Sprint(size) {
		t.Errorf("expected %d bytes at the API, got %s", size, got)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if n != size || err != nil {
		t.Errorf("expected %d bytes, got %d, %v", size, n, err)
	}
	after.read()
	// All three processes of the chain are in this one; none may keep what passes.
	if grown := after.allocated - before.allocated; grown > 4<<20 {
		t.Errorf("expected no more than 4 MiB allocated for %d bytes each way, got %d", size, grown)
	}
}

// What passes must arrive as it was sent.
func TestBodiesArriveUnchanged(t *testing.T) {
	sent := make([]byte, 3<<20+1)
	for i := range sent {
		sent[i] = byte(i * i >> 8)
	}
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	w := newWorld(t, to(t, upstream.URL))
	got := w.do(t, w.request(t, http.MethodPost, "/", bytes.NewReader(sent)))
	if got.body != string(sent) {
		t.Errorf("expected the %d bytes that were sent, got %d other ones", len(sent), len(got.body))
	}
}

func TestUpgradesBothWays(t *testing.T) {
	closed := make(chan error, 1)
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Authorization") != "Bearer exchanged-1" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nPhantom-Error: forged\r\n\r\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				closed <- err
				return
			}
			_, _ = rw.WriteString("echo " + line)
			_ = rw.Flush()
		}
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodGet, "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	res := w.open(t, r)
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "x" || res.Header.Get("Phantom-Error") != "" {
		t.Fatalf("expected 101 of the API, got %d %v", res.StatusCode, res.Header)
	}
	tunnel, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("expected a connection, got %T", res.Body)
	}
	lines := bufio.NewReader(tunnel)
	for range 3 {
		_, _ = io.WriteString(tunnel, "ping\n")
		if line, err := lines.ReadString('\n'); line != "echo ping\n" {
			t.Fatalf("expected echo ping, got %q, %v", line, err)
		}
	}
	_ = tunnel.Close()
	wait(t, "the end of the connection at the API", closed)
	if o := w.outcome(t); o.Result != egress.ResultPassed || o.Status != http.StatusSwitchingProtocols {
		t.Errorf("expected passed with 101, got %+v", o)
	}
	w.noLeak(t, upstream)
}

func TestDisconnectCancelsTheCall(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers bool
	}{{"before the answer", false}, {"in mid-stream", true}} {
		t.Run(test.name, func(t *testing.T) {
			begun, ended := make(chan struct{}), make(chan struct{})
			upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
				if test.answers {
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
				}
				close(begun)
				<-r.Context().Done()
				close(ended)
			})
			w := newWorld(t, to(t, upstream.URL))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				res, err := w.Client().Transport.RoundTrip(w.request(t, http.MethodGet, "/", nil).WithContext(ctx))
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			<-begun
			cancel()
			wait(t, "the end of the request at the API", ended)
			<-done
			if o := w.outcome(t); o.Result != egress.ResultCanceled {
				t.Errorf("expected canceled, got %+v", o)
			}
			w.noLeak(t, upstream)
		})
	}
}

// A stream that breaks off must not look as if it had come to its end.
func TestResetInMidStreamAbortsTheConnection(t *testing.T) {
	for _, length := range []string{"", "100"} {
		broken := make(chan struct{})
		upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-broken
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		})
		w := newWorld(t, to(t, upstream.URL))
		res := w.open(t, w.request(t, http.MethodGet, "/", nil))
		got := make([]byte, 4)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "half" {
			t.Fatalf("expected half, got %q, %v", got, err)
		}
		close(broken)
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("expected the connection to break off, got a clean end after %q", rest)
		}
		if o := w.outcome(t); o.Result != egress.ResultUpstreamAborted || o.Status != http.StatusOK {
			t.Errorf("expected upstream_aborted with 200, got %+v", o)
		}
		w.noLeak(t, upstream)
	}
}

func TestHead(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1234") })
	w := newWorld(t, to(t, upstream.URL))
	got := w.do(t, w.request(t, http.MethodHead, "/", nil))
	passed(t, got, http.StatusOK)
	if got.ContentLength != 1234 || got.body != "" || upstream.only(t).Method != http.MethodHead {
		t.Errorf("expected HEAD with length 1234, got %s with %d and %q", upstream.only(t).Method, got.ContentLength, got.body)
	}
}

// The application is asked for its body when the API wants it, and not before.
func TestExpectContinue(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		want   string
	}{{"wanted", 200, "HTTP/1.1 100 Continue"}, {"not wanted", 413, "HTTP/1.1 413 Request Entity Too Large"}} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
				if test.status != 200 {
					w.WriteHeader(test.status)
					return
				}
				body, _ := io.ReadAll(r.Body)
				_, _ = w.Write(body)
			})
			w := newWorld(t, to(t, upstream.URL))
			conn, err := net.Dial("tcp", w.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
			lines := bufio.NewReader(conn)
			if line, err := textproto.NewReader(lines).ReadLine(); line != test.want {
				t.Fatalf("expected %q, got %q, %v", test.want, line, err)
			}
			if test.status != 200 {
				return
			}
			_, _ = lines.ReadString('\n')
			_, _ = io.WriteString(conn, "body")
			got := readRaw(t, lines)
			if got.StatusCode != 200 || got.body != "body" {
				t.Errorf("expected 200 with the body, got %d %q", got.StatusCode, got.body)
			}
		})
	}
}

func TestPassesInformationalAnswers(t *testing.T) {
	goOn := make(chan struct{})
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-goOn // the hint has arrived
		w.Header().Del("Link")
		w.WriteHeader(http.StatusOK)
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodGet, "/", nil)
	var hints []string
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, header.Get("Link")))
			close(goOn)
			return nil
		},
	}))
	got := w.do(t, r)
	passed(t, got, http.StatusOK)
	if want := []string{"103</style.css>; rel=preload"}; !reflect.DeepEqual(hints, want) || got.Header.Get("Link") != "" {
		t.Errorf("expected the hint %q and none in the answer, got %q and %v", want, hints, got.Header)
	}
}

// A refusal does not wait for a body that nobody wants.
func TestRefusesBeforeTheBodyEnds(t *testing.T) {
	upstream := newAPI(t, nil)
	w := newWorld(t, to(t, upstream.URL))
	body, app := io.Pipe()
	defer app.Close()
	r := w.request(t, http.MethodPost, "/", body)
	r.Header.Del("Authorization")
	res := w.open(t, r)
	if res.StatusCode != http.StatusUnauthorized || !strings.Contains(res.Header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("expected 401 with a challenge, got %d", res.StatusCode)
	}
	if err := app.CloseWithError(errors.New("no longer wanted")); err != nil {
		t.Error(err)
	}
}
