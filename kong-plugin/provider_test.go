package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// idp is an authorization server: introspection, discovery and keys.
type idp struct {
	*httptest.Server
	calls atomic.Int32

	mu       sync.Mutex
	answer   func(w http.ResponseWriter, r *http.Request)
	metadata func(w http.ResponseWriter, r *http.Request)
	jwks     []byte
}

func startIDP(t testing.TB) *idp {
	t.Helper()
	s := &idp{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	})
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		metadata := s.metadata
		s.mu.Unlock()
		metadata(w, r)
	})
	mux.HandleFunc("GET /jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.jwks)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	s.setMetadata(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/jwks.json"})
	})
	return s
}

func (s *idp) setAnswer(f func(w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *idp) setMetadata(f func(w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata = f
}

func (s *idp) setKeys(jwks []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jwks = jwks
}

// says makes the introspection endpoint answer every token with claims.
func (s *idp) says(claims map[string]any) {
	s.setAnswer(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, claims) })
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
