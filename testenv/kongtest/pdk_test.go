package kongtest_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	kpp "github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/testenv/kongtest"
)

// TestRequestGetters: what the client sent, whatever strip_path says.
func TestRequestGetters(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{
		YAML: []byte(strings.ReplaceAll(probed, "    strip_path: false\n", "")), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})},
	}, up)
	res := g.raw("GET", "GET /p/%7Ea//c%2Fd/../e?x=%20&y HTTP/1.1\r\nHost: EXAMPLE.com:1234\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n"+
		"X-Real-IP: 1.2.3.4\r\nX-Script: [[\"req\"],[\"query\",100],[\"arg\",\"x\"],[\"report\"]]\r\n\r\n")
	if res.StatusCode != 200 {
		t.Fatalf("got %d %q, want 200", res.StatusCode, res.body)
	}
	r := up.got(t)
	report := r.report(t)
	want := map[string]any{
		"method": "GET", "path": "/p/~a/e", "path_with_query": "/p/%7Ea//c%2Fd/../e?x=%20&y", "raw_query": "x=%20&y",
		"host": "example.com", "scheme": "http", "forwarded_host": "example.com", "forwarded_scheme": "http",
		"ip": "127.0.0.1", "forwarded_ip": "127.0.0.1", "http_version": 1.1,
	}
	got, _ := report[0].(map[string]any)
	port := strings.TrimPrefix(g.URL(), "http://127.0.0.1:")
	if p := fmt.Sprint(got["port"]); p != port || fmt.Sprint(got["forwarded_port"]) != port {
		t.Errorf("port: got %s and %v, want %s", p, got["forwarded_port"], port)
	}
	delete(got, "port")
	delete(got, "forwarded_port")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if report[2] != " " {
		t.Errorf("argument: got %q, want a space", report[2])
	}
	if r.RequestURI != "/~a/e?x=%20&y" {
		t.Errorf("upstream: got %q, want the path without the route's", r.RequestURI)
	}
}

// TestPathNormalisation has Kong's cases and more.
func TestPathNormalisation(t *testing.T) {
	for in, want := range map[string]string{
		"/p/%7Ea//c%2Fd": "/p/~a/c%2Fd", "/": "/", "": "", "/a/./b": "/a/b", "/a/../b": "/b", "/a/..": "/", "/a/.": "/a/",
		"/../a": "/a", "//a": "/a", "/%2e%2e/a": "/a", "/a%2f": "/a%2F", "/%C3%BC": "/ü", "/a%zz": "/a%zz", "/a%2": "/a%2", "/..a/.b": "/..a/.b",
	} {
		if got := kongtest.NormalizePath(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzNormalizePath: the result is normal.
func FuzzNormalizePath(f *testing.F) {
	for _, seed := range []string{"/a/../b", "//", "/%2e%2e%2f", "/a/./", "..", "/%25%32%65"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := kongtest.NormalizePath(path)
		if strings.Contains(got, "//") || strings.Contains(got, "/../") || strings.Contains(got, "/./") {
			t.Errorf("%q: got %q", path, got)
		}
	})
}

// TestTrustedPeer: its X-Forwarded-* and X-Real-IP count.
func TestTrustedPeer(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}, TrustedIPs: []string{"127.0.0.0/8"}}, up)
	g.do("GET", "/p", "", map[string]string{
		"X-Forwarded-Host": "user@Gw.Example:8443", "X-Forwarded-Proto": "HTTPS", "X-Forwarded-Port": "443", "X-Forwarded-Path": "/public",
		"X-Forwarded-Prefix": "/pre", "X-Forwarded-For": "9.9.9.9", "X-Real-IP": "1.2.3.4", "X-Script": `[["req"],["var","remote_addr"],["report"]]`,
	})
	r := up.got(t)
	report, _ := r.report(t)[0].(map[string]any)
	for name, want := range map[string]string{"forwarded_host": "gw.example", "forwarded_scheme": "https", "forwarded_ip": "1.2.3.4", "ip": "127.0.0.1", "scheme": "http"} {
		if report[name] != want {
			t.Errorf("%s: got %v, want %s", name, report[name], want)
		}
	}
	for name, want := range map[string]string{
		"X-Forwarded-Host": "user@Gw.Example:8443", "X-Forwarded-Proto": "HTTPS", "X-Forwarded-Port": "443", "X-Forwarded-Path": "/public",
		"X-Forwarded-Prefix": "/pre", "X-Forwarded-For": "9.9.9.9, 127.0.0.1", "X-Real-IP": "1.2.3.4",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestGetHeader: absent and empty alike, the first of several, dashes and underscores the
// same in the name asked for, later than set.
func TestGetHeader(t *testing.T) {
	g := startProbed(t)
	g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX-Script: [[\"hdr\",\"none\"],[\"hdr\",\"X-Empty\"],[\"hdr\",\"X-Dup\"],[\"hdr\",\"x-under\"],[\"hdr\",\"X_DASH\"],"+
		"[\"sset\",\"X-Sub\",\"set\"],[\"hdr\",\"X-Sub\"],[\"hdr\",\"X-List\"],[\"report\"]]\r\n"+
		"X-Empty: \r\nX-Dup: 1\r\nX-Dup: 2\r\nX_Under: u\r\nX-Dash: d\r\nx_sub: client\r\nX-List: a, b\r\n\r\n")
	r := g.upstream.got(t)
	want := []any{"", "", "1", "u", "d", nil, "set", "a, b"}
	// A client's x_sub and the plugin's X-Sub are one variable to nginx, and Kong then
	// looks into the table, where they are two.
	if got := r.report(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if r.Header.Get("X_sub") != "client" || r.Header.Get("X-Sub") != "set" {
		t.Errorf("upstream: got %v, want both spellings", r.Header)
	}
}

// TestGetHeaders: lower-case names, lists for several, no more than asked for.
func TestGetHeaders(t *testing.T) {
	g := startProbed(t)
	many := strings.Builder{}
	for i := range 150 {
		fmt.Fprintf(&many, "X-%d: v\r\n", i)
	}
	g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX-Script: [[\"hdrs\",-1],[\"hdrs\",1000],[\"report\"]]\r\nX-Dup: 1\r\nx-dup: 2\r\nA_b: c\r\n"+many.String()+"\r\n")
	report := g.upstream.got(t).report(t)
	hundred, _ := report[0].(map[string]any)
	all, _ := report[1].(map[string]any)
	if len(hundred) != 99 || len(all) != 154 { // a name twice among the first hundred fields
		t.Errorf("got %d and %d names, want 99 and 154", len(hundred), len(all))
	}
	if !reflect.DeepEqual(all["x-dup"], []any{"1", "2"}) || !reflect.DeepEqual(all["a_b"], []any{"c"}) {
		t.Errorf("got %v and %v, want the lists [1 2] and [c]", all["x-dup"], all["a_b"])
	}
}

// TestRawBody: whole, whatever its size, for the plugin and for the upstream.
func TestRawBody(t *testing.T) {
	g := startProbed(t)
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, 300_000} {
		body := strings.Repeat("x", size)
		res := g.do("POST", "/p", body, map[string]string{"X-Script": `[["size"],["report"]]`})
		if got := g.upstream.got(t); res.StatusCode != 200 || got.body != body || got.report(t)[0] != float64(size) {
			t.Errorf("%d bytes: got %d and %d bytes upstream, want all", size, res.StatusCode, len(got.body))
		}
	}
}

// TestRawBodyFile: up to 8 KiB in the answer, above in a file that only its owner can read
// and that is gone with the request.
func TestRawBodyFile(t *testing.T) {
	p := newPlayer(t)
	g := p.start(t, recordedConfig("one", "/other"))
	p.warmUp(g, 7)
	g.upstream.got(t)
	done := make(chan struct{}, 2)
	ask := func(body string) (*kpp.RpcCall, *kpp.RawBodyResult) {
		go func() {
			g.do("POST", "/p", body, nil)
			done <- struct{}{}
		}()
		event := p.readCall(p.warm)
		p.write(p.warm, []byte("kong.request.get_raw_body"))
		p.write(p.warm, nil)
		result := new(kpp.RawBodyResult)
		unmarshal(t, p.read(p.warm), result)
		return event, result
	}
	end := func(event *kpp.RpcCall) {
		p.write(p.warm, nil)
		p.write(p.warm, marshal(t, &kpp.RpcReturn{Sequence: event.Sequence}))
	}

	body := strings.Repeat("x", 8<<10)
	event, result := ask(body)
	if string(result.GetContent()) != body {
		t.Errorf("8 KiB: got %v, want them in the answer", result)
	}
	end(event)
	g.upstream.got(t)
	<-done

	body += "x"
	event, result = ask(body)
	path := result.GetBodyFilepath()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(len(body)) {
		t.Errorf("file: got %v, %v, want %d bytes with mode 0600", info, err, len(body))
	}
	end(event)
	if got := g.upstream.got(t); got.body != body {
		t.Errorf("upstream: got %d bytes, want %d", len(got.body), len(body))
	}
	<-done
	// The response is complete a moment before the request is over.
	g.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("file after the request: got %v, want none", err)
	}
}

// TestServiceRequestHeaders: setting, adding, clearing.
func TestServiceRequestHeaders(t *testing.T) {
	g := startProbed(t)
	tests := []struct {
		name, fields, steps string
		header              string
		want                []string
	}{
		{"set replaces all", "X-A: 1\r\nX-A: 2\r\n", `["sset","x-a","3"]`, "X-A", []string{"3"}},
		{"set adds", "", `["sset","X-A","1"]`, "X-A", []string{"1"}},
		{"set empty", "X-A: 1\r\n", `["sset","X-A",""]`, "X-A", []string{""}},
		{"set escapes line ends", "", `["sset","X-A","a\r\nb"]`, "X-A", []string{"a%0D%0Ab"}},
		{"add", "X-A: 1\r\n", `["sadd","X-A","2"]`, "X-A", []string{"1", "2"}},
		{"add to none", "", `["sadd","X-A","2"]`, "X-A", []string{"2"}},
		{"add to one that stands alone", "Authorization: a\r\n", `["sadd","Authorization","b"]`, "Authorization", []string{"b"}},
		{"clear", "X-A: 1\r\nx-a: 2\r\n", `["sclr","X-a"]`, "X-A", nil},
		{"clear leaves the other spelling", "X_A: 1\r\n", `["sclr","X-A"]`, "X_a", []string{"1"}},
		{"clear the other spelling", "X_A: 1\r\n", `["sclr","x_a"]`, "X_a", nil},
		{"lists", "X-A: 1\r\n", `["ssets",{"X-A":["a","b"]}]`, "X-A", []string{"a", "b"}},
		{"an empty list clears", "X-A: 1\r\nX-A: 2\r\n", `["ssets",{"X-A":[]}]`, "X-A", nil},
		{"an empty list leaves the other spelling", "X_A: 1\r\n", `["ssets",{"X-A":[]}]`, "X_a", []string{"1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX-Script: ["+tt.steps+"]\r\n"+tt.fields+"\r\n")
			if res.StatusCode != 200 {
				t.Fatalf("got %d, want 200", res.StatusCode)
			}
			if got := g.upstream.got(t).Header[http.CanonicalHeaderKey(tt.header)]; !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestForgedHeadersNeverGetThrough: one call that sets and clears, both spellings.
func TestForgedHeadersNeverGetThrough(t *testing.T) {
	g := startProbed(t)
	res := g.raw("GET", "GET /p HTTP/1.1\r\nHost: h\r\nX-Consumer-Username: root\r\nx_consumer_username: root\r\nX-CONSUMER-ID: 1\r\nAuthorization: Bearer opaque\r\n"+
		`X-Script: [["ssets",{"Authorization":"Bearer minted","x-consumer-username":[],"x_consumer_username":[],"x-consumer-id":[]}]]`+"\r\n\r\n")
	r := g.upstream.got(t)
	if res.StatusCode != 200 || !slices.Equal(r.Header["Authorization"], []string{"Bearer minted"}) {
		t.Errorf("got %d and %v, want the minted token", res.StatusCode, r.Header)
	}
	for name := range r.Header {
		if strings.Contains(strings.ToLower(name), "consumer") {
			t.Errorf("got %s, want none of them", name)
		}
	}
}

// TestServiceRequest: path, query, method, body, host.
func TestServiceRequest(t *testing.T) {
	g := startProbed(t)
	g.do("POST", "/p?a=b", "client", map[string]string{
		"X-Script": `[["spath","/other path"],["squery","c=d"],["smethod","PUT"],["sbody","plugin"],["sset","Host","other.example"]]`,
	})
	r := g.upstream.got(t)
	if r.Method != "PUT" || r.RequestURI != "/other%20path?c=d" || r.body != "plugin" || r.Host != "other.example" {
		t.Errorf("got %s %s %q for %s, want the plugin's", r.Method, r.RequestURI, r.body, r.Host)
	}
}

// TestResponseHeaders set in access stand before the upstream's, and on an exit too.
func TestResponseHeaders(t *testing.T) {
	up := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public")
		w.Header().Set("Www-Authenticate", "upstream")
		_, _ = io.WriteString(w, "ok")
	})
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}}, up)
	res := g.script(`[["rset","Cache-Control","no-store"],["radd","Vary","Origin"],["radd","Vary","Accept"],["rsets",{"X_M":["1","2"]}],["rset","X-Gone","x"],["rclr","x_gone"]]`)
	for name, want := range map[string][]string{
		"Cache-Control": {"no-store", "public"}, "Vary": {"Origin", "Accept"}, "X-M": {"1", "2"}, "X-Gone": nil, "Www-Authenticate": {"upstream"},
	} {
		if got := res.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	res = g.script(`[["rset","X-A","set"],["rset","X-B","set"],["rset","Transfer-Encoding","chunked"],["exit",200,"",{"X-A":"exit"}]]`)
	if res.Header.Get("X-A") != "exit" || res.Header.Get("X-B") != "set" || len(res.TransferEncoding) > 0 {
		t.Errorf("exit: got %v %v, want the exit's X-A, the earlier X-B and no Transfer-Encoding", res.Header, res.TransferEncoding)
	}
}

// TestExit has the rules of an answer by a plugin.
func TestExit(t *testing.T) {
	g := startProbed(t)
	tests := []struct {
		name, method, steps string
		status              int
		body                string
		header              map[string][]string
	}{
		{"lists", "GET", `["exit",200,"b",{"X-Two":["1","2"]}]`, 200, "b", map[string][]string{"X-Two": {"1", "2"}, "Content-Length": {"1"}, "Content-Type": nil}},
		{"only the last WWW-Authenticate", "GET", `["exit",401,"",{"WWW-Authenticate":["Bearer","DPoP"]}]`, 401, "", map[string][]string{"Www-Authenticate": {"DPoP"}}},
		{"only the last WWW-Authenticate added", "GET", `["radd","WWW-Authenticate","Bearer"],["radd","WWW-Authenticate","DPoP"],["exit",401,""]`, 401, "", map[string][]string{"Www-Authenticate": {"DPoP"}}},
		{"no body", "GET", `["exitstatus",403]`, 403, "", map[string][]string{"Content-Length": {"0"}, "Content-Type": nil}},
		{"empty list", "GET", `["exit",200,"",{"X-A":[]}]`, 200, "", map[string][]string{"X-A": nil}},
		{"HEAD", "HEAD", `["exit",200,"body",{}]`, 200, "", map[string][]string{"Content-Length": {"4"}}},
		{"OPTIONS", "OPTIONS", `["exit",204,"",{"Access-Control-Allow-Origin":"*"}]`, 204, "", map[string][]string{"Access-Control-Allow-Origin": {"*"}}},
		{"highest status", "GET", `["exit",599,"x"]`, 599, "x", nil},
		{"text gets a charset", "GET", `["exit",200,"x",{"Content-Type":"text/plain"}]`, 200, "x", map[string][]string{"Content-Type": {"text/plain; charset=UTF-8"}}},
		{"JSON gets none", "GET", `["exit",200,"x",{"Content-Type":"application/json"}]`, 200, "x", map[string][]string{"Content-Type": {"application/json"}}},
		{"line ends are escaped", "GET", `["exit",200,"x",{"X-A":"a\r\nX-B: c"}]`, 200, "x", map[string][]string{"X-A": {"a%0D%0AX-B: c"}, "X-B": nil}},
		{"status too high", "GET", `["exit",600,"x"]`, 500, "{\n  \"message\":\"An unexpected error occurred\",", map[string][]string{"Content-Type": {"application/json; charset=utf-8"}}},
		{"status too low", "GET", `["exit",99,"x"]`, 500, "{\n  \"message\":\"An unexpected error occurred\",", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := g.raw(tt.method, tt.method+" /p HTTP/1.1\r\nHost: h\r\nX-Script: ["+tt.steps+"]\r\n\r\n")
			if res.StatusCode != tt.status || !strings.HasPrefix(res.body, tt.body) {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, res.body, tt.status, tt.body)
			}
			for name, want := range tt.header {
				if got := res.Header[name]; !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			if res.Header.Get("Server") != "kong/3.9.3" || res.Header.Get("X-Kong-Response-Latency") == "" || res.Header.Get("X-Kong-Request-Id") == "" {
				t.Errorf("got %v, want Kong's own headers", res.Header)
			}
		})
	}
}

// TestErrorsOfThePDKEndTheRequest: 500 for the client, EOF for the plugin, and the plugin
// is asked again by the next request.
func TestErrorsOfThePDKEndTheRequest(t *testing.T) {
	g := startProbed(t)
	for name, tt := range map[string]struct{ step, log string }{
		"wrong phase":          {`["rget","X-A"]`, "function cannot be called in access phase (only in: response, header_filter"},
		"too many headers":     {`["hdrs",1001]`, "max_headers must be <= 1000"},
		"too few headers":      {`["hdrs",0]`, "max_headers must be >= 1"},
		"path without slash":   {`["spath","x"]`, "path must start with /"},
		"method":               {`["smethod","get"]`, "invalid method: get"},
		"argument without =":   {`["arg","flag"]`, "string expected for field 'v', got boolean"},
		"too many query args":  {`["query",1001]`, "max_args must be <= 1000"},
		"host with a slash":    {`["sset","Host","a/b"]`, "invalid host"},
		"status of a response": {`["exit",1000,""]`, "code must be a number between 100 and 599"},
	} {
		t.Run(name, func(t *testing.T) {
			res := g.do("GET", "/p?flag", "", map[string]string{"X-Script": "[" + tt.step + `,["sset","X-After","1"]]`, "Accept": "text/html"})
			if res.StatusCode != 500 || !strings.Contains(res.body, "<p>An unexpected error occurred.</p>") {
				t.Errorf("got %d %q, want Kong's 500 in HTML", res.StatusCode, res.body)
			}
			g.log.await(tt.log, 1)
			if res := g.script(`[]`); res.StatusCode != 200 {
				t.Errorf("next request: got %d, want 200", res.StatusCode)
			}
		})
	}
}

// TestErrorPages come in the form that Accept asks for.
func TestErrorPages(t *testing.T) {
	for accept, want := range map[string]string{
		"": "application/json; charset=utf-8", "*/*": "application/json; charset=utf-8", "text/html": "text/html; charset=utf-8",
		"text/*": "text/plain; charset=utf-8", "application/xml": "application/xml; charset=utf-8", "image/png": "application/json; charset=utf-8",
		"text/plain;q=0.5, text/html;q=0.9": "text/html; charset=utf-8", "text/html;q=0, text/plain": "text/plain; charset=utf-8",
		"text/html;level=1": "text/html; charset=utf-8", "garbage": "application/json; charset=utf-8", "application/problem+json": "application/json; charset=utf-8",
	} {
		if got := kongtest.ResponseType(accept); got != want {
			t.Errorf("Accept %q: got %s, want %s", accept, got, want)
		}
	}
}

// TestUnknownFunctionEndsTheRequest: a name that Kong does not know.
func TestUnknownFunctionEndsTheRequest(t *testing.T) {
	for _, method := range []string{"kong.request.no_such", "", "kong.node.get_memory_stats"} {
		if method == "" {
			continue // ends the event
		}
		p := newPlayer(t)
		g := p.start(t, recordedConfig("one", "/other"))
		p.warmUp(g, 7)
		status := make(chan int, 1)
		go func() { status <- g.do("GET", "/p", "", nil).StatusCode }()
		p.readCall(p.warm)
		p.write(p.warm, []byte(method))
		p.write(p.warm, nil)
		if got := <-status; got != 500 {
			t.Errorf("%s: got %d, want 500", method, got)
		}
		if rest, _ := io.ReadAll(p.warm); len(rest) > 0 {
			t.Errorf("%s: got %x, want the end of the connection", method, rest)
		}
	}
}

// TestLog: at its level, without the plugin's name; what the plugin prints comes at info
// with its name and process id.
func TestLog(t *testing.T) {
	g := startProbed(t)
	g.script(`[["log","warn","a ",1,1.5,true,null],["log","err","e"],["log","debug","d"],["print","printed"]]`)
	if line := g.log.await("[warn]", 1); !strings.Contains(line, "[kong] pb_rpc.lua:233 a 11.5truenil, client: 127.0.0.1, server: kong, request: \"GET /p HTTP/1.1\"") {
		t.Errorf("got %s", line)
	}
	g.log.await("[error]", 1)
	g.log.await("[debug]", 2)
	pid := g.PluginPID("probe")
	g.log.await(fmt.Sprintf("[info] %d#0: [probe:%d] printed\n", os.Getpid(), pid), 1)
	g.log.await(fmt.Sprintf("[probe:%d] printed on stderr\n", pid), 1)
}

// TestLogLevel: less is not written.
func TestLogLevel(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})}, LogLevel: "warn"}, up)
	g.script(`[["log","info","quiet"],["print","quiet"],["log","warn","loud"]]`)
	g.log.await("loud", 1)
	if n := g.log.count("quiet"); n != 0 {
		t.Errorf("got %d lines below the level, want none", n)
	}
}

// TestSharedContext lives as long as a request.
func TestSharedContext(t *testing.T) {
	g := startProbed(t)
	got := g.report(`[["ctxset","k",{"a":[1,"x",{"b":true}]}],["ctxget","k"],["ctxset","f",false],["ctxget","f"]]`)
	if want := map[string]any{"a": []any{1.0, "x", map[string]any{"b": true}}}; !reflect.DeepEqual(got[1], any(want)) {
		t.Errorf("got %v, want %v", got[1], want)
	}
	if got[3] != nil {
		t.Errorf("false: got %v, want nothing, as Kong decodes it", got[3])
	}
	if got := g.report(`[["ctxget","k"]]`); got[0] != nil {
		t.Errorf("next request: got %v, want nothing", got[0])
	}
}

// TestRouteAndService are what the configuration says.
func TestRouteAndService(t *testing.T) {
	g := startProbed(t)
	got := g.report(`[["route"],["service"]]`)
	route, _ := got[0].(map[string]any)
	service, _ := got[1].(map[string]any)
	if route["name"] != "p" || route["id"] != "2b6004ea-2d70-53b7-9104-27ab31332590" || fmt.Sprint(route["paths"]) != "[/p]" {
		t.Errorf("route: got %v", route)
	}
	if service["name"] != "up" || service["protocol"] != "http" || service["host"] != "127.0.0.1" {
		t.Errorf("service: got %v", service)
	}
}

// TestOtherGetters of the PDK.
func TestOtherGetters(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{
		YAML:       []byte(strings.ReplaceAll(probed, `["/p"]`, `["~/p/(?<user>[a-z]+)/(\\d+)"]`)),
		Plugins:    map[string]string{"probe": plugin(t, "probe", definition{})},
		TrustedIPs: []string{"10.0.0.0/8", "192.0.2.1", "::1"},
	}, up)
	res := g.do("GET", "/p/anna/7?A=1&a=2", "", map[string]string{"Cookie": "k=v", "X-Script": `[["captures"],["trusted","10.1.2.3"],["trusted","192.0.2.2"],["trusted","x"],["protocol",true],["subsystem"],["tls"],["nset","k",5],["nget","k"],["nget","none"],["loadcons","nobody",true],["getcred"],["getcons"],["rstatus",299],["report"]]`})
	if res.StatusCode != 200 {
		t.Fatalf("got %d, want 200", res.StatusCode)
	}
	report := up.got(t).report(t)
	for i, want := range map[int]any{
		0: `["anna" "7"] map["user":"anna"]`, 1: true, 2: false, 3: false, 4: "http", 5: "http", 6: "", 8: 5.0, 9: nil,
	} {
		if !reflect.DeepEqual(report[i], want) {
			t.Errorf("step %d: got %v, want %v", i, report[i], want)
		}
	}
	if consumer, _ := report[10].(map[string]any); fmt.Sprint(consumer["Id"]) != "" && consumer["Id"] != nil {
		t.Errorf("unknown consumer: got %v, want an empty one", report[10])
	}
	if got := g.do("GET", "/p/anna/7", "", map[string]string{"X-Script": `[["loadcons","nobody",false]]`}); got.StatusCode != 500 {
		t.Errorf("consumer by an id that is none: got %d, want 500", got.StatusCode)
	}
}

// TestNodeAndTime: the node keeps its id, a request its time.
func TestNodeAndTime(t *testing.T) {
	g := startProbed(t)
	first, second := g.report(`[["node"],["started"]]`), g.report(`[["node"],["started"]]`)
	if first[0] != second[0] || len(fmt.Sprint(first[0])) != 36 {
		t.Errorf("node: got %v and %v, want one id", first[0], second[0])
	}
	if f, _ := first[1].(float64); f < 1.7e9 {
		t.Errorf("start of the request: got %v, want seconds of now", first[1])
	}
}

// TestNginxVariables that plugins ask for.
func TestNginxVariables(t *testing.T) {
	g := startProbed(t)
	port := strings.TrimPrefix(g.URL(), "http://127.0.0.1:")
	want := map[string]string{
		"request_uri": "/p?a=1&b=2", "args": "a=1&b=2", "is_args": "?", "arg_b": "2", "arg_none": "", "query_string": "a=1&b=2", "request_method": "POST",
		"request": "POST /p?a=1&b=2 HTTP/1.1", "scheme": "http", "https": "", "host": "gw.example", "server_port": port, "server_name": "kong", "server_protocol": "HTTP/1.1",
		"http_x_one": "1", "http_cookie": "a=1; b=2", "content_type": "text/x", "content_length": "2", "remote_addr": "127.0.0.1", "realip_remote_addr": "127.0.0.1",
		"upstream_uri": "/p", "upstream_scheme": "http", "upstream_host": "", "ssl_protocol": "", "ssl_client_verify": "", "ssl_client_escaped_cert": "", "ssl_server_name": "",
		"REQUEST_METHOD": "POST", "unknown": "",
	}
	var steps, names []string
	for name := range want {
		names = append(names, name)
		steps = append(steps, fmt.Sprintf(`["var",%q]`, name))
	}
	g.raw("POST", "POST /p?a=1&b=2 HTTP/1.1\r\nHost: GW.example:1\r\nX-One: 1\r\nCookie: a=1\r\nCookie: b=2\r\nContent-Type: text/x\r\nContent-Length: 2\r\n"+
		"X-Script: ["+strings.Join(steps, ",")+",[\"report\"]]\r\n\r\nok")
	report := g.upstream.got(t).report(t)
	for i, name := range names {
		if report[i] != want[name] {
			t.Errorf("%s: got %q, want %q", name, report[i], want[name])
		}
	}
}

// TestServiceTarget: a plugin sends the request elsewhere.
func TestServiceTarget(t *testing.T) {
	g := startProbed(t)
	other := newUpstream(t, nil)
	host, port, _ := strings.Cut(other.address(), ":")
	res := g.do("GET", "/p?x=y", "", map[string]string{"X-Script": fmt.Sprintf(`[["starget",%q,%s],["sscheme","http"],["ssquery",{"b":["2","3"],"a":["x y"]}],["supstream","none"]]`, host, port)})
	r := other.got(t)
	if res.StatusCode != 200 || r.Host != host || r.URL.RawQuery != "a=x%20y&b=2&b=3" {
		t.Errorf("got %d for %s?%s, want the plugin's host and arguments", res.StatusCode, r.Host, r.URL.RawQuery)
	}
	for _, steps := range []string{`[["starget","h",70000]]`, `[["sscheme","ftp"]]`} {
		if res := g.script(steps); res.StatusCode != 500 {
			t.Errorf("%s: got %d, want 500", steps, res.StatusCode)
		}
	}
}

// TestForwardedPortOfTrustedPeer: its own header, or the port in the host.
func TestForwardedPortOfTrustedPeer(t *testing.T) {
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{
		YAML: []byte(probed), Plugins: map[string]string{"probe": plugin(t, "probe", definition{})},
		TrustedIPs: []string{"127.0.0.1"}, RealIPHeader: "X-Forwarded-For",
	}, up)
	own := strings.TrimPrefix(g.URL(), "http://127.0.0.1:")
	for _, tt := range []struct{ port, host, want string }{
		{"8443", "h:1", "8443"}, {"0", "user@h:99", "99"}, {"x", "h", own}, {"70000", "h:x", own},
	} {
		g.do("GET", "/p", "", map[string]string{
			"X-Forwarded-Port": tt.port, "X-Forwarded-Host": tt.host, "X-Forwarded-For": "9.9.9.9, 8.8.8.8:77", "X-Script": `[["req"],["var","remote_port"],["report"]]`,
		})
		report := up.got(t).report(t)
		got, _ := report[0].(map[string]any)
		if fmt.Sprint(got["forwarded_port"]) != tt.want || got["forwarded_ip"] != "8.8.8.8" || report[1] != "77" {
			t.Errorf("%+v: got %v from %v:%v", tt, got["forwarded_port"], got["forwarded_ip"], report[1])
		}
	}
}
