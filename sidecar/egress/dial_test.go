package egress_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"phantomtoken/sidecar/egress"
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// newDNS is a resolver that asks a name server of its own for IPv4 addresses.
func newDNS(t *testing.T, names map[string]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			out := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true},
				Questions: m.Questions,
			}
			addr, known := names[strings.ToLower(q.Name.String())]
			switch {
			case !known:
				out.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				out.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()},
				}}
			}
			packed, err := out.Pack()
			if err != nil {
				continue
			}
			_, _ = conn.WriteTo(packed, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// An API name whose DNS answer leads to this machine or to a cloud's metadata.
//
// Covers: TX-20
func TestRejectsDNSAnswerInForbiddenRange(t *testing.T) {
	upstream := newAPI(t, nil)
	_, port, _ := net.SplitHostPort(upstream.Listener.Addr().String())
	for _, addr := range []string{"127.0.0.1", "169.254.169.254", "0.0.0.0"} {
		t.Run(addr, func(t *testing.T) {
			dns := newDNS(t, map[string]string{"api.example.com.": addr})
			cfg := egress.Config{Routes: []egress.Route{to(t, "http://api.example.com:"+port)}, InsecureHosts: []string{"api.example.com"}}
			w := newWorldWith(t, cfg, dns)
			refused(t, w.get(t, "/"), http.StatusBadGateway, "upstream_forbidden")
			if n := len(upstream.seen()); n != 0 {
				t.Errorf("expected nothing at the server behind the address, got %d requests", n)
			}
			if o := w.outcome(t); o.Result != egress.ResultUpstreamForbidden {
				t.Errorf("expected upstream_forbidden, got %+v", o)
			}
			if log := w.log.String(); !strings.Contains(log, "egress.routes[0].addresses") || !strings.Contains(log, addr) {
				t.Errorf("expected the log to name the address and the setting, got %s", log)
			}
		})
	}
}

func TestListedAddressIsAllowed(t *testing.T) {
	upstream := newAPI(t, nil)
	_, port, _ := net.SplitHostPort(upstream.Listener.Addr().String())
	dns := newDNS(t, map[string]string{"api.example.com.": "127.0.0.1"})
	route := to(t, "http://api.example.com:"+port)
	route.Addresses = prefixes("127.0.0.1/32")
	w := newWorldWith(t, egress.Config{Routes: []egress.Route{route}, InsecureHosts: []string{"api.example.com"}}, dns)
	passed(t, w.get(t, "/"), http.StatusOK)
}

func TestAddressRule(t *testing.T) {
	for _, test := range []struct {
		name    string
		host    string
		listed  []netip.Prefix
		allowed []string
		refused []string
	}{
		{
			name: "a name", host: "api.example.com",
			allowed: []string{"93.184.216.34", "10.0.0.7", "172.16.3.4", "192.168.1.1", "100.64.0.9", "fd12:3456::1", "2606:2800:220:1::1", "::ffff:10.0.0.7", "64:ff9b::10.0.0.7"},
			refused: []string{
				"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.0.1", "fe80::1",
				"224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "192.0.0.192", "100.100.100.200", "168.63.129.16",
				"fd00:ec2::254", "fd20:ce::254",
				"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
				"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001::1",
			},
		},
		{name: "a literal address", host: "127.0.0.1", allowed: []string{"127.0.0.1", "::ffff:127.0.0.1"}, refused: []string{"127.0.0.2", "::1", "10.0.0.1"}},
		{name: "localhost", host: "localhost", allowed: []string{"127.0.0.1", "::1"}, refused: []string{"10.0.0.1", "169.254.169.254"}},
		{name: "a name below localhost", host: "api.localhost", refused: []string{"127.0.0.1"}},
		{
			name: "listed ranges", host: "api.example.com", listed: prefixes("10.1.0.0/16", "169.254.169.254/32", "::ffff:192.0.2.0/120"),
			allowed: []string{"10.1.2.3", "169.254.169.254", "192.0.2.9"},
			refused: []string{"10.2.0.1", "93.184.216.34", "127.0.0.1", "169.254.169.253"},
		},
		{name: "listed ranges before a literal address", host: "127.0.0.1", listed: prefixes("10.1.0.0/16"), refused: []string{"127.0.0.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := func(list []string, want bool) {
				for _, s := range list {
					if got := egress.AddressAllowed(test.host, test.listed, netip.MustParseAddr(s)); got != want {
						t.Errorf("%s: expected allowed %t, got %t", s, want, got)
					}
				}
			}
			check(test.allowed, true)
			check(test.refused, false)
		})
	}
}
