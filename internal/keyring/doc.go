// Package keyring holds the signing keys of this project and everything that rests on
// them: keys and their files (Key, Load, LoadOrCreate), the set of keys that one issuer
// signs with and publishes (Ring), folders of keys that follow each other (Folder, Schedule,
// Rotate, List; Keys stands for a Ring or a Folder), minting of JWT access tokens of
// RFC 9068 (Ring.Mint), the metadata documents of an issuer (Issuer), and verification of
// JWT access tokens of ourselves and of others (Verifier, with a Ring, a Folder, PublicKeys
// or RemoteKeys as source of keys).
//
// Four algorithms exist here: ES256, RS256, PS256 and EdDSA. There is no code path to
// none or to HS256: signing wants a private key of Parse or Generate, verification
// wants a PublicKey, and neither can hold a shared secret. A key is used with one
// algorithm only (RFC 8725 §3.1) and its id is its RFC 7638 thumbprint, so that nodes
// which share key files agree without talking to each other.
//
// Not supported: encrypted tokens (JWE), detached or unencoded payloads (RFC 7797), and
// keys that a token names or carries itself (jku, x5u, jwk, x5c), which are ignored as
// RFC 8725 §3.10 wants.
package keyring
