// Package sts is the security token service of the sidecar: the endpoint of OAuth 2.0
// Token Exchange (RFC 8693), with the metadata and the keys that an API needs to verify
// what it issues.
//
// One request flows through the package in this order; each step has a file:
//
//	form.go     the body is read: bounded, a form, nothing in the query
//	caller.go   the caller proves who it is
//	subject.go  the subject token is verified: a phantom token of the gateway, meant for this caller
//	policy.go   the targets and scopes that this caller may have
//	actor.go    who acts for whom
//	token.go    the flow itself; mints the exchanged token
//	answer.go   the answer, and the audit line of the decision
//
// # What is issued
//
// An RFC 9068 access token of the sidecar's own issuer. It never gives more than the
// subject token gave:
//
//   - aud is exactly the targets asked for, each configured for the caller;
//   - sub is the subject's;
//   - scope is at most what was asked for, what the subject token has and what is
//     configured, for every target;
//   - exp is never after the exp of the subject token;
//   - client_id is the caller: RFC 8693 §4.3 makes it the client that requested the token;
//   - act names the caller too, as the current actor. Nested in it is the chain of actors of
//     the subject token; where that has none, its client (the MCP client that the user
//     authorized), so that an API can log the whole chain. An actor is sub, iss and client_id,
//     nothing else. Only the outermost actor may
//     decide about access (RFC 8693 §4.1);
//   - other claims only if they are listed for every target.
//
// # Deviations
//
// Impersonation is not offered: the caller always appears as actor, so an actor_token is
// refused. A may_act of the subject token has to name the caller with iss, this service's
// issuer: a sub alone is a name of the gateway (RFC 8693 §4.4). Tokens of clients without a
// user are refused unless the caller is configured to exchange them. Only bearer tokens that a gateway minted (typ at+jwt) are accepted as subject.
package sts
