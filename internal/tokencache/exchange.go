package tokencache

import (
	"context"
	"time"

	"phantomtoken/internal/flight"
)

// exchange is one call to whoever issues the token of a profile. token and err are set
// before done is closed.
type exchange struct {
	done  chan struct{}
	token string
	err   error
}

// Exchanged is Minted for a token that takes a call over the network: it is made once for
// all callers that need it meanwhile, and they share its outcome, an error included.
//
// The call runs under a context that carries the values of the first caller's but is not
// cancelled with it, only after timeout. A caller whose own ctx ends leaves with ctx.Err()
// and hurts nobody. An error is not kept: the next caller tries again. A call that panics
// ends as a [PanicError].
//
// A token is used again until less than margin of its life remains, or less than half of
// it where its whole life is that short.
func (e *Entry) Exchanged(ctx context.Context, profile [32]byte, now time.Time, margin, timeout time.Duration, call func(ctx context.Context) (token string, expiry time.Time, err error)) (string, error) {
	if token, ok := e.Phantom(profile, now); ok {
		return token, nil
	}
	e.minting.Lock()
	if token, ok := e.Phantom(profile, now); ok { // somebody else was first
		e.minting.Unlock()
		return token, nil
	}
	x := e.exchanges[profile]
	if x == nil {
		if err := ctx.Err(); err != nil {
			e.minting.Unlock()
			return "", err
		}
		x = &exchange{done: make(chan struct{})}
		if e.exchanges == nil {
			e.exchanges = map[[32]byte]*exchange{}
		}
		e.exchanges[profile] = x
		go e.exchange(context.WithoutCancel(ctx), x, minted{profile: profile, margin: margin}, now, timeout, call)
	}
	e.minting.Unlock()

	select {
	case <-x.done:
		return x.token, x.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// exchange is the goroutine of one call.
func (e *Entry) exchange(ctx context.Context, x *exchange, m minted, now time.Time, timeout time.Duration, call func(ctx context.Context) (token string, expiry time.Time, err error)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	flight.Guard(func() (err error) {
		x.token, m.expiry, err = call(ctx)
		return err
	}, func(err error) {
		e.minting.Lock()
		delete(e.exchanges, m.profile)
		if x.err = err; err != nil {
			x.token = ""
		} else {
			m.token = x.token
			m.margin = min(m.margin, m.expiry.Sub(now)/2)
			e.storeMinted(m)
		}
		e.minting.Unlock()
		close(x.done)
	})
}
