package recorder_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"phantomtoken/testenv/recorder"
)

func TestBothEndsSeeTheSameExchange(t *testing.T) {
	var observed []string
	r := recorder.New(func(e *recorder.Exchange) { observed = append(observed, e.From+"→"+e.To) })
	server := httptest.NewServer(r.Handler("gateway", "server", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(io.LimitReader(req.Body, 100))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(append([]byte("got "), body...))
	})))
	t.Cleanup(server.Close)
	r.Name(strings.TrimPrefix(server.URL, "http://"), "gateway")
	client := &http.Client{Transport: r.Transport("client", server.Client().Transport)}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/a?b=c", strings.NewReader("ping"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Question", "why")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 100))
	_ = res.Body.Close()
	if err != nil || string(body) != "got ping" {
		t.Errorf("body: got %q, %v; want %q", body, err, "got ping")
	}

	got, err := r.Take(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatalf("Take: got %d exchanges, %v; want 2", len(got), err)
	}
	for i, want := range []string{"client→gateway", "gateway→server"} {
		e := got[i]
		if who := e.From + "→" + e.To; who != want {
			t.Errorf("exchange %d: got %s, want %s", i, who, want)
		}
		if e.Method != "POST" || e.URL != server.URL+"/a?b=c" || e.Status != http.StatusTeapot ||
			string(e.RequestBody) != "ping" || string(e.Body) != "got ping" ||
			e.RequestHeader.Get("X-Question") != "why" || e.Header.Get("X-Answer") != "yes" {
			t.Errorf("exchange %d: got %+v", i, e)
		}
	}
	if a, b := got[0], got[1]; a.Began >= b.Began || b.Began >= b.Ended || b.Ended > a.Ended && a.Ended == 0 {
		t.Errorf("order: got %d-%d and %d-%d, want the second to begin within the first", a.Began, a.Ended, b.Began, b.Ended)
	}
	if again, err := r.Take(t.Context()); err != nil || len(again) != 0 {
		t.Errorf("second Take: got %d, %v; want none", len(again), err)
	}
	if len(r.All()) != 2 || len(observed) != 2 {
		t.Errorf("got %d recorded, %d observed; want 2, 2", len(r.All()), len(observed))
	}
}

func TestTakeWaitsForWhatIsUnderWay(t *testing.T) {
	r := recorder.New(nil)
	release, entered := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(r.Handler("a", "b", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})))
	t.Cleanup(server.Close)
	go func() {
		res, err := server.Client().Get(server.URL)
		if err == nil {
			_ = res.Body.Close()
		}
	}()
	<-entered
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Take(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("Take with an exchange under way: got %v, want context.Canceled", err)
	}
	close(release)
	got, err := r.Take(t.Context())
	if err != nil || len(got) != 1 || got[0].Status != http.StatusOK {
		t.Errorf("Take: got %d exchanges, %v; want one with status 200", len(got), err)
	}
}

// An answer that is no stream has ended when it is here, not when somebody reads it.
func TestAnswersEndWhenTheyAreHere(t *testing.T) {
	r := recorder.New(nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/broken" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "short")
			return
		}
		_, _ = io.WriteString(w, "whole")
	}))
	t.Cleanup(server.Close)
	client := &http.Client{Transport: r.Transport("client", server.Client().Transport)}
	for path, want := range map[string]error{"/": nil, "/broken": io.ErrUnexpectedEOF} {
		res, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Take(t.Context())
		if err != nil || len(got) != 1 || len(got[0].Body) != 5 {
			t.Errorf("%s: Take before reading: got %v, %v; want one exchange with its body", path, got, err)
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, 100))
		_ = res.Body.Close()
		if len(body) != 5 || !errors.Is(err, want) {
			t.Errorf("%s: body: got %q, %v; want five letters, %v", path, body, err, want)
		}
	}
}

func TestFailedCallsAreRecorded(t *testing.T) {
	r := recorder.New(nil)
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	client := &http.Client{Transport: r.Transport("client", &http.Transport{})}
	if res, err := client.Get(url); err == nil {
		_ = res.Body.Close()
		t.Fatal("got an answer of a closed server")
	}
	got, err := r.Take(t.Context())
	if err != nil || len(got) != 1 || got[0].Status != 0 {
		t.Errorf("got %v, %v; want one exchange without status", got, err)
	}
}

func TestStreamsPassAtOnce(t *testing.T) {
	r := recorder.New(nil)
	next := make(chan struct{})
	server := httptest.NewServer(r.Handler("a", "b", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		<-next
		_, _ = io.WriteString(w, "two")
	})))
	t.Cleanup(server.Close)
	client := &http.Client{Transport: r.Transport("client", server.Client().Transport)}
	res, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "one" {
		t.Fatalf("first part: got %q, %v", first, err)
	}
	close(next)
	rest, err := io.ReadAll(io.LimitReader(res.Body, 100))
	if err != nil || string(rest) != "two" {
		t.Errorf("rest: got %q, %v", rest, err)
	}
}

func TestLongBodiesAreCut(t *testing.T) {
	r := recorder.New(nil)
	long := strings.Repeat("x", 100<<10)
	server := httptest.NewServer(r.Handler("a", "b", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
		if err != nil || string(body) != long {
			t.Errorf("handler: got %d bytes, %v", len(body), err)
		}
		_, _ = w.Write(body)
	})))
	t.Cleanup(server.Close)
	client := &http.Client{Transport: r.Transport("client", server.Client().Transport)}
	res, err := client.Post(server.URL, "text/plain", strings.NewReader(long))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	_ = res.Body.Close()
	if err != nil || string(body) != long {
		t.Errorf("client: got %d bytes, %v; want %d", len(body), err, len(long))
	}
	got, err := r.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		if len(e.RequestBody) != 64<<10 || len(e.Body) != 64<<10 {
			t.Errorf("%s: recorded %d and %d bytes, want 64 KiB each", e.From, len(e.RequestBody), len(e.Body))
		}
	}
}
