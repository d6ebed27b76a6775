package sts_test

import (
	"slices"
	"strings"
	"testing"

	"phantomtoken/sidecar/sts"
)

// TestNew refuses what cannot work, with the variable to change in the message.
func TestNew(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		name   string
		change func(*sts.Config)
		want   []string // parts of the message; empty: accepted
	}{
		{name: "good", change: func(*sts.Config) {}},
		{name: "http on loopback", change: func(c *sts.Config) { c.Issuer = "http://127.0.0.1:9200" }},
		{name: "http by name", change: func(c *sts.Config) { c.Issuer, c.InsecureHosts = "http://sidecar:9200", []string{"sidecar"} }},
		{name: "nothing", change: func(c *sts.Config) { *c = sts.Config{} }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected the URL of this service, got nothing"}},
		{name: "no signing key", change: func(c *sts.Config) { c.Keys = nil }, want: []string{"expected keys, an exchanger and callers, got none"}},
		{name: "nobody who decides", change: func(c *sts.Config) { c.Exchange = nil }, want: []string{"expected keys, an exchanger and callers, got none"}},
		{name: "nobody who knows callers", change: func(c *sts.Config) { c.Callers = nil }, want: []string{"expected keys, an exchanger and callers, got none"}},
		{name: "http elsewhere", change: func(c *sts.Config) { c.Issuer = "http://sidecar:9200" },
			want: []string{"TOKEN_EXCHANGE_ISSUER: expected https", "TOKEN_EXCHANGE_INSECURE_HTTP_HOSTS"}},
		{name: "issuer with a query", change: func(c *sts.Config) { c.Issuer = "https://sts.example?x" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL without query"}},
		{name: "issuer with an empty query", change: func(c *sts.Config) { c.Issuer = "https://sts.example?" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL without empty query"}},
		{name: "issuer with a fragment", change: func(c *sts.Config) { c.Issuer = "https://sts.example#x" }, want: []string{"TOKEN_EXCHANGE_ISSUER: expected a URL without fragment"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := w.parts.service
			cfg.Issuer = "https://sts.example"
			tc.change(&cfg)
			service, err := sts.New(cfg)
			if (err == nil) != (len(tc.want) == 0) || (service == nil) != (err != nil) {
				t.Fatalf("got service %t, error %v", service != nil, err)
			}
			if err == nil {
				return
			}
			if slices.ContainsFunc(tc.want, func(s string) bool { return !strings.Contains(err.Error(), s) }) {
				t.Errorf("got error %v\nwant one with %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "INSECURE") != slices.ContainsFunc(tc.want, func(s string) bool { return strings.Contains(s, "INSECURE") }) {
				t.Errorf("got error %v, want the hint at INSECURE_HTTP_HOSTS where it helps only", err)
			}
		})
	}
}
