package tokenexchange_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

const incomingToken = "incoming-token-of-john-0123456789"

// seen is what a server received.
type seen struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func (s *seen) note(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
}

// authorizations are the Authorization fields that came, in order.
func (s *seen) authorizations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.requests {
		out = append(out, strings.Join(r.Header.Values("Authorization"), "|"))
	}
	return out
}

// server notes requests and answers them with h; with 204 if h is nil.
func server(t testing.TB, h http.HandlerFunc) (*httptest.Server, *seen) {
	t.Helper()
	s := new(seen)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		// Whatever the test is about: the incoming token must be nowhere.
		var dump bytes.Buffer
		fmt.Fprint(&dump, r.RequestURI, r.Header)
		if strings.Contains(dump.String(), incomingToken) {
			t.Errorf("the incoming token was sent: %s", &dump)
		}
		if h == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv, s
}

// forAudience issues "for-<audience>-<call>".
func forAudience(n int64, w http.ResponseWriter, r *http.Request) {
	answer(200, "application/json", success(fmt.Sprintf("for-%s-%d", strings.Join(r.PostForm["audience"], "+"), n), `,"expires_in":300`))(w, r)
}

// exchanging is an http.Client with a Transport.
func exchanging(t testing.TB, clk *clock, sts *counter, cfg tokenexchange.TransportConfig) *http.Client {
	t.Helper()
	if sts.answer == nil {
		sts.answer = func(n int64, w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			forAudience(n, w, r)
		}
	}
	cfg.Client = newCachingClient(t, clk, sts, nil)
	transport, err := tokenexchange.NewTransport(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func withToken(t testing.TB) context.Context {
	return tokenexchange.WithToken(t.Context(), incomingToken)
}

func request(t testing.TB, ctx context.Context, method, target string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send returns the status, or 0 and the error.
func send(t testing.TB, client *http.Client, r *http.Request) (int, error) {
	t.Helper()
	res, err := client.Do(r)
	if err != nil {
		if strings.Contains(err.Error(), incomingToken) {
			t.Errorf("the error has the token: %v", err)
		}
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(res.Request.Header, res.Request.URL); strings.Contains(got, "for-") {
		t.Errorf("the response leads to the exchanged token: %s", got)
	}
	return res.StatusCode, nil
}

// TestTransportExchangesPerTarget: each API gets a token for itself, whatever the program
// put into Authorization, and its own request is left alone.
//
// Covers: TX-17
func TestTransportExchangesPerTarget(t *testing.T) {
	api, got := server(t, nil)
	other, gotOther := server(t, nil)
	sts := &counter{}
	client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{
		{URL: api.URL, Audience: []string{"api"}},
		{URL: api.URL + "/orders/", Audience: []string{"orders"}},
		{URL: strings.ToUpper(other.URL[:4]) + other.URL[4:], Audience: []string{"other"}},
	}})
	for _, path := range []string{"/", "", "/stocks", "/ordersX", "/orders", "/orders/", "/orders/5?x=.."} {
		r := request(t, withToken(t), "GET", api.URL+path, nil)
		r.Header.Set("Authorization", "Bearer "+incomingToken)
		r.Header["authorization"] = []string{"Bearer " + incomingToken}
		if status, err := send(t, client, r); status != 204 {
			t.Errorf("%s: got %d, %v", path, status, err)
		}
		if r.Header.Get("Authorization") != "Bearer "+incomingToken {
			t.Error("the caller's request was changed")
		}
	}
	if status, err := send(t, client, request(t, withToken(t), "GET", other.URL, nil)); status != 204 {
		t.Errorf("got %d, %v", status, err)
	}
	want := []string{"for-api-1", "for-api-1", "for-api-1", "for-api-1", "for-orders-2", "for-orders-2", "for-orders-2"}
	for i, a := range append(got.authorizations(), gotOther.authorizations()...) {
		if want := append(want, "for-other-3")[i]; a != "Bearer "+want {
			t.Errorf("request %d: got %q, want Bearer %s", i, a, want)
		}
	}
}

// TestTransportFailsClosed: nothing is sent when there is no token for the target.
//
// Covers: TX-17
func TestTransportFailsClosed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ctx    func(*testing.T) context.Context
		answer http.HandlerFunc
		want   func(error) bool
	}{
		{name: "no token", ctx: func(t *testing.T) context.Context { return t.Context() },
			want: func(err error) bool { return errors.Is(err, tokenexchange.ErrNoToken) }},
		{name: "empty token", ctx: func(t *testing.T) context.Context { return tokenexchange.WithToken(t.Context(), "") },
			want: func(err error) bool { return errors.Is(err, tokenexchange.ErrNoToken) }},
		{name: "refused", ctx: func(t *testing.T) context.Context { return withToken(t) }, answer: answer(400, "application/json", `{"error":"invalid_target"}`),
			want: func(err error) bool {
				e := (*tokenexchange.Error)(nil)
				return errors.As(err, &e) && e.Code == "invalid_target"
			}},
		{name: "unavailable", ctx: func(t *testing.T) context.Context { return withToken(t) }, answer: answer(503, "text/plain", ""),
			want: func(err error) bool { return errors.Is(err, tokenexchange.ErrUnavailable) }},
		{name: "the token itself comes back", ctx: func(t *testing.T) context.Context { return withToken(t) }, answer: answer(200, "application/json", success(incomingToken, "")),
			want: func(err error) bool { return errors.Is(err, tokenexchange.ErrUnacceptable) }},
		{name: "malformed token", ctx: func(t *testing.T) context.Context { return tokenexchange.WithToken(t.Context(), "a\r\nb") },
			want: func(err error) bool { e := (*tokenexchange.Error)(nil); return errors.As(err, &e) && e.Status == 0 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api, got := server(t, nil)
			sts := &counter{}
			if tc.answer != nil {
				sts.answer = func(_ int64, w http.ResponseWriter, r *http.Request) { tc.answer(w, r) }
			}
			client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
			body := &closed{Reader: strings.NewReader("body")}
			if _, err := send(t, client, request(t, tc.ctx(t), "POST", api.URL, body)); err == nil || !tc.want(err) {
				t.Errorf("got error %v", err)
			}
			if n := len(got.authorizations()); n != 0 || !body.closed.Load() {
				t.Errorf("%d requests sent, body closed: %v; want none, closed", n, body.closed.Load())
			}
		})
	}
}

type closed struct {
	io.Reader
	closed atomic.Bool
}

func (c *closed) Close() error {
	c.closed.Store(true)
	return nil
}

// TestTokenIsNotSentToUnlistedHost, nor to what only looks like a target.
//
// Covers: TX-20
func TestTokenIsNotSentToUnlistedHost(t *testing.T) {
	api, got := server(t, nil)
	other, gotOther := server(t, nil)
	host := strings.TrimPrefix(api.URL, "http://")
	for _, tc := range []struct {
		name   string
		url    string
		change func(*http.Request)
	}{
		{name: "another host", url: other.URL},
		{name: "another path", url: api.URL + "/v2"},
		{name: "path that begins alike", url: api.URL + "/v1x"},
		{name: "user information", url: "http://" + host + "@" + strings.TrimPrefix(other.URL, "http://") + "/v1"},
		{name: "RejectsDotSegments", url: api.URL + "/v1/../v2"},
		{name: "RejectsEncodedDotSegments", url: api.URL + "/v1/%2e%2E/v2"},
		{name: "RejectsDotSegmentsEncodedTwice", url: api.URL + "/v1/%252e%252e/v2"},
		{name: "RejectsDotSegmentsWithEncodedSlash", url: api.URL + "/v1/..%2fv2"},
		{name: "RejectsDotSegmentsWithBackslash", url: api.URL + `/v1/..%5cv2`},
		{name: "RejectsDotSegmentsWithParameter", url: api.URL + `/v1/..;x=y/v2`},
		{name: "RejectsDotSegmentsEncodedOften", url: api.URL + "/v1/%25252525252e%25252525252e/v2"},
		{name: "RejectsDotSegmentsBesideLonePercent", url: api.URL + "/v1/%252e%252e/100%25"},
		{name: "RejectsEncodedSlashForSegment", url: api.URL + "/v1%2fx"},
		{name: "RejectsOtherHostField", url: api.URL + "/v1", change: func(r *http.Request) { r.Host = "victim.example" }},
		{name: "RejectsOpaqueURL", url: api.URL + "/v1", change: func(r *http.Request) { r.URL.Opaque = "//" + host + "/v2" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := tokenexchange.Target{URL: api.URL + "/v1", Audience: []string{"api"}}
			make := func(client *http.Client) (int, error) {
				r := request(t, withToken(t), "GET", tc.url, nil)
				r.Header.Set("Authorization", "Bearer "+incomingToken)
				if tc.change != nil {
					tc.change(r)
				}
				return send(t, client, r)
			}
			sts := &counter{}
			client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{target}})
			before := len(got.authorizations()) + len(gotOther.authorizations())
			if _, err := make(client); !errors.Is(err, tokenexchange.ErrNoTarget) {
				t.Errorf("got %v, want ErrNoTarget", err)
			}
			if n := len(got.authorizations()) + len(gotOther.authorizations()) - before; n != 0 {
				t.Errorf("%d requests were sent, want none", n)
			}
			client = exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{target}, PassOthers: true})
			if status, err := make(client); err != nil {
				t.Errorf("with PassOthers: got %d, %v", status, err)
			}
			for _, a := range append(got.authorizations(), gotOther.authorizations()...) {
				if a != "" {
					t.Errorf("with PassOthers: sent Authorization %q, want none", a)
				}
			}
			sts.called(t, 0)
		})
	}
}

// TestLookAlikeHostGetsNoToken: strings.ToLower makes an ASCII i of U+0130 and a k of the
// Kelvin sign, and net/http asks for the punycode name. Neither the name itself nor a
// redirect to it is the target, and a target is not written like that.
//
// Covers: TX-20
func TestLookAlikeHostGetsNoToken(t *testing.T) {
	for _, host := range []string{"ap\u0130.kiosk.example", "api.\u212aiosk.example", "\uff41pi.kiosk.example", "ap%C4%B0.kiosk.example"} {
		sts := &counter{}
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "api.kiosk.example" {
				t.Errorf("sent to %q", r.URL.Host)
			}
			return &http.Response{StatusCode: 307, Header: http.Header{"Location": {"https://" + host + "/steal"}}, Body: http.NoBody}, nil
		})
		target := tokenexchange.Target{URL: "https://api.kiosk.example", Audience: []string{"api"}}
		client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Base: base, Targets: []tokenexchange.Target{target}})
		for _, first := range []string{"https://" + host + "/x", "https://api.kiosk.example/x"} {
			if _, err := send(t, client, request(t, withToken(t), "GET", first, nil)); !errors.Is(err, tokenexchange.ErrNoTarget) {
				t.Errorf("%s: got %v, want ErrNoTarget", first, err)
			}
		}
		r := request(t, withToken(t), "GET", "https://api.kiosk.example/x", nil)
		r.Host = host
		if _, err := send(t, client, r); !errors.Is(err, tokenexchange.ErrNoTarget) {
			t.Errorf("Host %s: got %v, want ErrNoTarget", host, err)
		}
		sts.called(t, 1) // for the request that was redirected

		target.URL = "https://" + host
		if _, err := tokenexchange.NewTransport(tokenexchange.TransportConfig{Client: newCachingClient(t, newClock(), sts, nil), Targets: []tokenexchange.Target{target}}); err == nil || !strings.Contains(err.Error(), "expected a host in ASCII") {
			t.Errorf("target %s: got %v, want it refused", host, err)
		}
	}
}

// TestNestedPercentIsLinear: the argument of a user that is encoded over and over. By the
// time that a decoding of all of it would take, with four times as much for twice the
// length, this test would not end.
func TestNestedPercentIsLinear(t *testing.T) {
	api, _ := server(t, nil)
	client := exchanging(t, newClock(), &counter{}, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
	symbol := "%" + strings.Repeat("25", 4<<20)
	if _, err := send(t, client, request(t, withToken(t), "GET", api.URL+"/stocks/"+symbol, nil)); !errors.Is(err, tokenexchange.ErrNoTarget) {
		t.Errorf("got %v, want ErrNoTarget", err)
	}
	// What means something stays: a percent sign, and what looks like an encoded one.
	for _, symbol := range []string{"100%", "50%25off", "a%2fb"} {
		if status, err := send(t, client, request(t, withToken(t), "GET", api.URL+"/stocks/"+url.PathEscape(symbol), nil)); status != 204 {
			t.Errorf("%s: got %d, %v, want it sent", symbol, status, err)
		}
	}
}

// Covers: TX-20
func TestTokenIsNotSentOverPlainHTTPToAnHTTPSTarget(t *testing.T) {
	sts := &counter{}
	for _, target := range []string{"http://api.example/", "https://api.example:8443/", "http://api.example:443/"} {
		base := roundTripper(func(*http.Request) (*http.Response, error) {
			t.Errorf("%s: sent", target)
			return nil, errors.New("no network")
		})
		client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Base: base, Targets: []tokenexchange.Target{{URL: "https://api.example", Audience: []string{"api"}}}})
		if _, err := send(t, client, request(t, withToken(t), "GET", target, nil)); !errors.Is(err, tokenexchange.ErrNoTarget) {
			t.Errorf("%s: got %v, want ErrNoTarget", target, err)
		}
	}
	sts.called(t, 0)
	sent := 0
	base := roundTripper(func(*http.Request) (*http.Response, error) { sent++; return nil, errors.New("no network") })
	client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Base: base, Targets: []tokenexchange.Target{{URL: "https://api.example", Audience: []string{"api"}}}})
	for _, target := range []string{"https://api.example", "https://API.example:443/x"} {
		if _, err := send(t, client, request(t, withToken(t), "GET", target, nil)); errors.Is(err, tokenexchange.ErrNoTarget) {
			t.Errorf("%s: got %v, want it sent", target, err)
		}
	}
	if sent != 2 {
		t.Errorf("sent %d, want 2", sent)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRedirectToOtherHostCarriesNoToken, be it unlisted or a target of its own: the first API
// must not choose what is done at the second in the user's name.
//
// Covers: TX-20
func TestRedirectToOtherHostCarriesNoToken(t *testing.T) {
	unlisted, gotUnlisted := server(t, nil)
	second, gotSecond := server(t, nil)
	first, gotFirst := server(t, func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
		}
	})
	hop, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, second.URL+"/orders", http.StatusTemporaryRedirect)
	})
	for _, pass := range []bool{false, true} {
		sts := &counter{}
		client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{PassOthers: pass, Targets: []tokenexchange.Target{
			{URL: first.URL, Audience: []string{"first"}}, {URL: second.URL, Audience: []string{"second"}},
		}})
		for _, to := range []string{unlisted.URL, second.URL + "/orders", hop.URL} {
			status, err := send(t, client, request(t, withToken(t), "POST", first.URL+"?to="+url.QueryEscape(to), strings.NewReader("order")))
			if pass && err != nil || !pass && !errors.Is(err, tokenexchange.ErrNoTarget) {
				t.Errorf("to %s, PassOthers %v: got %d, %v", to, pass, status, err)
			}
		}
		// A place that is no target must not lead to one either.
		if pass {
			if _, err := send(t, client, request(t, withToken(t), "GET", hop.URL, nil)); err != nil {
				t.Error(err)
			}
		}
		for _, a := range append(gotUnlisted.authorizations(), gotSecond.authorizations()...) {
			if a != "" {
				t.Errorf("PassOthers %v: a redirect carried Authorization %q", pass, a)
			}
		}
		sts.called(t, 1)
		if status, err := send(t, client, request(t, withToken(t), "GET", first.URL+"?to=/here", nil)); status != 200 {
			t.Errorf("within the target: got %d, %v, want 200", status, err)
		}
	}
	if all := gotFirst.authorizations(); slices.Contains(all, "") {
		t.Errorf("at the target: got %q, want a token each time", all)
	}
}

// TestTransportRefusesCopiesOfTheIncomingToken: a program that copies headers.
//
// Covers: TX-17
func TestTransportRefusesCopiesOfTheIncomingToken(t *testing.T) {
	const opaque = "opaque+token/of=john+0123456789=="
	api, got := server(t, nil)
	for _, tc := range []struct {
		name   string
		token  string // incomingToken when empty
		change func(*http.Request)
		want   string
	}{
		{name: "forwarded", change: func(r *http.Request) { r.Header.Set("X-Forwarded-Authorization", "Bearer "+incomingToken) }, want: "X-Forwarded-Authorization"},
		{name: "proxy", change: func(r *http.Request) { r.Header.Set("Proxy-Authorization", "Bearer "+incomingToken) }, want: "Proxy-Authorization"},
		{name: "cookie", change: func(r *http.Request) { r.Header.Set("Cookie", "a=b; token="+incomingToken) }, want: "Cookie"},
		{name: "query", change: func(r *http.Request) { r.URL.RawQuery = "access_token=" + incomingToken }, want: "URL"},
		{name: "path", change: func(r *http.Request) { r.URL.Path = "/" + incomingToken }, want: "URL"},
		{name: "trailer", change: func(r *http.Request) { r.Trailer = http.Header{"X-Token": {incomingToken}} }, want: "X-Token"},
		{name: "EncodedTokenInQuery", token: opaque, change: func(r *http.Request) { r.URL.RawQuery = url.Values{"t": {opaque}}.Encode() }, want: "URL"},
		{name: "EncodedTokenInCookie", token: opaque, change: func(r *http.Request) { r.Header.Set("Cookie", "t="+url.QueryEscape(opaque)) }, want: "Cookie"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := exchanging(t, newClock(), &counter{}, tokenexchange.TransportConfig{PassOthers: true, Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
			token := cmp.Or(tc.token, incomingToken)
			r := request(t, tokenexchange.WithToken(t.Context(), token), "GET", api.URL, nil)
			tc.change(r)
			_, err := client.Transport.RoundTrip(r)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), token) {
				t.Errorf("got %v, want an error that names %s and not the token", err, tc.want)
			}
		})
	}
	if n := len(got.authorizations()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
}

// TestTransportTriesOnceMoreAfter401 with a new token, if the body can be sent again.
//
// Covers: TX-18
func TestTransportTriesOnceMoreAfter401(t *testing.T) {
	for _, tc := range []struct {
		name     string
		refuse   func(token string) bool // by the API
		sts      func(n int64, w http.ResponseWriter, r *http.Request)
		body     func() io.Reader
		young    bool // the token was issued just now
		want     int
		wantSent []string
	}{
		{name: "revoked", refuse: isToken("for-api-1"), want: 200, wantSent: []string{"for-api-1", "for-api-1", "for-api-2"}},
		{name: "revoked, with a body", refuse: isToken("for-api-1"), body: func() io.Reader { return strings.NewReader("body") },
			want: 200, wantSent: []string{"for-api-1", "for-api-1", "for-api-2"}},
		{name: "streamed body", refuse: isToken("for-api-1"), body: func() io.Reader { return io.MultiReader(strings.NewReader("body")) },
			want: 401, wantSent: []string{"for-api-1", "for-api-1"}},
		{name: "whatever token", refuse: func(string) bool { return true }, want: 401, wantSent: []string{"for-api-1", "for-api-1", "for-api-2"}},
		{name: "token of just now", refuse: func(string) bool { return true }, young: true, want: 401, wantSent: []string{"for-api-1", "for-api-1"}},
		{name: "no other token", refuse: isToken("for-api-1"), sts: func(n int64, w http.ResponseWriter, r *http.Request) {
			if n > 1 {
				answer(503, "text/plain", "")(w, r)
				return
			}
			r.ParseForm()
			forAudience(n, w, r)
		}, want: 401, wantSent: []string{"for-api-1", "for-api-1"}},
		{name: "the same token again", refuse: isToken("same"), sts: func(n int64, w http.ResponseWriter, r *http.Request) {
			answer(200, "application/json", success("same", `,"expires_in":300`))(w, r)
		}, want: 401, wantSent: []string{"same", "same"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clk, sts := newClock(), &counter{answer: tc.sts}
			refusing := false
			api, got := server(t, func(w http.ResponseWriter, r *http.Request) {
				if refusing && tc.refuse(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
					w.WriteHeader(401)
					io.WriteString(w, strings.Repeat("no", 1000))
				}
			})
			client := exchanging(t, clk, sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
			if status, err := send(t, client, request(t, withToken(t), "GET", api.URL, nil)); status != 200 {
				t.Fatalf("before: got %d, %v", status, err)
			}
			refusing = true
			if !tc.young {
				clk.step(time.Minute)
			}
			var body io.Reader
			if tc.body != nil {
				body = tc.body()
			}
			if status, err := send(t, client, request(t, withToken(t), "POST", api.URL, body)); status != tc.want || err != nil {
				t.Errorf("got %d, %v, want %d", status, err, tc.want)
			}
			sent := got.authorizations()
			for i := range sent {
				sent[i] = strings.TrimPrefix(sent[i], "Bearer ")
			}
			if !slices.Equal(sent, tc.wantSent) {
				t.Errorf("tokens at the API: got %q, want %q", sent, tc.wantSent)
			}
			for i, b := range got.bodies[1:] {
				if tc.body != nil && b != "body" {
					t.Errorf("body %d: got %q", i, b)
				}
			}
		})
	}
}

func isToken(refused string) func(string) bool {
	return func(token string) bool { return token == refused }
}

// TestHeaderInjectionThroughAudienceAndScope: what a configuration or a program passes on
// must not become a second parameter, field or request.
func TestHeaderInjectionThroughAudienceAndScope(t *testing.T) {
	sts := &counter{}
	client := newCachingClient(t, newClock(), sts, nil)
	var forms []url.Values
	sts.answer = func(_ int64, w http.ResponseWriter, r *http.Request) {
		forms = append(forms, formOf(t, r))
		if r.Header.Get("X-Evil") != "" {
			t.Error("a header was injected")
		}
		answer(200, "application/json", success("t", ""))(w, r)
	}
	for _, evil := range []string{"a&scope=admin", "a\r\nX-Evil: 1", "a\r\n\r\nPOST / HTTP/1.1", "a%26scope%3Dadmin", "a;scope=admin", "é\x00"} {
		exchange(t, client, tokenexchange.Request{SubjectToken: "s", Audience: []string{evil}}, "t")
		if form := forms[len(forms)-1]; !slices.Equal(form["audience"], []string{evil}) || form.Has("scope") {
			t.Errorf("%q: the endpoint read %v", evil, form)
		}
		for name, req := range map[string]tokenexchange.Request{
			"scope":    {SubjectToken: "s", Scope: []string{"a b\r\nX-Evil: 1"}},
			"resource": {SubjectToken: "s", Resource: []string{"https://a\r\nX-Evil: 1"}},
			"type":     {SubjectToken: "s", RequestedTokenType: "a\r\nX-Evil: 1"},
		} {
			if _, err := client.Exchange(t.Context(), req); err == nil {
				t.Errorf("%s with a line break was sent", name)
			}
		}
	}
	// A token with a line break never becomes a field either: the answer is refused.
	sts.answer = func(_ int64, w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success("t\r\nX-Evil: 1", ""))(w, r)
	}
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s2"}); !errors.Is(err, tokenexchange.ErrUnacceptable) {
		t.Errorf("got %v, want ErrUnacceptable", err)
	}
}

// TestTraceContextIsPassedOn to the API and to the token endpoint, well-formed and once.
func TestTraceContextIsPassedOn(t *testing.T) {
	const parent, own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
	for _, tc := range []struct {
		name       string
		in         http.Header
		own        string // of the outgoing request
		wantParent string
		wantState  string
	}{
		{name: "both", in: http.Header{"Traceparent": {parent}, "Tracestate": {"a=1", "b=2"}}, wantParent: parent, wantState: "a=1,b=2"},
		{name: "parent only", in: http.Header{"Traceparent": {parent}}, wantParent: parent},
		{name: "version to come", in: http.Header{"Traceparent": {"01" + parent[2:] + "-more"}}, wantParent: "01" + parent[2:] + "-more"},
		{name: "the request has its own", in: http.Header{"Traceparent": {parent}, "Tracestate": {"a=1"}}, own: own, wantParent: own},
		{name: "state only", in: http.Header{"Tracestate": {"a=1"}}},
		{name: "two parents", in: http.Header{"Traceparent": {parent, own}}},
		{name: "upper case", in: http.Header{"Traceparent": {strings.ToUpper(parent)}}},
		{name: "version ff", in: http.Header{"Traceparent": {"ff" + parent[2:]}}},
		{name: "longer than its version", in: http.Header{"Traceparent": {parent + "-more"}}},
		{name: "nobody's trace", in: http.Header{"Traceparent": {"00-00000000000000000000000000000000-b7ad6b7169203331-01"}}},
		{name: "nobody's span", in: http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}}},
		{name: "line break", in: http.Header{"Traceparent": {parent[:54] + "\n"}}},
		{name: "line break in state", in: http.Header{"Traceparent": {parent}, "Tracestate": {"a=1\r\nX: y"}}, wantParent: parent},
		{name: "endless state", in: http.Header{"Traceparent": {parent}, "Tracestate": {"a=" + strings.Repeat("x", 600)}}, wantParent: parent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api, got := server(t, nil)
			sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
				if want := tc.wantParent; tc.own == "" && r.Header.Get("Traceparent") != want {
					t.Errorf("token endpoint: got traceparent %q, want %q", r.Header.Get("Traceparent"), want)
				}
				answer(200, "application/json", success("t", ""))(w, r)
			}}
			client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
			tc.in.Set("Authorization", "Bearer "+incomingToken)
			r := request(t, tokenexchange.WithHeader(t.Context(), tc.in), "GET", api.URL, nil)
			if tc.own != "" {
				r.Header.Set("Traceparent", tc.own)
			}
			if status, err := send(t, client, r); status != 204 {
				t.Fatalf("got %d, %v", status, err)
			}
			h := got.requests[0].Header
			if h.Get("Traceparent") != tc.wantParent || h.Get("Tracestate") != tc.wantState {
				t.Errorf("API: got %q, %q, want %q, %q", h.Get("Traceparent"), h.Get("Tracestate"), tc.wantParent, tc.wantState)
			}
			sts.called(t, 1)
		})
	}
}

// TestParallelUsersOfOneTransport is for the race detector, too.
//
// Covers: TX-13
func TestParallelUsersOfOneTransport(t *testing.T) {
	api, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if want := "Bearer for-" + r.URL.Query().Get("user"); r.Header.Get("Authorization") != want {
			t.Errorf("got %q, want %q", r.Header.Get("Authorization"), want)
		}
	})
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success("for-"+r.PostFormValue("subject_token"), `,"expires_in":300`))(w, r)
	}}
	client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				user := fmt.Sprintf("user-%d", (g+i)%4)
				ctx := tokenexchange.WithToken(t.Context(), user)
				if status, err := send(t, client, request(t, ctx, "GET", api.URL+"?user="+user, nil)); status != 200 {
					t.Errorf("got %d, %v", status, err)
				}
			}
		})
	}
	wg.Wait()
	if n := sts.calls.Load(); n != 4 {
		t.Errorf("calls: got %d, want one for each user", n)
	}
}

func TestNewTransportRefuses(t *testing.T) {
	client := newClient(t, answer(200, "application/json", ""), nil)
	good := tokenexchange.Target{URL: "https://api.example/v1", Audience: []string{"a"}}
	with := func(change func(*tokenexchange.Target)) []tokenexchange.Target {
		t := good
		change(&t)
		return []tokenexchange.Target{good, t}
	}
	for _, tc := range []struct {
		name string
		cfg  tokenexchange.TransportConfig
		want []string // empty: accepted
	}{
		{name: "one", cfg: tokenexchange.TransportConfig{Client: client, Targets: []tokenexchange.Target{good}}},
		{name: "by resource", cfg: tokenexchange.TransportConfig{Client: client, Targets: []tokenexchange.Target{{URL: "http://127.0.0.1:1", Resource: []string{"https://a.example"}}}}},
		{name: "nothing", cfg: tokenexchange.TransportConfig{}, want: []string{"Client", "Targets"}},
		{name: "twice", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL = "https://API.example:443/v1/" })}, want: []string{"Targets[1]: URL", "twice"}},
		{name: "http", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL = "http://api.example" })}, want: []string{"InsecureAllowHTTP"}},
		{name: "http, named", cfg: tokenexchange.TransportConfig{Client: client, InsecureAllowHTTP: true, Targets: with(func(t *tokenexchange.Target) { t.URL = "http://api.example" })}},
		{name: "no URL", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL = "api.example" })}, want: []string{"Targets[1]: URL: expected the https URL"}},
		{name: "query", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL += "?a" })}, want: []string{"query"}},
		{name: "dots", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL += "/../x" })}, want: []string{"segments"}},
		{name: "no audience", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL, t.Audience = "https://b.example", nil })}, want: []string{"Audience"}},
		{name: "malformed scope", cfg: tokenexchange.TransportConfig{Client: client, Targets: with(func(t *tokenexchange.Target) { t.URL, t.Scope = "https://b.example", []string{"a b"} })}, want: []string{"Targets[1]", "scope"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tokenexchange.NewTransport(tc.cfg)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}
