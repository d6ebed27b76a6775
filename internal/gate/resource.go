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
// names, asked for once; the client's Host header only chooses among these.
func (g *Gate) resource(gw Gateway) *resource {
	if g.fixed != nil {
		return g.fixed
	}
	g.routeOnce.Do(func() {
		route, err := gw.Route()
		if err != nil {
			g.log.Warn("route is unknown, so the resource cannot be derived from its hosts; set resource", "err", err)
			return
		}
		g.derived = deriveResources(route, g.cfg.Metadata)
		if len(g.derived) == 0 {
			g.log.Warn("route has no hosts to derive the resource from; set resource")
		}
	})
	switch len(g.derived) {
	case 0:
		return nil
	case 1:
		return &g.derived[0]
	}
	host, err := gw.Host()
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(g.derived, func(r resource) bool { return r.host == host })
	if i < 0 {
		return nil
	}
	return &g.derived[i]
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
