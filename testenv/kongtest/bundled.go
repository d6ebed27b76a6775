package kongtest

import "strings"

// bundledPlugins are Kong's own, none of which is modelled.
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
