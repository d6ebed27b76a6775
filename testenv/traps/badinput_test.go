package traps_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"phantomtoken/testenv/authserver"
)

// What a client may send, as bytes on the wire, and what it gets.
//
// Covers: MCP-18, MCP-21, BT-01, BT-02, BT-03, BT-06, BT-09, BT-10, BT-14
func TestHostileRequests(t *testing.T) {
	r := start(t, options{})
	good := r.token(authserver.Grant{})
	marked := "MARKED" + strings.Repeat("x", 40)
	tests := []struct {
		name, authorization, target, want string
		extra                             string
	}{
		{name: "good", authorization: "Bearer " + good, want: "HTTP/1.1 200"},
		{name: "no credentials", want: "HTTP/1.1 401"},
		{name: "control byte in the token", authorization: "Bearer " + marked + "\x01", want: "HTTP/1.1 400"},
		{name: "delete byte", authorization: "Bearer " + marked + "\x7f", want: "HTTP/1.1 400"},
		{name: "NUL byte", authorization: "Bearer " + marked + "\x00", want: "HTTP/1.1 400"},
		{name: "not UTF-8", authorization: "Bearer " + marked + "\xff\xfe", want: "HTTP/1.1 400"},
		{name: "UTF-8 outside ASCII", authorization: "Bearer " + marked + "ß", want: "HTTP/1.1 400"},
		{name: "20 KiB token", authorization: "Bearer " + strings.Repeat("MARKED", 20<<10/6), want: "HTTP/1.1 400"}, // the gateway's own header limit
		{name: "two fields", authorization: "Bearer " + good, extra: "Authorization: Bearer " + marked + "\r\n", want: "HTTP/1.1 400"},
		{name: "two credentials joined by a comma", authorization: "Bearer " + good + ", Bearer " + marked, want: "HTTP/1.1 400"},
		{name: "joined without blank", authorization: "Bearer " + good + ",Bearer " + marked, want: "HTTP/1.1 400"},
		{name: "Bearer without token", authorization: "Bearer", want: "HTTP/1.1 400"},
		{name: "Bearer and blanks", authorization: "Bearer    ", want: "HTTP/1.1 400"},
		{name: "unknown scheme", authorization: "Negotiate " + marked, want: "HTTP/1.1 401"},
		{name: "basic", authorization: "Basic TUFSS0VEOng=", want: "HTTP/1.1 401"},
		{name: "token alone", authorization: marked, want: "HTTP/1.1 401"},
		{name: "lower case scheme", authorization: "bearer " + good, want: "HTTP/1.1 200"},
		{name: "token in the query", target: "/mcp?access_token=" + good, want: "HTTP/1.1 401"},
		{name: "token in header and query", authorization: "Bearer " + good, target: "/mcp?access_token=" + marked, want: "HTTP/1.1 400"},
		{name: "not UTF-8 in another header", authorization: "Bearer " + good, extra: "X-Name: \xff\xfe\r\n", want: "HTTP/1.1 200"},
		{name: "not UTF-8 in the query", authorization: "Bearer " + good, target: "/mcp?x=%ff", want: "HTTP/1.1 200"},
		{name: "Connection that strips the phantom token", authorization: "Bearer " + good, extra: "Connection: Authorization\r\n", want: "HTTP/1.1 400"},
		{name: "underscore spelling is no credential", extra: "X_Authorization: Bearer " + good + "\r\n", want: "HTTP/1.1 401"},
		{name: "metadata with a hostile credential", authorization: "Bearer \x01", target: "/.well-known/oauth-protected-resource/mcp", want: "HTTP/1.1 200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.target == "" {
				tt.target = "/mcp"
			}
			before := len(r.seen())
			request := "GET " + tt.target + " HTTP/1.1\r\nHost: gw.example.com\r\nConnection: close\r\n" + tt.extra
			if tt.authorization != "" {
				request += "Authorization: " + tt.authorization + "\r\n"
			}
			got := r.raw(request + "\r\n")
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %.200q, want %s", got, tt.want)
			}
			passed := len(r.seen()) - before
			if want := strings.Contains(tt.want, "200") && !strings.Contains(tt.target, "well-known"); (passed == 1) != want {
				t.Errorf("upstream saw %d requests, want one only for a good request", passed)
			}
			if strings.Contains(got, "MARKED") {
				t.Errorf("answer repeats the credential: %.300q", got)
			}
		})
	}
}

// More than 100 header fields must not hide a forged one, nor more than Kong can tell.
func TestManyHeadersHideNothing(t *testing.T) {
	r := start(t, options{})
	good := r.token(authserver.Grant{})
	request := func(n int) string {
		var b strings.Builder
		b.WriteString("GET /mcp HTTP/1.1\r\nHost: gw.example.com\r\nConnection: close\r\nAuthorization: Bearer " + good + "\r\n")
		for range n {
			b.WriteString("A: b\r\n")
		}
		for i := range n {
			b.WriteString("H" + strings.Repeat("i", i%40) + string(rune('a'+i%26)) + ": b\r\n")
		}
		b.WriteString("X-Consumer-Id: forged\r\n\r\n")
		return b.String()
	}
	if got := r.raw(request(150)); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("got %.200q, want 200", got)
	}
	if v := r.seen()[0].Header.Get("X-Consumer-Id"); v != "" {
		t.Errorf("X-Consumer-Id upstream = %q, want none", v)
	}
	if got := r.raw(request(600)); !strings.HasPrefix(got, "HTTP/1.1 4") || len(r.seen()) != 1 {
		t.Errorf("got %.200q and %d requests upstream, want a refusal", got, len(r.seen())-1)
	}
}

func TestLargeBodyPassesUnread(t *testing.T) {
	var got int64
	r := start(t, options{upstream: func(w http.ResponseWriter, req *http.Request) {
		got, _ = io.Copy(io.Discard, req.Body)
	}})
	body := bytes.Repeat([]byte("x"), 10<<20)
	r.wantStatus(r.send("POST", "/mcp", r.token(authserver.Grant{}), string(body)), 200)
	if got != int64(len(body)) {
		t.Errorf("upstream read %d bytes, want %d", got, len(body))
	}
	r.wantStatus(r.send("POST", "/mcp", "", string(body)), 401)
}

// What a provider may answer. Everything but a clean answer is 503, never 401, never 200.
//
// Covers: IN-05, IN-06, IN-08, IN-09, BC-15, MCP-35
func TestHostileProvider(t *testing.T) {
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed with a token and a secret in hand")
	}))
	t.Cleanup(canary.Close)
	active := `{"active":true,"sub":"MARKED","client_id":"c","aud":"` + resource + `","scope":"mcp:read","exp":99999999999}`
	json := "application/json"
	tests := []struct {
		name    string
		trouble authserver.Trouble
		want    int
	}{
		{name: "malformed JSON", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(`{"active":true,"MARKED`)}, want: 503},
		{name: "empty", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(" ")}, want: 503},
		{name: "array", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(`[` + active + `]`)}, want: 503},
		{name: "two documents", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(`{"active":false}` + active)}, want: 503},
		{name: "repeated member", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(`{"active":false,"active":true,"aud":"` + resource + `"}`)}, want: 503},
		{name: "active as text", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(strings.Replace(active, "true", `"true"`, 1))}, want: 401},
		{name: "5 MB", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: append([]byte(active), bytes.Repeat([]byte(" "), 5<<20)...)}, want: 503},
		{name: "HTML", trouble: authserver.Trouble{Status: 200, ContentType: "text/html", Body: []byte(active)}, want: 503},
		{name: "JSON without type", trouble: authserver.Trouble{Status: 200, ContentType: "text/plain", Body: []byte(active)}, want: 503},
		{name: "500", trouble: authserver.Trouble{Status: 500, ContentType: json, Body: []byte(active)}, want: 503},
		{name: "201", trouble: authserver.Trouble{Status: 201, ContentType: json, Body: []byte(active)}, want: 503},
		{name: "401", trouble: authserver.Trouble{Status: 401, ContentType: json, Body: []byte(`{"error":"invalid_client"}`)}, want: 503},
		{name: "redirect 302", trouble: authserver.Trouble{Status: 302, Redirect: canary.URL}, want: 503},
		{name: "redirect 307", trouble: authserver.Trouble{Status: 307, Redirect: canary.URL}, want: 503},
		{name: "down", trouble: authserver.Trouble{Down: true}, want: 503},
		{name: "deeply nested", trouble: authserver.Trouble{Status: 200, ContentType: json, Body: []byte(`{"active":true,"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`)}, want: 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, options{})
			r.idp.Trouble(tt.trouble)
			got := r.do("POST", "/mcp", r.token(authserver.Grant{}))
			r.wantStatus(got, tt.want)
			if tt.want == 503 && (got.challenge() != "" || got.Header.Get("Retry-After") == "") {
				t.Errorf("headers = %v, want Retry-After and no challenge", got.Header)
			}
			if len(r.seen()) != 0 {
				t.Error("the request reached the upstream")
			}
			if strings.Contains(got.body+r.log.String(), "MARKED") {
				t.Error("the answer or the log repeats the provider's body")
			}
		})
	}
}

// A provider that hangs, or sends its answer byte by byte, costs the client no more than
// the configured timeout.
//
// Covers: IN-09
func TestSlowProviderIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	drip := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			case <-req.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(drip.Close)
	for name, endpoint := range map[string]string{"never answers": "http://" + silent.Addr().String() + "/introspect", "slow loris": drip.URL} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{endpoint: endpoint, config: "introspection: {timeout_seconds: 1}\n"})
			begin := time.Now()
			r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 503)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v, want the configured second and little more", took)
			}
		})
	}
}

// Covers: IN-05
func TestProviderWithUnknownCertificateIsRefused(t *testing.T) {
	idp := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the token was sent to a server whose certificate nobody vouches for")
	}))
	t.Cleanup(idp.Close)
	r := start(t, options{endpoint: idp.URL})
	r.wantStatus(r.do("POST", "/mcp", r.token(authserver.Grant{})), 503)
}
