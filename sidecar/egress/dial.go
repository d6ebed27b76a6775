package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"phantomtoken/internal/oauth"
)

const (
	// connectTimeout bounds TCP and, by itself, TLS.
	connectTimeout = 5 * time.Second
	idleTimeout    = 90 * time.Second
	// maxIdle is how many connections to an API are kept for the next requests.
	maxIdle = 256
	// maxAnswerHeader bounds the header of an answer.
	maxAnswerHeader = 256 << 10
	// pingAfter is how long an HTTP/2 connection may be silent before it is tried: a dead one
	// would otherwise take requests until TCP gives up.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// continueTimeout is how long a body waits for 100 Continue (RFC 9110 §10.1.1) when the
	// application asked for one.
	continueTimeout = time.Second
)

// errForbiddenAddress ends a connection to an address that the route does not allow.
var errForbiddenAddress = errors.New("address not allowed for this route")

// newTransport makes the connections of one route. resolver is nil outside tests.
func (r *route) newTransport(resolver *net.Resolver) *http.Transport {
	dialer := &net.Dialer{
		Timeout:        min(connectTimeout, r.timeout),
		ControlContext: r.checkAddress,
		Resolver:       resolver,
	}
	return &http.Transport{
		Proxy:                  nil, // HTTP_PROXY must not decide where tokens go
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.roots},
		TLSHandshakeTimeout:    min(connectTimeout, r.timeout),
		ResponseHeaderTimeout:  r.timeout,
		ExpectContinueTimeout:  continueTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DisableCompression:     true, // the application asks for what it can read
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// checkAddress looks at the address of every connection, after the name was resolved: what a
// name leads to is for whoever runs its DNS to say, and can change between a check and the
// connection (DNS rebinding).
func (r *route) checkAddress(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: expected an address with port", errForbiddenAddress)
	}
	if addr := at.Addr().Unmap().WithZone(""); !r.addresses(addr) {
		return fmt.Errorf("%w: %s; list it in egress.routes[%d].addresses if the API is there", errForbiddenAddress, addr, r.index)
	}
	return nil
}

// addressRule says which addresses connections of a route may go to: those that are listed,
// or else those that the operator named by the host of the upstream, or else all that are
// not dangerous.
func addressRule(host string, listed []netip.Prefix) func(netip.Addr) bool {
	if len(listed) > 0 {
		ranges := make([]netip.Prefix, len(listed))
		for i, p := range listed {
			ranges[i] = p
			if addr := p.Addr(); addr.Is4In6() && p.Bits() >= 96 {
				ranges[i] = netip.PrefixFrom(addr.Unmap(), p.Bits()-96)
			}
		}
		return func(addr netip.Addr) bool {
			return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
		}
	}
	if literal, err := netip.ParseAddr(host); err == nil {
		literal = literal.Unmap().WithZone("")
		return func(addr netip.Addr) bool { return addr == literal }
	}
	if oauth.IsLoopbackHost(host) {
		return netip.Addr.IsLoopback
	}
	return func(addr netip.Addr) bool { return !isDangerous(addr) }
}

// isDangerous reports whether an address leads to this machine, to a neighbour that no name
// should lead to, or to the metadata service of a cloud, which gives credentials to whoever
// asks. Private ranges are not: APIs in the cluster are there.
func isDangerous(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast() {
		return true
	}
	for _, p := range dangerousRanges() {
		if p.Contains(addr) {
			return true
		}
	}
	inner, ok := embedded(addr)
	return ok && isDangerous(inner)
}

func dangerousRanges() [10]netip.Prefix {
	v4 := func(a, b, c, d byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), bits)
	}
	v6 := func(bits int, head ...byte) netip.Prefix {
		var b [16]byte
		copy(b[:], head)
		return netip.PrefixFrom(netip.AddrFrom16(b), bits)
	}
	return [...]netip.Prefix{
		v4(0, 0, 0, 0, 8),                                // this network; Linux takes it for this machine
		v4(255, 255, 255, 255, 32),                       // broadcast
		v4(192, 0, 0, 0, 24),                             // protocol assignments; Oracle's metadata
		v4(100, 100, 100, 200, 32),                       // Alibaba's metadata
		v4(168, 63, 129, 16, 32),                         // Azure's host
		v6(32, 0xfd, 0x00, 0x0e, 0xc2),                   // AWS's metadata
		v6(32, 0xfd, 0x20, 0x00, 0xce),                   // Google's metadata
		v6(48, 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01),       // NAT64 of the site: which address is inside cannot be told
		v6(32, 0x20, 0x01, 0x00, 0x00),                   // Teredo, the same
		v6(96, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0), // IPv4-translated (SIIT)
	}
}

// embedded is the IPv4 address inside an IPv6 address that a router, or this machine, would
// turn into it: IPv4-mapped, IPv4-compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch {
	case addr.Is4In6():
		return addr.Unmap(), true
	case [12]byte(b[:12]) == [12]byte{}, [12]byte(b[:12]) == [12]byte{0x00, 0x64, 0xff, 0x9b}:
		return netip.AddrFrom4([4]byte(b[12:])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
