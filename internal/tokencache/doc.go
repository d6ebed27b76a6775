// Package tokencache remembers what the provider said about access tokens, so that a
// token is introspected once and not once per request.
//
// It keeps claims, never verdicts: whoever reads an [Entry] decides afresh for every
// request. Four rules hold whatever the caller does:
//
//   - The token is not stored. An entry is found by [Key], a SHA-256 of the token and of
//     the introspection configuration that answered (RFC 7662 §5: answers are meant for
//     the resource server that asked).
//   - No entry outlives its Expiry or the exp of the token (RFC 7662 §4); both are
//     compared with the clock on every hit.
//   - Errors are never stored, so an outage of the provider ends when the outage ends.
//   - Entries and bytes are bounded. Entries of inactive tokens give way first, so that a
//     flood of invented tokens cannot push out the tokens that are in use.
//
// What follows for revocation: a token revoked at the provider goes on working here until
// its entry ends or is removed with [Cache.Remove].
package tokencache
