package gate

import (
	"slices"
	"strings"
)

// Request headers by which gateways, proxies and identity middleware tell upstreams who
// is calling. Whoever believes them believes the client, so they end here (RFC 9700
// §4.13). Dashes stand for underscores too: CGI and WSGI make one name of both.
var (
	identityNames = []string{
		"authorization", // in another spelling: the field itself is replaced
		"x-authorization",
		"x-original-authorization",
		"x-forwarded-authorization",
		"proxy-authorization",
		"dpop",
		"txn-token",
		"x-user",
		"x-user-id",
		"x-email",
		"x-groups",
		"x-roles",
		"x-userinfo",
		"x-id-token",
		"x-access-token",
		"x-jwt-assertion",
		"x-anonymous-consumer",
		"x-forwarded-user",
		"x-forwarded-email",
		"x-forwarded-groups",
		"x-forwarded-preferred-username",
		"x-forwarded-access-token",
		"x-forwarded-id-token",
		"x-forwarded-client-cert",
		"client-cert",
		"client-cert-chain",
		"x-client-cert",
	}
	identityPrefixes = []string{
		"cf-access-",
		"impersonate-",
		"remote-",
		"ssl-client-",
		"tailscale-user-",
		"x-amzn-oidc-",
		"x-auth-",
		"x-authenticated-",
		"x-consumer-",
		"x-credential-",
		"x-goog-authenticated-",
		"x-goog-iap-",
		"x-ms-client-principal",
		"x-remote-",
		"x-ssl-client-",
		"x-webauth-",
	}
	// forwardingNames are set by Kong itself, in this spelling. In another one they come
	// from the client.
	forwardingNames = []string{"x-forwarded-", "x-real-ip", "forwarded"}
)

// identityHeaders returns the names, as received, of the request headers that must not go
// upstream.
func identityHeaders(headers []Header, further []string) []string {
	var out []string
	for i := range headers {
		name := headers[i].Name
		if name == "authorization" { // replaced by the phantom token
			continue
		}
		if isIdentity(name, further) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// dashed is a header name as CGI and WSGI see it: one spelling for all.
func dashed(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

func isIdentity(name string, further []string) bool {
	canonical := dashed(name)
	hasPrefix := func(p string) bool { return strings.HasPrefix(canonical, p) }
	return slices.Contains(identityNames, canonical) ||
		slices.ContainsFunc(identityPrefixes, hasPrefix) ||
		name != canonical && slices.ContainsFunc(forwardingNames, hasPrefix) ||
		slices.ContainsFunc(further, func(f string) bool { return dashed(f) == canonical })
}
