package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"phantomtoken/testenv/loopback"
)

// callback receives the redirect that ends an authorization (RFC 8252 §7.3).
type callback struct {
	server  *loopback.Server
	results chan url.Values
}

const callbackPath = "/callback"

func newCallback() (*callback, error) {
	c := &callback{results: make(chan url.Values, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		select {
		case c.results <- r.URL.Query():
		default: // reloaded: the first result counts
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>Signed in</title><p>You may close this page.")
	})
	server, err := loopback.Serve("", mux, nil)
	if err != nil {
		return nil, fmt.Errorf("listening for the redirect: %w", err)
	}
	c.server = server
	return c, nil
}

func (c *callback) url() string { return c.server.URL() + callbackPath }

// wait returns the parameters of the redirect.
func (c *callback) wait(ctx context.Context) (url.Values, error) {
	select {
	case v := <-c.results:
		return v, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the redirect: %w", context.Cause(ctx))
	}
}
