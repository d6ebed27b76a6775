package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthTimeout bounds a health check; the readiness that is asked for takes at most
// readyTimeout.
const healthTimeout = 2 * time.Second

// checkHealth asks the sidecar that runs with cfg whether it can exchange tokens. It
// is for images that hold no other program. An empty host and one that means every
// interface are asked as 127.0.0.1.
func checkHealth(ctx context.Context, cfg *config) error {
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("%sLISTEN: expected host:port, got %q", envPrefix, cfg.Listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme, transport := "http", &http.Transport{Proxy: nil, DisableKeepAlives: true}
	if cfg.TLS.CertificateFile != "" {
		// The certificate is for the name by which others reach it. This is the same machine,
		// and nothing secret is sent or believed.
		scheme, transport.TLSClientConfig = "https", &tls.Config{InsecureSkipVerify: true}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+pathReady, nil)
	if err != nil {
		return fmt.Errorf("%sLISTEN: %w", envPrefix, err)
	}
	client := &http.Client{Transport: transport}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the sidecar: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the sidecar: expected status 200 from %s, got %d", pathReady, res.StatusCode)
	}
	return nil
}
