package mcpserver

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
)

// byProxy sends each call to the egress proxy of the sidecar, by plain http, with the token
// that the tool call came with. The proxy puts one of the API in its place. There is no
// OAuth here: a server in any language can do the same.
func byProxy(cfg Config) (way, error) {
	u, err := url.Parse(cfg.APIURL)
	if err != nil || u.Host == "" {
		return way{}, errors.New("expected APIURL to be the URL of the egress proxy")
	}
	// Whoever is there gets the token that is meant for this server.
	if !isLoopback(u.Hostname()) && !cfg.InsecureAllowHTTP {
		return way{}, errors.New("expected APIURL to be an egress proxy on this machine, or a token endpoint to exchange tokens at")
	}
	return way{incoming: withReceived, transport: relay{cfg.Transport}}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

type receivedKey struct{}

// withReceived notes the fields that the proxy needs: the token and the trace context.
func withReceived(ctx context.Context, h http.Header) context.Context {
	received := http.Header{}
	for _, name := range []string{"Authorization", "Traceparent", "Tracestate"} {
		if values := h.Values(name); len(values) > 0 {
			received[name] = values
		}
	}
	return context.WithValue(ctx, receivedKey{}, received)
}

// relay adds what was received to a request.
type relay struct{ next http.RoundTripper }

func (r relay) RoundTrip(req *http.Request) (*http.Response, error) {
	received, _ := req.Context().Value(receivedKey{}).(http.Header)
	out := req.Clone(req.Context())
	for name, values := range received {
		out.Header[name] = values
	}
	return r.next.RoundTrip(out)
}
