package doctor

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"phantomtoken/internal/oauth"
)

// errLocal says that a URL leads to a place near this computer which the visited server
// has no business to name.
var errLocal = errors.New("expected a host that other computers reach, got a local address")

// checkLocation reports why clients cannot go to location, which the visited server or
// an authorization server named; we do not go there either. Beside the transport it looks
// at the host: who is asked over the network must not send us to services of this
// computer, or of the networks that it is in.
func (v *visit) checkLocation(location string) error {
	if err := oauth.CheckTransport(location, nil); err != nil {
		return err
	}
	u, err := url.Parse(location)
	if err != nil {
		return errors.New("expected a URL")
	}
	if nearness(u.Hostname()) > nearness(v.url.Hostname()) && !strings.EqualFold(u.Host, v.url.Host) {
		return errLocal
	}
	return nil
}

// sameOrigin reports whether u has the scheme and host of the visited URL.
func (v *visit) sameOrigin(u *url.URL) bool {
	return u.Scheme == v.url.Scheme && strings.EqualFold(u.Host, v.url.Host)
}

// nearness is 2 for this computer, 1 for an address of a private network, 0 for others.
// Names count as others: only https goes there, and the certificate must name them.
func nearness(host string) int {
	if oauth.IsLoopbackHost(host) {
		return 2
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(host, "."))
	if err != nil {
		return 0
	}
	if addr = addr.Unmap(); addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() {
		return 1
	}
	return 0
}
