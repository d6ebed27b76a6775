package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"phantomtoken/internal/flight"
)

const (
	// reuseMargin is the remaining life under which an issued token is not given out again, so
	// that it does not die on its way through the API. A token that lives shorter is given out
	// again for the first half of its life.
	reuseMargin = 10 * time.Second
	// leastLife is the remaining life under which a token is not given out at all: expires_in
	// has whole seconds.
	leastLife = time.Second
	// refreshAhead is the part of its life in which a token that is asked for is replaced
	// behind the callers.
	refreshAhead = 0.2
	// refusalLife is how long a definite refusal is remembered. It is short: the user may be
	// granting the missing scope meanwhile.
	refusalLife = 2 * time.Second
	// evictionAge is how old a token has to be before an API that refuses it has it replaced.
	evictionAge = 5 * time.Second
	// issuedRoom is about what an issued token takes in memory beside its text, and
	// refusalRoom what a refusal takes.
	issuedRoom  = 1 << 10
	refusalRoom = 1 << 9
)

func (x *Exchanger) makeCache() (err error) {
	x.cache, err = flight.New[*Issued](flight.Config{
		MaxEntries: x.cfg.CacheEntries, MaxBytes: x.cfg.CacheBytes, RefreshAhead: refreshAhead, Now: x.cfg.Now,
	})
	if err != nil {
		return fmt.Errorf("TOKEN_EXCHANGE_CACHE_ENTRIES: %w", err)
	}
	return nil
}

// value is what the cache keeps of an issued token. No token is used longer than the subject
// token lives; one that ends with it cannot be replaced by a fresher one.
func value(issued *Issued, now time.Time) flight.Value[*Issued] {
	life := issued.Expiry.Sub(now)
	return flight.Value[*Issued]{
		V:      issued,
		Expiry: issued.Expiry.Add(-max(leastLife, min(reuseMargin, life/2))),
		Bytes:  len(issued.Token) + issued.record.size() + issuedRoom,
		Final:  !issued.Expiry.Before(issued.end.Truncate(time.Second)),
	}
}

// refusedValue is what the cache keeps of a refusal: a definite one for a moment, trouble not
// at all.
func refusedValue(err error, now time.Time) (flight.Value[*Issued], error) {
	var r *Refusal
	if !errors.As(err, &r) || !r.definite() {
		return flight.Value[*Issued]{}, err
	}
	return flight.Value[*Issued]{Err: r, Expiry: now.Add(refusalLife), Bytes: len(r.Answer.Description) + r.about.size() + refusalRoom}, nil
}

func (x *Exchanger) keyOf(st *state, req *Request) flight.Key {
	return keyOf(st, x.cfg.Keys.Ring().SigningKeyID(), req)
}

// kept is a copy of req for a decision that may run, or run again, after the caller has its
// answer and has made something else of its Request.
func (req *Request) kept() *Request {
	out := *req
	out.Audience, out.Scope = slices.Clone(req.Audience), slices.Clone(req.Scope)
	return &out
}

// get is the answer to req, issued now or before.
func (x *Exchanger) get(ctx context.Context, st *state, c *caller, req *Request) (*Issued, bool, error) {
	key := x.keyOf(st, req)
	if issued, ok := x.cache.Get(key); ok {
		return issued, true, nil
	}
	req = req.kept()
	issued, outcome, err := x.cache.Do(ctx, key, decisionTimeout, func(ctx context.Context) (flight.Value[*Issued], error) {
		growStack()
		now := x.cfg.Now()
		issued, err := x.decide(ctx, st, c, req, now)
		if err != nil {
			return refusedValue(err, now)
		}
		return value(issued, now), nil
	})
	return issued, outcome != flight.Miss, err
}

// growStack makes the stack of a fresh goroutine as large as verifying and signing need it, at
// once. Grown step by step it is copied four times, which is a thirtieth of a decision.
//
//go:noinline
func growStack() byte {
	var room [12 << 10]byte
	return room[time.Now().Nanosecond()&0xfff]
}
