package egress_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantomtoken/sidecar/egress"
)

// A request as an attacker in the application's place writes it. Nothing must reach the API.
//
// Covers: TX-17, TX-20
func TestRejects(t *testing.T) {
	const authorized = "Authorization: Bearer " + phantom + "\r\n"
	get := func(target, fields string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + "\r\n"
	}
	escaped := strings.ReplaceAll(url.QueryEscape(phantom), "-", "%2D")
	for _, test := range []struct {
		name    string
		request string
		status  int
		code    string
	}{
		{"AbsoluteTarget", get("http://169.254.169.254/latest/meta-data", authorized), 400, "invalid_request"},
		{"AbsoluteTargetOfTheUpstream", get("http://a/x", authorized), 400, "invalid_request"},
		{"Connect", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n" + authorized + "\r\n", 400, "invalid_request"},
		{"TraceThatEchoesTheExchangedToken", "TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + authorized + "\r\n", 400, "invalid_request"},
		{"AsteriskTarget", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + authorized + "\r\n", 400, "invalid_request"},
		{"NoToken", get("/", ""), 401, "unauthorized"},
		{"BasicCredentials", get("/", "Authorization: Basic YTpi\r\n"), 401, "unauthorized"},
		{"TwoAuthorizationFields", get("/", authorized+"Authorization: Bearer other\r\n"), 400, "invalid_request"},
		{"TwoTokensInOneField", get("/", "Authorization: Bearer a, Bearer b\r\n"), 400, "invalid_request"},
		{"EmptyToken", get("/", "Authorization: Bearer \r\n"), 400, "invalid_request"},
		{"TokenWithForbiddenCharacters", get("/", "Authorization: Bearer a\"b\r\n"), 400, "invalid_request"},
		{"PhantomTokenInHeader", get("/", authorized+"X-Access-Token: "+phantom+"\r\n"), 400, "invalid_request"},
		{"PhantomTokenInCookie", get("/", authorized+"Cookie: a=b; token="+phantom+"; c=d\r\n"), 400, "invalid_request"},
		{"PhantomTokenInHeaderName", get("/", authorized+phantom+": x\r\n"), 400, "invalid_request"},
		{"PhantomTokenInQuery", get("/?access_token="+phantom, authorized), 400, "invalid_request"},
		{"PhantomTokenInEscapedQuery", get("/?access_token="+escaped, authorized), 400, "invalid_request"},
		{"PhantomTokenInPath", get("/"+phantom, authorized), 400, "invalid_request"},
		{"PhantomTokenInEscapedPath", get("/x"+escaped, authorized), 400, "invalid_request"},
		{"PhantomTokenInMethod", phantom + " / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + authorized + "\r\n", 400, "invalid_request"},
		{
			"PhantomTokenInTrailer",
			"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" + authorized + "\r\n2\r\nhi\r\n0\r\nX-Sum: " + phantom + "\r\n\r\n",
			400, "invalid_request",
		},
		{
			"PhantomTokenInTrailerName",
			"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: " + phantom + "\r\n" + authorized + "\r\n2\r\nhi\r\n0\r\n" + phantom + ": 1\r\n\r\n",
			400, "invalid_request",
		},
		{
			"MalformedChunks",
			"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + authorized + "\r\n2\r\nhi\r\nzz\r\n",
			400, "invalid_request",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			finished := make(chan bool, 1)
			upstream := newAPI(t, func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				finished <- err == nil
			})
			w := newWorld(t, to(t, upstream.URL))
			got := w.raw(t, test.request)
			refused(t, got, test.status, test.code)
			w.Close() // the proxy is done with the request
			upstream.Close()
			close(finished)
			for whole := range finished {
				if whole {
					t.Error("expected no whole request at the API, got one")
				}
			}
			for _, r := range upstream.seen() {
				if strings.Contains(strings.Join(r.Header["Authorization"], " "), phantom) {
					t.Error("expected no phantom token at the API, got it")
				}
			}
			if strings.Contains(got.body+w.log.String(), phantom) {
				t.Errorf("expected no token in answer and log, got %q and %q", got.body, w.log.String())
			}
			if challenge := got.Header.Get("WWW-Authenticate"); (test.status == 401) != strings.HasPrefix(challenge, "Bearer ") {
				t.Errorf("expected a Bearer challenge with 401 alone, got %q", challenge)
			}
		})
	}
}

// What comes after a 101 to h2c would be requests that no check sees.
func TestRejectsH2CSmuggling(t *testing.T) {
	for _, upgrade := range []string{"h2c", "websocket, h2c", "TLS/1.3"} {
		upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				w.Header().Set("Connection", "Upgrade")
				w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
				w.WriteHeader(http.StatusSwitchingProtocols)
			}
		})
		w := newWorld(t, to(t, upstream.URL))
		r := w.request(t, http.MethodGet, "/", nil)
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", upgrade)
		r.Header.Set("HTTP2-Settings", base64.RawURLEncoding.EncodeToString(make([]byte, 6)))
		passed(t, w.do(t, r), http.StatusOK)
		received := upstream.only(t).Header
		for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
			if received[name] != nil {
				t.Errorf("%s: expected no %s at the API, got %q", upgrade, name, received[name])
			}
		}
	}
}

// An API that switches protocols although nobody asked.
func TestRejectsUpgradeThatNobodyAskedFor(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	w := newWorld(t, to(t, upstream.URL))
	refused(t, w.get(t, "/"), http.StatusBadGateway, "upstream_unreachable")
}

// What an API writes in place of HTTP must not reach application or log.
func TestRejectsRemoteTextInErrors(t *testing.T) {
	const text = "SECRET-OF-THE-API"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, text+" is no HTTP\r\n\r\n")
	}()
	w := newWorld(t, to(t, "http://"+listener.Addr().String()))
	got := w.get(t, "/")
	refused(t, got, http.StatusBadGateway, "upstream_unreachable")
	w.outcome(t)
	if strings.Contains(got.body+w.log.String(), text) {
		t.Errorf("expected no word of the API, got %q and %q", got.body, w.log.String())
	}
}

// What speaks to the client of the API, or as if the proxy spoke, in places beside the header.
func TestRejectsForgedFieldsBesideTheHeader(t *testing.T) {
	forged := map[string]string{
		"Phantom-Error": "invalid_token", "Alt-Svc": `h3="evil.example:443"`,
		"Www-Authenticate": `Bearer resource_metadata="https://evil.example/"`,
	}
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range forged {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		w.Header().Set("Trailer", "Phantom-Error, Www-Authenticate, X-Sum")
		_, _ = io.WriteString(w, "x")
		for name, value := range forged {
			w.Header().Set(name, value)
			w.Header().Set(http.TrailerPrefix+name, value)
		}
		w.Header().Set("X-Sum", "1")
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodGet, "/", nil)
	hints := make(chan textproto.MIMEHeader, 1)
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			hints <- header
			return nil
		},
	}))
	got := w.do(t, r)
	passed(t, got, http.StatusOK)
	interim := wait(t, "an interim answer", hints)
	for name := range forged {
		if interim[name] != nil || got.Trailer[name] != nil {
			t.Errorf("expected no %s, got %q in the interim answer and %q in the trailer", name, interim[name], got.Trailer[name])
		}
	}
	if got.Trailer.Get("X-Sum") != "1" {
		t.Errorf("expected the other field of the trailer, got %v", got.Trailer)
	}
}

// A server without the right certificate chooses its names as a message to whoever reads the log.
func TestRejectsCertificateTextInLog(t *testing.T) {
	upstream, ca := tlsAPI(t, false, nil) // for example.com
	route := egress.Route{Path: "/", Upstream: parseURL(t, strings.Replace(upstream.URL, "127.0.0.1", "localhost", 1)), Audience: "stocks", CAFile: ca}
	w := newWorld(t, route)
	refused(t, w.get(t, "/"), http.StatusBadGateway, "upstream_unreachable")
	w.outcome(t)
	log := w.log.String()
	if strings.Contains(log, "example.com") || !strings.Contains(log, "the certificate is for another host; check egress.routes[0].upstream") {
		t.Errorf("expected the setting and no name of the certificate, got %s", log)
	}
}

// A server that leaves out parameters of segments would see a path of another route.
func TestRejectsPathParameterThatChangesTheRoute(t *testing.T) {
	upstream := newAPI(t, nil)
	narrow, wide := to(t, upstream.URL), to(t, upstream.URL)
	narrow.Path, wide.Path = "/api/accounts", "/api"
	for _, test := range []struct {
		path   string
		status int
	}{
		{"/api/accounts;v=1/7", 400},
		{"/api/accounts;v=1", 400},
		{"/api/accounts%3Bv=1/7", 400},
		{"/api/accounts%3bv=1/7", 400},
		{"/api;v=1/accounts/7", 400},
		{"/api/accounts/7;v=1", 200},
		{"/api/stocks;v=1/7", 200},
	} {
		t.Run(test.path, func(t *testing.T) {
			w := newWorld(t, narrow, wide)
			got := w.get(t, test.path)
			if test.status == http.StatusOK {
				passed(t, got, test.status)
			} else {
				refused(t, got, test.status, "invalid_request")
			}
		})
	}
}

// The body of a refused request must not be taken for the next request, nor end the connection
// without a word.
func TestRefusedBodyThenNextRequest(t *testing.T) {
	for _, test := range []struct {
		name   string
		body   int
		late   bool // the body is sent after the answer was read
		closes bool
	}{
		{name: "Byte", body: 1},
		{name: "Buffered", body: 4000},
		{name: "LongerThanTheBuffer", body: 100_000},
		{name: "LateByte", body: 1, late: true},
		{name: "LateBody", body: 100_000, late: true},
		{name: "TooLarge", body: 300_000, closes: true},
		{name: "LateAndTooLarge", body: 300_000, late: true, closes: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, to(t, newAPI(t, nil).URL))
			complaints := new(syncBuffer)
			w.Config.ErrorLog = log.New(complaints, "", 0)
			conn, err := net.Dial("tcp", w.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			body := strings.Repeat("b", test.body)
			_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", test.body)
			if !test.late {
				_, _ = io.WriteString(conn, body)
			}
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := read(t, res)
			refused(t, got, http.StatusUnauthorized, "unauthorized")
			if got.Close != test.closes {
				t.Errorf("expected Connection: close %t, got %t", test.closes, got.Close)
			}
			if !test.closes {
				if test.late {
					_, _ = io.WriteString(conn, body)
				}
				_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
				passed(t, readRaw(t, answers), http.StatusOK)
			}
			_ = conn.Close()
			w.Close()
			if complaints.String() != "" {
				t.Errorf("expected no complaint of net/http, got %s", complaints)
			}
		})
	}
}

// While the API takes nothing of a body, nobody reads from the application, and nobody sees
// that it has gone.
func TestApplicationGoneWhileTheAPIDoesNotRead(t *testing.T) {
	for _, test := range []struct {
		name  string
		http2 bool
	}{{"HTTP1", false}, {"HTTP2", true}} {
		t.Run(test.name, func(t *testing.T) {
			begun, over := make(chan struct{}), make(chan struct{})
			upstream, ca := tlsAPI(t, test.http2, func(http.ResponseWriter, *http.Request) {
				close(begun)
				<-over
			})
			route := to(t, upstream.URL)
			route.CAFile = ca
			route.Timeout = time.Second
			w := newWorld(t, route)
			conn, err := net.Dial("tcp", w.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
			wait(t, "the request at the API", begun)
			_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // all buffers are full then
			if _, err := io.Copy(conn, &zeros{1_000_000_000}); err == nil {
				t.Fatal("expected the proxy to stop reading")
			}
			_ = conn.Close()
			if o := w.outcome(t); o.Result != egress.ResultUpstreamTimeout {
				t.Errorf("expected upstream_timeout, got %+v", o)
			}
			close(over)
			w.noLeak(t, upstream)
		})
	}
}
