package kongtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"phantomtoken/internal/kongconfig"
)

// router is Kong's traditional router. It is built once for a configuration and then only
// read.
type router struct {
	categories []*category // by weight, then by rule bits
	lookup     map[matchRules]int

	plainHosts    map[string]bool
	wildcardHosts []routeHost
	headerNames   []string
	plainURIs     map[string]bool
	prefixURIs    []string // longest first
	regexURIs     []routeURI
	methods       map[string]bool
}

// matchRules says by what a route matches; the higher bit weighs more.
type matchRules int

const (
	matchHost   matchRules = 0x40
	matchHeader matchRules = 0x20
	matchURI    matchRules = 0x10
	matchMethod matchRules = 0x08
	matchSNI    matchRules = 0x04
)

// Bits by which routes of a category are ordered.
const (
	subRegexURI     = 0x01
	subPlainHosts   = 0x02
	subWildcardPort = 0x04
)

// candidate is a route with one of its paths: a route with several is as many candidates.
type candidate struct {
	route     *routeEntity
	rules     matchRules
	weight    int
	subweight int
	uriLength int
	hosts     []routeHost
	headers   []routeHeader
	uris      []routeURI
	methods   []string
	snis      []string
}

type routeHost struct {
	value string
	regex *regexp.Regexp // of a host with a wildcard
}

type routeHeader struct {
	name    string
	values  []string
	pattern *regexp.Regexp // of a single value "~*…"
}

type routeURI struct {
	value string
	regex *regexp.Regexp // nil for a prefix; its last group is the rest of the path
}

// category holds the candidates that match by the same rules.
type category struct {
	rules     matchRules
	weight    int
	all       []*candidate
	byHost    map[string][]*candidate
	byHeader  map[string][]*candidate
	byURI     map[string][]*candidate
	byMethod  map[string][]*candidate
	bySNIName map[string][]*candidate
}

// routeMatch is the outcome of routing.
type routeMatch struct {
	route       *routeEntity
	prefix      string // what strip_path takes off
	upstreamURI string
	captures    []string
	named       map[string]string
}

// newRouter builds the router of these routes.
func newRouter(routes []*routeEntity) (*router, error) {
	rt := &router{lookup: map[matchRules]int{}, plainHosts: map[string]bool{}, plainURIs: map[string]bool{}, methods: map[string]bool{}}
	var candidates []*candidate
	for _, r := range routes {
		paths := [][]string{r.Paths}
		if len(r.Paths) > 1 {
			paths = nil
			for _, p := range r.Paths {
				paths = append(paths, []string{p})
			}
		}
		for _, p := range paths {
			c, err := newCandidate(r, p)
			if err != nil {
				return nil, err
			}
			candidates = append(candidates, c)
		}
	}
	slices.SortStableFunc(candidates, compareCandidates)
	byRules := map[matchRules]*category{}
	for _, c := range candidates {
		cat := byRules[c.rules]
		if cat == nil {
			cat = &category{
				rules: c.rules, weight: c.weight, byHost: map[string][]*candidate{}, byHeader: map[string][]*candidate{},
				byURI: map[string][]*candidate{}, byMethod: map[string][]*candidate{}, bySNIName: map[string][]*candidate{},
			}
			byRules[c.rules] = cat
			rt.categories = append(rt.categories, cat)
		}
		cat.add(c)
		rt.index(c)
	}
	sort.Slice(rt.categories, func(i, j int) bool {
		a, b := rt.categories[i], rt.categories[j]
		return cmp.Or(b.weight-a.weight, int(b.rules-a.rules)) < 0
	})
	for i, cat := range rt.categories {
		rt.lookup[cat.rules] = i
	}
	slices.SortStableFunc(rt.prefixURIs, func(a, b string) int { return len(b) - len(a) })
	return rt, nil
}

func newCandidate(r *routeEntity, paths []string) (*candidate, error) {
	c := &candidate{route: r}
	rule := func(has bool, bit matchRules) {
		if has {
			c.rules |= bit
			c.weight++
		}
	}
	wildcard := false
	for _, h := range r.Hosts {
		host := routeHost{value: h}
		if strings.Contains(h, "*") {
			wildcard = true
			pattern := strings.ReplaceAll(strings.ReplaceAll(h, ".", `\.`), "*", ".+")
			if _, _, hasPort := splitPort(h, ""); hasPort {
				c.subweight |= subWildcardPort
			} else {
				pattern += `(?::\d+)?`
			}
			re, err := regexp.Compile("^" + pattern + "$")
			if err != nil {
				return nil, fmt.Errorf("route %q: host %q: %w", r.Name, h, err)
			}
			host.regex = re
		}
		c.hosts = append(c.hosts, host)
	}
	rule(len(r.Hosts) > 0, matchHost)
	if len(r.Hosts) > 0 && !wildcard {
		c.subweight |= subPlainHosts
	}
	for _, name := range sortedKeys(r.Headers) {
		h := routeHeader{name: lower(name)}
		for _, v := range r.Headers[name] {
			h.values = append(h.values, lower(v))
		}
		if pattern, ok := strings.CutPrefix(r.Headers[name][0], "~*"); ok && len(r.Headers[name]) == 1 {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return nil, fmt.Errorf("route %q: header %q: %w", r.Name, name, err)
			}
			h.pattern = re
		}
		c.headers = append(c.headers, h)
	}
	rule(len(c.headers) > 0, matchHeader)
	for _, p := range paths {
		uri := routeURI{value: p}
		if pattern, ok := strings.CutPrefix(p, "~"); ok {
			re, err := regexp.Compile("^(?:" + pattern + ")(.*)")
			if err != nil {
				return nil, fmt.Errorf("route %q: path %q: %w", r.Name, p, err)
			}
			uri.value, uri.regex = pattern, re
			c.subweight |= subRegexURI
		} else {
			c.uriLength = max(c.uriLength, len(p))
		}
		c.uris = append(c.uris, uri)
	}
	rule(len(paths) > 0, matchURI)
	c.methods = r.Methods
	rule(len(r.Methods) > 0, matchMethod)
	for _, sni := range r.SNIs {
		c.snis = append(c.snis, strings.TrimSuffix(sni, "."))
	}
	rule(len(r.SNIs) > 0, matchSNI)
	return c, nil
}

func compareCandidates(a, b *candidate) int {
	regexPriority := 0
	if a.subweight&subRegexURI != 0 {
		regexPriority = b.route.RegexPriority - a.route.RegexPriority
	}
	return cmp.Or(b.subweight-a.subweight, len(b.headers)-len(a.headers), regexPriority, b.uriLength-a.uriLength)
}

func (cat *category) add(c *candidate) {
	cat.all = append(cat.all, c)
	for _, h := range c.hosts {
		cat.byHost[h.value] = append(cat.byHost[h.value], c)
	}
	for _, h := range c.headers {
		cat.byHeader[h.name] = append(cat.byHeader[h.name], c)
	}
	for _, u := range c.uris {
		cat.byURI[u.value] = append(cat.byURI[u.value], c)
	}
	for _, m := range c.methods {
		cat.byMethod[m] = append(cat.byMethod[m], c)
	}
	for _, s := range c.snis {
		cat.bySNIName[s] = append(cat.bySNIName[s], c)
	}
}

func (rt *router) index(c *candidate) {
	for _, h := range c.hosts {
		if h.regex != nil {
			rt.wildcardHosts = append(rt.wildcardHosts, h)
		} else {
			rt.plainHosts[h.value] = true
		}
	}
	for _, h := range c.headers {
		if !slices.Contains(rt.headerNames, h.name) {
			rt.headerNames = append(rt.headerNames, h.name)
		}
	}
	for _, u := range c.uris {
		if u.regex != nil {
			rt.regexURIs = append(rt.regexURIs, u)
		} else {
			rt.plainURIs[u.value] = true
			rt.prefixURIs = append(rt.prefixURIs, u.value)
		}
	}
	for _, m := range c.methods {
		rt.methods[m] = true
	}
}

// routing is one request being routed: what it hits and what a candidate makes of it.
type routing struct {
	method, uri, scheme, sni   string
	host, hostNoPort, hostPort string
	headers                    headerTable
	hitHost, hitURI, hitHeader string
	prefix, postfix            string
	captures                   []string
	named                      map[string]string
}

// find routes a request.
func (rt *router) find(x *exchange) (routeMatch, bool) {
	path := x.head.uri
	if i := strings.IndexByte(path, '?'); i > 0 {
		path = path[:i]
	}
	q := &routing{method: x.method, uri: kongconfig.NormalizePath(path), scheme: x.conn.scheme(), headers: x.original}
	if x.conn.tls != nil {
		q.sni = x.conn.tls.ServerName
	}
	q.host, _ = x.header("host")
	port := "80"
	if q.scheme == "https" {
		port = "443"
	}
	q.hostNoPort, q.hostPort, _ = splitPort(q.host, port)

	rules := rt.hits(q)
	if rules == 0 {
		return routeMatch{}, false
	}
	for _, cat := range rt.categories[rt.lookup[rules]:] {
		c := cat.match(q)
		if c == nil {
			continue
		}
		m := routeMatch{route: c.route, captures: q.captures, named: q.named}
		if c.route.StripPath {
			m.prefix = q.prefix
		}
		m.upstreamURI = upstreamPath(c.route, q)
		return m, true
	}
	return routeMatch{}, false
}

// hits finds out by which rules any route at all could match.
func (rt *router) hits(q *routing) (rules matchRules) {
	for _, name := range rt.headerNames {
		if _, ok := q.headers[name]; ok && q.hitHeader == "" {
			q.hitHeader = name
			rules |= matchHeader
		}
	}
	if rt.plainHosts[q.hostPort] || rt.plainHosts[q.hostNoPort] {
		rules |= matchHost
	} else if i := slices.IndexFunc(rt.wildcardHosts, func(h routeHost) bool { return h.regex.MatchString(q.hostPort) }); i >= 0 {
		q.hitHost = rt.wildcardHosts[i].value
		rules |= matchHost
	}
	if i := slices.IndexFunc(rt.regexURIs, func(u routeURI) bool { return u.regex.MatchString(q.uri) }); i >= 0 {
		q.hitURI = rt.regexURIs[i].value
	} else if rt.plainURIs[q.uri] {
		q.hitURI = q.uri
	} else if i := slices.IndexFunc(rt.prefixURIs, func(p string) bool { return strings.HasPrefix(q.uri, p) }); i >= 0 {
		q.hitURI = rt.prefixURIs[i]
	}
	if q.hitURI != "" {
		rules |= matchURI
	}
	if rt.methods[q.method] {
		rules |= matchMethod
	}
	if q.sni != "" && slices.ContainsFunc(rt.categories, func(c *category) bool { return len(c.bySNIName[q.sni]) > 0 }) {
		rules |= matchSNI
	}
	return rules
}
