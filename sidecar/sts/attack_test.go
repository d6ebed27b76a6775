package sts_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
)

// TestRejectsInjection: line breaks and other control characters in any parameter neither
// end a header or a log line nor come back as they are.
func TestRejectsInjection(t *testing.T) {
	payloads := map[string]string{
		"header":           "x\r\nX-Injected: yes\r\n\r\n{\"access_token\":\"x\"}",
		"log line":         "x\n{\"level\":\"INFO\",\"msg\":\"token exchange decided\",\"outcome\":\"granted\"}",
		"null":             "x\x00y",
		"terminal":         "x\x1b[2Jy",
		"next line":        "x\u0085\u2028\u2029y",
		"no UTF-8":         "x\xff\xfey",
		"quote":            `x"},"access_token":"y`,
		"override of text": "x\u202ey",
	}
	for kind, payload := range payloads {
		for _, parameter := range []string{"audience", "resource", "scope", "tool", "subject_token", "subject_token_type", "requested_token_type", "actor_token", "client_id", "grant_type", "foo"} {
			t.Run(kind+" in "+parameter, func(t *testing.T) {
				w := newWorld(t, func(_ *world, p *parts) {
					p.policy = usual + "tools: {look: {audiences: {https://api.demo.example: [stocks/read]}}}\n"
				})
				form := w.form(func(f url.Values) { f.Set(parameter, payload) })
				rec := httptest.NewRecorder()
				w.service.ServeHTTP(rec, w.request(form.Encode()))

				if want := 400; parameter != "foo" && rec.Code != want {
					t.Errorf("got %d %s, want %d", rec.Code, rec.Body, want)
				}
				for name, values := range rec.Header() {
					if strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") || name == "X-Injected" {
						t.Errorf("header %s: %q", name, values)
					}
				}
				var body map[string]any
				if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
					t.Fatalf("the answer is no JSON: %q", rec.Body)
				}
				description, _ := body["error_description"].(string)
				for _, r := range description {
					if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
						t.Errorf("description %q has %q, which RFC 6749 does not allow there", description, r)
					}
				}
				if parameter != "foo" && body["access_token"] != nil {
					t.Errorf("got a token: %s", rec.Body)
				}
				log := w.log.String()
				if strings.Count(log, "\n") != 1 || len(w.lines()) != 1 {
					t.Errorf("got %q, want one line", log)
				}
				for _, piece := range []string{"X-Injected", "\x1b", "[2Jy", "\\u0000", "\u202e", "access_token\\\":"} {
					if strings.Contains(log, piece) {
						t.Errorf("the log has %q: %s", piece, log)
					}
				}
			})
		}
	}
}

// TestFormsOnTheWire are requests that no client library would send.
//
// Covers: TX-30
func TestFormsOnTheWire(t *testing.T) {
	w := newWorld(t, nil)
	credentials := base64.StdEncoding.EncodeToString([]byte(mcpServer + ":" + mcpSecret))
	form := w.form(nil).Encode()
	for _, tc := range []struct {
		name    string
		headers string // without those for the body, where body is set
		body    string
		length  int // of the body as announced; 0 for its own, -1 for chunks
		status  int
		text    string // of the description; empty for success
	}{
		{name: "usual", body: form, status: 200},
		{name: "chunks", body: form, length: -1, status: 200},
		{name: "charset", headers: "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n", body: form, status: 200},
		{name: "media type in capitals", headers: "Content-Type: Application/X-WWW-Form-URLEncoded\r\n", body: form, status: 200},
		{name: "blank lines as unknown parameters", body: form + "&&&=&foo&bar=", status: 200},
		{name: "RejectsTwoContentTypes", headers: "Content-Type: application/x-www-form-urlencoded\r\nContent-Type: text/plain\r\n", body: form, status: 400, text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "RejectsMultipart", headers: "Content-Type: multipart/form-data; boundary=x\r\n", body: "--x--", status: 400, text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "RejectsText", headers: "Content-Type: text/plain\r\n", body: form, status: 400, text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "RejectsBrokenMediaType", headers: "Content-Type: application/x-www-form-urlencoded; =\r\n", body: form, status: 400, text: "expected Content-Type application/x-www-form-urlencoded"},
		{name: "RejectsOversizeByLength", body: strings.Repeat("a", 64<<10+1), status: 413, text: "expected a body of at most 65536 bytes"},
		{name: "RejectsOversizeInChunks", body: strings.Repeat("a", 64<<10+1), length: -1, status: 413, text: "expected a body of at most 65536 bytes"},
		{name: "RejectsHugeLengthWithoutReadingIt", body: form, length: 1 << 40, status: 413, text: "expected a body of at most 65536 bytes"},
		{name: "RejectsTruncatedBody", body: form, length: len(form) + 1, status: 400, text: "expected a whole body, got a part of it"},
		{name: "RejectsManyParameters", body: form + strings.Repeat("&a", 20_000), status: 400, text: "expected a body of form-encoded parameters separated by &"},
		{name: "RejectsSemicolons", body: strings.ReplaceAll(form, "&", ";"), status: 400, text: "expected a body of form-encoded parameters separated by &"},
		{name: "RejectsBadEscape", body: form + "&x=%zz", status: 400, text: "expected a body of form-encoded parameters separated by &"},
		{name: "RejectsEmptyBody", body: "", status: 400, text: "parameter 'grant_type' is missing: expected 'urn:ietf:params:oauth:grant-type:token-exchange'"},
		{name: "RejectsRepetitionInOtherEncoding", body: form + "&subject%5Ftoken=x", status: 400, text: "parameter 'subject_token': expected once, got it repeatedly"},
		{name: "RejectsRepetitionWithoutValue", body: form + "&scope=", status: 400, text: "parameter 'scope': expected once, got it repeatedly"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if tc.headers == "" {
				tc.headers = "Content-Type: application/x-www-form-urlencoded\r\n"
			}
			body, length := tc.body, tc.length
			if length == 0 {
				length = len(tc.body)
			}
			announced := fmt.Sprintf("Content-Length: %d", length)
			if length < 0 {
				announced = "Transfer-Encoding: chunked"
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(tc.body), tc.body)
			}
			head := fmt.Sprintf("POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\n%s%s\r\n\r\n", credentials, tc.headers, announced)
			if _, err := io.WriteString(conn, head+body); err != nil {
				t.Fatal(err)
			}
			if tc.length > len(tc.body) && tc.length < 1<<16 {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			var got struct {
				Token       string `json:"access_token"`
				Description string `json:"error_description"`
			}
			if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tc.status || got.Description != tc.text || (got.Token != "") != (tc.status == 200) {
				t.Errorf("got  %d %+v\nwant %d %s", res.StatusCode, got, tc.status, tc.text)
			}
		})
	}
}

// TestEveryParameterOnce: none but resource and audience may be repeated, whatever its name,
// even with the same value.
//
// Covers: TX-30
func TestEveryParameterOnce(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{
		"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "scope", "requested_token_type",
		"client_id", "client_secret", "client_assertion", "client_assertion_type", "tool", "foo",
	} {
		form := w.form(nil)
		value := form.Get(name)
		if value == "" {
			value = "x"
		}
		form[name] = []string{value, value}
		if a := w.post(form); a.status != 400 || a.err.Description != "parameter '"+name+"': expected once, got it repeatedly" {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
}

// TestClocksFiveMinutesApart: nothing is issued that the gateway would call dead, and what is
// refused says which way the clocks differ.
func TestClocksFiveMinutesApart(t *testing.T) {
	const subject = "subject_token was not accepted: "
	for _, tc := range []struct {
		name    string
		gateway time.Duration // how far its clock is ahead of ours
		life    time.Duration
		text    string // empty: granted
		expires int64
	}{
		{name: "gateway ahead", gateway: 5 * time.Minute, life: 5 * time.Minute, text: subject + "expected a token issued in the past, got iat 5m0s ahead; compare the clocks (TOKEN_EXCHANGE_SUBJECT_ISSUER, subject_audience of callers.mcp-server)"},
		{name: "gateway behind", gateway: -5 * time.Minute, life: 5 * time.Minute, text: subject + "expected a token that has not expired; compare the clocks of gateway and sidecar if it should not have"},
		{name: "gateway further behind", gateway: -6 * time.Minute, life: 5 * time.Minute, text: subject + "expected a token that has not expired, got exp 1m0s before now; compare the clocks if it should not have (TOKEN_EXCHANGE_SUBJECT_ISSUER, subject_audience of callers.mcp-server)"},
		{name: "gateway behind with a long life", gateway: -5 * time.Minute, life: 7 * time.Minute, expires: 120},
		{name: "gateway a little ahead", gateway: 20 * time.Second, life: time.Minute, expires: 80},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			var end time.Time
			a := w.post(w.form(func(f url.Values) {
				f.Set("subject_token", w.mint(func(k *keyring.Token) {
					k.IssuedAt = w.now().Add(tc.gateway)
					k.Expiry = k.IssuedAt.Add(tc.life)
					end = k.Expiry
				}))
			}))
			if tc.text != "" {
				if a.status != 400 || a.err.Code != "invalid_request" || a.err.Description != tc.text {
					t.Errorf("got  %d %s\nwant %s", a.status, a.body, tc.text)
				}
				return
			}
			if a.status != 200 || a.ok.ExpiresIn != tc.expires {
				t.Fatalf("got %d %s, want a token for %d s", a.status, a.body, tc.expires)
			}
			if exp := int64(claimsOf(t, a.ok.AccessToken)["exp"].(float64)); exp > end.Unix() {
				t.Errorf("exp %d is after that of the subject token, %d", exp, end.Unix())
			}
		})
	}
}

// TestRejectsSubjectThatExpiresDuringTheDecision: it was good when the request came, and the
// answer comes too late for it.
//
// Covers: TX-41
func TestRejectsSubjectThatExpiresDuringTheDecision(t *testing.T) {
	asked, proceed := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(w *world, p *parts) { p.exchange.Subject.Keys = slowKeys{w.gateway, asked, proceed} })
	form := w.form(func(f url.Values) {
		f.Set("subject_token", w.mint(func(k *keyring.Token) { k.Expiry = w.now().Add(5 * time.Second) }))
	})
	got := make(chan answer, 1)
	go func() { got <- w.post(form) }()
	<-asked
	w.advance(5 * time.Second)
	close(proceed)
	if a := <-got; a.status != 400 || a.err.Code != "invalid_request" || !strings.HasPrefix(a.err.Description, "subject_token was not accepted: expected a token that") {
		t.Errorf("got %d %s, want 400 invalid_request", a.status, a.body)
	}
}

// TestManyScopesAreCheap: the longest list of scopes that fits is refused without work that
// grows with its square.
func TestManyScopesAreCheap(t *testing.T) {
	var scopes []string
	for i := range 1000 {
		scopes = append(scopes, fmt.Sprintf("s%d", i))
	}
	w := newWorld(t, nil)
	a := w.post(w.form(func(f url.Values) { f.Set("scope", strings.Join(scopes, " ")) }))
	if a.status != 400 || a.err.Code != "invalid_scope" || len(a.err.Description) > 512 {
		t.Errorf("got %d %s, want 400 invalid_scope", a.status, a.body)
	}
	line := w.lines()[0]
	if asked, _ := line["scope_asked"].([]any); len(asked) != 1 || asked[0] != "unknown" {
		t.Errorf("audit line: got %v, want one unknown scope", line["scope_asked"])
	}
}
