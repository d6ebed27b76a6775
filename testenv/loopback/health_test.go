package loopback_test

import (
	"net"
	"net/http"
	"testing"

	"phantomtoken/testenv/loopback"
)

func TestCheckHealth(t *testing.T) {
	teapot := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	start := func(h http.Handler) *loopback.Server {
		s, err := loopback.Serve("", h, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	healthy, ill, gone := start(loopback.WithHealth(teapot)), start(teapot), start(teapot)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(healthy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		addr string
		ok   bool
	}{
		"Running":         {healthy.Addr(), true},
		"EveryInterface":  {"0.0.0.0:" + port, true},
		"EveryInterface6": {"[::]:" + port, true},
		"NoHost":          {":" + port, true},
		"OtherStatus":     {ill.Addr(), false},
		"NobodyListens":   {gone.Addr(), false},
		"NoAddress":       {"nonsense", false},
	} {
		if err := loopback.CheckHealth(t.Context(), tt.addr); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want success: %t", name, err, tt.ok)
		}
	}
	res, err := http.Get(healthy.URL() + "/else")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusTeapot {
		t.Errorf("another path: got %d, want %d", res.StatusCode, http.StatusTeapot)
	}
	for _, s := range []*loopback.Server{healthy, ill} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
