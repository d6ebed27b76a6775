package testenv

import (
	"fmt"
	"net/url"
)

// Provider is an authorization server outside of a stack. All fields are required. It must
// accept the MCP URL as the audience of its tokens, api-gateway-client as the client that
// introspects them, and put region into its answers.
type Provider struct {
	// Issuer is its issuer URL.
	Issuer string
	// IntrospectionEndpoint is where the gateway asks about tokens (RFC 7662).
	IntrospectionEndpoint string
	// ClientSecret is the secret of api-gateway-client.
	ClientSecret string
}

// useProvider is what startAuthServer does when there is one already.
func (r *run) useProvider() error {
	issuer, err := url.Parse(r.opts.Provider.Issuer)
	if err != nil {
		return fmt.Errorf("authorization server: %w", err)
	}
	r.stack.Recorder.Name(issuer.Host, AuthServer)
	r.issuer, r.introspection = r.opts.Provider.Issuer, r.opts.Provider.IntrospectionEndpoint
	r.gatewaySecret = r.opts.Provider.ClientSecret
	r.stack.Secrets = append(r.stack.Secrets, r.gatewaySecret)
	return nil
}
