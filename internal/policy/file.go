package policy

import "time"

const (
	minLifetime = 10 * time.Second
	maxLifetime = time.Hour
	// maxScopes keeps the work of comparing sets small; it is the bound of oauth.ParseScopes.
	maxScopes = 1000
)

// fileShape is the one description of the policy file.
func fileShape() *shape {
	return &shape{
		kind: kindObject,
		what: "a policy: a mapping with version and callers",
		// The file may be another one than was meant: a key, or one with secrets.
		private: true,
		doc:     "Who may exchange which tokens, for what, with which scopes",
		fields: []field{
			{"version", true, &shape{kind: kindInteger, least: 1, most: 1, private: true, doc: "Version of the format of this file"}},
			{"limits", false, limitsShape()},
			{"audiences", false, &shape{kind: kindMapping, what: "a mapping of audiences", doc: "What can be reached; the key is aud of the issued tokens, byte by byte",
				keys: formatName("the aud of a target", "names"), of: audienceShape()}},
			{"callers", true, &shape{kind: kindMapping, what: "a mapping of callers, at least one", filled: true, doc: "Who may exchange tokens; the key is client_id",
				keys: formatName("a client id", "client ids"), of: callerShape()}},
			{"tools", false, &shape{kind: kindMapping, what: "a mapping of tools", doc: "What a call made for a tool may do; when there is any, a tool that is not listed is refused. The key is the name of the tool",
				keys: formatName("the name of a tool", "names"), of: toolShape()}},
			{"egress", false, egressShape()},
		},
	}
}

func limitsShape() *shape {
	return &shape{kind: kindObject, what: "a mapping of limits", doc: "Bounds for everything that is issued", fields: []field{
		{"token_lifetime", false, &shape{kind: kindDuration, from: minLifetime, to: maxLifetime, preset: "5m", doc: "Longest life of an issued token; never longer than the subject token lives"}},
		{"actors", false, &shape{kind: kindInteger, least: 2, most: 8, preset: "8", doc: "Longest chain of actors in an issued token: the caller, and at least the client to which the subject token was issued"}},
	}}
}

func audienceShape() *shape {
	return &shape{kind: kindObject, what: "an audience: a mapping, {} for one without settings", doc: "An API or server", fields: []field{
		{"resources", false, &shape{kind: kindList, doc: "Further names that a caller may ask by; aud stays the key",
			of: &shape{kind: kindText, format: formatName("a name", "names")}}},
		{"issue", false, &shape{kind: kindText, enum: []string{string(Mint), string(IDP)}, preset: string(Mint), doc: "Who issues the tokens: mint, this service; idp, the identity provider"}},
		{"token_lifetime", false, &shape{kind: kindDuration, from: minLifetime, to: maxLifetime, doc: "Longest life of a token for it; at most limits.token_lifetime, which is the default"}},
		{"scopes", false, scopesShape("The most that any token for it has")},
		{"claims", false, &shape{kind: kindMapping, what: "a mapping of claims", doc: "Claims copied from the subject token where it has them: name in the issued token to name in the subject token. Only with issue mint",
			keys: formatName("the name of a claim", "claims"), of: &shape{kind: kindText, format: formatName("the name of a claim", "claims"), doc: "Claim of the subject token"}}},
	}}
}

func scopesShape(doc string) *shape {
	return &shape{kind: kindList, longest: maxScopes, of: &shape{kind: kindText, format: formatScope()}, doc: doc}
}

func callerShape() *shape {
	return &shape{kind: kindObject, what: "a caller: a mapping", doc: "A server that exchanges tokens", fields: []field{
		{"subject_audience", true, &shape{kind: kindText, format: formatName("the aud of the tokens that this caller may exchange", "names"), doc: "aud of the tokens that this caller may exchange: those that were meant for it"}},
		{"authentication", false, authenticationShape()},
		{"allow_without_user", false, &shape{kind: kindBoolean, preset: "false", doc: "Also tokens of clients that act for themselves"}},
		{"accept_exchanged", false, &shape{kind: kindBoolean, preset: "false", doc: "Also tokens that this service issued: for a server that another server calls"}},
		{"actors", false, &shape{kind: kindList, of: &shape{kind: kindText, format: formatName("the sub of an actor token", "names")}, doc: "sub of the actor tokens that it may show"}},
		{"audiences", false, &shape{kind: kindMapping, what: "a mapping of audiences", doc: "What this caller may reach; the key is one of audiences",
			keys: formatName("the aud of a target", "names"), of: targetShape()}},
	}}
}

// authenticationShape is private as a whole: a secret may stand wherever the name of one
// belongs.
func authenticationShape() *shape {
	return hidden(&shape{kind: kindObject, what: "a mapping with at least one method", filled: true, doc: "How it proves who it is: any one of the methods. Only a caller that uses nothing but egress needs none", fields: []field{
		{"secret_files", false, &shape{kind: kindList, filled: true, of: &shape{kind: kindText, format: formatFile()}, doc: "Files with a client secret; several while a secret is being replaced"}},
		{"secret_variables", false, &shape{kind: kindList, filled: true, of: &shape{kind: kindText, format: formatVariable()}, doc: "Environment variables with a client secret"}},
		{"private_key_jwt", false, &shape{kind: kindObject, what: "a mapping with jwks_file or jwks_uri", one: []string{"jwks_file", "jwks_uri"}, doc: "Client assertions (RFC 7523) by these public keys", fields: []field{
			{"jwks_file", false, &shape{kind: kindText, format: formatFile(), doc: "File with the public keys"}},
			{"jwks_uri", false, &shape{kind: kindText, format: formatURL(), doc: "URL of the public keys"}},
		}}},
		{"mtls", false, &shape{kind: kindObject, what: "a mapping with spiffe_id or dns_name", one: []string{"spiffe_id", "dns_name"}, doc: "Client certificate with this name (RFC 8705)", fields: []field{
			{"spiffe_id", false, &shape{kind: kindText, format: formatSPIFFE(), doc: "SPIFFE id of the caller"}},
			{"dns_name", false, &shape{kind: kindText, format: formatDNS(), doc: "DNS name of the caller"}},
		}}},
		{"kubernetes", false, &shape{kind: kindObject, what: "a mapping with namespace and service_account", doc: "Service account token of the cluster", fields: []field{
			{"namespace", true, &shape{kind: kindText, format: formatLabel(), doc: "Namespace of the service account"}},
			{"service_account", true, &shape{kind: kindText, format: formatDNS(), doc: "Name of the service account"}},
		}}},
	}})
}

func targetShape() *shape {
	return &shape{kind: kindObject, what: "a mapping, {} for tokens without scope", doc: "An audience as this caller may use it", fields: []field{
		{"scopes", false, scopesShape("Scopes that are kept where the subject token has them; within those of the audience. None: tokens without scope")},
		{"rules", false, &shape{kind: kindList, doc: "The only way to a scope that the subject token lacks", of: &shape{
			kind: kindObject, what: "a rule: a mapping with name, when and grant", format: format{many: "rules"}, doc: "A rule; each use is logged by name", fields: []field{
				{"name", true, &shape{kind: kindText, format: formatName("the name of a rule", "names"), doc: "Name of the rule in the log; once in the file"}},
				{"when", true, whenShape("Scopes that the subject token must have, all of them")},
				{"grant", true, whenShape("Scopes that the issued token has in addition; within those of the audience")},
			}}}},
	}}
}

func whenShape(doc string) *shape {
	s := scopesShape(doc)
	s.filled = true
	return s
}

func toolShape() *shape {
	return &shape{kind: kindObject, what: "a tool: a mapping with audiences", doc: "A tool", fields: []field{
		{"requires", false, scopesShape("Scopes that the subject token must have, all of them")},
		{"audiences", true, &shape{kind: kindMapping, what: "a mapping of audiences to lists of scopes", filled: true, doc: "What a call for this tool may reach, and the most that its token has; still within what the caller may have. [] for tokens without scope",
			keys: formatName("the aud of a target", "names"), of: scopesShape("The most that a token for this tool has")}},
	}}
}

func egressShape() *shape {
	return &shape{kind: kindObject, what: "a mapping with caller and routes", doc: "The egress proxy", fields: []field{
		{"caller", true, &shape{kind: kindText, format: formatName("a client id", "client ids"), doc: "Who the application is: one of callers"}},
		{"routes", true, &shape{kind: kindList, filled: true, doc: "Where requests go. A route with host goes before one without, then the longest path wins", of: &shape{
			kind: kindObject, what: "a route: a mapping with host or path, upstream and audience", format: format{many: "routes, at least one"}, some: []string{"host", "path"}, doc: "A route; at least one of host and path", fields: []field{
				{"host", false, &shape{kind: kindText, format: formatHost(), doc: "Host of the request, without port"}},
				{"path", false, &shape{kind: kindText, format: formatPath(), doc: "Prefix of the path; it ends at a segment boundary"}},
				{"strip_path", false, &shape{kind: kindBoolean, preset: "false", doc: "Take path off before the rest goes behind the path of upstream"}},
				{"upstream", true, &shape{kind: kindText, format: formatURL(), doc: "Where the request goes: https, or http to a loopback host, or to a host that a setting of the sidecar names"}},
				{"audience", true, &shape{kind: kindText, format: formatName("the aud of a target", "names"), doc: "Whom the token is for: one of the audiences of the caller"}},
				{"scopes", false, scopesShape("Scopes to ask for; none: whatever the caller may have")},
				{"ca_file", false, &shape{kind: kindText, format: formatFile(), doc: "File with the only certificate authorities trusted for this upstream"}},
				{"addresses", false, &shape{kind: kindList, of: &shape{kind: kindText, format: formatPrefix()}, doc: "Ranges of addresses that would be refused otherwise"}},
				{"timeout", false, &shape{kind: kindDuration, from: time.Second, to: time.Hour, preset: "30s", doc: "Until the first byte of the answer; also the longest that the API may read nothing of a body"}},
			}}}},
	}}
}
