package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
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
		"advisor:9300":         r.advisor,
		"stocks-api:9100":      r.api,
	}, nil
}

// policy is the policy file of docker-compose.yml with the addresses of this run.
func (r *run) policy(ctx context.Context) (file string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(root, "deploy", "sidecar", "policy.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading the policy file: %w", err)
	}
	file = filepath.Join(r.folder, "policy.yaml")
	data = bytes.ReplaceAll(data, []byte("stocks-api:9100"), []byte(r.apiForEgress))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return "", fmt.Errorf("writing the policy file: %w", err)
	}
	return file, nil
}
