package egress_test

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
	"phantomtoken/tokenexchange"
)

// stale answers 401 to the first token, after it read the body.
func stale(t *testing.T, bodies chan<- string) *api {
	return newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		if r.Header.Get("Authorization") == "Bearer exchanged-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "second")
	})
}

// Covers: TX-18
func TestRetriesOnceAfter401(t *testing.T) {
	small := strings.Repeat("x", 64<<10)
	for _, test := range []struct {
		name    string
		body    io.Reader
		want    string
		retried bool
	}{
		{name: "no body", body: nil, retried: true},
		{name: "small body", body: strings.NewReader(small), want: small, retried: true},
		{name: "small body of unknown length", body: io.MultiReader(strings.NewReader(small)), want: small, retried: true},
		{name: "large body", body: strings.NewReader(small + "x"), want: small + "x"},
		{name: "large body of unknown length", body: io.MultiReader(strings.NewReader(small + "x")), want: small + "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bodies := make(chan string, 2)
			upstream := stale(t, bodies)
			w := newWorld(t, to(t, upstream.URL))
			got := w.do(t, w.request(t, http.MethodPost, "/x?y", test.body))
			_, evicted := w.tokens.seen()
			if !reflect.DeepEqual(evicted, []string{"exchanged-1"}) {
				t.Errorf("expected exchanged-1 to be evicted, got %q", evicted)
			}
			if o := w.outcome(t); o.Retried != test.retried || o.Result != egress.ResultPassed {
				t.Errorf("expected retried %t, got %+v", test.retried, o)
			}
			if first := <-bodies; first != test.want {
				t.Errorf("expected a body of %d bytes, got %d", len(test.want), len(first))
			}
			if !test.retried {
				passed(t, got, http.StatusUnauthorized)
				if n := len(upstream.seen()); n != 1 {
					t.Errorf("expected 1 request at the API, got %d", n)
				}
				return
			}
			passed(t, got, http.StatusOK)
			if second := <-bodies; second != test.want {
				t.Errorf("expected the same body again, got %d bytes", len(second))
			}
			requests := upstream.seen()
			if len(requests) != 2 || requests[1].Header.Get("Authorization") != "Bearer exchanged-2" || requests[1].RequestURI != "/x?y" {
				t.Errorf("expected a second request with exchanged-2, got %d requests", len(requests))
			}
		})
	}
}

// An API that answers before the body has ended.
//
// Covers: TX-18
func TestDoesNotRetryUnfinishedBody(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = r.Body.Read(make([]byte, 1))
		w.WriteHeader(http.StatusUnauthorized)
	})
	w := newWorld(t, to(t, upstream.URL))
	body, app := io.Pipe()
	go func() { _, _ = io.WriteString(app, "begin") }()
	r := w.request(t, http.MethodPost, "/", body)
	res, err := w.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = app.Close()
	passed(t, read(t, res), http.StatusUnauthorized)
	if n := len(upstream.seen()); n != 1 {
		t.Errorf("expected 1 request at the API, got %d", n)
	}
}

// Covers: TX-18
func TestSecond401IsPassed(t *testing.T) {
	upstream := newAPI(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no")
	})
	w := newWorld(t, to(t, upstream.URL))
	got := w.get(t, "/")
	passed(t, got, http.StatusUnauthorized)
	if got.body != "no" || got.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("expected the answer of the API, got %q with %q", got.body, got.Header.Get("WWW-Authenticate"))
	}
	if calls, evicted := w.tokens.seen(); len(calls) != 2 || len(evicted) != 1 || len(upstream.seen()) != 2 {
		t.Errorf("expected two exchanges, one eviction and two requests, got %d, %d and %d", len(calls), len(evicted), len(upstream.seen()))
	}
}

func TestSameTokenIsNotTriedAgain(t *testing.T) {
	upstream := stale(t, make(chan string, 2))
	w := newWorld(t, to(t, upstream.URL))
	w.tokens.sticky = true
	passed(t, w.get(t, "/"), http.StatusUnauthorized)
	if n := len(upstream.seen()); n != 1 {
		t.Errorf("expected 1 request at the API, got %d", n)
	}
}

// The first 401 is about a token of ours; what the application must know is why there is no
// other.
func TestRefusedSecondExchangeAnswers(t *testing.T) {
	upstream := stale(t, make(chan string, 2))
	w := newWorld(t, to(t, upstream.URL))
	w.tokens.errOnce = tokenexchange.ErrUnavailable
	refused(t, w.get(t, "/"), http.StatusServiceUnavailable, "temporarily_unavailable")
	if o := w.outcome(t); o.Result != egress.ResultUnavailable || o.Status != 503 {
		t.Errorf("expected unavailable with 503, got %+v", o)
	}
}

// The trailer of the first attempt goes with the second.
func TestRetryKeepsTrailer(t *testing.T) {
	trailers := make(chan http.Header, 2)
	upstream := newAPI(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailers <- r.Trailer.Clone()
		if r.Header.Get("Authorization") == "Bearer exchanged-1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	w := newWorld(t, to(t, upstream.URL))
	r := w.request(t, http.MethodPost, "/", io.MultiReader(bytes.NewReader([]byte("hi"))))
	r.Trailer = http.Header{"X-Sum": {"1"}}
	passed(t, w.do(t, r), http.StatusOK)
	for range 2 {
		if got := <-trailers; got.Get("X-Sum") != "1" {
			t.Errorf("expected the trailer X-Sum, got %v", got)
		}
	}
}
