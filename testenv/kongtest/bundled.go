package kongtest

import (
	"strings"

	"phantomtoken/internal/kongconfig"
)

// bundledPlugins are the names of Kong's own plugins.
func bundledPlugins() map[string]bool {
	const names = "jwt acl correlation-id cors oauth2 tcp-log udp-log file-log http-log key-auth hmac-auth " +
		"basic-auth ip-restriction request-transformer response-transformer request-size-limiting rate-limiting " +
		"response-ratelimiting syslog loggly datadog ldap-auth statsd bot-detection aws-lambda request-termination " +
		"prometheus proxy-cache session acme grpc-gateway grpc-web pre-function post-function azure-functions zipkin " +
		"opentelemetry ai-proxy ai-prompt-decorator ai-prompt-template ai-prompt-guard ai-request-transformer " +
		"ai-response-transformer standard-webhooks redirect"
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

// standIns are those of Kong's own plugins that decide by who is calling, as far as that
// goes. They are always enabled, like the bundled plugins of Kong, and refuse every setting
// beside these.
func standIns() ([]*plugin, error) {
	limits := newRateLimits()
	var plugins []*plugin
	for _, p := range []struct {
		name     string
		priority int
		schema   string
		access   func(x *exchange, config map[string]any) error
	}{
		{"acl", 950, `{"name":"acl","fields":[{"config":{"type":"record","fields":[
			{"allow":{"type":"array","elements":{"type":"string"}}},
			{"deny":{"type":"array","elements":{"type":"string"}}},
			{"hide_groups_header":{"type":"boolean","required":true,"default":false}},
			{"always_use_authenticated_groups":{"type":"boolean","required":true,"default":false}}
		],"entity_checks":[{"only_one_of":["allow","deny"]},{"at_least_one_of":["allow","deny"]}]}}]}`, accessList},
		{"rate-limiting", 910, `{"name":"rate-limiting","fields":[{"config":{"type":"record","fields":[
			{"minute":{"type":"integer","required":true,"gt":0}},
			{"limit_by":{"type":"string","default":"consumer","one_of":["consumer","credential","ip"]}},
			{"policy":{"type":"string","default":"local","one_of":["local"]}}
		]}}]}`, limits.access},
	} {
		schema, err := kongconfig.NewSchema([]byte(p.schema))
		if err != nil {
			return nil, err
		}
		plugins = append(plugins, &plugin{name: p.name, priority: p.priority, schema: schema, access: p.access})
	}
	return plugins, nil
}
