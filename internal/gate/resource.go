package gate

import (
	"encoding/json"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// resource is one protected resource as this gate publishes it.
type resource struct {
	id       oauth.Resource
	path     string // of the metadata
	host     string // of the route, for a derived resource
	document []byte // protected resource metadata; nil when no authorization server is known
}

func newResource(id oauth.Resource, metadata oauth.ProtectedResourceMetadata) *resource {
	r := &resource{id: id, path: id.MetadataPath()}
	if len(metadata.AuthorizationServers) == 0 {
		return r
	}
	metadata.Resource = id.String()
	metadata.BearerMethodsSupported = []string{"header"}
	if doc, err := json.Marshal(metadata); err == nil { // strings only: cannot fail
		r.document = doc
	}
	return r
}

// resource is the protected resource that a request addresses, or nil when it is not
// known. Without a configured one it is derived from the hosts that the route itself
// names; the client's Host header only chooses among these.
func (g *Gate) resource(gw Gateway) *resource {
	if g.fixed != nil {
		return g.fixed
	}
	route, err := gw.Route()
	if err != nil {
		g.log.Debug("route is unknown, so the resource cannot be derived from its hosts; set resource", "err", err)
		return nil
	}
	derived := g.resourcesOf(route)
	switch len(derived) {
	case 0:
		return nil
	case 1:
		return &derived[0]
	}
	host, err := gw.Host()
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(derived, func(r resource) bool { return r.host == host })
	if i < 0 {
		return nil
	}
	return &derived[i]
}

// resourcesOf remembers what it made of a route: a plugin of a service sees several, but
// no more than the gateway's configuration has.
func (g *Gate) resourcesOf(route Route) []resource {
	key := strings.Join(route.Hosts, " ") + "\n" + strings.Join(route.Paths, " ")
	if known, ok := g.derived.Load(key); ok {
		return known.([]resource)
	}
	derived := deriveResources(route, g.cfg.Metadata)
	if _, loaded := g.derived.LoadOrStore(key, derived); !loaded && len(derived) == 0 {
		g.log.Warn("route has no hosts to derive the resource from; set resource")
	}
	return derived
}

// deriveResources makes one resource of each host of the route. A wildcard host is none:
// the client would choose the name.
func deriveResources(route Route, metadata oauth.ProtectedResourceMetadata) []resource {
	path := ""
	plain := slices.DeleteFunc(slices.Clone(route.Paths), func(p string) bool {
		return strings.HasPrefix(p, "~") || strings.HasPrefix(p, "/.well-known/")
	})
	if len(plain) == 1 {
		path = plain[0]
	}
	var out []resource
	for _, host := range route.Hosts {
		if strings.Contains(host, "*") {
			continue
		}
		name := host
		if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
			name = host[:i]
		}
		id, err := oauth.ParseResource("https://" + host + path)
		if err != nil {
			continue
		}
		r := newResource(id, metadata)
		r.host = strings.ToLower(name)
		out = append(out, *r)
	}
	return out
}
