package egress

import (
	"cmp"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// route is a Route made ready for requests.
type route struct {
	index    int    // in Config.Routes
	line     int    // in the policy file
	host     string // lower case, empty for any
	prefix   string // canonical, without a slash at the end, empty for any
	segments int    // of prefix
	strip    bool

	upstream  *url.URL // scheme and host
	base      string   // canonical path of the upstream, without a slash at the end
	audience  string
	scopes    []string
	roots     *x509.CertPool
	addresses func(netip.Addr) bool
	timeout   time.Duration
	transport *http.Transport
}

// table is all routes, those with a host before those without, longest prefix first: the
// first that holds a request is its route.
type table []*route

func newTable(routes []*route) table {
	t := slices.Clone(routes)
	slices.SortStableFunc(t, func(a, b *route) int {
		if (a.host == "") != (b.host == "") {
			return strings.Compare(b.host, a.host)
		}
		return cmp.Compare(len(b.prefix), len(a.prefix))
	})
	return t
}

// find returns the route of a request, nil when there is none.
func (t table) find(host, canonical string) *route {
	for _, r := range t {
		if (r.host == "" || r.host == host) && below(canonical, r.prefix) {
			return r
		}
	}
	return nil
}

// target is the URL of the API for an escaped path that the route holds. Its path is the
// base path of the upstream or below it.
func (r *route) target(escaped, query string) *url.URL {
	if r.strip {
		escaped = afterSegments(escaped, r.segments)
	}
	escaped = r.base + escaped
	if escaped == "" {
		escaped = "/"
	}
	path, err := url.PathUnescape(escaped)
	if err != nil { // canonicalPath refused it before
		path = escaped
	}
	return &url.URL{Scheme: r.upstream.Scheme, Host: r.upstream.Host, Path: path, RawPath: escaped, RawQuery: query}
}

// hostname is the host of a Host field, in lower case, without port and without the dot at
// the end of a full name. It reports false for what is no host.
func hostname(field string) (string, bool) {
	host := field
	switch i := strings.LastIndexByte(field, ':'); {
	case strings.HasPrefix(field, "["):
		end := strings.IndexByte(field, ']')
		if end < 0 || end+1 < len(field) && field[end+1] != ':' {
			return "", false
		}
		host = field[1:end]
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is6() {
			return "", false
		}
	case i >= 0:
		var err error
		if host, _, err = net.SplitHostPort(field); err != nil {
			return "", false
		}
	}
	if strings.ContainsAny(host, "/\\@?# \t%") {
		return "", false
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), true
}
