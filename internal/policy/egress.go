package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// egress reads the configuration of the egress proxy.
func (b *builder) egress(v *value) {
	if v == nil {
		return
	}
	e := &Egress{Caller: v.get("caller").string()}
	c := b.policy.byID[e.Caller]
	if id := v.get("caller"); id != nil && !id.broken && c == nil {
		var ids []string
		for _, known := range b.policy.callers {
			ids = append(ids, known.ID)
		}
		b.add(id.shown, "expected one of callers (%s), got %s%s", names(ids), quote(e.Caller), meant{e.Caller, ids})
	}
	taken := make(map[[2]string]int)
	for _, r := range v.get("routes").all() {
		route := b.route(r)
		if !r.broken {
			where := [2]string{route.Host, route.Path}
			if first := taken[where]; first != 0 {
				b.add(r.place, "expected a host and path that no other route has, got those of line %d", first)
			} else {
				taken[where] = r.line
			}
		}
		if c != nil {
			b.routeTarget(r, c)
		}
		e.Routes = append(e.Routes, route)
	}
	b.policy.egress = e
}

func (b *builder) route(v *value) Route {
	route := Route{
		Host:      strings.ToLower(v.get("host").string()),
		Path:      strings.TrimSuffix(v.get("path").string(), "/"),
		StripPath: v.get("strip_path").bool(),
		Audience:  v.get("audience").string(),
		Scopes:    oauth.Scopes(v.get("scopes").texts()),
		CAFile:    v.get("ca_file").string(),
		Timeout:   v.get("timeout").duration(),
		Line:      v.line,
	}
	if host := v.get("host"); host != nil && !host.broken && strings.HasPrefix(host.text, "[") {
		if addr, err := netip.ParseAddr(strings.Trim(host.text, "[]")); err != nil || !addr.Is6() {
			b.add(host.shown, "expected an IPv6 address in the brackets, got %s", quote(host.text))
		}
	}
	if upstream := v.get("upstream"); upstream != nil && !upstream.broken {
		u, err := parseUpstream(upstream.text)
		if err != nil {
			b.add(upstream.shown, "%v", err)
		}
		route.Upstream = u
	}
	for _, address := range v.get("addresses").all() {
		prefix, err := netip.ParsePrefix(address.text)
		switch {
		case address.broken:
		case err != nil:
			b.add(address.shown, "expected %s, got %s", formatPrefix().one, quote(address.text))
		case prefix.Addr().Is4In6():
			b.add(address.shown, "expected a range of IPv4 addresses to be written as such, got %s", quote(address.text))
		case prefix != prefix.Masked():
			b.add(address.shown, "expected a range with no bits behind its length, such as %s, got %s", quote(prefix.Masked().String()), quote(address.text))
		default:
			route.Addresses = append(route.Addresses, prefix)
		}
	}
	return route
}

// routeTarget checks that the caller can have what a route asks for.
func (b *builder) routeTarget(v *value, c *caller) {
	name := v.get("audience")
	if name == nil || name.broken {
		return
	}
	t := c.targets[name.text]
	if t == nil {
		if b.find(name.text, name.shown) != nil {
			b.add(name.shown, "expected one of %s (%s), got %s", memberPath(c.path, "audiences"), names(c.names), quote(name.text))
		}
		return
	}
	if t.broken || v.get("scopes") == nil {
		return
	}
	reach := make(map[string]int)
	for scope := range t.reach {
		reach[scope] = 1
	}
	b.within(v.get("scopes"), t.reachable(), reach, t.path)
}

// parseURL reads an absolute http or https URL without user information, query and
// fragment. Its errors never quote what could be a password.
func parseURL(s string) (*url.URL, error) {
	if strings.ContainsAny(s, "?#") {
		return nil, errors.New("expected a URL without query and fragment, got one with it")
	}
	if _, err := oauth.ParseResource(s); err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("expected an absolute http or https URL: %w", err)
	}
	return u, nil
}

// parseUpstream reads the URL of an upstream. Paths are put behind its path, so that one has
// none of what makes two readers see different paths.
func parseUpstream(s string) (*url.URL, error) {
	u, err := parseURL(s)
	if err != nil {
		return nil, err
	}
	if path := strings.TrimSuffix(u.EscapedPath(), "/"); path != "" && !regexp.MustCompile(formatPath().pattern).MatchString(path) {
		return nil, fmt.Errorf("expected a URL whose path has no empty or dot segments, percent signs, semicolons and *, got %s", quote(s))
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	return u, nil
}

// reachable lists the scopes that the caller can have for t, in the order of the audience.
func (t *target) reachable() []string {
	return slices.DeleteFunc(slices.Clone([]string(t.Scopes)), func(s string) bool { return !t.reach[s] })
}
