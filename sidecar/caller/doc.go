// Package caller finds out who asks at the token endpoint (RFC 6749 §2.3).
//
// One request uses one of these ways, and a caller only those that are registered for it:
//
//   - client_secret_basic and client_secret_post (RFC 6749 §2.3.1)
//   - private_key_jwt: a client_assertion that the caller signs (RFC 7521, RFC 7523)
//   - a Kubernetes service account token, sent as a client_assertion of the same type and
//     told from private_key_jwt by its issuer
//   - tls_client_auth: a certificate of a trusted authority, known by its SPIFFE id or by
//     one of its DNS names (RFC 8705 §2.1)
//
// A certificate on the connection says who asks only in a request without any other
// credential: behind a service mesh every connection has one.
//
// Assertions of private_key_jwt serve once. What was used is remembered by a Replay, in the
// memory of this process: not across a restart, and not by other processes of the same
// name. It is lost no sooner than the assertions expire, which is minutes.
//
// Not supported: self-signed certificates (RFC 8705 §2.2), certificates that a proxy puts
// into a header, client_secret_jwt, and assertions without a key id (kid).
package caller
