package authserver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const maxRedirectURI = 2048 // bytes

// checkRedirectURI reports why uri may not be registered: it must be https, http on
// loopback, or of a private-use scheme (RFC 8252 §7). Schemes without a period are
// refused (§8.4) unless listed, which keeps out javascript:, data: and their like.
func checkRedirectURI(uri string, schemes []string) error {
	for i := range len(uri) {
		if c := uri[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte(`"<>\^{|}*`+"`", c) >= 0 {
			return errors.New("expected the characters of a URI and no wildcard")
		}
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Scheme == "":
		return errors.New("expected an absolute URI")
	case len(uri) > maxRedirectURI:
		return fmt.Errorf("expected at most %d bytes", maxRedirectURI)
	case strings.Contains(uri, "#"):
		return errors.New("expected no fragment")
	case u.User != nil:
		return errors.New("expected no user information")
	}
	switch u.Scheme {
	case "https":
		if u.Hostname() == "" {
			return errors.New("expected a host")
		}
	case "http":
		if !isLoopbackRedirect(u) {
			return errors.New("expected https, or http with host 127.0.0.1, [::1] or localhost (RFC 8252 section 7.3)")
		}
	default:
		if !redirectScheme(u.Scheme) || !strings.Contains(u.Scheme, ".") && !slices.Contains(schemes, u.Scheme) {
			return errors.New("expected https, http on loopback, or a scheme in reverse domain order such as com.example.app (RFC 8252 section 7.1)")
		}
	}
	if u.Port() != "" && !validPort(u.Port()) {
		return errors.New("expected a port from 1 to 65535")
	}
	return nil
}

// redirectScheme reports whether s is a URI scheme in lower case (RFC 3986 §3.1).
func redirectScheme(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

func isLoopbackRedirect(u *url.URL) bool {
	switch strings.ToLower(u.Hostname()) {
	case "127.0.0.1", "::1", "localhost":
		return true
	}
	return false
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// matchRedirectURI reports whether uri is one of the registered ones: byte by byte, save
// that the port of http on loopback may be any (RFC 8252 §7.3).
func matchRedirectURI(registered []string, uri string) bool {
	if slices.Contains(registered, uri) {
		return true
	}
	host, rest, ok := splitLoopback(uri)
	if !ok {
		return false
	}
	return slices.ContainsFunc(registered, func(r string) bool {
		h, rr, ok := splitLoopback(r)
		return ok && h == host && rr == rest
	})
}

// splitLoopback splits a loopback http URI into its host without port and everything
// behind the authority, the latter byte for byte.
func splitLoopback(uri string) (host, rest string, ok bool) {
	u, err := url.Parse(uri)
	if err != nil || !isLoopbackRedirect(u) || checkRedirectURI(uri, nil) != nil {
		return "", "", false
	}
	rest, ok = strings.CutPrefix(uri, "http://"+u.Host)
	return u.Hostname(), rest, ok
}

// withQuery adds parameters to a redirect URI and keeps those it has (RFC 6749 §4.1.2).
// It never parses the URI anew: private-use URIs have forms that would not survive it.
func withQuery(uri string, params url.Values) string {
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	if strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&") {
		sep = ""
	}
	return uri + sep + params.Encode()
}
