package policy_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
)

// mistake is a change of the full file and the error it must cause.
type mistake struct{ name, old, with, want string }

func mistakes() []mistake {
	return []mistake{
		{"UnknownKey", "accept_exchanged: true", "accept_exchange: true", "31:5: callers.mcp-server.accept_exchange: expected one of the keys 'subject_audience', 'authentication', 'allow_without_user', 'accept_exchanged', 'actors', 'audiences', got another; did you mean 'accept_exchanged'?"},
		{"LimitsOfOtherKind", "limits:\n  token_lifetime: 5m\n  actors: 4\n", "limits: 5m\n", "2:9: limits: expected a mapping of limits, got text"},
		{"TooManyScopes", "scopes: [billing/read]\ncallers", "scopes: [s0" + manyScopes() + "]\ncallers", "20:13: audiences.billing.scopes: expected at most 1000 entries, got 1001"},
		{"ManyNamesAreShortened", "    scopes: [billing/read]\ncallers", "    scopes: [billing/write, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t]\ncallers", "44:18: callers.mcp-server.audiences.billing.scopes[0]: expected a scope of audiences.billing.scopes ('billing/write', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's' and 1 more), got 'billing/read'"},
		{"UnknownKeyFarFromAny", "accept_exchanged: true", "colour: blue", "31:5: callers.mcp-server.colour: expected one of the keys 'subject_audience', 'authentication', 'allow_without_user', 'accept_exchanged', 'actors', 'audiences', got another"},
		{"UnknownKeyAtTheTop", "version: 1", "hunter2: 1\nversion: 1", "1:1: expected one of the keys 'version', 'limits', 'audiences', 'callers', 'tools', 'egress', got another"},
		{"UnknownKeyAtTheTopThatWasMeant", "tools:\n", "tool:\n", "49:1: expected one of the keys 'version', 'limits', 'audiences', 'callers', 'tools', 'egress', got another; did you mean 'tools'?"},
		{"UnknownKeyThatIsNone", "accept_exchanged: true", "key=hunter2: true", "31:5: callers.mcp-server: expected one of the keys 'subject_audience', 'authentication', 'allow_without_user', 'accept_exchanged', 'actors', 'audiences', got another"},
		{"UnknownKeyTooLong", "accept_exchanged: true", strings.Repeat("hunter2", 10) + ": true", "31:5: callers.mcp-server: expected one of the keys 'subject_audience', 'authentication', 'allow_without_user', 'accept_exchanged', 'actors', 'audiences', got another"},
		{"UnknownMethod", "      secret_files: [/run", "      secret_file: [/run", "25:7: callers.mcp-server.authentication: expected one of the keys 'secret_files', 'secret_variables', 'private_key_jwt', 'mtls', 'kubernetes', got another; did you mean 'secret_files'?"},
		{"SecretAsMethod", "secret_files: [/run/secrets/mcp-server]", "hunter2: 1\n      hunter2: 2", "25:7: callers.mcp-server.authentication: expected one of the keys 'secret_files', 'secret_variables', 'private_key_jwt', 'mtls', 'kubernetes', got another\n26:7: callers.mcp-server.authentication: expected every key once, got it again (first on line 25)"},
		{"SecretInPlaceOfMethods", "      mtls: {dns_name: lonely.example.com}", "      hunter2", "48:7: callers.lonely.authentication: expected a mapping with at least one method, got text"},
		{"SecretInPlaceOfFiles", "[/run/secrets/mcp-server]", "hunter2", "25:21: callers.mcp-server.authentication.secret_files: expected a list of paths of files, got text"},
		{"NoFile", "[/run/secrets/mcp-server]", "[~]", "25:22: callers.mcp-server.authentication.secret_files[0]: expected the path of a file, got nothing"},
		{"BooleanInsteadOfMapping", "limits:\n  token_lifetime: 5m\n  actors: 4\n", "limits: true\n", "2:9: limits: expected a mapping of limits, got a boolean"},
		{"SecretWithTag", "[/run/secrets/mcp-server]", "[!hunter2 x]", "25:22: callers.mcp-server.authentication.secret_files[0]: expected a value without a tag, got one with a tag"},
		{"NumberAsMethod", "      secret_files: [/run/secrets/mcp-server]", "      12345678: x", "25:7: callers.mcp-server.authentication: expected every key to be text, got a number"},
		{"KeySetURLWithQuery", "jwks_file: /etc/keys/mcp.jwks.json", "jwks_uri: 'https://example.com/jwks?key=hunter2'", "27:35: callers.mcp-server.authentication.private_key_jwt.jwks_uri: expected an absolute http or https URL without user information, query and fragment, got another (not shown: it might be a secret)"},
		{"UpstreamRelativeWithQuery", "upstream: https://api.example.com/v1/", "upstream: api.example.com/?key=hunter2", "64:17: egress.routes[0].upstream: expected an absolute http or https URL, got another text (not shown: it might be a secret)"},
		{"RepeatedKey", "accept_exchanged: true", "allow_without_user: false", "31:5: callers.mcp-server.allow_without_user: expected every key once, got it again (first on line 30)"},
		{"RepeatedCaller", "  lonely:\n", "  mcp-server:\n", "45:3: callers.mcp-server: expected every key once, got it again (first on line 22)"},
		{"RepeatedAudience", "  https://news.example.com:\n    scopes: [stocks/read, news/read]\n    claims", "  https://api.example.com:\n    scopes: [stocks/read, news/read]\n    claims", "14:3: audiences['https://api.example.com']: expected every key once, got it again (first on line 6)\n40:7: callers.mcp-server.audiences['https://news.example.com']: expected one of audiences ('https://api.example.com', 'https://plain.example.com', 'billing'), got 'https://news.example.com'\n72:17: egress.routes[1].audience: expected one of audiences ('https://api.example.com', 'https://plain.example.com', 'billing'), got 'https://news.example.com'"},
		{"ResourceOfTwoAudiences", "  billing:\n    issue: idp", "  billing:\n    resources: [https://api.example.com/v1]\n    issue: idp", "19:17: audiences.billing.resources[0]: expected a name that no other audience or resource has, got that of line 7"},
		{"ResourceThatIsAnAudience", "  billing:\n    issue: idp", "  billing:\n    resources: [https://news.example.com]\n    issue: idp", "19:17: audiences.billing.resources[0]: expected a name that no other audience or resource has, got that of line 14"},
		{"ResourceThatIsItsOwnAudience", "  billing:\n    issue: idp", "  billing:\n    resources: [billing]\n    issue: idp", "19:17: audiences.billing.resources[0]: expected a name that no other audience or resource has, got that of line 18"},
		{"Version2", "version: 1", "version: 2\ncolour: blue", "1:10: version: expected 1, got another version: this program reads version 1 of the format"},
		{"VersionAsText", "version: 1", "version: '1'", "1:10: version: expected 1, got text"},
		{"VersionMissing", "version: 1\n", "", "1:1: version: expected 1, got nothing"},
		{"LifetimeTooLong", "  token_lifetime: 5m", "  token_lifetime: 61m", "3:19: limits.token_lifetime: expected a duration such as 30s from 10s to 1h, got \"61m\""},
		{"LifetimeTooShort", "  token_lifetime: 5m", "  token_lifetime: 9s", "3:19: limits.token_lifetime: expected a duration such as 30s from 10s to 1h, got \"9s\""},
		{"LifetimeAsNumber", "  token_lifetime: 5m", "  token_lifetime: 300", "3:19: limits.token_lifetime: expected a duration such as 30s from 10s to 1h, got the number 300"},
		{"LifetimeNegative", "  token_lifetime: 5m", "  token_lifetime: -5m", "3:19: limits.token_lifetime: expected a duration such as 30s from 10s to 1h, got \"-5m\""},
		{"LifetimeOfAudienceAboveLimit", "token_lifetime: 2m", "token_lifetime: 6m", "9:21: audiences['https://api.example.com'].token_lifetime: expected at most limits.token_lifetime (5m), got 6m"},
		{"NoActors", "actors: 4", "actors: 0", "4:11: limits.actors: expected a whole number from 2 to 8, got the number 0"},
		{"OneActorWouldRefuseEverything", "actors: 4", "actors: 1", "4:11: limits.actors: expected a whole number from 2 to 8, got the number 1"},
		{"TooManyActors", "actors: 4", "actors: 9", "4:11: limits.actors: expected a whole number from 2 to 8, got the number 9"},
		{"OctalActors", "actors: 4", "actors: 04", "4:11: limits.actors: expected a whole number from 2 to 8, got the number 04"},
		{"YesIsNoBoolean", "allow_without_user: true", "allow_without_user: yes", "30:25: callers.mcp-server.allow_without_user: expected true or false, got \"yes\""},
		{"TextInsteadOfList", "scopes: [stocks/read, stocks/trade]\n", "scopes: stocks/read\n", "35:17: callers.mcp-server.audiences['https://api.example.com'].scopes: expected a list of scope tokens, got text"},
		{"ListInsteadOfMapping", "claims: {region: region, home: city}", "claims: [region]", "16:13: audiences['https://news.example.com'].claims: expected a mapping of claims, got a list"},
		{"NumberInsteadOfText", "[agent]", "[7]", "32:14: callers.mcp-server.actors[0]: expected the sub of an actor token of printable ASCII without blanks and *, got the number 7 (text goes in quotes)"},
		{"DateInsteadOfText", "[agent]", "[2026-01-01]", "32:14: callers.mcp-server.actors[0]: expected the sub of an actor token of printable ASCII without blanks and *, got the date 2026-01-01 (text goes in quotes)"},
		{"NothingInsteadOfMapping", "https://plain.example.com: {}\n  billing:\n    issue", "https://plain.example.com:\n  billing:\n    issue", "17:29: audiences['https://plain.example.com']: expected an audience: a mapping, {} for one without settings, got nothing"},
		{"Tag", "[agent]", "[!secret agent]", "32:14: callers.mcp-server.actors[0]: expected a value without a tag, got one with a tag"},
		{"MergeKey", "https://plain.example.com: {}\n  billing:\n    issue", "https://plain.example.com: {<<: {scopes: [a]}}\n  billing:\n    issue", "17:31: audiences['https://plain.example.com']: expected no merge key (<<): which line decides could not be told any more; write the keys out, or give a whole value an anchor"},
		{"NumberAsKey", "  lonely:\n", "  7:\n", "45:3: callers: expected every key to be text, got the number 7 (text goes in quotes)"},
		{"EmptyKey", "  lonely:\n", "  '':\n", "45:3: callers: expected every key to have a name, got an empty one"},
		{"ListAsKey", "  lonely:\n", "  [a]:\n", "45:3: callers: expected every key to be text, got a list"},
		{"WildcardAudience", "  https://plain.example.com: {}\n  billing:\n    issue", "  https://*.example.com: {}\n  https://plain.example.com: {}\n  billing:\n    issue", "17:3: audiences['https://*.example.com']: expected the key to be the aud of a target of printable ASCII without blanks and *, got \"https://*.example.com\""},
		{"BlankInName", "  lonely:\n", "  lonely one:\n", "45:3: callers['lonely one']: expected the key to be a client id of printable ASCII without blanks and *, got \"lonely one\""},
		{"ControlCharacterInName", "  lonely:\n", "  \"lonely\\n\":\n", "45:3: callers['lonely?']: expected the key to be a client id of printable ASCII without blanks and *, got \"lonely\\n\""},
		{"InvisibleCharacterInName", "  lonely:\n", "  \"lonely\\u200b\":\n", "45:3: callers['lonely?']: expected the key to be a client id of printable ASCII without blanks and *, got \"lonely\\u200b\""},
		{"ScopeList", "scopes: [billing/read]\ncallers", "scopes: [billing/read billing/write]\ncallers", "20:14: audiences.billing.scopes[0]: expected a scope token of printable ASCII without blanks, quotes and backslashes, got \"billing/read billing/write\""},
		{"ScopeTwice", "scopes: [billing/read]\ncallers", "scopes: [billing/read, billing/read]\ncallers", "20:28: audiences.billing.scopes[1]: expected every entry once, got one again (first on line 20)"},
		{"ScopeOutsideOfAudience", "scopes: [stocks/read, stocks/trade]\n", "scopes: [stocks/read, stocks/trede]\n", "35:31: callers.mcp-server.audiences['https://api.example.com'].scopes[1]: expected a scope of audiences['https://api.example.com'].scopes ('stocks/read', 'stocks/trade', 'orders/read'), got 'stocks/trede'; did you mean 'stocks/trade'?"},
		{"RuleGrantsOutsideOfAudience", "grant: [orders/read]", "grant: [admin]", "39:21: callers.mcp-server.audiences['https://api.example.com'].rules[0].grant[0]: expected a scope of audiences['https://api.example.com'].scopes ('stocks/read', 'stocks/trade', 'orders/read'), got 'admin'\n57:33: tools.get_orders.audiences['https://api.example.com'][0]: expected a scope of a caller for audiences['https://api.example.com'] ('stocks/read', 'stocks/trade'), got 'orders/read'"},
		{"RuleWithoutCondition", "when: [stocks/trade]", "when: []", "38:19: callers.mcp-server.audiences['https://api.example.com'].rules[0].when: expected a list of scope tokens, got an empty one"},
		{"RuleWithoutName", "          - name: orders-for-traders\n            when", "          - when", "37:13: callers.mcp-server.audiences['https://api.example.com'].rules[0].name: expected the name of a rule of printable ASCII without blanks and *, got nothing"},
		{"RuleNameTwice", "      billing:\n        scopes: [billing/read]\n", "      billing:\n        scopes: [billing/read]\n        rules: [{name: orders-for-traders, when: [a], grant: [billing/read]}]\n", "45:24: callers.mcp-server.audiences.billing.rules[0].name: expected a name of its own, since the log tells rules by it; got that of line 37"},
		{"UnknownAudience", "      billing:\n        scopes: [billing/read]\n", "      biling:\n        scopes: [billing/read]\n", "43:7: callers.mcp-server.audiences.biling: expected one of audiences ('https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'), got 'biling'; did you mean 'billing'?"},
		{"ResourceAsAudience", "      billing:\n        scopes: [billing/read]\n", "      https://api.example.com/v1:\n        scopes: [stocks/read]\n", "43:7: callers.mcp-server.audiences['https://api.example.com/v1']: expected the key of an audience, got a resource of it: write 'https://api.example.com'"},
		{"ReservedClaimCopied", "home: country", "home: scope", "13:13: audiences['https://api.example.com'].claims.home: expected the name of a claim about the user, got 'scope', which is never copied"},
		{"ReservedClaimIssued", "home: country", "Sub: country", "13:7: audiences['https://api.example.com'].claims.Sub: expected the name of a claim about the user, got 'Sub', which cannot be issued by a policy"},
		{"ClaimsOfIdentityProvider", "    issue: idp\n", "    issue: idp\n    claims: {region: region}\n", "20:5: audiences.billing.claims: expected no claims with issue: idp, got some: which claims its tokens have is configured at the identity provider"},
		{"UnknownIssue", "issue: mint", "issue: Mint", "8:12: audiences['https://api.example.com'].issue: expected mint or idp, got \"Mint\""},
		{"NoSubjectAudience", "    subject_audience: https://lonely.example.com\n", "", "45:3: callers.lonely.subject_audience: expected the aud of the tokens that this caller may exchange of printable ASCII without blanks and *, got nothing"},
		{"NoAuthentication", "    authentication:\n      mtls: {dns_name: lonely.example.com}\n", "", "45:3: callers.lonely.authentication: expected at least one method, got nothing: only egress.caller needs none"},
		{"EmptyAuthentication", "      mtls: {dns_name: lonely.example.com}", "      {}", "48:7: callers.lonely.authentication: expected a mapping with at least one method, got an empty one"},
		{"SecretInTheFile", "[MCP_SERVER_SECRET]", "[hunter2-is-no-name]", "26:26: callers.mcp-server.authentication.secret_variables[0]: expected the name of an environment variable of letters, digits and _, got another text (not shown: it might be a secret)"},
		{"SecretAsNumber", "[/run/secrets/mcp-server]", "[12345678]", "25:22: callers.mcp-server.authentication.secret_files[0]: expected the path of a file, got a number (not shown: it might be a secret)"},
		{"TwoKeySets", "{jwks_file: /etc/keys/mcp.jwks.json}", "{jwks_file: a, jwks_uri: https://example.com/jwks}", "27:7: callers.mcp-server.authentication.private_key_jwt: expected exactly one of 'jwks_file', 'jwks_uri', got 2 of them"},
		{"NoKeySet", "{jwks_file: /etc/keys/mcp.jwks.json}", "{}", "27:7: callers.mcp-server.authentication.private_key_jwt: expected exactly one of 'jwks_file', 'jwks_uri', got 0 of them"},
		{"KeySetURLWithPassword", "jwks_file: /etc/keys/mcp.jwks.json", "jwks_uri: https://user:hunter2@example.com/jwks", "27:35: callers.mcp-server.authentication.private_key_jwt.jwks_uri: expected an absolute http or https URL without user information, query and fragment, got another (not shown: it might be a secret)"},
		{"TwoCertificateNames", "{dns_name: lonely.example.com}", "{dns_name: a.example.com, spiffe_id: spiffe://a/b}", "48:7: callers.lonely.authentication.mtls: expected exactly one of 'spiffe_id', 'dns_name', got 2 of them"},
		{"WildcardCertificate", "dns_name: lonely.example.com", "dns_name: '*.example.com'", "48:24: callers.lonely.authentication.mtls.dns_name: expected a DNS name in lower case without wildcard, got another text (not shown: it might be a secret)"},
		{"SPIFFEDotSegments", "spiffe://example.com/ns/mcp/sa/server", "spiffe://example.com/ns/../server", "28:25: callers.mcp-server.authentication.mtls.spiffe_id: expected a SPIFFE id such as spiffe://example.com/ns/mcp/sa/server, got another text (not shown: it might be a secret)"},
		{"SPIFFETrustDomainAlone", "spiffe://example.com/ns/mcp/sa/server", "spiffe://example.com", "28:25: callers.mcp-server.authentication.mtls.spiffe_id: expected a SPIFFE id such as spiffe://example.com/ns/mcp/sa/server, got another text (not shown: it might be a secret)"},
		{"CertificateOfTwoCallers", "mtls: {dns_name: lonely.example.com}", "mtls: {spiffe_id: spiffe://example.com/ns/mcp/sa/server}", "48:25: callers.lonely.authentication.mtls.spiffe_id: expected an identity of its own, got that of callers.mcp-server"},
		{"ServiceAccountOfTwoCallers", "mtls: {dns_name: lonely.example.com}", "kubernetes: {namespace: mcp, service_account: server}", "48:19: callers.lonely.authentication.kubernetes: expected an identity of its own, got that of callers.mcp-server"},
		{"ToolWithUnknownAudience", "https://plain.example.com: []", "https://plane.example.com: []", "54:7: tools.get_stock_prices.audiences['https://plane.example.com']: expected one of audiences ('https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'), got 'https://plane.example.com'; did you mean 'https://plain.example.com'?"},
		{"ToolAudienceThatNobodyHas", "      billing:\n        scopes: [billing/read]\n  lonely:\n    subject_audience: https://lonely.example.com\n    authentication:\n      mtls: {dns_name: lonely.example.com}\ntools:\n  get_stock_prices:\n", "  lonely:\n    subject_audience: https://lonely.example.com\n    authentication:\n      mtls: {dns_name: lonely.example.com}\ntools:\n  pay:\n    audiences: {billing: [billing/read]}\n  get_stock_prices:\n", "49:17: tools.pay.audiences.billing: expected an audience that a caller may reach, got one that no caller lists"},
		{"ToolScopeThatNobodyHas", "https://api.example.com: [orders/read]", "https://api.example.com: [orders/write]", "57:33: tools.get_orders.audiences['https://api.example.com'][0]: expected a scope of a caller for audiences['https://api.example.com'] ('stocks/read', 'stocks/trade', 'orders/read'), got 'orders/write'"},
		{"ToolWithoutAudience", "    audiences:\n      https://api.example.com: [orders/read]\n", "    audiences: {}\n", "56:16: tools.get_orders.audiences: expected a mapping of audiences to lists of scopes, got an empty one"},
		{"EgressCallerUnknown", "caller: mcp-server", "caller: mcp_server", "59:11: egress.caller: expected one of callers ('mcp-server', 'lonely'), got 'mcp_server'; did you mean 'mcp-server'?"},
		{"EgressWithoutRoutes", "egress:\n  caller: mcp-server\n  routes:", "egress:\n  caller: mcp-server\n  paths:", "58:1: egress.routes: expected a list of routes, at least one, got nothing\n60:3: egress.paths: expected one of the keys 'caller', 'routes', got another"},
		{"RouteWithoutHostAndPath", "    - path: /\n      upstream: http", "    - upstream: http", "70:7: egress.routes[1]: expected at least one of 'host', 'path', got none"},
		{"RouteTwice", "    - path: /\n", "    - path: /stocks\n      host: api.INTERNAL\n", "70:7: egress.routes[1]: expected a host and path that no other route has, got those of line 61"},
		{"RouteHostWithPort", "host: API.internal", "host: api.internal:80", "61:13: egress.routes[0].host: expected a host without port (an IPv6 address in brackets), got \"api.internal:80\""},
		{"RouteHostNoIPv6", "host: API.internal", "host: '[::z]'", "61:13: egress.routes[0].host: expected a host without port (an IPv6 address in brackets), got \"[::z]\""},
		{"RouteHostBadIPv6", "host: API.internal", "host: '[1::2::3]'", "61:13: egress.routes[0].host: expected an IPv6 address in the brackets, got '[1::2::3]'"},
		{"RoutePathWithParameters", "path: /stocks", "path: /stocks;v=1", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks;v=1\""},
		{"RoutePathRelative", "path: /stocks", "path: stocks", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"stocks\""},
		{"RoutePathDotSegment", "path: /stocks", "path: /stocks/../admin", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks/../admin\""},
		{"RoutePathEncodedDot", "path: /stocks", "path: /stocks/%2e%2e/admin", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks/%2e%2e/admin\""},
		{"RoutePathEncodedSlash", "path: /stocks", "path: /stocks%2Fadmin", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks%2Fadmin\""},
		{"RoutePathEmptySegment", "path: /stocks", "path: //stocks", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"//stocks\""},
		{"RoutePathBackslash", "path: /stocks", "path: '/stocks\\admin'", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks\\\\admin\""},
		{"RoutePathPattern", "path: /stocks", "path: /stocks/*", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks/*\""},
		{"RoutePathSlashAtEnd", "path: /stocks", "path: /stocks/", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks/\""},
		{"RoutePathQuery", "path: /stocks", "path: /stocks?all", "62:13: egress.routes[0].path: expected a path that begins with / and does not end with it, without empty or dot segments, percent signs, semicolons and *, got \"/stocks?all\""},
		{"UpstreamRelative", "upstream: https://api.example.com/v1/", "upstream: api.example.com", "64:17: egress.routes[0].upstream: expected an absolute http or https URL, got \"api.example.com\""},
		{"UpstreamFile", "upstream: https://api.example.com/v1/", "upstream: file:///etc/passwd", "64:17: egress.routes[0].upstream: expected an absolute http or https URL, got \"file:///etc/passwd\""},
		{"UpstreamWithPassword", "upstream: https://api.example.com/v1/", "upstream: https://user:hunter2@api.example.com", "64:17: egress.routes[0].upstream: expected a URL without user information, got one for host \"api.example.com\""},
		{"UpstreamWithPasswordAndBlank", "upstream: https://api.example.com/v1/", "upstream: https://user:hunter2 x@api.example.com", "64:17: egress.routes[0].upstream: expected an absolute http or https URL, got another text (not shown: it might be a secret)"},
		{"UpstreamQuery", "upstream: https://api.example.com/v1/", "upstream: https://api.example.com/?key=hunter2", "64:17: egress.routes[0].upstream: expected a URL without query and fragment, got one with it"},
		{"UpstreamFragment", "upstream: https://api.example.com/v1/", "upstream: 'https://api.example.com/#a'", "64:17: egress.routes[0].upstream: expected a URL without query and fragment, got one with it"},
		{"UpstreamDotSegments", "upstream: https://api.example.com/v1/", "upstream: https://api.example.com/v1/../v2", "64:17: egress.routes[0].upstream: expected a URL whose path has no empty or dot segments, percent signs, semicolons and *, got 'https://api.example.com/v1/../v2'"},
		{"RouteAudienceUnknown", "audience: https://news.example.com", "audience: https://new.example.com", "72:17: egress.routes[1].audience: expected one of audiences ('https://api.example.com', 'https://news.example.com', 'https://plain.example.com', 'billing'), got 'https://new.example.com'; did you mean 'https://news.example.com'?"},
		{"RouteAudienceOfOtherCaller", "caller: mcp-server", "caller: lonely", "65:17: egress.routes[0].audience: expected one of callers.lonely.audiences (none), got 'https://api.example.com'\n72:17: egress.routes[1].audience: expected one of callers.lonely.audiences (none), got 'https://news.example.com'"},
		{"RouteScopeThatCallerLacks", "      scopes: [stocks/read]\n      ca_file", "      scopes: [news/read]\n      ca_file", "66:16: egress.routes[0].scopes[0]: expected a scope of callers.mcp-server.audiences['https://api.example.com'] ('stocks/read', 'stocks/trade', 'orders/read'), got 'news/read'"},
		{"AddressWithoutLength", "10.1.0.0/16", "10.1.0.0", "68:19: egress.routes[0].addresses[0]: expected a range of addresses such as 10.1.0.0/16, got \"10.1.0.0\""},
		{"AddressBitsBehindLength", "10.1.0.0/16", "10.1.2.3/16", "68:19: egress.routes[0].addresses[0]: expected a range with no bits behind its length, such as '10.1.0.0/16', got '10.1.2.3/16'"},
		{"AddressTooLong", "10.1.0.0/16", "10.1.0.0/33", "68:19: egress.routes[0].addresses[0]: expected a range of addresses such as 10.1.0.0/16, got '10.1.0.0/33'"},
		{"AddressIPv4InIPv6", "10.1.0.0/16", "'::ffff:10.1.0.0/112'", "68:19: egress.routes[0].addresses[0]: expected a range of IPv4 addresses to be written as such, got '::ffff:10.1.0.0/112'"},
		{"Timeout", "timeout: 5s", "timeout: 2h", "69:16: egress.routes[0].timeout: expected a duration such as 30s from 1s to 1h, got \"2h\""},
	}
}

func manyScopes() string {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, ",s%d", i+1)
	}
	return b.String()
}

// TestParseRefusesLookAlikeNames: characters that cannot be seen, and letters that look like
// others, would make two names of what looks like one.
func TestParseRefusesLookAlikeNames(t *testing.T) {
	const where = "version: 1\naudiences:\n  api%[1]s: {resources: [res%[2]s], scopes: [read%[3]s], claims: {to%[4]s: from%[5]s}}\n" +
		"callers:\n  c%[6]s:\n    subject_audience: s%[7]s\n    actors: [agent%[8]s]\n    authentication: {secret_variables: [A]}\n" +
		"    audiences: {api%[1]s: {scopes: [read%[3]s], rules: [{name: rule%[9]s, when: [x], grant: [read%[3]s]}]}}\n" +
		"tools: {tool%[10]s: {audiences: {api%[1]s: []}}}\n"
	const places = 10
	file := func(at int, with string) []byte {
		var args [places]any
		for i := range args {
			args[i] = ""
		}
		if at >= 0 {
			args[at] = with
		}
		return fmt.Appendf(nil, where, args[:]...)
	}
	if _, err := policy.Parse(file(-1, "")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []rune{
		0xFE0F, 0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, 0x17B4, 0x2800, 0x180B, 0xE0100, 0x200B, 0x00AD, 0x2060, 0xE000, 0x0378,
		'\u0301', '\u0430', '\u0131', '\u0130', '\uFF41', 'é',
	} {
		for at := range places {
			if _, err := policy.Parse(file(at, string(r))); err == nil || !strings.Contains(err.Error(), "printable ASCII") {
				t.Errorf("U+%04X in name %d: got %v, want it refused", r, at+1, err)
			}
		}
	}
}

// Every mistake is reported with line, column, path, what was expected and what came.
func TestParseRefuses(t *testing.T) {
	for _, tt := range mistakes() {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(change(t, tt.old, tt.with)))
			if p != nil || err == nil {
				t.Fatal("Parse took it")
			}
			var problems policy.Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("Parse: %v", err)
			}
			for _, problem := range problems {
				if problem.Line < 1 || problem.Column < 1 {
					t.Errorf("no place: %v", problem)
				}
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("Parse:\n%s\nwant\n%s", got, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a secret is shown")
			}
		})
	}
}

func TestParseRefusesDocuments(t *testing.T) {
	bomb := "version: 1\naudiences:\n  x: {scopes: &s [a0"
	for i := range 900 {
		bomb += fmt.Sprintf(",a%d", i+1)
	}
	bomb += "]}\n"
	for i := range 900 {
		bomb += fmt.Sprintf("  x%d: {scopes: *s}\n", i)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"Empty", "", "1:1: expected a policy, got an empty file"},
		{"CommentsOnly", "# nothing\n", "1:1: expected a policy, got an empty file"},
		{"Null", "~\n", "1:1: expected a policy, got an empty file"},
		{"List", "- version: 1\n", "1:1: expected a policy: a mapping with version and callers, got a list"},
		{"Text", "policy\n", "1:1: expected a policy: a mapping with version and callers, got text"},
		{"SecondDocument", full + "---\nversion: 1\n", "73:1: expected one document, got another one"},
		{"TooLarge", full + strings.Repeat("#", 1<<20), "1:1: expected at most 1048576 bytes, got "},
		{"NoUTF8", "version: 1\ncallers: \"\xff\"\n", "2:11: expected UTF-8, got a byte that is none"},
		{"UTF16", "\xff\xfev\x00e\x00", "1:1: expected UTF-8, got a byte that is none"},
		{"Tab", "version: 1\ncallers:\n\tx: 1\n", "3:1: expected YAML, got a character that nothing begins with"},
		{"OpenBracket", "version: 1\ncallers: [\n", "2:1: expected YAML, got a bracket without its end"},
		{"UnknownAnchor", "version: 1\ncallers: *everybody\n", "2:1: expected YAML, got an alias (*) without its anchor (&) above"},
		{"TooDeep", "version: 1\nx: " + strings.Repeat("[", 50) + strings.Repeat("]", 50) + "\n", "2:23: expected values nested at most 20 deep, got more"},
		{"FarTooDeep", strings.Repeat("[", 1<<20), "1:1: expected YAML, got values nested too deep"},
		{"FarTooDeepBlocks", strings.Repeat("- ", 1<<19), "1:1: expected YAML, got values nested too deep"},
		{"ManyAliases", bomb, "expected at most 100000 values, aliases followed; got more"},
		{"ManyValuesThroughAliases", bomb, "values, aliases followed; got more"},
		{"AliasInsideOfItsAnchor", "version: 1\ncallers: &c {a: *c}\n", "2:14: callers.a.a: expected one of the keys"},
		{"OneProblemInEveryLine", "version: 1\n" + strings.Repeat("x: 1\n", 1000), "2:1: expected one of the keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tt.text))
			if p != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Parse: %v\nwant %s", err, tt.want)
			}
			var problems policy.Problems
			if !errors.As(err, &problems) || len(problems) > 100 {
				t.Errorf("%d problems", len(problems))
			}
		})
	}
}

// One reading finds everything that is wrong, in the order of the file.
func TestParseReportsAllProblemsAtOnce(t *testing.T) {
	text := change(t, "token_lifetime: 2m", "token_lifetime: 2h")
	text = strings.Replace(text, "actors: 4", "actor: 4", 1)
	text = strings.Replace(text, "when: [stocks/trade]", "when: stocks/trade", 1)
	text = strings.Replace(text, "caller: mcp-server", "caller: nobody", 1)
	_, err := policy.Parse([]byte(text))
	want := `4:3: limits.actor: expected one of the keys 'token_lifetime', 'actors', got another; did you mean 'actors'?
9:21: audiences['https://api.example.com'].token_lifetime: expected a duration such as 30s from 10s to 1h, got "2h"
38:19: callers.mcp-server.audiences['https://api.example.com'].rules[0].when: expected a list of scope tokens, got text
59:11: egress.caller: expected one of callers ('mcp-server', 'lonely'), got 'nobody'`
	if err == nil || err.Error() != want {
		t.Errorf("Parse:\n%v\nwant\n%s", err, want)
	}
}

func TestParseReadsEverything(t *testing.T) {
	p := parse(t, full)
	if sum := sha256.Sum256([]byte(full)); p.Version() != fmt.Sprintf("%x", sum[:8]) {
		t.Errorf("Version %s", p.Version())
	}
	if p.Limits() != (policy.Limits{TokenLifetime: 5 * time.Minute, Actors: 4}) {
		t.Errorf("Limits %+v", p.Limits())
	}
	audiences := p.Audiences()
	if len(audiences) != 4 {
		t.Fatalf("%d audiences", len(audiences))
	}
	if want := (policy.Audience{
		Name: "https://api.example.com", Resources: []string{"https://api.example.com/v1"}, Issue: policy.Mint, TokenLifetime: 2 * time.Minute,
		Scopes: oauth.Scopes{"stocks/read", "stocks/trade", "orders/read"}, Claims: map[string]string{"region": "region", "home": "country"}, Line: 6,
	}); !reflect.DeepEqual(audiences[0], want) {
		t.Errorf("audience %+v", audiences[0])
	}
	if a := audiences[3]; a.Name != "billing" || a.Issue != policy.IDP || a.TokenLifetime != 5*time.Minute {
		t.Errorf("audience %+v", a)
	}
	if callers := p.Callers(); len(callers) != 2 || callers[0].ID != "mcp-server" || callers[1].ID != "lonely" {
		t.Errorf("callers %+v", callers)
	}
	server, ok := p.Caller("mcp-server")
	if want := (policy.Caller{
		ID: "mcp-server", SubjectAudience: "https://mcp.internal.example.com",
		Authentication: policy.Authentication{
			SecretFiles: []string{"/run/secrets/mcp-server"}, SecretVariables: []string{"MCP_SERVER_SECRET"},
			PrivateKeyJWT: &policy.KeySet{JWKSFile: "/etc/keys/mcp.jwks.json"},
			MTLS:          &policy.Certificate{SPIFFEID: "spiffe://example.com/ns/mcp/sa/server"},
			Kubernetes:    &policy.ServiceAccount{Namespace: "mcp", Name: "server"},
		},
		AllowWithoutUser: true, AcceptExchanged: true, Actors: []string{"agent"}, Line: 22,
	}); !ok || !reflect.DeepEqual(server, want) {
		t.Errorf("caller %+v", server)
	}
	if _, ok := p.Caller("nobody"); ok {
		t.Error("there is nobody")
	}
	egress, ok := p.Egress()
	upstream, _ := url.Parse("https://api.example.com/v1")
	loopback, _ := url.Parse("http://127.0.0.1:9000")
	if want := (policy.Egress{Caller: "mcp-server", Routes: []policy.Route{
		{Host: "api.internal", Path: "/stocks", StripPath: true, Upstream: upstream, Audience: "https://api.example.com", Scopes: oauth.Scopes{"stocks/read"},
			CAFile: "/etc/ssl/api.pem", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}, Timeout: 5 * time.Second, Line: 61},
		{Upstream: loopback, Audience: "https://news.example.com", Timeout: 30 * time.Second, Line: 70},
	}}); !ok || !reflect.DeepEqual(egress, want) {
		t.Errorf("egress %+v", egress)
	}
}

func TestParseTakesTheSmallest(t *testing.T) {
	p := parse(t, "version: 1\ncallers:\n  a:\n    subject_audience: b\n    authentication: {secret_variables: [SECRET]}\n")
	if p.Limits() != (policy.Limits{TokenLifetime: 5 * time.Minute, Actors: 8}) {
		t.Errorf("Limits %+v", p.Limits())
	}
	if _, ok := p.Egress(); ok || len(p.Audiences()) != 0 {
		t.Error("there are audiences or egress")
	}
	a, _ := p.Caller("a")
	if a.AllowWithoutUser || a.AcceptExchanged || a.Authentication.IsZero() {
		t.Errorf("caller %+v", a)
	}
}

// The application behind the proxy is in the same pod: it needs no authentication.
func TestParseTakesCallerOfEgressWithoutAuthentication(t *testing.T) {
	text := change(t, "    authentication:\n      secret_files: [/run/secrets/mcp-server]\n      secret_variables: [MCP_SERVER_SECRET]\n      private_key_jwt: {jwks_file: /etc/keys/mcp.jwks.json}\n      mtls: {spiffe_id: spiffe://example.com/ns/mcp/sa/server}\n      kubernetes: {namespace: mcp, service_account: server}\n", "")
	c, _ := parse(t, text).Caller("mcp-server")
	if !c.Authentication.IsZero() {
		t.Errorf("authentication %+v", c.Authentication)
	}
}

// Whole values may have anchors. A list of rules that two targets share is one list, and
// stands where it is written.
func TestParseFollowsAliases(t *testing.T) {
	text := `version: 1
audiences:
  one: {scopes: &scopes [read, write]}
  two: {scopes: *scopes}
callers:
  a:
    subject_audience: a
    authentication: {secret_variables: [SECRET]}
    audiences:
      one: &target
        rules:
        - {name: write, when: [admin], grant: [write]}
      two: *target
`
	g, err := parse(t, text).Decide(policy.Question{Caller: "a", Audience: []string{"two"}, Granted: oauth.Scopes{"admin"}})
	if err != nil || !slices.Equal(g.Rules, []string{"write"}) || !slices.Equal(g.Lines, []int{13, 12}) {
		t.Errorf("Decide: %+v, %v", g, err)
	}
}
