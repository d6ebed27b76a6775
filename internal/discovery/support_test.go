package discovery_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/discovery"
)

// host is an HTTP server of documents by path that remembers which were asked for.
type host struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	asked   []string
}

func startHost(t testing.TB) *host {
	t.Helper()
	h := &host{answers: map[string]http.HandlerFunc{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked = append(h.asked, r.URL.Path)
		answer := h.answers[r.URL.Path]
		h.mu.Unlock()
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) at(path string, answer http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[path] = answer
}

// says answers path with members as JSON.
func (h *host) says(path string, members map[string]any) {
	h.at(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(members)
	})
}

func (h *host) questions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.asked)
}

// metadata of issuer whose endpoints are at base.
func metadata(issuer, base string) map[string]any {
	return map[string]any{
		"issuer": issuer, "introspection_endpoint": base + "/odd/introspect?k=1", "token_endpoint": base + "/odd/token", "jwks_uri": base + "/odd/keys",
	}
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logLines hands every log line to a channel, so that tests can wait for one.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- strings.TrimSpace(string(bytes.Clone(p)))
	return len(p), nil
}

func (l logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func newIssuer(t testing.TB, cfg discovery.Config) *discovery.Issuer {
	t.Helper()
	i, err := discovery.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}
