// Package oauth is the vocabulary that the gateway and the sidecar share: scopes,
// resource identifiers, challenges, protected resource metadata, introspection
// answers and the error codes a resource server may send.
//
// It is a leaf: it imports the standard library only and nothing of this module,
// holds no state and makes no network call. Every RFC constant the gateway uses is
// written here once; the constants of token exchange (RFC 8693) live in the public
// package tokenexchange, which must not import this one.
package oauth
