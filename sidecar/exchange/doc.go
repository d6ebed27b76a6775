// Package exchange is the decision of the sidecar, free of HTTP: a caller shows the phantom
// token that it received, and gets a token for exactly one API, never wider than what the
// user granted. The token endpoint (package sts) and the egress proxy (package egress) are
// two doors to it.
//
// One request flows through the package in this order; each step has a file:
//
//	exchanger.go  the flow itself, and the cache in front of it
//	subject.go    the subject token is verified: a phantom token, meant for this caller
//	actor.go      who acts for whom
//	grant.go      the policy is asked what may be issued
//	issue.go      the exchanged token: minted here, or by the identity provider
//	audit.go      one line, whatever the decision
//
// # What is issued
//
// Minted tokens are RFC 9068 access tokens of the sidecar's own issuer. They never give more
// than the subject token gave, but for scopes that a named rule of the policy adds:
//
//   - aud is exactly the targets asked for, each configured for the caller;
//   - sub is the subject's;
//   - scope is at most what was asked for, what the subject token has and what is
//     configured, for every target; a rule may add to it, and is logged by name;
//   - exp is never after the exp of the subject token;
//   - client_id is the caller: RFC 8693 §4.3 makes it the client that requested the token;
//   - act names the current actor: the caller, or whom its actor token names. Nested in it is
//     the chain of actors of the subject token; where that has none, its client (the MCP
//     client that the user authorized), so that an API can log the whole chain. An actor is
//     sub, iss and client_id, nothing else. Only the outermost actor may decide about access
//     (RFC 8693 §4.1);
//   - other claims only as the policy maps them, for every target.
//
// Tokens of the identity provider say what the provider puts into them. They are verified
// before anybody gets them, and are never used longer than the subject token lives.
//
// # Deviations
//
// Impersonation is not offered: there is always an actor. A may_act of the subject token has
// to name the actor with its issuer: a sub alone is a name of the issuer of the subject token
// (RFC 8693 §4.4). Tokens of clients without a user are refused unless the caller is allowed
// to exchange them; what is minted for those says so in gty, so that the next server in a chain
// does not take the client for a user. Tokens that are bound to a key (cnf) are refused.
//
// A may_act is carried into what is minted: whoever exchanges that token again, here or
// elsewhere, is bound by it.
//
// Tokens that the identity provider issued to this service are exchanged tokens too: only
// callers with accept_exchanged may exchange them. The provider's tokens carry no act, so the
// depth of such a chain is not limited here.
package exchange
