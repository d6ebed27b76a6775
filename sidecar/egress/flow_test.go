package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
)

func readRaw(t testing.TB, r io.Reader) answer {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return read(t, res)
}

// Covers: TX-17
func TestSwapsTheToken(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "prices") })
	route := to(t, upstream.URL+"/v1")
	route.Scopes = []string{"stocks/read"}
	w := newWorld(t, route)

	got := w.get(t, "/stocks/ACME?day=1;x=%20&empty")
	passed(t, got, http.StatusOK)
	if got.body != "prices" {
		t.Errorf("expected the body of the API, got %q", got.body)
	}
	r := upstream.only(t)
	if want := []string{"Bearer exchanged-1"}; !reflect.DeepEqual(r.Header["Authorization"], want) {
		t.Errorf("expected Authorization %q at the API, got %q", want, r.Header["Authorization"])
	}
	if want := "/v1/stocks/ACME?day=1;x=%20&empty"; r.RequestURI != want {
		t.Errorf("expected the target %q, got %q", want, r.RequestURI)
	}
	if want := strings.TrimPrefix(upstream.URL, "http://"); r.Host != want {
		t.Errorf("expected Host %q, that of the upstream, got %q", want, r.Host)
	}
	calls, evicted := w.tokens.seen()
	want := []egress.Call{{SubjectToken: phantom, Audience: audience, Scope: []string{"stocks/read"}}}
	if !reflect.DeepEqual(calls, want) || evicted != nil {
		t.Errorf("expected the exchange %+v and no eviction, got %+v and %q", want, calls, evicted)
	}
	if o := w.outcome(t); o.Result != egress.ResultPassed || o.Status != http.StatusOK || o.Route != 0 || o.Retried {
		t.Errorf("expected passed with 200 on route 0, got %+v", o)
	}
}

func TestHeaderFields(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Phantom-Error", "invalid_token")
		h.Set("Alt-Svc", `h3=":443"`)
		h.Set("X-Rate-Limit", "9")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Proxy-Authenticate", "Basic")
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodGet, "/", nil)
	dropped := []string{
		"Proxy-Authorization", "Proxy-Connection", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Client-Cert",
		"X-Consumer-Id", "X-Credential-Identifier", "X-Anonymous-Consumer", "X_Consumer_Id", "Phantom-Other", "X-Listed", "Keep-Alive", "Http2-Settings",
		"X-Authenticated-Groups", "X-Authenticated-Userid", "X-Userinfo", "X-Id-Token", "X-Access-Token", "X-User",
		"Remote-User", "X-Real-Ip", "Txn-Token", "Dpop", "Client-Cert", "X_forwarded_user",
	}
	for _, name := range dropped {
		r.Header[name] = []string{"dropped"}
	}
	// A field that is named here must not take the exchanged token away.
	r.Header["Connection"] = []string{"X-Listed, Authorization"}
	kept := map[string]string{
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "a=b", "Baggage": "k=v",
		"Accept-Encoding": "br", "Cookie": "a=b", "X-Request-Id": "7", "User-Agent": "app",
	}
	for name, value := range kept {
		r.Header[name] = []string{value}
	}
	got := w.do(t, r)
	passed(t, got, http.StatusOK)
	for _, name := range []string{"Phantom-Error", "Alt-Svc", "X-Hop", "Proxy-Authenticate"} {
		if got.Header[name] != nil {
			t.Errorf("expected no %s in the answer, got %q", name, got.Header[name])
		}
	}
	if got.Header.Get("X-Rate-Limit") != "9" {
		t.Errorf("expected X-Rate-Limit to pass, got header %v", got.Header)
	}
	received := upstream.only(t).Header
	for _, name := range dropped {
		if received[name] != nil {
			t.Errorf("expected no %s at the API, got %q", name, received[name])
		}
	}
	for name, value := range kept {
		if received.Get(name) != value {
			t.Errorf("expected %s %q at the API, got %q", name, value, received[name])
		}
	}
	if received.Get("Authorization") != "Bearer exchanged-1" {
		t.Errorf("expected the exchanged token, got %q", received["Authorization"])
	}
}

func TestNamesTheTool(t *testing.T) {
	for _, test := range []struct {
		name   string
		header http.Header
		want   string
		status int
		keepsM bool // Mcp-Method and Mcp-Name reach the API
	}{
		{name: "none"},
		{name: "MCP", header: http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"get_stock_prices"}}, want: "get_stock_prices"},
		{name: "MCP in base64", header: http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"=?base64?cHJlaXNfw6R0?="}}, want: "preis_ät"},
		{name: "another method of MCP", header: http.Header{"Mcp-Method": {"prompts/get"}, "Mcp-Name": {"greeting"}}, keepsM: true},
		{name: "own field", header: http.Header{"Phantom-Tool": {"get_stock_prices"}}, want: "get_stock_prices"},
		{name: "own field before MCP", header: http.Header{"Phantom-Tool": {"mine"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"theirs"}}, want: "mine", keepsM: true},
		{name: "MCP without name", header: http.Header{"Mcp-Method": {"tools/call"}}, status: http.StatusBadRequest},
		{name: "method of MCP in base64", header: http.Header{"Mcp-Method": {"=?base64?dG9vbHMvY2FsbA==?="}, "Mcp-Name": {"get_stock_prices"}}, want: "get_stock_prices"},
		{name: "method of MCP without name", header: http.Header{"Mcp-Method": {"tools/list"}}, keepsM: true},
		{name: "two methods hide the tool", header: http.Header{"Mcp-Method": {"tools/call", "tools/call"}, "Mcp-Name": {"a"}}, status: http.StatusBadRequest},
		{name: "two methods in one field hide the tool", header: http.Header{"Mcp-Method": {"tools/call,tools/call"}, "Mcp-Name": {"a"}}, status: http.StatusBadRequest},
		{name: "malformed method hides the tool", header: http.Header{"Mcp-Method": {"=?base64?%?="}, "Mcp-Name": {"a"}}, status: http.StatusBadRequest},
		{name: "name without method hides the tool", header: http.Header{"Mcp-Name": {"a"}}, status: http.StatusBadRequest},
		{name: "two names of MCP", header: http.Header{"Mcp-Method": {"prompts/get"}, "Mcp-Name": {"a", "b"}}, status: http.StatusBadRequest},
		{name: "two methods beside own field", header: http.Header{"Phantom-Tool": {"a"}, "Mcp-Method": {"tools/call", "tools/list"}}, status: http.StatusBadRequest},
		{name: "two names", header: http.Header{"Phantom-Tool": {"a", "b"}}, status: http.StatusBadRequest},
		{name: "empty", header: http.Header{"Phantom-Tool": {""}}, status: http.StatusBadRequest},
		{name: "too long", header: http.Header{"Phantom-Tool": {strings.Repeat("x", 257)}}, status: http.StatusBadRequest},
		{name: "line break in base64", header: http.Header{"Phantom-Tool": {"=?base64?YQpi?="}}, status: http.StatusBadRequest},
		{name: "no base64", header: http.Header{"Phantom-Tool": {"=?base64?%%%?="}}, status: http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, nil)
			w := newWorld(t, to(t, upstream.URL))
			r := w.request(t, http.MethodGet, "/", nil)
			for name, values := range test.header {
				r.Header[name] = values
			}
			got := w.do(t, r)
			if test.status != 0 {
				refused(t, got, test.status, "invalid_request")
				if n := len(upstream.seen()); n != 0 {
					t.Errorf("expected nothing at the API, got %d requests", n)
				}
				return
			}
			passed(t, got, http.StatusOK)
			calls, _ := w.tokens.seen()
			if calls[0].Tool != test.want {
				t.Errorf("expected the tool %q, got %q", test.want, calls[0].Tool)
			}
			received := upstream.only(t).Header
			if received["Phantom-Tool"] != nil {
				t.Errorf("expected no Phantom-Tool at the API, got %q", received["Phantom-Tool"])
			}
			for _, name := range []string{"Mcp-Method", "Mcp-Name"} {
				want := test.header[name]
				if !test.keepsM {
					want = nil
				}
				if !reflect.DeepEqual(received[name], want) {
					t.Errorf("expected %s %q at the API, got %q", name, want, received[name])
				}
			}
		})
	}
}

func TestLeavesContentCodingAlone(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "prices")
	_ = z.Close()
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	w := newWorld(t, to(t, upstream.URL))
	got := w.raw(t, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
	if got.body != packed.String() || got.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("expected the packed bytes, got %q", got.body)
	}
	if asked := upstream.only(t).Header["Accept-Encoding"]; asked != nil {
		t.Errorf("expected no Accept-Encoding, since the application sent none, got %q", asked)
	}
}

// Covers: TX-20
func TestPassesRedirectsWithoutFollowing(t *testing.T) {
	elsewhere := newAPI(t, nil)
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/steal", http.StatusTemporaryRedirect)
	})
	w := newWorld(t, to(t, upstream.URL))
	got := w.get(t, "/")
	passed(t, got, http.StatusTemporaryRedirect)
	if want := elsewhere.URL + "/steal"; got.Header.Get("Location") != want {
		t.Errorf("expected Location %q, got %q", want, got.Header.Get("Location"))
	}
	if n := len(elsewhere.seen()); n != 0 {
		t.Errorf("expected nothing at the other host, got %d requests", n)
	}
}

// tlsAPI is an API with a certificate for example.com and 127.0.0.1, and the file with its
// authority.
func tlsAPI(t *testing.T, http2 bool, handler http.HandlerFunc) (upstream *api, caFile string) {
	t.Helper()
	upstream = new(api)
	upstream.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstream.note(r)
		if handler != nil {
			handler(w, r)
		}
	}))
	upstream.EnableHTTP2 = http2
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw})
	if err := os.WriteFile(caFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return upstream, caFile
}

func TestSpeaksTLS(t *testing.T) {
	for _, test := range []struct {
		name  string
		http2 bool
		want  string
	}{
		{name: "HTTP/1.1", want: "HTTP/1.1"},
		{name: "HTTP/2", http2: true, want: "HTTP/2.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream, ca := tlsAPI(t, test.http2, nil)
			route := to(t, upstream.URL)
			route.CAFile = ca
			w := newWorld(t, route)
			passed(t, w.get(t, "/"), http.StatusOK)
			if got := upstream.only(t).Proto; got != test.want {
				t.Errorf("expected %s, got %s", test.want, got)
			}
		})
	}
}

// The name in the certificate is that of the upstream in the policy, whatever Host says.
func TestServerNameIsThatOfThePolicy(t *testing.T) {
	upstream, ca := tlsAPI(t, false, nil)
	dns := newDNS(t, map[string]string{"example.com.": "127.0.0.1"})
	route := to(t, strings.Replace(upstream.URL, "127.0.0.1", "example.com", 1))
	route.CAFile = ca
	route.Addresses = prefixes("127.0.0.0/8")
	w := newWorldWith(t, egress.Config{Routes: []egress.Route{route}}, dns)
	r := w.request(t, http.MethodGet, "/", nil)
	r.Host = "evil.example.org"
	passed(t, w.do(t, r), http.StatusOK)
	if got := upstream.only(t); got.TLS.ServerName != "example.com" || !strings.HasPrefix(got.Host, "example.com:") {
		t.Errorf("expected example.com as server name and Host, got %q and %q", got.TLS.ServerName, got.Host)
	}
}

func TestRefusesCertificate(t *testing.T) {
	upstream, ca := tlsAPI(t, false, nil)
	for _, test := range []struct {
		name, ca, host string
	}{
		{name: "of an authority that is not listed", host: "127.0.0.1"},
		{name: "of another name", ca: ca, host: "localhost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			route := to(t, strings.Replace(upstream.URL, "127.0.0.1", test.host, 1))
			route.CAFile = test.ca
			w := newWorld(t, route)
			refused(t, w.get(t, "/"), http.StatusBadGateway, "upstream_unreachable")
			if o := w.outcome(t); o.Result != egress.ResultUpstreamUnreachable || o.Status != http.StatusBadGateway {
				t.Errorf("expected upstream_unreachable, got %+v", o)
			}
			if !strings.Contains(w.log.String(), "certificate of the API is not accepted") {
				t.Errorf("expected the log to name the certificate, got %s", w.log.String())
			}
			if n := len(upstream.seen()); n != 0 {
				t.Errorf("expected nothing at the API, got %d requests", n)
			}
		})
	}
}
