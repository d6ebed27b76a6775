package egress

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
)

// NewWithResolver is New with the resolver of the names of upstreams.
func NewWithResolver(cfg Config, resolver *net.Resolver) (*Proxy, error) {
	return newProxy(cfg, resolver)
}

// Transport is the transport of the first route, for a benchmark of it alone.
func (p *Proxy) Transport() *http.Transport { return p.routes[0].transport }

// AddressAllowed reports whether a route to host with these addresses may connect to addr.
func AddressAllowed(host string, listed []netip.Prefix, addr netip.Addr) bool {
	return addressRule(host, listed)(addr.Unmap().WithZone(""))
}

// BearerParams is bearerParams.
func BearerParams(field string) (map[string]string, bool) { return bearerParams(field) }

// Target is where a request for u is sent by a route with this path and upstream; false when
// it is refused or there is no route.
func Target(prefix string, strip bool, upstream string, u *url.URL) (*url.URL, bool) {
	base, err := url.Parse(upstream)
	if err != nil {
		return nil, false
	}
	cfg := Route{Path: prefix, StripPath: strip, Upstream: base, Audience: "a"}
	r, problems := cfg.ready([]string{base.Host})
	canonical, err := canonicalPath(u.EscapedPath())
	if len(problems) > 0 || err != nil || newTable([]*route{r}).find("", canonical) == nil {
		return nil, false
	}
	return r.target(u.EscapedPath(), u.RawQuery), true
}
