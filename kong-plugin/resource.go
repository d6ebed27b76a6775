package main

import (
	"path"
	"strings"

	"phantomtoken/internal/oauth"
)

// resource is the protected resource and what its metadata says.
func (c *Config) resource(p *problems, scopes oauth.Scopes) (oauth.Resource, oauth.ProtectedResourceMetadata) {
	m := c.Metadata
	servers := c.AuthorizationServers
	if len(servers) == 0 && c.Token.Issuer != "" {
		servers = []string{c.Token.Issuer}
	}
	metadata := oauth.ProtectedResourceMetadata{
		AuthorizationServers:  servers,
		ScopesSupported:       m.ScopesSupported,
		ResourceName:          m.ResourceName,
		ResourceDocumentation: m.ResourceDocumentation,
		ResourcePolicyURI:     m.ResourcePolicyURI,
		ResourceTOSURI:        m.ResourceTOSURI,
	}
	if len(m.ScopesSupported) == 0 {
		metadata.ScopesSupported = scopes // the minimum, as MCP wants
	}
	for _, scope := range m.ScopesSupported {
		if scope == "" || strings.Contains(scope, " ") {
			p.add("metadata.scopes_supported", "expected one scope in each entry, got %q", scope)
			continue
		}
		p.scopes("metadata.scopes_supported", scope)
	}
	p.link("metadata.resource_documentation", m.ResourceDocumentation)
	p.link("metadata.resource_policy_uri", m.ResourcePolicyURI)
	p.link("metadata.resource_tos_uri", m.ResourceTOSURI)
	p.between("metadata.max_age_seconds", m.MaxAgeSeconds, 0, 86400)
	for _, server := range c.AuthorizationServers {
		p.issuer("authorization_servers", server)
	}
	if c.Resource == "" {
		return oauth.Resource{}, metadata
	}
	if len(servers) == 0 {
		p.add("authorization_servers", "expected at least one issuer with resource, or token.issuer, got neither: clients learn from the metadata where to get a token")
	}
	if p.hasUser("resource", c.Resource) {
		return oauth.Resource{}, metadata
	}
	resource, err := oauth.ParseResource(c.Resource)
	if err != nil {
		p.check("resource", err)
		return oauth.Resource{}, metadata
	}
	p.transport("resource", c.Resource)
	switch served := resource.Path(); {
	case served == "":
	case served != path.Clean(served) || strings.Contains(strings.ToLower(served), "%2e"):
		p.add("resource", "expected a path as requests have it, without empty or dot segments, got %q", served)
	case served == "/.well-known" || strings.HasPrefix(served, "/.well-known/"):
		p.add("resource", "expected the URL of the protected resource, got %q, whose path belongs to metadata that needs no token", c.Resource)
	}
	return resource, metadata
}
