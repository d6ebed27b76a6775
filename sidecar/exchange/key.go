package exchange

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// keyDomain keeps keys apart from every other hash of a token.
const keyDomain = "phantomtoken/exchange/key/v1\x00"

// keyOf is the key of an answer in the cache: the hash of everything that decides it. Every
// part is written with its length, so that no two requests have the same key by moving
// characters from one part to the next. The tokens cannot be had from it. signer is the id of
// the key that signs: what was signed by a key that is gone, because it leaked perhaps, is not
// given out again.
func keyOf(st *state, signer string, req *Request) [32]byte {
	// The stack is enough for the common request.
	var space [2048]byte
	b := append(space[:0], keyDomain...)
	b = appendPart(b, st.policy.Version())
	b = appendPart(b, signer)
	b = appendPart(b, req.Caller)
	b = appendPart(b, req.SubjectToken)
	b = appendPart(b, req.ActorToken)
	if st.policy.HasTools() { // else it decides nothing
		b = appendPart(b, req.Tool)
	}
	b = appendParts(b, req.Audience)
	b = appendParts(b, req.Scope)
	return sha256.Sum256(b)
}

// appendParts writes a set: neither order nor repetition decides anything.
func appendParts(b []byte, list []string) []byte {
	if len(list) > 1 {
		list = slices.Clone(list)
		slices.Sort(list)
		list = slices.Compact(list)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, s := range list {
		b = appendPart(b, s)
	}
	return b
}

func appendPart(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
