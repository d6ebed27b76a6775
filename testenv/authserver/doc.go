// Package authserver is an OAuth 2.1 authorization server that runs inside a test, a
// demonstration or a small command. It stands in for the real thing and is as strict as
// the real thing: what a certified server refuses, it refuses with the same error.
//
// A client meets the endpoints in this order, one file each:
//
//	metadata.go    RFC 8414 and OpenID Connect Discovery, in every well-known form
//	register.go    RFC 7591, open to anyone; the policies of such clients are ours
//	cimd.go        clients whose client_id is the URL of their own metadata
//	authorize.go   RFC 6749 §4.1.1 with PKCE (RFC 7636), resource (RFC 8707), iss (RFC 9207)
//	login.go       the page that asks who you are
//	consent.go     the page that says what you are about to allow
//	token.go       the code, or client credentials, for an opaque token
//	exchange.go    RFC 8693: that token for a JWT with another audience, as Keycloak does it
//	introspect.go  RFC 7662, as JSON or in the JWT forms of two products
//	revoke.go      RFC 7009
//
// Clients that registered themselves get PKCE forced on them, tokens of 15 minutes, no
// refresh token, and the claims client_type=mcp and client_assurance_level=1.
//
// For tests there are shortcuts ([Server.IssueToken], [Server.Revoke]), a counter
// ([Server.Introspections]), misbehaviour on demand ([Server.Trouble]) and an injected
// clock. The same shortcuts are open to people on a control port (control.go).
//
// Everything is kept in memory, bounded, and gone after [Server.Close]. Tokens, codes,
// cookies and secrets are kept only as SHA-256 digests. There are no ID tokens and no
// refresh tokens.
package authserver
