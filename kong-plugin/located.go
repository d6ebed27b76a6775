package main

import (
	"context"
	"errors"
	"sync"
)

// located is a part at a place of the authorization server. The place is configured, or
// known from the issuer's metadata only when the part is first needed; the part is made
// anew when the metadata names another place. Safe for concurrent use.
type located[P comparable, T any] struct {
	find  func(context.Context) (P, error) // quick when it has been asked lately
	build func(P) (T, error)
	end   func(T)

	mu     sync.Mutex
	built  bool
	place  P
	part   T
	closed bool
}

// at is a place that is configured.
func at[P any](place P) func(context.Context) (P, error) {
	return func(context.Context) (P, error) { return place, nil }
}

var errClosed = errors.New("the configuration is no longer in use")

// get returns the part at the present place.
func (l *located[P, T]) get(ctx context.Context) (T, error) {
	var none T
	place, err := l.find(ctx)
	if err != nil {
		return none, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return none, errClosed
	case l.built && l.place == place:
		return l.part, nil
	}
	part, err := l.build(place)
	if err != nil {
		return none, err
	}
	if l.built {
		l.end(l.part)
	}
	l.built, l.place, l.part = true, place, part
	return part, nil
}

// close ends the part.
func (l *located[P, T]) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed = true; l.built {
		l.end(l.part)
		l.built = false
	}
}
