// Package delegation has an identity provider issue tokens on behalf of somebody else
// (RFC 8693): it asks, verifies the answer like a stranger's token, and says what a refusal
// means and which setting cures it.
//
// The order of one exchange is: short memory of refusals → a place among the calls → pauses
// (429, circuit breaker) → the call → what the provider granted → the token itself.
// Whatever fails, there is no token; the subject token never takes its place.
//
//   - A 429 pauses the calls of all, since the provider does not say whom it limits: as long
//     as it asks, but 5 s at most. When the next call meets another one, the bound is 10 s,
//     then 20 s, then 30 s.
//   - A definite refusal is remembered for a moment, so that somebody who repeats a request
//     does not pass the repetition on to the provider. Trouble is never remembered.
//   - An [Endpoint] is one token endpoint as one client: pauses and memory belong to it.
//     A [Target] is one audience for which tokens are had there.
package delegation
