// Package discovery finds the endpoints of an authorization server from its issuer
// identifier, so that an operator has one URL to configure.
//
//	issuer → well-known places, in order → metadata (issuer compared) → endpoint
//
// The places are those of RFC 8414 §3.1 (well-known path before the issuer's path), the
// same with the name of OpenID Connect, and OpenID Connect Discovery §4 (behind the
// path). The first that answers with metadata is believed, and only if it names the
// issuer byte by byte (RFC 8414 §3.3).
//
// Nothing is asked before somebody needs it: a provider that is down when the gateway
// starts is no reason not to start. What was found is refreshed in the background and
// goes on serving for a bounded time while the provider does not answer.
//
// Not supported: signed_metadata (RFC 8414 §2.1), which is ignored.
package discovery
