package kongtest_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"phantomtoken/testenv/kongtest"
)

// TestRefusesBeforeAnyPlugin: what nginx refuses never reaches a plugin, and the
// connection ends.
func TestRefusesBeforeAnyPlugin(t *testing.T) {
	const ok = "GET /p HTTP/1.1\r\nHost: h\r\n"
	tests := []struct {
		name, request string
		status        int
		body          string
	}{
		{"two Authorization fields", ok + "Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 400, "Bad request\nrequest_id: "},
		{"two Host fields", ok + "Host: h\r\n\r\n", 400, "Bad request\nrequest_id: "},
		{"two Host fields, JSON wanted", "GET /p HTTP/1.1\r\nAccept: */*\r\nHost: h\r\nHost: h\r\n\r\n", 400, "{\n  \"message\":\"Bad request\",\n  \"request_id\":\""},
		{"two Content-Length fields", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400, "Bad request"},
		{"no Host", "GET /p HTTP/1.1\r\n\r\n", 400, "Bad request"},
		{"invalid Host", "GET /p HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Bad request"},
		{"two dots in Host", "GET /p HTTP/1.1\r\nHost: a..b\r\n\r\n", 400, "Bad request"},
		{"space in a name", ok + "X A: b\r\n\r\n", 400, "Bad request"},
		{"space before the colon", ok + "X : b\r\n\r\n", 400, "Bad request"},
		{"folded line", ok + "X: a\r\n b\r\n\r\n", 400, "Bad request"},
		{"no name", ok + ": b\r\n\r\n", 400, "Bad request"},
		{"control byte in a name", ok + "X\x01: b\r\n\r\n", 400, "Bad request"},
		{"NUL in a value", ok + "X: a\x00b\r\n\r\n", 400, "Bad request"},
		{"CR in a value", ok + "X: a\rb\r\n\r\n", 400, "Bad request"},
		{"length and chunked", ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Bad request"},
		{"unknown transfer encoding", ok + "Transfer-Encoding: gzip\r\n\r\n", 501, "<html>"},
		{"chunked in HTTP/1.0", "GET /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "Bad request"},
		{"invalid length", ok + "Content-Length: +1\r\n\r\nx", 400, "Bad request"},
		{"huge length", ok + "Content-Length: 99999999999999999999\r\n\r\nx", 400, "Bad request"},
		{"lower-case method", "get /p HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"space in the target", "GET /p q HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"control byte in the target", "GET /p\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"%00 in the path", "GET /p%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"malformed percent", "GET /p%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"above the root", "GET /p/../../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"above the root, encoded", "GET /%2e%2e/x HTTP/1.1\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"no version", "GET /p\r\nHost: h\r\n\r\n", 400, "Bad request"},
		{"version 2", "GET /p HTTP/2.0\r\nHost: h\r\n\r\n", 505, "<html>"},
		{"TRACE", "TRACE /p HTTP/1.1\r\nHost: h\r\n\r\n", 405, "Method not allowed"},
		{"CONNECT", "CONNECT /p HTTP/1.1\r\nHost: h\r\n\r\n", 405, "Method not allowed"},
		{"request line over 8 KiB", "GET /p?" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "URI too long"},
		{"header line over 8 KiB", ok + "X: " + strings.Repeat("x", 8<<10) + "\r\n\r\n", 400, "Request header or cookie too large"},
		{"header lines over 32 KiB", ok + strings.Repeat("X: "+strings.Repeat("x", 6<<10)+"\r\n", 5) + "\r\n", 400, "Request header or cookie too large"},
	}
	g := startProbed(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := g.dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, tt.request); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			res := readResponse(t, r, "GET")
			if res.StatusCode != tt.status || !strings.HasPrefix(res.body, tt.body) {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, res.body, tt.status, tt.body)
			}
			if res.Header.Get("Www-Authenticate") != "" {
				t.Error("got a challenge, want none")
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("got more, want the end of the connection")
			}
		})
	}
	if n := g.log.count("started plugin server"); n != 0 {
		t.Errorf("the plugin was started %d times, want never", n)
	}
}

// TestPassesWhatNginxPasses: header values that net/http would refuse.
func TestPassesWhatNginxPasses(t *testing.T) {
	g := startProbed(t)
	request := func(fields string) string {
		return "GET /p HTTP/1.1\r\nHost: h\r\nX-Script: [[\"hdr\",\"X-V\"],[\"hdrs\",1000],[\"sclr\",\"X-V\"],[\"report\"]]\r\n" + fields + "\r\n"
	}
	tests := []struct {
		name, fields string
		want         string
	}{
		{"blanks around", "X-V:   a b  \r\n", "a b"},
		{"tab is no blank", "X-V: \ta\tb\r\n", "\ta\tb"},
		{"control bytes", "X-V: a\x01\x1fb\r\n", "a\x01\x1fb"},
		{"UTF-8", "X-V: ü\r\n", "ü"},
		{"line feed alone", "X-V: a\n", "a"},
		{"more CR before the line feed", "X-V: a\r\r\n", "a"},
		{"empty", "X-V:\r\n", ""},
		{"field without colon", "X-V\r\n", ""},
		{"underscore", "x_v: a\r\n", "a"},
		{"any case", "x-V: a\r\n", "a"},
		{"behind the hundredth field", strings.Repeat("Y: 1\r\n", 150) + "X-V: a\r\n", "a"},
		{"8 KiB line", "X-V: " + strings.Repeat("x", 8<<10-7) + "\r\n", strings.Repeat("x", 8<<10-7)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if res := g.raw("GET", request(tt.fields)); res.StatusCode != 200 {
				t.Fatalf("got %d %q, want 200", res.StatusCode, res.body)
			}
			report := g.upstream.got(t).report(t)
			if report[0] != tt.want {
				t.Errorf("GetHeader: got %q, want %q", report[0], tt.want)
			}
		})
	}
}

// TestIgnoresFieldWithOddName: nginx drops it and goes on.
func TestIgnoresFieldWithOddName(t *testing.T) {
	g := startProbed(t)
	res := g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX.Y: a\r\nX-(Z): b\r\nX-Z: c\r\n\r\n")
	r := g.upstream.got(t)
	if res.StatusCode != 200 || r.Header.Get("X-Z") != "c" || r.Header.Get("X.Y") != "" {
		t.Errorf("got %d and %v, want 200 and X-Z alone", res.StatusCode, r.Header)
	}
}

// TestHeaderThatIsNotUTF8: go-pdk fails to decode it, Kong does not.
func TestHeaderThatIsNotUTF8(t *testing.T) {
	g := startProbed(t)
	res := g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX-Script: [[\"hdr\",\"X-Lat\"],[\"hdrs\",100],[\"hdr\",\"X-Other\"],[\"report\"]]\r\nX-Lat: \xe9\r\nX-Other: fine\r\n\r\n")
	if res.StatusCode != 200 {
		t.Fatalf("got %d, want 200", res.StatusCode)
	}
	r := g.upstream.got(t)
	report := r.report(t)
	for i, want := range []string{"error: ", "error: ", "fine"} {
		if s, _ := report[i].(string); !strings.HasPrefix(s, want) {
			t.Errorf("step %d: got %v, want %s", i, report[i], want)
		}
	}
	if got := r.Header.Get("X-Lat"); got != "\xe9" {
		t.Errorf("upstream: got %q, want the byte as it was", got)
	}
}

// TestLargerHeaderBuffers: operators raise them.
func TestLargerHeaderBuffers(t *testing.T) {
	g := start(t, kongtest.Config{YAML: []byte(strings.Split(probed, "    plugins:")[0]), HeaderBuffers: kongtest.HeaderBuffers{Number: 4, Size: 64 << 10}}, newUpstream(t, nil))
	res := g.do("GET", "/p", "", map[string]string{"X-V": strings.Repeat("x", 60<<10)})
	if res.StatusCode != 200 {
		t.Errorf("got %d %q, want 200", res.StatusCode, res.body)
	}
}

// TestKeepsConnectionAlive: several requests on one connection, pipelined too, with and
// without bodies.
func TestKeepsConnectionAlive(t *testing.T) {
	g := startProbed(t)
	conn := g.dial()
	defer conn.Close()
	script := func(steps string) string { return "Host: h\r\nX-Script: " + steps + "\r\n" }
	requests := []struct {
		method, text string
		status       int
		body         string
	}{
		{"GET", "GET /p HTTP/1.1\r\n" + script("[]") + "\r\n", 200, "ok"},
		{"POST", "POST /p HTTP/1.1\r\n" + script("[]") + "Content-Length: 3\r\n\r\nabc", 200, "ok"},
		{"POST", "POST /p HTTP/1.1\r\n" + script("[]") + "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n", 200, "ok"},
		{"POST", "POST /p HTTP/1.1\r\n" + script(`[["exit",401,"no"]]`) + "Content-Length: 3\r\n\r\nabc", 401, "no"},
		{"HEAD", "HEAD /p HTTP/1.1\r\n" + script("[]") + "\r\n", 200, ""},
		{"GET", "\r\nGET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 404, "{\n  \"message\":\"no Route matched with those values\""},
		{"GET", "GET http://Host.Example:80/p HTTP/1.1\r\n" + script("[]") + "Connection: close\r\n\r\n", 200, "ok"},
	}
	var all strings.Builder
	for _, tt := range requests {
		all.WriteString(tt.text)
	}
	if _, err := io.WriteString(conn, all.String()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for _, tt := range requests {
		res := readResponse(t, r, tt.method)
		if res.StatusCode != tt.status || !strings.HasPrefix(res.body, tt.body) {
			t.Errorf("%q: got %d %q, want %d %q", tt.text, res.StatusCode, res.body, tt.status, tt.body)
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after Connection: close: got %v, want EOF", err)
	}
}

// TestExpectContinue: a client that waits is told to go on when its body is wanted.
func TestExpectContinue(t *testing.T) {
	g := startProbed(t)
	conn := g.dial()
	defer conn.Close()
	head := "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	interim, err := http.ReadResponse(r, nil)
	if err != nil || interim.StatusCode != 100 {
		t.Fatalf("got %v, %v, want 100", interim, err)
	}
	if _, err := io.WriteString(conn, "body"); err != nil {
		t.Fatal(err)
	}
	if res := readResponse(t, r, "POST"); res.StatusCode != 200 {
		t.Errorf("got %d, want 200", res.StatusCode)
	}
	got := g.upstream.got(t)
	if got.body != "body" || got.Header.Get("Expect") != "" {
		t.Errorf("upstream: got %q with Expect %q, want the body without", got.body, got.Header.Get("Expect"))
	}

	// A plugin that answers does not want the body.
	if _, err := io.WriteString(conn, head+"X-Script: [[\"exitstatus\",403]]\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res := readResponse(t, r, "POST"); res.StatusCode != 403 {
		t.Errorf("got %d, want 403 without 100 before", res.StatusCode)
	}
}

// TestHTTP10 has no Host and no chunks.
func TestHTTP10(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // of unknown length
		_, _ = io.WriteString(w, "to the end")
	})
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}}, up)
	res := g.raw("GET", "GET /p HTTP/1.0\r\nX-Script: [[\"req\"],[\"report\"]]\r\n\r\n")
	if res.StatusCode != 200 || res.body != "to the end" || len(res.TransferEncoding) > 0 {
		t.Errorf("got %d %q %v, want the body up to the end of the connection", res.StatusCode, res.body, res.TransferEncoding)
	}
	report, _ := up.got(t).report(t)[0].(map[string]any)
	if report["host"] != "kong" || report["http_version"] != 1.0 {
		t.Errorf("got %v, want the server's name as host, and version 1", report)
	}
}

// FuzzReadHead: never panics, and what is accepted is what nginx accepts: names of its
// alphabet, values without NUL and line ends, a host, at most one of what is unique.
func FuzzReadHead(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a%20b?c=d HTTP/1.1\nHost: h:1\nX_Y:\tz \n\n",
		"GET http://h/p HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.1\r\nHost\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		head, err := kongtest.ReadHead(bufio.NewReader(strings.NewReader(text)), kongtest.HeaderBuffers{Number: 4, Size: 8 << 10})
		if err != nil {
			return
		}
		if !strings.HasPrefix(head.URI, "/") && !strings.HasPrefix(head.URI, "?") {
			t.Errorf("URI: got %q, want a path", head.URI)
		}
		if head.Host == "" || strings.ContainsAny(head.Host, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("host: got %q, want one in lower case", head.Host)
		}
		seen := map[string]bool{}
		for _, h := range head.Fields {
			name := strings.ToLower(h[0])
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || name == "" {
				t.Errorf("name: got %q", h[0])
			}
			if strings.ContainsAny(h[1], "\x00\r\n") {
				t.Errorf("value: got %q", h[1])
			}
			if seen[name] && (name == "authorization" || name == "host") {
				t.Errorf("got %s twice", name)
			}
			seen[name] = true
		}
	})
}

// FuzzReadBody: never panics, and a chunked body is the bytes of its chunks.
func FuzzReadBody(f *testing.F) {
	for _, seed := range []string{"0\r\n\r\n", "3;x\r\nabc\r\n0\r\nT: v\r\n\r\n", "3\nabc\n0\n\n", "ffffffffffffffff\r\n", "-1\r\n", "3\r\nabcd\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := kongtest.ReadChunked(bufio.NewReader(strings.NewReader(text)))
		if err == nil && len(body) > len(text) {
			t.Errorf("got %d bytes out of %d", len(body), len(text))
		}
		chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text)
		if text == "" {
			chunked = "0\r\n\r\n"
		}
		if body, err := kongtest.ReadChunked(bufio.NewReader(strings.NewReader(chunked))); string(body) != text || err != nil {
			t.Errorf("got %q, %v, want %q", body, err, text)
		}
	})
}

// FuzzReadFrame: never panics, never holds more than what came, and reads back what
// writeFrame wrote.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{3, 0, 0, 0, 'a', 'b', 'c'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 'x'})
	f.Add([]byte{5, 0, 0, 0, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := kongtest.ReadFrame(strings.NewReader(string(data)))
		if err != nil {
			if frame != nil {
				t.Errorf("got a frame with the error %v", err)
			}
			return
		}
		if len(frame) > len(data)-4 {
			t.Errorf("got %d bytes out of %d", len(frame), len(data))
		}
		var out strings.Builder
		if err := kongtest.WriteFrame(&out, frame); err != nil || !strings.HasPrefix(string(data), out.String()) {
			t.Errorf("written again: got %q, %v, want the beginning of %q", out.String(), err, data)
		}
	})
}

// TestReadFrameRefusesHugeLength without reserving what it promises.
func TestReadFrameRefusesHugeLength(t *testing.T) {
	_, err := kongtest.ReadFrame(strings.NewReader("\xff\xff\xff\x7fx"))
	if err == nil || !strings.Contains(err.Error(), "expected a frame of at most") {
		t.Errorf("got %v, want a refusal", err)
	}
	if _, err := kongtest.ReadFrame(strings.NewReader("\x05\x00\x00\x00x")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want unexpected EOF", err)
	}
}

// TestConfigurationJSON is what Kong's JSON library writes.
func TestConfigurationJSON(t *testing.T) {
	got := string(kongtest.EncodeConfig(map[string]any{"a/b": []any{"\"\\\n\x01\x7fé", 1e16, 0.1, 1e300, true, nil, map[string]any{}, []any{}}}))
	want := `{"a\/b":["\"\\\n\u0001\u007fé",1e+16,0.1,1e+300,true,null,{},[]]}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !json.Valid([]byte(got)) {
		t.Errorf("got no JSON: %s", got)
	}
}
