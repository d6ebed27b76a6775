package delegation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"phantomtoken/tokenexchange"
)

// How long a refusal is remembered: long enough that somebody who repeats a request is
// answered here, short enough that nobody waits for the end of it after mending the cause.
const (
	refusalLife       = 5 * time.Second
	configurationLife = time.Second
)

// maxRefusals bounds the memory; the oldest go first. One takes little more than 1 KiB at
// most.
const maxRefusals = 4096

// memory holds the refusals of the last seconds by what they depend on. Safe for concurrent
// use.
type memory struct {
	refusals *lru.Cache[[32]byte, refusal]
}

// refusal is the answer to one request.
type refusal struct {
	err   error
	until time.Time
}

func newMemory() (*memory, error) {
	refusals, err := lru.New[[32]byte, refusal](maxRefusals)
	if err != nil {
		return nil, fmt.Errorf("making the memory of refusals: %w", err)
	}
	return &memory{refusals: refusals}, nil
}

// everybody is the key of what concerns every exchange of the client.
var everybody = [32]byte{}

// keyOf is the hash of all that the answer to a request depends on. The client is the same
// for a whole memory. Lengths keep the parts apart.
func keyOf(req *tokenexchange.Request) [32]byte {
	h := sha256.New()
	write := func(parts ...string) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(parts))) // a hash takes everything
		for _, part := range parts {
			_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
			_, _ = io.WriteString(h, part)
		}
	}
	write(req.SubjectToken)
	write(req.Audience...)
	write(req.Scope...)
	return [32]byte(h.Sum(nil))
}

// recall returns the refusal of the same request that is remembered, or nil.
func (m *memory) recall(key [32]byte, now time.Time) error {
	for _, k := range [][32]byte{key, everybody} {
		if r, ok := m.refusals.Get(k); ok {
			if now.Before(r.until) {
				return r.err
			}
			m.refusals.Remove(k)
		}
	}
	return nil
}

// learn remembers a definite refusal. Trouble is forgotten at once: the next attempt may
// succeed.
func (m *memory) learn(key [32]byte, now time.Time, err error) {
	life := refusalLife
	switch reasonOf(err).kind() {
	case KindUnavailable, KindUnacceptable:
		return
	case KindConfiguration:
		life = configurationLife
	}
	if concernsAll(err) {
		key = everybody
	}
	m.refusals.Add(key, refusal{err: err, until: now.Add(life)})
}
