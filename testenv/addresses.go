package testenv

import (
	"fmt"
	"net/url"
)

// addresses maps what kong.yml says to what stands there in this run: the gateway and the
// parts on loopback, and the authorization server in the place of Keycloak.
func (r *run) addresses() (map[string]string, error) {
	const realm = "/realms/mcp"
	issuer, err := url.Parse(r.issuer)
	if err != nil || issuer.Host == "" {
		return nil, fmt.Errorf("replacing addresses in kong.yml: expected the URL of the issuer, got %q", r.issuer)
	}
	return map[string]string{
		"localhost:8000":                r.gateway,
		"kong:8000":                     r.gateway,
		"http://localhost:8180" + realm: r.issuer,
		"localhost:8180":                issuer.Host,
		"http://keycloak:8080" + realm + "/protocol/openid-connect/token/introspect": r.introspection,
		"http://keycloak:8080": issuer.Scheme + "://" + issuer.Host,
		"mcp-server:9000":      r.mcpServer,
		"stocks-api:9100":      r.api,
	}, nil
}
