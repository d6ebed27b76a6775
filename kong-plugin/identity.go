package main

import (
	"cmp"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/internal/gate"
	"phantomtoken/kong-plugin/pluginserver"
)

// identity says what Kong's own plugins are told of the caller.
func (c *Config) identity(p *problems) gate.Identity {
	i := c.Identity
	if i.ConsumerClaim == "" {
		const needs = "expected together with identity.consumer_claim, got it alone"
		if i.ConsumerTag != "" {
			p.add("identity.consumer_tag", needs)
		}
		if i.ConsumerOptional {
			p.add("identity.consumer_optional", needs)
		}
	}
	if i.ConsumerOptional && i.CredentialClaim == "" {
		p.add("identity.consumer_optional", "expected together with identity.credential_claim, got it alone: Kong's acl answers 401 to whoever has neither consumer nor credential, and rate-limiting counts them by address")
	}
	if i.ConsumerClaim != "" && c.Token.Issuer == "" && len(c.AuthorizationServers) != 1 {
		p.add("identity.consumer_claim", "expected one issuer, token.issuer or a single one of authorization_servers, got %d: a username names one person at one issuer only", len(c.AuthorizationServers))
	}
	return gate.Identity{
		ConsumerClaim: i.ConsumerClaim, ConsumerTag: i.ConsumerTag, ConsumerOptional: i.ConsumerOptional,
		CredentialClaim: i.CredentialClaim, GroupsClaim: i.GroupsClaim,
		Issuer: c.assumedIssuer(),
	}
}

// assumedIssuer is whose tokens these are where an answer does not say so. It stays the same
// as long as the provider does, since counters hang on it.
func (c *Config) assumedIssuer() string {
	only := ""
	if len(c.AuthorizationServers) == 1 {
		only = c.AuthorizationServers[0]
	}
	return cmp.Or(c.Token.Issuer, only, c.IntrospectionEndpoint)
}

// changeableClaims are those that no one may be recognized by (OpenID Connect Core §5.7).
func changeableClaims() []string {
	return []string{
		"preferred_username", "username", "email", "name", "given_name", "family_name", "nickname",
		"phone_number", "upn", "unique_name",
	}
}

// identity are the calls that tell Kong's own plugins who is calling. They come after the
// changes of headers, of which none depends on them.
func identity(c *gate.Caller) []pluginserver.Call {
	if c == nil {
		return nil
	}
	var calls []pluginserver.Call
	var consumer *kong_plugin_protocol.Consumer
	if c.Consumer != nil {
		consumer = &kong_plugin_protocol.Consumer{
			Id: c.Consumer.ID, Username: c.Consumer.Username, CustomId: c.Consumer.CustomID,
			CreatedAt: c.Consumer.CreatedAt, Tags: c.Consumer.Tags,
		}
	}
	var credential *kong_plugin_protocol.AuthenticatedCredential
	if c.Credential != "" {
		credential = &kong_plugin_protocol.AuthenticatedCredential{Id: c.Credential, ConsumerId: c.CredentialConsumer}
	}
	if consumer != nil || credential != nil {
		calls = append(calls, pluginserver.Authenticate(consumer, credential))
	}
	if c.Groups != nil {
		calls = append(calls, pluginserver.SetAuthenticatedGroups(c.Groups))
	}
	return calls
}
