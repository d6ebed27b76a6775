package loopback

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthPath is where a server says that it runs.
const healthPath = "/healthz"

// checkTimeout bounds a health check.
const checkTimeout = 2 * time.Second

// WithHealth answers health checks and leaves everything else to h.
func WithHealth(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.Handle("/", h)
	return mux
}

// CheckHealth asks the server of this machine that listens on addr, "host:port", whether it
// runs. It is for containers that have no other program than the server's own. An empty
// host and one that means every interface are asked as 127.0.0.1.
func CheckHealth(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("checking health: expected a listening address host:port, got %q", addr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+healthPath, nil)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("checking health: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("checking health: expected status 200, got %d", res.StatusCode)
	}
	return nil
}
