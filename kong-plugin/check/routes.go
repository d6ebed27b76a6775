package check

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"phantomtoken/internal/kongconfig"
	"phantomtoken/internal/oauth"
)

// routing answers which route takes a request and which block of the plugin runs on it.
// It follows Kong's traditional router as far as hosts, paths and methods go.
type routing struct {
	routes []*kongconfig.Route
	blocks []*kongconfig.Plugin
}

func newRouting(doc *kongconfig.Declarative, plugin string) *routing {
	r := &routing{}
	for _, route := range doc.Routes {
		if route.Upstream == nil || route.Upstream.Enabled {
			r.routes = append(r.routes, route)
		}
	}
	for _, p := range doc.Plugins {
		if p.Name == plugin && p.Enabled {
			r.blocks = append(r.blocks, p)
		}
	}
	return r
}

// of returns the routes on which a block runs.
func (r *routing) of(p *kongconfig.Plugin) []*kongconfig.Route {
	var out []*kongconfig.Route
	for _, route := range r.routes {
		if r.runs(route) == p {
			out = append(out, route)
		}
	}
	return out
}

// runs returns the block that runs on a route: of several the one that says most about
// where it belongs.
func (r *routing) runs(route *kongconfig.Route) *kongconfig.Plugin {
	if route == nil {
		return nil
	}
	for _, scope := range [][2]string{{route.ID, route.Service}, {route.ID, ""}, {"", route.Service}, {"", ""}} {
		for _, p := range r.blocks {
			if p.Route == scope[0] && p.Service == scope[1] {
				return p
			}
		}
	}
	return nil
}

// takes returns the route that takes a request, nil if none does.
func (r *routing) takes(method, host, path string) *kongconfig.Route {
	var best *kongconfig.Route
	var bestRank []int
	for _, route := range r.routes {
		if rank := match(route, method, host, path); rank != nil && (best == nil || slices.CompareFunc(rank, bestRank, cmp.Compare[int]) > 0) {
			best, bestRank = route, rank
		}
	}
	return best
}

// match returns how a route ranks for a request, nil if it does not match: the number of
// its criteria, then expression before prefix, plain host before wildcard, the priority of
// expressions, the length of the prefix.
func match(route *kongconfig.Route, method, host, path string) []int {
	criteria, plainHost, regex, priority, length := 0, 0, 0, 0, 0
	if len(route.Hosts) > 0 {
		if !slices.ContainsFunc(route.Hosts, func(h string) bool { return matchHost(h, host) }) {
			return nil
		}
		criteria++
		if !slices.ContainsFunc(route.Hosts, func(h string) bool { return strings.Contains(h, "*") }) {
			plainHost = 1
		}
	}
	if len(route.Headers) > 0 {
		return nil // no client sends them of its own accord
	}
	if len(route.Methods) > 0 {
		if !slices.Contains(route.Methods, method) {
			return nil
		}
		criteria++
	}
	if len(route.Paths) > 0 {
		matched := false
		for _, p := range route.Paths {
			isRegex, ok := matchPath(p, path)
			switch {
			case !ok:
			case isRegex:
				matched, regex, priority = true, 1, route.RegexPriority
			default:
				matched, length = true, max(length, len(p))
			}
		}
		if !matched {
			return nil
		}
		criteria++
	}
	return []int{criteria, regex, plainHost, priority, length}
}

// matchHost compares a host of a route, which may have a wildcard and a port, with a host
// of a URL.
func matchHost(pattern, host string) bool {
	pattern, host = strings.ToLower(pattern), strings.ToLower(host)
	name, port, err := net.SplitHostPort(pattern)
	if err != nil {
		name, port = pattern, ""
	}
	hostName, hostPort, err := net.SplitHostPort(host)
	if err != nil {
		hostName, hostPort = host, ""
	}
	if port != "" && hostPort != "" && port != hostPort {
		return false
	}
	before, after, wildcard := strings.Cut(name, "*")
	if !wildcard {
		return name == hostName
	}
	return len(hostName) > len(before)+len(after) && strings.HasPrefix(hostName, before) && strings.HasSuffix(hostName, after)
}

// matchPath compares a path of a route with one of a request. An expression that only
// PCRE knows counts as a match: nothing can be said of it.
func matchPath(pattern, path string) (isRegex, ok bool) {
	expression, isRegex := strings.CutPrefix(pattern, "~")
	path = kongconfig.NormalizePath(path)
	if !isRegex {
		return false, strings.HasPrefix(path, pattern)
	}
	re, err := regexp.Compile("^(?:" + expression + ")")
	return true, err != nil || re.MatchString(path)
}

// resources are the protected resources of a block: the configured one, or those derived
// from the hosts of its routes.
func (b *block) resources(r *routing) []oauth.Resource {
	if b.settings.Resource != "" {
		resource, err := oauth.ParseResource(b.settings.Resource)
		if err != nil {
			return nil // a problem of its own
		}
		return []oauth.Resource{resource}
	}
	var out []oauth.Resource
	for _, route := range r.of(b.plugin) {
		path := ""
		plain := slices.DeleteFunc(slices.Clone(route.Paths), func(p string) bool {
			return strings.HasPrefix(p, "~") || strings.HasPrefix(p, "/.well-known/")
		})
		if len(plain) == 1 {
			path = plain[0]
		}
		for _, host := range route.Hosts {
			if resource, err := oauth.ParseResource("https://" + host + path); err == nil && !strings.Contains(host, "*") {
				out = append(out, resource)
			}
		}
	}
	return out
}

// published reports whether the block publishes metadata: it knows an authorization
// server, and where none is listed that is the issuer of the tokens.
func (b *block) published() bool {
	return len(b.settings.AuthorizationServers) > 0 || b.settings.Token.Issuer != ""
}

// reachable checks that requests for the resource and for what is published about it come
// to the block.
func (c *checker) reachable(b *block, r *routing) {
	routes := r.of(b.plugin)
	if len(routes) == 0 {
		c.add(Warning, b.plugin.At, "expected a route on which this block runs, got none")
		b.unreached = true
		return
	}
	c.derivable(b, routes)
	for _, resource := range b.resources(r) {
		u, err := url.Parse(resource.String())
		if err != nil {
			continue
		}
		path := u.EscapedPath()
		if path == "" {
			path = "/"
		}
		methods := []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodPut, http.MethodPatch}
		// The resource itself, or what is below it: the identifier of an API is often no page.
		taken := slices.ContainsFunc(methods, func(m string) bool {
			return r.runs(r.takes(m, u.Host, path)) == b.plugin || r.runs(r.takes(m, u.Host, strings.TrimSuffix(path, "/")+"/")) == b.plugin
		})
		if !taken {
			c.missed(Problem, b, r, methods[0], u.Host, path, "resource", "the protected resource itself")
		} else if b.settings.CORS.Enabled && b.published() && r.runs(r.takes(http.MethodPost, u.Host, path)) == b.plugin &&
			r.runs(r.takes(http.MethodOptions, u.Host, path)) != b.plugin {
			c.missed(Warning, b, r, http.MethodOptions, u.Host, path, "resource", "preflights of browsers")
		}
		if b.published() && r.runs(r.takes(http.MethodGet, u.Host, resource.MetadataPath())) != b.plugin {
			c.missed(Problem, b, r, http.MethodGet, u.Host, resource.MetadataPath(), "resource", "its metadata (RFC 9728 §3.1)")
			b.unreached = true
		}
		c.issuerPaths(b, r, u)
	}
}

// derivable: without resource the hosts of every route must say what it is.
func (c *checker) derivable(b *block, routes []*kongconfig.Route) {
	if b.settings.Resource != "" || len(b.settings.Token.Audience) > 0 || b.settings.Token.AudienceCheck == "off" {
		return
	}
	for _, route := range routes {
		if !slices.ContainsFunc(route.Hosts, func(h string) bool { return !strings.Contains(h, "*") }) {
			c.add(Problem, b.field("resource"), "expected a URL, since %s has no hosts to derive it from, got none: tokens that name an audience get 500", route.At)
			return
		}
	}
}

// issuerPaths: upstreams look for the keys of minted tokens below the issuer.
func (c *checker) issuerPaths(b *block, r *routing, resource *url.URL) {
	t := b.settings.PhantomToken
	issuer, err := url.Parse(t.Issuer)
	if err != nil || t.Issuer == "" || t.SigningKey == "" && t.SigningKeyFile == "" || !strings.EqualFold(issuer.Host, resource.Host) {
		return
	}
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	for _, document := range []string{path + "/jwks.json", path + oauth.WellKnownOpenIDConfiguration} {
		if r.runs(r.takes(http.MethodGet, issuer.Host, document)) != b.plugin {
			c.missed(Warning, b, r, http.MethodGet, issuer.Host, document, "phantom_token.issuer", "a document of the issuer of phantom tokens")
		}
	}
}

// missed notes a request that does not come to the block.
func (c *checker) missed(severity Severity, b *block, r *routing, method, host, path, field, what string) {
	got := "no route does"
	if route := r.takes(method, host, path); route != nil {
		got = "it goes to " + route.At
		if route.Name != "" {
			got += " (" + route.Name + ")"
		}
		if r.runs(route) == nil {
			got += ", which is open"
		} else {
			got += ", where another block runs"
		}
	}
	c.add(severity, b.field(field), "expected a route of this block to take %s %s on host %s, %s; %s: add the path to a route of this block", method, path, host, what, got)
}

// roots checks who serves the metadata at the well-known path without a suffix: clients
// that ask there get one document for the whole host.
func (c *checker) roots(blocks []*block, r *routing) {
	type claim struct {
		block    *block
		resource string
	}
	claims := map[string][]claim{} // by host
	var silent []claim
	for _, b := range blocks {
		if !b.published() || !b.settings.Metadata.AtRoot || b.unreached {
			continue
		}
		for _, resource := range b.resources(r) {
			u, err := url.Parse(resource.String())
			if err != nil || resource.Path() == "" { // its own path is the root
				continue
			}
			host := strings.ToLower(u.Host)
			mine := claim{b, resource.String()}
			if !slices.ContainsFunc(r.of(b.plugin), func(route *kongconfig.Route) bool {
				return match(route, http.MethodGet, host, oauth.WellKnownProtectedResource) != nil
			}) {
				silent = append(silent, mine)
				continue
			}
			for _, other := range claims[host] {
				if other.resource != mine.resource {
					c.add(Problem, b.field("metadata.at_root"),
						"expected one block to serve %s on host %s, got a second one, for %s, beside %s for %s; set metadata.at_root to false where the host has several resources",
						oauth.WellKnownProtectedResource, host, mine.resource, other.block.plugin.At, other.resource)
					break
				}
			}
			claims[host] = append(claims[host], mine)
		}
	}
	for _, s := range silent {
		u, err := url.Parse(s.resource)
		if err != nil || len(claims[strings.ToLower(u.Host)]) > 0 {
			continue
		}
		c.missed(Warning, s.block, r, http.MethodGet, u.Host, oauth.WellKnownProtectedResource, "metadata.at_root",
			"where clients look that do not know the path of the resource")
	}
}
