package main

import (
	"context"
	"fmt"
	"net/http"

	"phantomtoken/sidecar/sts"
)

// Paths of the sidecar's own, below no issuer.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
)

// checkPaths refuses an issuer whose endpoints would hide, or be hidden by, those of the
// sidecar.
func checkPaths(service *sts.Service) error {
	for _, path := range []string{pathHealth, pathReady} {
		if service.Handles(path) {
			return fmt.Errorf("%sISSUER: expected a URL whose endpoints leave %s free", envPrefix, path)
		}
	}
	return nil
}

// handler answers health checks and leaves everything else to the token service.
func (s *sidecar) handler() http.Handler {
	tokens := s.tracing.Server("token service", s.service)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case pathHealth:
			writeStatus(w, http.StatusOK, "ok")
		case pathReady:
			ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
			defer cancel()
			status, text := s.ready(ctx)
			writeStatus(w, status, text)
		default:
			tokens.ServeHTTP(w, r)
		}
	})
}

// metricsHandler serves the metrics.
func (s *sidecar) metricsHandler() http.Handler {
	metrics := s.metrics.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != pathMetrics {
			writeStatus(w, http.StatusNotFound, "metrics are at "+pathMetrics)
			return
		}
		metrics.ServeHTTP(w, r)
	})
}

// writeStatus answers those who watch the sidecar.
func writeStatus(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
