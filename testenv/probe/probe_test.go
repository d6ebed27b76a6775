package probe_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/testenv/probe"
)

// judged is a test that is watched: it notes failures and does not fail.
type judged struct {
	testing.TB
	failures []string
}

func (j *judged) Helper() {}

func (j *judged) Errorf(format string, args ...any) {
	j.failures = append(j.failures, fmt.Sprintf(format, args...))
}

func TestWants(t *testing.T) {
	with := func(status int, header ...string) probe.Answer {
		a := probe.Answer{Status: status, Header: http.Header{}}
		for i := 0; i+1 < len(header); i += 2 {
			a.Header.Set(header[i], header[i+1])
		}
		return a
	}
	challenge := `Bearer error="invalid_token", resource_metadata="https://gw.example.com/x"`
	for _, tt := range []struct {
		name   string
		answer probe.Answer
		want   func(testing.TB, probe.Answer)
		ok     bool
	}{
		{"Invalid", with(401, "WWW-Authenticate", challenge), probe.WantInvalidToken, true},
		{"InvalidWithoutError", with(401, "WWW-Authenticate", "Bearer"), probe.WantInvalidToken, false},
		{"InvalidAsTrouble", with(503, "WWW-Authenticate", challenge), probe.WantInvalidToken, false},
		{"Trouble", with(503, "Retry-After", "5"), probe.WantTrouble, true},
		{"TroubleWithoutTime", with(503), probe.WantTrouble, false},
		{"TroubleWithChallenge", with(503, "Retry-After", "5", "WWW-Authenticate", challenge), probe.WantTrouble, false},
		{"TroubleAs401", with(401, "Retry-After", "5"), probe.WantTrouble, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &judged{TB: t}
			tt.want(j, tt.answer)
			if (len(j.failures) == 0) != tt.ok {
				t.Errorf("got failures %q, want none: %t", j.failures, tt.ok)
			}
		})
	}
}

func TestCallerAndUpstream(t *testing.T) {
	u := probe.NewUpstream(t)
	c := probe.NewCaller(t)
	if _, n := u.Last(); n != 0 {
		t.Errorf("before: got %d requests, want none", n)
	}
	a := c.AskMCP(t, u.URL(), "the token")
	if token, n := u.Last(); a.Status != http.StatusNoContent || token != "the token" || n != 1 {
		t.Errorf("got status %d, token %q, %d requests; want 204, the token, 1", a.Status, token, n)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		_, _ = fmt.Fprintf(w, `{"name": %q, "accept": %q, "number": 1}`, r.FormValue("name"), r.Header.Get("Accept"))
	}))
	t.Cleanup(server.Close)
	a = c.Post(t, server.URL, url.Values{"name": {"John"}}, "Accept", "application/json")
	if a.Text("name") != "John" || a.Text("accept") != "application/json" || a.Text("number") != "" || a.Object()["number"] != 1.0 {
		t.Errorf("got %s, want what was sent", a.Body)
	}
	if a = c.Do(t, http.MethodGet, server.URL+"/away", ""); a.Status != http.StatusFound || a.Object() != nil {
		t.Errorf("got status %d, want the redirect itself", a.Status)
	}
}

func TestLogAndTail(t *testing.T) {
	log := &strings.Builder{}
	log.WriteString("level=WARN msg=old\n")
	after := log.Len()
	log.WriteString("level=WARN msg=\"request not decided\"\n")
	j := &judged{TB: t}
	probe.WantLog(j, log, after, "WARN", "not decided")
	if len(j.failures) > 0 {
		t.Errorf("got %q, want none", j.failures)
	}
	if got := probe.Tail(strings.Repeat("line\n", 40) + "last\n"); strings.Count(got, "\n") != 29 || !strings.HasSuffix(got, "last") {
		t.Errorf("got %q, want the last 30 lines", got)
	}
}

func TestDecode(t *testing.T) {
	header, claims := probe.Decode(t, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqb2huIn0.")
	if header["alg"] != "none" || claims["sub"] != "john" {
		t.Errorf("got %v, %v; want alg none, sub john", header, claims)
	}
}
