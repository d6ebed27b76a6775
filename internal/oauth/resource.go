package oauth

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Resource is a protected resource identifier (RFC 9728 §1.2): an absolute URL without
// fragment. The zero value is no resource. A Resource is immutable.
type Resource struct {
	raw                string
	scheme, host, path string // scheme and host in lower case, default port dropped, path without one trailing slash
	query              string
}

// ParseResource reads a resource identifier. It accepts http and https; whether http is
// acceptable is the caller's policy (see IsLoopbackHost).
func ParseResource(s string) (Resource, error) {
	u, err := parseAbsolute(s)
	if err != nil {
		return Resource{}, err
	}
	return Resource{
		raw:    s,
		scheme: u.Scheme,
		host:   canonicalHost(u),
		path:   strings.TrimSuffix(u.EscapedPath(), "/"),
		query:  u.RawQuery,
	}, nil
}

func parseAbsolute(s string) (*url.URL, error) {
	// What stands before an @ may be a password: such a text is never quoted.
	shown := strconv.Quote(s)
	if strings.Contains(s, "@") {
		shown = "one with an @"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("expected an absolute http or https URL, got %s", shown)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("expected an absolute http or https URL, got %s", shown)
	case u.Hostname() == "":
		return nil, fmt.Errorf("expected a URL with a host, got %s", shown)
	case u.User != nil:
		return nil, fmt.Errorf("expected a URL without user information, got one for host %q", u.Host)
	case strings.Contains(s, "#"):
		return nil, fmt.Errorf("expected a URL without fragment, got %s", shown)
	case u.ForceQuery:
		return nil, fmt.Errorf("expected a URL without empty query, got %s", shown)
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return nil, fmt.Errorf("expected a URL of printable ASCII without quotes, got %s", shown)
		}
	}
	// The parser decodes percent signs here, so any byte could have come in that way.
	for i := range len(u.Host) {
		switch c := u.Host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(".-_:[]", c) >= 0:
		default:
			return nil, fmt.Errorf("expected a host of letters, digits, dots and hyphens, got %s", shown)
		}
	}
	return u, nil
}

func canonicalHost(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch {
	case u.Scheme == "https":
		host = strings.TrimSuffix(host, ":443")
	case u.Scheme == "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return host
}

// String returns the identifier byte for byte as it was given to ParseResource.
func (r Resource) String() string { return r.raw }

// IsZero reports whether r is no resource.
func (r Resource) IsZero() bool { return r.raw == "" }

// Path is the path of the identifier without its trailing slash: "" for the root.
func (r Resource) Path() string { return r.path }

// Matches reports whether audience names this resource. Scheme, host and path must be
// equal after lower-casing scheme and host and dropping a default port and one trailing
// slash; the query must be equal. Nothing looser: no prefix, no host only.
func (r Resource) Matches(audience string) bool {
	if audience == r.raw && r.raw != "" {
		return true
	}
	a, err := ParseResource(audience)
	return err == nil && r.raw != "" &&
		a.scheme == r.scheme && a.host == r.host && a.path == r.path && a.query == r.query
}

// WellKnownProtectedResource is the well-known path of RFC 9728 §3.
const WellKnownProtectedResource = "/.well-known/oauth-protected-resource"

// Well-known paths of authorization server metadata: RFC 8414 §3 and OpenID Connect
// Discovery §4.
const (
	WellKnownAuthorizationServer = "/.well-known/oauth-authorization-server"
	WellKnownOpenIDConfiguration = "/.well-known/openid-configuration"
)

// MetadataPath is the path at which the metadata of r is served: the well-known path
// inserted between host and path (RFC 9728 §3.1).
func (r Resource) MetadataPath() string { return WellKnownProtectedResource + r.path }

// MetadataURL is the absolute URL of the metadata of r (RFC 9728 §3.1).
func (r Resource) MetadataURL() string {
	if r.raw == "" {
		return ""
	}
	u, _ := url.Parse(r.raw) // parsed before
	s := u.Scheme + "://" + u.Host + r.MetadataPath()
	if r.query != "" {
		s += "?" + r.query
	}
	return s
}

// IsLoopbackHost reports whether host, without port, is localhost or a loopback address.
// Names below localhost do not count: resolvers ask the DNS for them, and it may answer with
// any address.
func IsLoopbackHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// IsNamedHost reports whether one of hosts, each "host" or "host:port" in any case, names
// the host of the http URL u.
func IsNamedHost(u *url.URL, hosts []string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool {
		return strings.EqualFold(h, u.Hostname()) || strings.EqualFold(h, u.Host) ||
			u.Port() == "" && strings.EqualFold(h, net.JoinHostPort(u.Hostname(), "80"))
	})
}

// CheckTransport reports why the URL s may not carry tokens or secrets: it must be
// https, or http to a loopback host, or http to a host that insecureHosts names
// ("host" or "host:port", any case). The message names the setting to change.
func CheckTransport(s string, insecureHosts []string) error {
	u, err := parseAbsolute(s)
	if err != nil {
		return err
	}
	if u.Scheme == "https" || IsLoopbackHost(u.Hostname()) {
		return nil
	}
	if IsNamedHost(u, insecureHosts) {
		return nil
	}
	return fmt.Errorf("expected https, got http to %q, which is not a loopback host; use https, or name %q in insecure_http_hosts if that network is trusted", u.Host, u.Hostname())
}

// SameOrigin reports whether origin, an Origin header value (RFC 6454 §7), is the origin
// of this resource.
func (r Resource) SameOrigin(origin string) bool {
	o, err := ParseResource(origin)
	return err == nil && r.raw != "" && o.path == "" && o.query == "" && o.scheme == r.scheme && o.host == r.host
}
