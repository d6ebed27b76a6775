package loopback_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	"phantomtoken/testenv/loopback"
)

func TestServeAndClose(t *testing.T) {
	s, err := loopback.Serve("", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	res, err := client.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 100))
	_ = res.Body.Close()
	if err != nil || string(body) != "hello" {
		t.Errorf("body: got %q, %v; want %q", body, err, "hello")
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if res, err := client.Get(s.URL()); err == nil {
		_ = res.Body.Close()
		t.Errorf("after Close: got status %d, want a refused connection", res.StatusCode)
	}
}

func TestCloseCutsStreams(t *testing.T) {
	started := make(chan struct{})
	ended := make(chan struct{})
	s, err := loopback.Serve("", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		close(started)
		<-r.Context().Done()
		close(ended)
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	res, err := client.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-started
	if err := s.Close(); err != nil {
		t.Errorf("Close with an open stream: %v", err)
	}
	<-ended
}

func TestServeRefusesAnAddressInUse(t *testing.T) {
	s, err := loopback.Serve("", http.NotFoundHandler(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if other, err := loopback.Serve(s.Addr(), http.NotFoundHandler(), nil); err == nil {
		_ = other.Close()
		t.Error("second server on the same address: got none, want an error")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loopback.Run(ctx, "", http.NotFoundHandler(), nil) }()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}
