package check

import (
	"slices"
	"strings"

	"phantomtoken/internal/kongconfig"
)

// aclPlugin is Kong's plugin for access lists, which has to be told of groups in the right
// way.
const aclPlugin = "acl"

// beside checks the block against Kong's own plugins on its routes, where nothing in the
// file could make it right.
func (c *checker) beside(b *block, r *routing) {
	c.consumers(b)
	said := map[*kongconfig.Plugin]bool{} // one block of acl may run on many routes
	for _, route := range r.of(b.plugin) {
		acl := c.runs(aclPlugin, route)
		if acl == nil || said[acl] {
			continue
		}
		said[acl] = true
		c.acl(b, acl, route)
	}
}

// acl checks what acl would make of the callers of the block. It follows the plugin's
// source: groups of the token count where there is neither consumer nor credential, or where
// acl was told to use them always. An id of a consumer that is empty is looked up and ends
// the request with a 500.
func (c *checker) acl(b *block, acl *kongconfig.Plugin, route *kongconfig.Route) {
	id := b.settings.Identity
	always := acl.Config["always_use_authenticated_groups"] == true
	ofToken := acl.At + ".config.always_use_authenticated_groups"
	switch {
	case id.CredentialClaim != "" && id.ConsumerClaim == "" && !always:
		c.add(Problem, ofToken, "expected true beside identity.credential_claim of %s, got false: a caller has no consumer whose groups acl could look up, and every request ends with a 500", b.plugin.At)
	case id.CredentialClaim != "" && id.ConsumerClaim == "" && id.GroupsClaim == "":
		c.add(Warning, b.field("identity.groups_claim"), "expected a claim with the groups for acl (%s), got nothing: unless another plugin tells it of some, every request ends with a 500", acl.At)
	case id.ConsumerClaim != "" && id.CredentialClaim != "" && id.GroupsClaim != "" && !always:
		c.add(Warning, ofToken, "expected true beside identity.groups_claim of %s, got false: acl uses the groups of the consumer and not those of the token", b.plugin.At)
	case id.ConsumerClaim == "" && id.GroupsClaim == "" && c.alone(route):
		c.add(Warning, b.field("identity.groups_claim"), "expected a claim with the groups for acl (%s), or identity.consumer_claim, got neither: acl answers 401 to every request", acl.At)
	}
}

// alone reports whether no plugin on the route can tell acl who is calling.
func (c *checker) alone(route *kongconfig.Route) bool {
	silent := strings.Fields("acl bot-detection correlation-id cors file-log http-log ip-restriction loggly opentelemetry " +
		"prometheus rate-limiting request-size-limiting request-termination request-transformer response-ratelimiting " +
		"response-transformer statsd syslog tcp-log udp-log zipkin")
	return !slices.ContainsFunc(c.doc.Plugins, func(p *kongconfig.Plugin) bool {
		return p.Name != c.Plugin && !slices.Contains(silent, p.Name) && c.runs(p.Name, route) != nil
	})
}

// runs returns the block of a plugin that runs on a route for every caller, nil if none does.
func (c *checker) runs(name string, route *kongconfig.Route) *kongconfig.Plugin {
	for _, scope := range [][2]string{{route.ID, route.Service}, {route.ID, ""}, {"", route.Service}, {"", ""}} {
		for _, p := range c.doc.Plugins {
			if p.Name == name && p.Enabled && p.Consumer == "" && p.Route == scope[0] && p.Service == scope[1] {
				return p
			}
		}
	}
	return nil
}

// consumers checks that there can be a consumer for somebody. Where Kong has a database they
// may stand there instead.
func (c *checker) consumers(b *block) {
	id := b.settings.Identity
	if id.ConsumerClaim == "" {
		return
	}
	field, what := "identity.consumer_claim", "consumers with usernames"
	if id.ConsumerTag != "" {
		field, what = "identity.consumer_tag", "consumers with usernames and this tag"
	}
	if slices.ContainsFunc(c.doc.Consumers, func(consumer *kongconfig.Consumer) bool {
		return consumer.Username != "" && (id.ConsumerTag == "" || slices.Contains(consumer.Tags, id.ConsumerTag))
	}) {
		return
	}
	then := "every request is refused"
	if id.ConsumerOptional {
		then = "no request has a consumer"
	}
	c.add(Warning, b.field(field), "expected %s in this file, got none: without a database %s", what, then)
}
