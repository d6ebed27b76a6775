package kongtest_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/kongtest"
)

// plain is a configuration without plugins; extra are further lines of its route.
func plain(extra string) []byte {
	return []byte(`
_format_version: "3.0"
services:
- name: up
  url: http://upstream:80
  retries: 1
  read_timeout: 20000
  routes:
  - name: p
    paths: ["/p"]
    strip_path: false
` + extra)
}

// rawUpstream is an upstream that works with bytes: handle gets each connection.
func rawUpstream(t *testing.T, handle func(conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			handle(conn, bufio.NewReader(conn))
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// readRawHead returns the lines of a request head.
func readRawHead(t testing.TB, r *bufio.Reader) []string {
	t.Helper()
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Errorf("upstream: %v", err)
			return lines
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			return lines
		}
		lines = append(lines, line)
	}
}

// TestUpstreamRequest is the request as bytes: Kong's fields first, then the client's as
// they came.
func TestUpstreamRequest(t *testing.T) {
	heads := make(chan []string, 1)
	address := rawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
		heads <- readRawHead(t, r)
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	g := start(t, kongtest.Config{YAML: plain(""), Addresses: map[string]string{"upstream:80": address}}, nil)
	res := g.raw("GET", "GET /p?q HTTP/1.1\r\nHost: Gw.Example\r\nx-CASE: kept \r\nX_Real_IP: 1\r\nX-Real-IP: 2\r\nX-Forwarded-For: 9.9.9.9\r\nVia: 1.0 other\r\n"+
		"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\nProxy: evil\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-Bytes: \xe9\x01\r\n\r\n")
	if res.StatusCode != 204 {
		t.Fatalf("got %d, want 204", res.StatusCode)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(g.URL(), "http://"))
	got := <-heads
	want := []string{
		"GET /p?q HTTP/1.1", "TE: trailers", "Via: 1.0 other, 1.1 kong/3.9.3", "Host: " + address, "Connection: keep-alive",
		"X-Forwarded-For: 9.9.9.9, 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: gw.example", "X-Forwarded-Port: " + port,
		"X-Forwarded-Path: /p", "X-Real-IP: 127.0.0.1", "X-Kong-Request-Id: " + res.Header.Get("X-Kong-Request-Id"),
		"x-CASE: kept", "X_Real_IP: 1", "X-Bytes: \xe9\x01",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// TestUpstreamHost is the service's, unless the route preserves the client's.
func TestUpstreamHost(t *testing.T) {
	up := newUpstream(t, nil)
	for extra, want := range map[string]string{"": up.address(), "    preserve_host: true\n": "Client.Example:99"} {
		g := start(t, kongtest.Config{YAML: plain(extra)}, up)
		g.raw("GET", "GET /p HTTP/1.1\r\nHost: Client.Example:99\r\n\r\n")
		if got := up.got(t).Host; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRequestBodies: buffered ones have a length, whatever the client sent; a route can
// turn that off.
func TestRequestBodies(t *testing.T) {
	up := newUpstream(t, nil)
	chunked := "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	for name, tt := range map[string]struct {
		extra, request string
		length         int64
		encoding       string
		body           string
	}{
		"length":             {"", "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 3, "", "abc"},
		"chunked":            {"", chunked, 3, "", "abc"},
		"empty":              {"", "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 0, "", ""},
		"unbuffered, length": {"    request_buffering: false\n", "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 3, "", "abc"},
		"unbuffered chunks":  {"    request_buffering: false\n", chunked, -1, "chunked", "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, kongtest.Config{YAML: plain(tt.extra)}, up)
			if res := g.raw("POST", tt.request); res.StatusCode != 200 {
				t.Fatalf("got %d, want 200", res.StatusCode)
			}
			r := up.got(t)
			if r.ContentLength != tt.length || strings.Join(r.TransferEncoding, "") != tt.encoding || r.body != tt.body {
				t.Errorf("got %d %q %q, want %d %q %q", r.ContentLength, r.TransferEncoding, r.body, tt.length, tt.encoding, tt.body)
			}
		})
	}
}

// TestUnbufferedRequestStreams: the upstream sees the first bytes before the last are sent.
func TestUnbufferedRequestStreams(t *testing.T) {
	first := make(chan string, 1)
	address := rawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
		readRawHead(t, r)
		line, _ := r.ReadString('\n')
		data, _ := r.ReadString('\n')
		first <- strings.TrimSpace(line + data)
		rest, _ := io.ReadAll(io.LimitReader(r, int64(len("4\r\nlast\r\n0\r\n\r\n"))))
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Rest: %q\r\n\r\n", rest)
	})
	g := start(t, kongtest.Config{YAML: plain("    request_buffering: false\n"), Addresses: map[string]string{"upstream:80": address}}, nil)
	conn := g.dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
	if got := <-first; got != "5\r\nfirst" {
		t.Errorf("got %q, want the first chunk", got)
	}
	_, _ = io.WriteString(conn, "4\r\nlast\r\n0\r\n\r\n")
	if res := readResponse(t, bufio.NewReader(conn), "POST"); res.Header.Get("X-Rest") != `"4\r\nlast\r\n0\r\n\r\n"` {
		t.Errorf("got %v, want the last chunk", res.Header)
	}
}

// TestLargeBodies pass both ways.
func TestLargeBodies(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	g := start(t, kongtest.Config{YAML: plain("")}, up)
	body := strings.Repeat("0123456789abcdef", 10<<20/16)
	if res := g.do("POST", "/p", body, nil); res.StatusCode != 200 || res.body != body {
		t.Errorf("got %d and %d bytes, want all", res.StatusCode, len(res.body))
	}
}

// TestServerSentEventsPassAtOnce: each is read before the next is written.
func TestServerSentEventsPassAtOnce(t *testing.T) {
	next := make(chan struct{})
	up := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	g := start(t, kongtest.Config{YAML: plain("")}, up)
	res, err := http.Get(g.URL() + "/p")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := r.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("got %q, %v, want event %d", line, err, i)
		}
		_, _ = r.ReadString('\n')
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("got %q, %v, want the end", rest, err)
	}
}

// TestClientThatGoesAwayIsNoticedUpstream at once, in the middle of a response and before.
func TestClientThatGoesAwayIsNoticedUpstream(t *testing.T) {
	for name, flush := range map[string]bool{"in the response": true, "before the response": false} {
		t.Run(name, func(t *testing.T) {
			arrived, gone := make(chan struct{}), make(chan struct{})
			up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if flush {
					w.(http.Flusher).Flush()
				}
				close(arrived)
				<-r.Context().Done()
				close(gone)
			})
			g := start(t, kongtest.Config{YAML: plain("")}, up)
			conn := g.dial()
			_, _ = io.WriteString(conn, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
			<-arrived
			conn.Close()
			select {
			case <-gone:
			case <-time.After(patience):
				t.Error("the upstream was not told")
			}
		})
	}
}

// TestUpstreamResponse: what passes, what does not, what Kong adds.
func TestUpstreamResponse(t *testing.T) {
	address := rawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
		readRawHead(t, r)
		_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 299 Fine\r\nX-Low: \xe9\r\nServer: mine\r\nVia: 1.1 other\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"+
			"Keep-Alive: 5\r\nX-Accel-Buffering: no\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n"+
			"3\r\nabc\r\n0\r\nT: v\r\n\r\n")
	})
	g := start(t, kongtest.Config{YAML: plain(""), Addresses: map[string]string{"upstream:80": address}}, nil)
	res := g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\n\r\n")
	if res.StatusCode != 299 || res.Status != "299 Fine" || res.body != "abc" || len(res.Trailer) > 0 {
		t.Errorf("got %s %q %v, want 299 Fine, abc and no trailer", res.Status, res.body, res.Trailer)
	}
	for name, want := range map[string][]string{
		"X-Low": {"\xe9"}, "Server": {"mine"}, "Via": {"1.1 other, 1.1 kong/3.9.3"}, "X-Hop": nil, "Keep-Alive": nil, "X-Accel-Buffering": nil,
		"Set-Cookie": {"a=1", "b=2"}, "Content-Type": {"text/plain; charset=UTF-8"}, "Trailer": nil, "Link": nil,
	} {
		if got := res.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Kong-Upstream-Latency", "X-Kong-Proxy-Latency", "X-Kong-Request-Id", "Date"} {
		if res.Header.Get(name) == "" {
			t.Errorf("got no %s", name)
		}
	}
}

// TestUpstreamTrouble is what the client hears of it.
func TestUpstreamTrouble(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	answer := func(text string) string {
		return rawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
			readRawHead(t, r)
			_, _ = io.WriteString(conn, text)
		})
	}
	silent := make(chan struct{})
	defer close(silent)
	hanging := rawUpstream(t, func(net.Conn, *bufio.Reader) { <-silent })
	for name, tt := range map[string]struct {
		address string
		status  int
		message string
	}{
		"refused":          {closed.Addr().String(), 502, "An invalid response was received from the upstream server"},
		"closed":           {answer(""), 502, "An invalid response was received from the upstream server"},
		"no HTTP":          {answer("hello\r\n\r\n"), 502, "An invalid response was received from the upstream server"},
		"broken header":    {answer("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), 502, "An invalid response was received from the upstream server"},
		"two lengths":      {answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 502, "An invalid response was received from the upstream server"},
		"endless head":     {answer("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 8000)+"\r\n", 20)), 502, "An invalid response was received from the upstream server"},
		"other protocol":   {answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), 502, "An invalid response was received from the upstream server"},
		"does not answer":  {hanging, 504, "The upstream server is timing out"},
		"name not known":   {"no-such-host.invalid:80", 503, "name resolution failed"},
		"unknown encoding": {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), 502, "An invalid response was received from the upstream server"},
	} {
		t.Run(name, func(t *testing.T) {
			yaml := strings.ReplaceAll(string(plain("")), "20000", "50")
			g := start(t, kongtest.Config{YAML: []byte(yaml), Addresses: map[string]string{"upstream:80": tt.address}}, nil)
			res := g.do("GET", "/p", "", map[string]string{"Accept": "application/json"})
			if res.StatusCode != tt.status || !strings.HasPrefix(res.body, "{\n  \"message\":\""+tt.message+`"`) {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, res.body, tt.status, tt.message)
			}
			if res := g.do("GET", "/p", "", nil); tt.status != 503 && res.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("without Accept: got %q, want text/plain", res.Header.Get("Content-Type"))
			}
		})
	}
}

// TestUpstreamThatBreaksOff in the middle of a body: the client must be able to tell.
func TestUpstreamThatBreaksOff(t *testing.T) {
	for name, head := range map[string]string{"length": "Content-Length: 10\r\n\r\nabc", "chunks": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		t.Run(name, func(t *testing.T) {
			address := rawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
				readRawHead(t, r)
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+head)
			})
			g := start(t, kongtest.Config{YAML: plain(""), Addresses: map[string]string{"upstream:80": address}}, nil)
			res, err := http.Get(g.URL() + "/p")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if data, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("got %q without error, want one", data)
			}
		})
	}
}

// TestKeepsUpstreamConnections: idle ones are used again.
func TestKeepsUpstreamConnections(t *testing.T) {
	conns := make(chan struct{}, 100)
	up := &upstream{requests: make(chan *received, 100)}
	up.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }))
	up.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns <- struct{}{}
		}
	}
	up.Start()
	t.Cleanup(up.Close)
	g := start(t, kongtest.Config{YAML: plain("")}, up)
	// On one connection of the client a request follows when the one before is over.
	conn := g.dial()
	defer conn.Close()
	_, _ = io.WriteString(conn, strings.Repeat("GET /p HTTP/1.1\r\nHost: h\r\n\r\n", 5))
	r := bufio.NewReader(conn)
	for range 5 {
		if res := readResponse(t, r, "GET"); res.StatusCode != 200 {
			t.Fatalf("got %d, want 200", res.StatusCode)
		}
	}
	if len(conns) != 1 {
		t.Errorf("got %d connections, want 1", len(conns))
	}
	up.CloseClientConnections()
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 200 {
		t.Errorf("after the upstream closed the idle connection: got %d, want 200", res.StatusCode)
	}
}

// TestBrokenChunksFromClient are its fault.
func TestBrokenChunksFromClient(t *testing.T) {
	g := start(t, kongtest.Config{YAML: plain("")}, newUpstream(t, nil))
	res := g.raw("POST", "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
	if res.StatusCode != 400 {
		t.Errorf("got %d, want 400", res.StatusCode)
	}
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLS: the HTTPS listener, client certificates, and a route that takes nothing else.
func TestTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	up := newUpstream(t, nil)
	yaml := strings.ReplaceAll(probed, "    paths:", "    protocols: [https]\n    paths:")
	g := start(t, kongtest.Config{
		YAML: []byte(yaml), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})},
		Certificate: &cert, RequestClientCertificates: true,
	}, up)
	get := func(client *tls.Config) []any {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), "GET", g.TLSURL()+"/p", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Script", `[["req"],["var","ssl_client_verify"],["var","ssl_client_escaped_cert"],["var","https"],["report"]]`)
		transport := &http.Transport{TLSClientConfig: client, DisableKeepAlives: true}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		r := up.got(t)
		if r.Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("X-Forwarded-Proto: got %q, want https", r.Header.Get("X-Forwarded-Proto"))
		}
		return r.report(t)
	}
	report := get(&tls.Config{RootCAs: pool})
	if m, _ := report[0].(map[string]any); m["scheme"] != "https" || report[1] != "NONE" || report[2] != "" || report[3] != "on" {
		t.Errorf("without client certificate: got %v", report)
	}
	report = get(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}})
	if pem, _ := report[2].(string); report[1] != "FAILED:self-signed certificate" || !strings.HasPrefix(pem, "-----BEGIN%20CERTIFICATE-----%0A") {
		t.Errorf("with client certificate: got %v", report)
	}
	res := g.do("GET", "/p", "", nil)
	if res.StatusCode != 426 || !strings.Contains(res.body, "Please use HTTPS protocol") || res.Header.Get("Upgrade") != "TLS/1.2, HTTP/1.1" {
		t.Errorf("over HTTP: got %d %q %v, want 426", res.StatusCode, res.body, res.Header)
	}
	if err := g.Reload([]byte(strings.ReplaceAll(yaml, "    paths:", "    https_redirect_status_code: 308\n    paths:"))); err != nil {
		t.Fatal(err)
	}
	if res := g.do("GET", "/p?x", "", nil); res.StatusCode != 308 || res.Header.Get("Location") != "https://127.0.0.1/p?x" {
		t.Errorf("redirect: got %d to %q, want 308", res.StatusCode, res.Header.Get("Location"))
	}
}

// TestHTTPSUpstream: not verified unless the service says so, as in Kong.
func TestHTTPSUpstream(t *testing.T) {
	up := &upstream{requests: make(chan *received, 10)}
	up.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(up.Close)
	up.Config.ErrorLog = nil
	for extra, want := range map[string]int{"": 200, "  tls_verify: true\n": 502} {
		yaml := strings.Replace(string(plain("")), "http://upstream:80\n", "https://upstream:80\n"+extra, 1)
		g := start(t, kongtest.Config{YAML: []byte(yaml)}, up)
		if res := g.do("GET", "/p", "", nil); res.StatusCode != want {
			t.Errorf("%q: got %d, want %d", extra, res.StatusCode, want)
		}
	}
}
