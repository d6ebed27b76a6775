package kongtest

import (
	"cmp"
	"slices"
	"strings"
)

// match looks through the candidates most likely to match, then through all of them.
func (cat *category) match(q *routing) *candidate {
	for _, list := range [][]*candidate{cat.reduced(q), cat.all} {
		for _, c := range list {
			if c.matches(q) {
				return c
			}
		}
	}
	return nil
}

// reduced is the smallest set of candidates that share a value with the request; the set
// of those with the header, if there is one.
func (cat *category) reduced(q *routing) []*candidate {
	host := cmp.Or(q.hitHost, q.host)
	var smallest []*candidate
	for _, set := range []struct {
		bit        matchRules
		candidates []*candidate
	}{
		{matchHost, cat.byHost[host]}, {matchHeader, cat.byHeader[q.hitHeader]}, {matchURI, cat.byURI[q.hitURI]},
		{matchMethod, cat.byMethod[q.method]}, {matchSNI, cat.bySNIName[q.sni]},
	} {
		if cat.rules&set.bit == 0 || set.candidates == nil {
			continue
		}
		if set.bit == matchHeader {
			return set.candidates
		}
		if smallest == nil || len(set.candidates) < len(smallest) {
			smallest = set.candidates
		}
	}
	return smallest
}

func (c *candidate) matches(q *routing) bool {
	q.prefix, q.postfix, q.captures, q.named = "", strings.TrimPrefix(q.uri, "/"), nil, nil
	return (c.rules&matchHost == 0 || c.matchesHost(q)) &&
		(c.rules&matchHeader == 0 || c.matchesHeaders(q)) &&
		(c.rules&matchURI == 0 || c.matchesURI(q)) &&
		(c.rules&matchMethod == 0 || slices.Contains(c.methods, q.method)) &&
		(c.rules&matchSNI == 0 || q.scheme == "http" || slices.Contains(c.snis, q.sni))
}

func (c *candidate) matchesHost(q *routing) bool {
	host := cmp.Or(q.hitHost, q.host)
	return slices.ContainsFunc(c.hosts, func(h routeHost) bool {
		if h.regex != nil {
			return h.regex.MatchString(q.hostPort)
		}
		return h.value == host || h.value == q.hostNoPort
	})
}

func (c *candidate) matchesHeaders(q *routing) bool {
	for _, h := range c.headers {
		found := slices.ContainsFunc(q.headers[h.name], func(v string) bool {
			return slices.Contains(h.values, lower(v)) || h.pattern != nil && h.pattern.MatchString(lower(v))
		})
		if !found {
			return false
		}
	}
	return true
}

func (c *candidate) matchesURI(q *routing) bool {
	for _, u := range c.uris {
		if u.regex == nil {
			if !strings.HasPrefix(q.uri, u.value) {
				continue
			}
			q.prefix, q.postfix = u.value, sanitizePostfix(q.uri[len(u.value):])
			return true
		}
		m := u.regex.FindStringSubmatch(q.uri)
		if m == nil {
			continue
		}
		postfix := m[len(m)-1]
		q.prefix, q.postfix = strings.TrimSuffix(q.uri, postfix), sanitizePostfix(postfix)
		q.captures = m[1 : len(m)-1]
		for i, name := range u.regex.SubexpNames()[:len(m)-1] {
			if name != "" {
				if q.named == nil {
					q.named = map[string]string{}
				}
				q.named[name] = m[i]
			}
		}
		return true
	}
	return false
}

// sanitizePostfix keeps what is left of a path from climbing.
func sanitizePostfix(postfix string) string {
	if postfix == "." || postfix == ".." {
		return ""
	}
	if rest, ok := strings.CutPrefix(postfix, "./"); ok {
		return rest
	}
	return strings.TrimPrefix(postfix, "../")
}

// upstreamPath joins the service's path and the request's: path_handling v0.
func upstreamPath(r *routeEntity, q *routing) string {
	base := "/"
	if r.Upstream != nil && r.Upstream.Path != "" {
		base = r.Upstream.Path
	}
	if strings.HasSuffix(base, "/") {
		switch {
		case !r.StripPath:
			return base + q.uri[min(1, len(q.uri)):]
		case q.postfix == "":
			if base == "/" || strings.HasSuffix(q.uri, "/") {
				return base
			}
			return strings.TrimSuffix(base, "/")
		case strings.HasPrefix(q.postfix, "/"):
			return strings.TrimSuffix(base, "/") + q.postfix
		default:
			return base + q.postfix
		}
	}
	switch {
	case !r.StripPath:
		if q.uri == "/" {
			return base
		}
		return base + q.uri
	case q.postfix == "":
		if len(q.uri) > 1 && strings.HasSuffix(q.uri, "/") {
			return base + "/"
		}
		return base
	case strings.HasPrefix(q.postfix, "/"):
		return base + q.postfix
	default:
		return base + "/" + q.postfix
	}
}

// splitPort splits a host from its port: without port, with port (the default one if it
// has none), and whether it had one.
func splitPort(name, defaultPort string) (host, withPort string, hasPort bool) {
	add := func(host string) string {
		if defaultPort == "" {
			return host
		}
		return host + ":" + defaultPort
	}
	if strings.HasPrefix(name, "[") {
		if strings.HasSuffix(name, "]") {
			return name[1 : len(name)-1], add(name), false
		}
		if i := strings.Index(name, "]:"); i >= 0 {
			if i == len(name)-2 {
				return name[1:i], name + defaultPort, false
			}
			if onlyDigits(name[i+2:]) {
				return name[1:i], name, true
			}
		}
		return name, add(name), false
	}
	host, port, found := strings.Cut(name, ":")
	switch {
	case !found:
		return name, add(name), false
	case port == "":
		return host, add(host), false
	case !onlyDigits(port):
		if defaultPort != "" {
			return name, "[" + name + "]:" + defaultPort, false
		}
		return name, name, false
	}
	return host, name, true
}

func onlyDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
