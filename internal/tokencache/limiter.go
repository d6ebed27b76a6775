package tokencache

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Limiter bounds how often one source may present tokens that turn out inactive (RFC 7662
// §4, token fishing). Each source has a bucket of burst failures that refills at perMinute
// failures a minute. The sources longest unheard of are forgotten beyond maxSources. It is
// safe for concurrent use. A nil Limiter limits nothing.
type Limiter struct {
	perMinute float64
	burst     float64
	now       func() time.Time

	mu      sync.Mutex // guards sources
	sources *simplelru.LRU[string, bucket]
}

// bucket is what a source had left at a time. A source without one has a full bucket.
type bucket struct {
	left float64
	at   time.Time
}

// NewLimiter returns a Limiter. It returns nil, which limits nothing, when perMinute is
// not positive; burst and maxSources are at least one, a nil now means time.Now.
func NewLimiter(perMinute, burst, maxSources int, now func() time.Time) *Limiter {
	if perMinute <= 0 {
		return nil
	}
	if now == nil {
		now = time.Now
	}
	sources, err := simplelru.NewLRU[string, bucket](max(maxSources, 1), nil)
	if err != nil { // a positive size: cannot fail
		return nil
	}
	return &Limiter{
		perMinute: float64(perMinute),
		burst:     float64(max(burst, 1)),
		now:       now,
		sources:   sources,
	}
}

// Take takes one failure from the budget of source and reports whether there was one to
// take. It is taken before anybody knows whether the token is good, so that many tokens at
// once find no more budget than one after the other; [Limiter.Return] gives it back.
func (l *Limiter) Take(source string) bool {
	if l == nil {
		return true
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.left(source, now)
	if left < 1 {
		return false
	}
	l.sources.Add(source, bucket{left: left - 1, at: now})
	return true
}

// Return gives back what Take took, for a token that turned out active or that nobody
// could tell about.
func (l *Limiter) Return(source string) {
	if l == nil {
		return
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.left(source, now) + 1
	if left >= l.burst {
		l.sources.Remove(source) // nothing to remember
		return
	}
	l.sources.Add(source, bucket{left: left, at: now})
}

func (l *Limiter) left(source string, now time.Time) float64 {
	b, ok := l.sources.Get(source)
	if !ok {
		return l.burst
	}
	// A clock that was set back refills nothing.
	refill := math.Max(0, now.Sub(b.at).Minutes()) * l.perMinute
	return math.Min(l.burst, b.left+refill)
}
