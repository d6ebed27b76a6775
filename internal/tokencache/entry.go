package tokencache

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"phantomtoken/internal/oauth"
)

// Entry is what is known of one access token. The exported fields are set before the
// entry is given to the cache and must not change afterwards; then an Entry is safe for
// concurrent use. It must not be copied.
type Entry struct {
	// Introspection is the answer of the provider. An inactive one makes a negative entry.
	Introspection *oauth.Introspection
	// JWT is the token that the provider put beside the answer, or "".
	JWT string
	// Expiry is when the entry dies, chosen by the caller. The cache ends it earlier when
	// Introspection.Expiry is earlier. Zero means that the entry is not stored at all.
	Expiry time.Time
	// Room is how many bytes the phantom tokens of this entry are expected to take beside
	// what tokens made from its claims usually take. It counts as memory of the entry.
	Room int

	minting   sync.Mutex               // one mint at a time; guards exchanges
	exchanges map[[32]byte]*exchange   // under way, by profile
	minted    atomic.Pointer[[]minted] // oldest first; replaced as a whole, read without a lock
}

// minted is one phantom token made from the entry.
type minted struct {
	profile [32]byte
	token   string
	expiry  time.Time
	margin  time.Duration // of its life that is left to whoever the token is sent to
}

// maxMinted is how many phantom tokens an entry keeps: one per profile, and few routes
// with different profiles see the same access token.
const maxMinted = 4

// Phantom returns the phantom token of profile that is kept and reports whether there is
// one to be used at now. It takes no lock and allocates nothing.
func (e *Entry) Phantom(profile [32]byte, now time.Time) (string, bool) {
	list := e.minted.Load()
	if list == nil {
		return "", false
	}
	now = now.Round(0)
	for i := range *list {
		if m := &(*list)[i]; m.profile == profile {
			fresh := m.expiry.Sub(now) >= m.margin || e.lastsAsLongAs(m.expiry)
			return m.token, fresh && now.Before(m.expiry)
		}
	}
	return "", false
}

// Minted returns the phantom token of profile, calling mint when there is none or when
// less than margin of its life remains at now. One that lives as long as the access token
// is used to its end: a phantom token never outlives the access token, so a fresh one
// would not live longer. The profile stands for everything the token depends on beside
// the claims (signing key, issuer, audience, claim map), so that a rotated key or another
// route never gets the token of another profile.
//
// Callers that need a token at the same time wait for one mint. An error of mint goes to
// the caller who ran it and is not kept: the next one tries again.
func (e *Entry) Minted(profile [32]byte, now time.Time, margin time.Duration, mint func() (token string, expiry time.Time, err error)) (string, error) {
	if token, ok := e.Phantom(profile, now); ok {
		return token, nil
	}
	e.minting.Lock()
	defer e.minting.Unlock()
	if token, ok := e.Phantom(profile, now); ok {
		return token, nil
	}
	token, expiry, err := mint()
	if err != nil {
		return "", err
	}
	e.storeMinted(minted{profile: profile, token: token, expiry: expiry, margin: margin})
	return token, nil
}

// lastsAsLongAs reports whether the access token ends no later than expiry.
func (e *Entry) lastsAsLongAs(expiry time.Time) bool {
	return e.Introspection != nil && !e.Introspection.Expiry.IsZero() && !e.Introspection.Expiry.After(expiry)
}

// storeMinted keeps m and as many of the newer tokens as maxMinted and the allowance that
// cost has charged for them permit.
func (e *Entry) storeMinted(m minted) {
	list := []minted{m}
	room := mintedAllowance(e.answerCost()) + e.Room - len(m.token)
	if old := e.minted.Load(); old != nil {
		for i := len(*old) - 1; i >= 0 && len(list) < maxMinted; i-- {
			o := (*old)[i]
			if o.profile == m.profile {
				continue
			}
			if room -= len(o.token); room < 0 {
				break
			}
			list = append(list, o)
		}
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	e.minted.Store(&list)
}

// negative reports whether the entry says no.
func (e *Entry) negative() bool { return e.Introspection == nil || !e.Introspection.Active }

// end is the moment from which the entry must not be used.
func (e *Entry) end() time.Time {
	if e.Introspection != nil && !e.Introspection.Expiry.IsZero() && e.Introspection.Expiry.Before(e.Expiry) {
		return e.Introspection.Expiry
	}
	return e.Expiry
}

// Sizes of what Go allocates for the parts of an entry, rounded up; BenchmarkFlood and
// TestBytesAreCloseToTheHeap keep them honest.
const (
	costEntry  = 320 // Entry and Introspection
	costMember = 56  // slot of a map with a string key and an interface value
	costMap    = 96
	costString = 24 // header in an interface and rounding of the allocation
	costMint   = 512
)

// cost is about how many bytes of memory the entry occupies, its phantom tokens included.
func (e *Entry) cost() int {
	answer := e.answerCost()
	n := costEntry + len(e.JWT) + answer
	if !e.negative() {
		n += mintedAllowance(answer) + e.Room
	}
	return n
}

func (e *Entry) answerCost() int {
	if e.Introspection == nil || e.Introspection.Claims == nil {
		return 0
	}
	return claimCost(e.Introspection.Claims)
}

// mintedAllowance is what phantom tokens made from an answer of this size may occupy. A
// token repeats a part of the claims, so a large answer gets a larger allowance.
func mintedAllowance(answer int) int { return costMint + answer }

// claimCost recurses as deep as the parser of claims lets values nest.
func claimCost(v any) int {
	switch v := v.(type) {
	case string:
		return costString + len(v)
	case json.Number:
		return costString + len(v)
	case []any:
		n := costString
		for _, e := range v {
			n += 16 + claimCost(e)
		}
		return n
	case map[string]any:
		n := costMap
		for name, e := range v {
			n += costMember + len(name) + claimCost(e)
		}
		return n
	default:
		return 16
	}
}
