package oauth

// Request header fields by which gateways, proxies and identity middleware tell upstreams who
// is calling. Whoever believes them believes the client, so they end at the first component
// that knows better (RFC 9700 §4.13).

// IsIdentityField reports whether a request field says who is calling, or is a credential. The
// name may be written as [FieldHasPrefix] allows.
func IsIdentityField(name string) bool {
	if name == "" {
		return false
	}
	first := name[0] | 0x20 // in lower case; it saves most comparisons
	for _, n := range identityNames() {
		if len(name) == len(n) && first == n[0] && FieldHasPrefix(name, n) {
			return true
		}
	}
	for _, p := range identityPrefixes() {
		if first == p[0] && FieldHasPrefix(name, p) {
			return true
		}
	}
	return false
}

// IsForwardingField reports whether a request field says which way a request came, as
// proxies add it. The name may be written as [FieldHasPrefix] allows.
func IsForwardingField(name string) bool {
	return FieldHasPrefix(name, "x-forwarded-") || FieldHasPrefix(name, "x-real-ip") || FieldHasPrefix(name, "forwarded")
}

// FieldHasPrefix reports whether a field name begins with prefix, which is in lower case and
// has dashes only. The name may be in any case and have underscores for dashes: CGI and WSGI
// make one name of both.
func FieldHasPrefix(name, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
			c = '-'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

func identityNames() [27]string {
	return [...]string{
		"authorization",
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
}

func identityPrefixes() [17]string {
	return [...]string{
		"cf-access-",
		"impersonate-",
		"phantom-", // the sidecar's own: Phantom-Tool names the tool of a call
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
}
