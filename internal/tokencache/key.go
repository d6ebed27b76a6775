package tokencache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// Key finds an entry. It tells nothing about the token it was made from.
type Key [sha256.Size]byte

// keyDomain keeps keys apart from every other hash of a token, for example from ath of
// DPoP (RFC 9449 §4.2), which clients send in the open.
const keyDomain = "phantomtoken/tokencache/key/v1\x00"

// NewKey is the key of token under the introspection configuration introspectionID:
// answers obtained by one client identity are never found by another.
func NewKey(token string, introspectionID [32]byte) Key {
	// The stack is enough for the common token; the order is unambiguous, because all but
	// the last part have a fixed length.
	var space [1024]byte
	b := append(space[:0], keyDomain...)
	b = append(b, introspectionID[:]...)
	b = append(b, token...)
	return sha256.Sum256(b)
}

// fingerprintKey is drawn once per process and never changes afterwards.
var fingerprintKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	rand.Read(key) //nolint:errcheck // documented never to fail
	return key
})

// Fingerprint names token in logs: 16 hex digits of an HMAC under a key of this process.
// The same token has the same fingerprint until the process ends; nobody who reads the
// log can test a guess or compare it with another log.
func Fingerprint(token string) string {
	mac := hmac.New(sha256.New, fingerprintKey())
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
