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
		"proxy-authorization",
		"dpop",
		"txn-token",
		"remote-user",
		"x-remote-user",
		"x-user",
		"x-user-id",
		"x-email",
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
		"ssl-client-cert",
		"x-ssl-client-cert",
		"x-original-authorization",
	}
	identityPrefixes = []string{
		"x-consumer-",
		"x-credential-",
		"x-authenticated-",
		"x-auth-request-",
		"x-ssl-client-",
	}
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
		dashed := strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if isIdentity(dashed, further) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func isIdentity(dashed string, further []string) bool {
	if slices.Contains(identityNames, dashed) {
		return true
	}
	for _, p := range identityPrefixes {
		if strings.HasPrefix(dashed, p) {
			return true
		}
	}
	return slices.ContainsFunc(further, func(f string) bool {
		return strings.ReplaceAll(strings.ToLower(f), "_", "-") == dashed
	})
}
