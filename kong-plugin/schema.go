package main

import (
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/kong-plugin/pluginserver"
)

// attributes are those of one field in a Kong schema. Kong refuses to start on one that it
// does not know.
type attributes map[string]any

// Lua patterns of Kong's match and not_match.
const (
	patternURL      = `^https?://[^%s#]+$`
	patternIssuer   = `^https?://[^%s#?]+$`
	patternOrigin   = `^https?://[^%s/?#@]+$`
	patternHost     = `^[%w%.%-:%[%]]+$`
	patternHeader   = `^[%w_%-]+$`
	patternUntagged = `[,/%c]`
	// What would have to be escaped in a challenge, and what may not be in a scope.
	patternUnquotable = `["\%c]`
)

const (
	errURL    = "expected an absolute http or https URL without fragment"
	errIssuer = "expected an absolute http or https URL without query and fragment"
)

// pluginSchema is the complete schema that Kong validates configurations with. What it
// cannot express is refused by Config.build.
func pluginSchema(name string) pluginserver.Schema {
	return pluginserver.Schema{Name: name, Fields: []map[string]any{
		{"protocols": attributes{
			"type":        "set",
			"elements":    attributes{"type": "string", "one_of": []string{"http", "https", "grpc", "grpcs"}},
			"default":     []string{"http", "https", "grpc", "grpcs"},
			"description": "Protocols of the requests that the plugin handles.",
		}},
		// The plugin finds out who is calling; it cannot depend on that.
		{"consumer": attributes{"type": "foreign", "reference": "consumers", "eq": nil,
			"description": "Not to be set: the plugin runs before the consumer is known.",
		}},
		{"config": attributes{
			"type":        "record",
			"required":    true,
			"description": "Configuration of the phantom-token plugin.",
			"fields":      configFields(),
			"entity_checks": []attributes{
				{"conditional_at_least_one_of": attributes{
					"if_field":             "resource",
					"if_match":             attributes{"required": true}, // an absent field is null, which every other check lets through
					"then_at_least_one_of": []string{"authorization_servers", "token.issuer"},
					"then_err":             "resource needs one of %s: clients learn from the metadata where to get a token",
				}},
				{"at_least_one_of": []string{"introspection_endpoint", "token.issuer"}},
				{"conditional_at_least_one_of": attributes{
					"if_field": "phantom_token.mode", "if_match": attributes{"eq": modeExchange},
					"then_at_least_one_of": []string{"token.issuer"},
					"then_err":             "phantom_token.mode exchange needs %s: the exchanged token is verified with the keys of its issuer",
				}},
				{"conditional_at_least_one_of": attributes{
					"if_field": "phantom_token.mode", "if_match": attributes{"eq": modeExchange},
					"then_at_least_one_of": []string{"scope", "metadata.scopes_supported", "phantom_token.exchange_scope"},
					"then_err":             "phantom_token.mode exchange needs one of %s: without scopes a provider may leave out the claims that hang on them",
				}},
			},
		}},
	}}
}

func configFields() []map[string]any {
	return []map[string]any{
		{"introspection_endpoint": attributes{
			"type": "string", "match": patternURL, "err": errURL,
			"description": "Introspection endpoint of the authorization server (RFC 7662). Without it, it is found by token.issuer.",
		}},
		{"client_id": attributes{
			"type": "string", "required": true,
			"description": "Client id with which the gateway authenticates at the introspection endpoint.",
		}},
		{"client_secret": attributes{
			"type": "string", "required": true, "referenceable": true, "encrypted": true,
			"description": "Client secret to client_id. Give it as a vault reference, for example {vault://env/gateway-client-secret}.",
		}},
		{"token_cache_seconds": attributes{
			"type": "integer", "required": true, "default": 300, "between": []int{0, 86400},
			"description": "How long the answer about a token is remembered, never beyond the token's own expiry. Also how long a revoked token may go on working. 0 asks for every request.",
		}},
		{"scope": attributes{
			"type": "string", "not_match": patternUnquotable,
			"err":         "expected scopes separated by single spaces, without quotes or backslashes",
			"description": "Scopes that every access token must have, separated by spaces. They are also named in the challenges.",
		}},
		{"trusted_web_origins": attributes{
			"type": "array", "default": []string{},
			"elements": attributes{
				"type": "string", "match": patternOrigin,
				"err": "expected an origin: scheme://host or scheme://host:port, nothing behind it",
			},
			"description": "Web origins whose scripts may call this route, exactly as browsers send them. Without any, every origin may.",
		}},
		{"verify_ssl": attributes{
			"type": "boolean", "required": true, "default": true,
			"description": "Verify the certificate of the authorization server. Switch it off for tests only: without it anybody on the way can make a token valid.",
		}},
		{"resource": attributes{
			"type": "string", "match": patternURL, "err": errURL,
			"description": "Identifier of the protected resource: the URL that clients use, for example https://gw.example.com/mcp. Tokens must name it as their audience. Without it the hosts of the route are used.",
		}},
		{"authorization_servers": attributes{
			"type": "array", "default": []string{},
			"elements":    attributes{"type": "string", "match": patternIssuer, "err": errIssuer},
			"description": "Issuers at which clients get tokens for this resource, each byte for byte as in the issuer's own metadata. Without any, token.issuer.",
		}},
		{"metadata": record("Further members of the protected resource metadata (RFC 9728) and how they are served.",
			map[string]any{"resource_name": attributes{
				"type":        "string",
				"description": "Name of the resource for people.",
			}},
			map[string]any{"resource_documentation": attributes{
				"type": "string", "match": patternURL, "err": errURL,
				"description": "URL of documentation for developers.",
			}},
			map[string]any{"resource_policy_uri": attributes{
				"type": "string", "match": patternURL, "err": errURL,
				"description": "URL of the rules on how clients may use the data.",
			}},
			map[string]any{"resource_tos_uri": attributes{
				"type": "string", "match": patternURL, "err": errURL,
				"description": "URL of the terms of service.",
			}},
			map[string]any{"scopes_supported": attributes{
				"type": "array", "default": []string{},
				"elements": attributes{
					"type": "string", "not_match": `[%s"\%c]`, "not_one_of": []string{scopeOfflineAccess},
					"err": "expected one scope without spaces, quotes or backslashes, and not offline_access",
				},
				"description": "Scopes that clients may ask for. Without any, those of scope. Keep the list to basic use.",
			}},
			map[string]any{"max_age_seconds": attributes{
				"type": "integer", "default": 300, "between": []int{0, 86400},
				"description": "How long clients may keep the metadata.",
			}},
			map[string]any{"at_root": attributes{
				"type": "boolean", "default": true,
				"description": "Serve the metadata at the well-known path of the host as well. Switch it off where one host has several resources.",
			}},
		)},
		{"realm": attributes{
			"type": "string", "not_match": patternUnquotable, "err": "expected text without quotes or backslashes",
			"description": "Realm of the challenges. Left out by default.",
		}},
		{"introspection": record("How the authorization server is asked about a token.",
			map[string]any{"auth_method": attributes{
				"type": "string", "one_of": []string{oauth.AuthBasic, oauth.AuthPost},
				"description": "How client_id and client_secret are sent, to the token endpoint too. Without it, as the issuer's metadata says where an endpoint is found there, and else client_secret_basic.",
			}},
			map[string]any{"token_type_hint": attributes{
				"type": "boolean", "default": true,
				"description": "Send token_type_hint=access_token. Switch it off for servers that refuse it.",
			}},
			map[string]any{"timeout_seconds": attributes{
				"type": "integer", "default": 5, "between": []int{1, 30},
				"description": "Time for one call as a whole, from connecting to the last byte.",
			}},
			map[string]any{"ca_file": attributes{
				"type":        "string",
				"description": "File with the certificates, in PEM, of the authorities that the authorization server's certificate may come from. Only these are accepted.",
			}},
			map[string]any{"ca_certificates": attributes{
				"type": "string", "referenceable": true,
				"description": "The same certificates in place, in PEM.",
			}},
			map[string]any{"max_response_bytes": attributes{
				"type": "integer", "default": 1 << 20, "between": []int{1024, 16 << 20},
				"description": "Largest answer that is read.",
			}},
			map[string]any{"failures_per_minute": attributes{
				"type": "integer", "default": 300, "between": []int{0, 1_000_000},
				"description": "How many tokens that turn out inactive one client address may present in a minute before it gets 429. 0 sets no limit.",
			}},
		)},
		{"token": record("What an access token must satisfy.",
			map[string]any{"issuer": attributes{
				"type": "string", "match": patternIssuer, "err": errIssuer,
				"description": "The only issuer whose tokens are accepted, byte for byte. Endpoints and keys that are not configured are found from it (RFC 8414, OpenID Connect Discovery), and its keys verify the JWT of phantom_token.mode introspection and exchange.",
			}},
			map[string]any{"internal_url": attributes{
				"type": "string", "match": patternOrigin, "err": "expected scheme://host or scheme://host:port, nothing behind it",
				"description": "Where the gateway reaches token.issuer if not by its public name: scheme, host and port, for example http://keycloak:8080. Metadata is fetched there, and endpoints that it puts under the issuer's own host are called there.",
			}},
			map[string]any{"jwks_uri": attributes{
				"type": "string", "match": patternURL, "err": errURL,
				"description": "Where the keys of token.issuer are. Without it they are found by token.issuer.",
			}},
			map[string]any{"audience": attributes{
				"type": "array", "default": []string{}, "elements": attributes{"type": "string"},
				"description": "Audiences that are accepted beside the resource itself, compared byte for byte.",
			}},
			map[string]any{"audience_check": attributes{
				"type": "string", "one_of": []string{audienceRequired, audienceWhenPresent, audienceOff},
				"description": "required refuses tokens without audience, when_present lets them through, off checks none. Without it: required with resource, else when_present.",
			}},
			map[string]any{"allow_without_user": attributes{
				"type": "boolean", "default": false,
				"description": "Accept tokens that were issued to a client without a user. With open client registration anybody can get one.",
			}},
			map[string]any{"clients_without_user": attributes{
				"type": "array", "default": []string{}, "elements": attributes{"type": "string"},
				"description": "Client ids whose tokens are accepted without a user.",
			}},
			map[string]any{"required_claims": attributes{
				"type": "array", "default": []attributes{},
				"elements": attributes{"type": "record", "fields": []map[string]any{
					{"claim": attributes{
						"type": "string", "required": true,
						"description": "Name of a claim, or names joined by dots for a nested one.",
					}},
					{"values": attributes{
						"type": "array", "default": []string{}, "elements": attributes{"type": "string"},
						"description": "Accepted values. Without any, every value that is not empty.",
					}},
					{"reason": attributes{
						"type": "string", "not_match": `["\=%c]`,
						"err":         "expected text without quotes, backslashes or equals signs",
						"description": "What the client is told when the claim is missing.",
					}},
				}},
				"description": "Claims without which a token is refused with 401.",
			}},
			map[string]any{"leeway_seconds": attributes{
				"type": "integer", "default": 30, "between": []int{0, 60},
				"description": "Accepted difference of clocks.",
			}},
			map[string]any{"max_length": attributes{
				"type": "integer", "default": 16384, "between": []int{64, 65536},
				"description": "Longest access token in bytes. Longer ones are refused without asking.",
			}},
		)},
		{"phantom_token": phantomTokenField()},
		{"identity": identityField()},
		{"cache": record("Bounds of the cache. All routes share one; the largest bounds apply.",
			map[string]any{"max_entries": attributes{
				"type": "integer", "default": 50_000, "between": []int{1, 10_000_000},
				"description": "Most tokens that are remembered.",
			}},
			map[string]any{"max_bytes": attributes{
				"type": "integer", "default": 64 << 20, "between": []int{1 << 20, 1 << 40},
				"description": "Memory for them, about.",
			}},
			map[string]any{"negative_seconds": attributes{
				"type": "integer", "default": 5, "between": []int{0, 60},
				"description": "How long it is remembered that a token is not active.",
			}},
		)},
		{"cors": record("What browsers are told about calls from web pages.",
			map[string]any{"enabled": attributes{
				"type": "boolean", "default": true,
				"description": "Answer preflights and set the CORS headers. Switch it off where Kong's cors plugin does.",
			}},
			map[string]any{"max_age_seconds": attributes{
				"type": "integer", "default": 3600, "between": []int{0, 86400},
				"description": "How long browsers may keep the answer to a preflight.",
			}},
		)},
		{"insecure_http_hosts": attributes{
			"type": "array", "default": []string{},
			"elements":    attributes{"type": "string", "match": patternHost, "err": "expected a host or host:port"},
			"description": "Hosts to which plain http is acceptable, because their network is trusted. Loopback always is.",
		}},
	}
}

func phantomTokenField() attributes {
	field := record("The token that goes to the upstream in place of the access token.",
		map[string]any{"mode": attributes{
			"type": "string", "one_of": []string{modeMint, modeIntrospection, modeExchange},
			"description": "mint signs one here; introspection forwards the JWT that the authorization server puts into its answer; exchange has the authorization server swap the access token for one (RFC 8693). Without it: mint with a signing key, else introspection.",
		}},
		map[string]any{"issuer": attributes{
			"type": "string", "match": patternIssuer, "err": errIssuer,
			"description": "Issuer (iss) of minted tokens. Its metadata and keys are served on this route's paths, where they match.",
		}},
		map[string]any{"audience": attributes{
			"type":        "string",
			"description": "Audience (aud): the identifier of the upstream, not that of the resource. Minted tokens get it, the provider's must have it, and an exchange asks for it.",
		}},
		map[string]any{"lifetime_seconds": attributes{
			"type": "integer", "default": 300, "between": []int{10, 3600},
			"description": "Life of a minted token. It never outlives the access token.",
		}},
		map[string]any{"signing_key": attributes{
			"type": "string", "referenceable": true, "encrypted": true,
			"description": "Private key as JWK or PEM. Give it as a vault reference.",
		}},
		map[string]any{"signing_key_file": attributes{
			"type": "string", "referenceable": true,
			"description": "File with the private key as JWK or PEM, readable by Kong's user only (mode 0600), or a folder of keys that take turns, see docs/keys.md. 'phantom-token keys' makes either.",
		}},
		map[string]any{"published_key_files": attributes{
			"type": "array", "default": []string{}, "elements": attributes{"type": "string"},
			"description": "Files of further keys whose public halves are published: the next key before it signs, the last one while its tokens live.",
		}},
		map[string]any{"algorithm": attributes{
			"type": "string", "one_of": []string{keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA},
			"description": "Signature algorithm. Without it, that of the key.",
		}},
		map[string]any{"claims": attributes{
			"type": "map", "default": attributes{},
			"keys": attributes{
				"type": "string", "not_one_of": registeredClaims(),
				"err": "this claim is set by the gateway and cannot be mapped",
			},
			"values":      attributes{"type": "string"},
			"description": "Claims of minted tokens: name in the token → claim in the answer of the authorization server, names joined by dots for a nested one.",
		}},
		map[string]any{"subject_claim": attributes{
			"type":        "string",
			"description": "Claim of the answer that becomes the subject (sub). Without it, sub itself.",
		}},
		map[string]any{"token_endpoint": attributes{
			"type": "string", "match": patternURL, "err": errURL,
			"description": "Token endpoint at which mode exchange swaps tokens, as client_id. Without it, it is found by token.issuer.",
		}},
		map[string]any{"exchange_scope": attributes{
			"type": "string", "not_match": patternUnquotable,
			"err":         "expected scopes separated by single spaces, without quotes or backslashes",
			"description": "Scopes that mode exchange asks for, as far as the access token has them. Without it, those of scope and metadata.scopes_supported.",
		}},
		map[string]any{"clear_headers": attributes{
			"type": "array", "default": []string{},
			"elements":    attributes{"type": "string", "match": patternHeader, "err": "expected the name of a header"},
			"description": "Further request headers that never reach the upstream, in every spelling, beside those that commonly tell identity.",
		}},
	)
	const needsKey = "phantom_token.mode mint needs one of %s"
	field["entity_checks"] = []attributes{
		{"mutually_exclusive": []string{"signing_key", "signing_key_file"}},
		{"conditional_at_least_one_of": attributes{
			"if_field": "mode", "if_match": attributes{"eq": modeMint},
			"then_at_least_one_of": []string{"signing_key", "signing_key_file"}, "then_err": needsKey,
		}},
		{"conditional_at_least_one_of": attributes{
			"if_field": "mode", "if_match": attributes{"eq": modeMint},
			"then_at_least_one_of": []string{"issuer"}, "then_err": needsKey,
		}},
		{"conditional_at_least_one_of": attributes{
			"if_field": "mode", "if_match": attributes{"eq": modeMint},
			"then_at_least_one_of": []string{"audience"}, "then_err": needsKey,
		}},
	}
	return field
}

func identityField() attributes {
	field := record("What Kong's own plugins, those for rate limits, access lists and logs, are told of the caller. Nothing by default.",
		map[string]any{"consumer_claim": attributes{
			"type":        "string",
			"description": "Claim of the access token that holds the username of a Kong consumer, names joined by dots for a nested one. A token without a known consumer is refused with 403.",
		}},
		map[string]any{"consumer_tag": attributes{
			"type": "string", "not_match": patternUntagged, "err": "expected one tag, without comma, slash and control characters",
			"description": "Tag that this consumer must have. Set it where Kong has consumers for other callers too: without it, whoever is named like one of them is that one.",
		}},
		map[string]any{"consumer_optional": attributes{
			"type": "boolean", "default": false,
			"description": "Let tokens through that name no known consumer, with their credential alone.",
		}},
		map[string]any{"credential_claim": attributes{
			"type":        "string",
			"description": "Claim of the access token that tells one caller from another, usually sub. Kong's plugins and logs get a UUID made of it and the issuer, by which rate-limiting counts.",
		}},
		map[string]any{"groups_claim": attributes{
			"type":        "string",
			"description": "Claim of the access token with the groups for Kong's acl plugin: a string for one, a list for several. scope stands for the scopes.",
		}},
	)
	const needsClaim = "this identity setting needs %s"
	needs := func(setting string, match attributes, other string) attributes {
		return attributes{"conditional_at_least_one_of": attributes{
			"if_field": setting, "if_match": match, "then_at_least_one_of": []string{other}, "then_err": needsClaim,
		}}
	}
	present := attributes{"required": true}
	field["entity_checks"] = []attributes{
		needs("consumer_tag", present, "consumer_claim"),
		needs("consumer_optional", attributes{"eq": true}, "consumer_claim"),
		needs("consumer_optional", attributes{"eq": true}, "credential_claim"),
	}
	return field
}

// record is a field with fields of its own. Kong fills in the defaults of a required
// record that the operator left out.
func record(description string, fields ...map[string]any) attributes {
	return attributes{"type": "record", "required": true, "fields": fields, "description": description}
}

// registeredClaims are set by the gateway itself (RFC 9068 §2.2, RFC 8693 §4.1), or would
// ask the upstream for a proof that it cannot get (RFC 9449 §6).
func registeredClaims() []string {
	return []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "act", "may_act", "cnf"}
}
