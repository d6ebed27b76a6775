package caller

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// Bounds of a Replay when none are given. An entry takes about 100 bytes.
const (
	defaultReplayCaller  = 1 << 16
	defaultReplayOverall = 1 << 18
)

var (
	errReplayed   = errors.New("client assertion was used before")
	errReplayFull = errors.New("memory of used client assertions is full")
)

// Replay remembers which client assertions were used (jti, RFC 7523 §3), each until it
// expires. When it is full it refuses new ones: to forget one would let it be used again.
// It is safe for concurrent use. One Replay serves all Authenticators of a process, so
// that a new policy forgets nothing.
type Replay struct {
	perCaller, overall int

	mu     sync.Mutex // guards what follows
	used   map[assertionID]struct{}
	ends   map[int64][]use   // by the second at which they may be forgotten
	count  map[string]*quota // by caller
	looked int64             // the second at which it was last looked for what may be forgotten
	gone   int64             // the latest end of all that was forgotten
}

// assertionID is the beginning of a digest: caller and jti can be long.
type assertionID [16]byte

type use struct {
	id    assertionID
	quota *quota
}

// quota is the number of entries of a caller: one that makes assertions without end must
// not keep others out.
type quota struct {
	caller string
	n      int
}

// NewReplay makes a memory of at most perCaller entries for each caller and overall for all;
// 0 means 65536 and 262144. A caller that makes an assertion for every request, for five
// minutes each, can send 218 requests per second with 65536.
func NewReplay(perCaller, overall int) *Replay {
	if perCaller <= 0 {
		perCaller = defaultReplayCaller
	}
	if overall <= 0 {
		overall = defaultReplayOverall
	}
	return &Replay{
		perCaller: perCaller,
		overall:   overall,
		used:      make(map[assertionID]struct{}),
		ends:      make(map[int64][]use),
		count:     make(map[string]*quota),
	}
}

// use marks the assertion jti of caller as used. It is remembered until the instant until,
// from which on nobody accepts it any more. The error is errReplayed or errReplayFull.
func (r *Replay) use(caller, jti string, until, now time.Time) error {
	var id assertionID
	sum := sha256.Sum256([]byte(caller + "\x00" + jti)) // no client_id has a NUL
	copy(id[:], sum[:])

	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now.Unix())
	// What ends by then may have been used and forgotten, if the clock was ahead for a while.
	// How far it was ahead does not count, or all would be refused until then.
	if until.Unix() <= r.gone {
		return errReplayed
	}
	if _, used := r.used[id]; used {
		return errReplayed
	}
	q := r.count[caller]
	if len(r.used) >= r.overall || q != nil && q.n >= r.perCaller {
		return errReplayFull
	}
	if q == nil {
		q = &quota{caller: caller}
		r.count[caller] = q
	}
	q.n++
	r.used[id] = struct{}{}
	r.ends[until.Unix()] = append(r.ends[until.Unix()], use{id, q})
	return nil
}

// sweep forgets what has expired: once per second it looks at the seconds that have
// entries, a few hundred at most.
func (r *Replay) sweep(now int64) {
	if now == r.looked {
		return
	}
	r.looked = now
	for second, uses := range r.ends {
		if second > now {
			continue
		}
		r.gone = max(r.gone, second)
		for _, u := range uses {
			delete(r.used, u.id)
			if u.quota.n--; u.quota.n == 0 {
				delete(r.count, u.quota.caller)
			}
		}
		delete(r.ends, second)
	}
}
