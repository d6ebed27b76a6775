package main

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathReady {
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	check := func(listen string) int {
		var out bytes.Buffer
		return run([]string{"-healthcheck"}, []string{envPrefix + "LISTEN=" + listen}, &out, &out)
	}
	for _, listen := range []string{address, "0.0.0.0:" + port, ":" + port} {
		if got := check(listen); got != exitOK {
			t.Errorf("ready, listening on %s: got exit status %d, want %d", listen, got, exitOK)
		}
	}
	status = http.StatusServiceUnavailable
	if got := check(address); got != exitFailed {
		t.Errorf("not ready: got exit status %d, want %d", got, exitFailed)
	}
	server.Close()
	for _, listen := range []string{address, "nonsense"} {
		if got := check(listen); got != exitFailed {
			t.Errorf("nobody on %s: got exit status %d, want %d", listen, got, exitFailed)
		}
	}
}
