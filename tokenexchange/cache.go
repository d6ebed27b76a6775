package tokenexchange

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"phantomtoken/internal/flight"
)

// CacheConfig makes a [Client] keep the tokens that were issued to it. The zero value is
// ready for use.
//
// A token is found again by everything that decides what it is: subject token, actor
// token, their types, audiences, resources, scopes, requested type, and the client itself.
// It is used no longer than the service said (expires_in), than its own exp says, and than
// the exp of the subject token and the actor token where those can be read; one minute where
// nothing says how long it lives. Tokens of the caller are not kept, only hashes of them.
//
// Callers that need the same token at the same time share one call. It goes on when one of
// them leaves, for the others and for the cache. A token that is asked for in the last
// fifth of its life is replaced behind the callers; when the service refuses that with a
// definite answer (see Refusals), the old token is given out no more. ErrUnavailable and
// ErrUnacceptable are never kept and leave the old token.
//
// Revocation of the subject token does not reach a token that was exchanged for it (RFC
// 8693 §2.1), cached or not, until the service is asked again: have it issue them with short
// lives.
type CacheConfig struct {
	// MaxEntries bounds the number of tokens. 50,000 when 0.
	MaxEntries int
	// MaxBytes bounds the memory they take, estimated. 64 MiB when 0.
	MaxBytes int64
	// Margin is how much life a token must have left to be used again, or half of its life
	// where that is shorter. 10 seconds when 0.
	Margin time.Duration
	// Refusals is how long a definite refusal ([Error] with a code and a status of 4xx, other
	// than too many requests) is remembered. 5 seconds when 0.
	Refusals time.Duration
}

const (
	defaultMargin   = 10 * time.Second
	defaultRefusals = 5 * time.Second
	// unknownLife is how long a token is used that does not say how long it lives.
	unknownLife = time.Minute
	// refreshAhead is the last part of its life in which a token in use is replaced.
	refreshAhead = 0.2
	// evictAge protects the endpoint from an API that refuses every token: a token that was
	// issued just now is not replaced by yet another.
	evictAge = 5 * time.Second
)

// open returns the cache, nil for none.
func (c *CacheConfig) open(now func() time.Time) (*flight.Cache[*issued], error) {
	if c == nil {
		return nil, nil
	}
	var problems []error
	if c.Margin < 0 {
		problems = append(problems, fmt.Errorf("Cache.Margin: expected a positive duration, got %s", c.Margin))
	}
	if c.Refusals < 0 {
		problems = append(problems, fmt.Errorf("Cache.Refusals: expected a positive duration, got %s", c.Refusals))
	}
	cache, err := flight.New[*issued](flight.Config{MaxEntries: c.MaxEntries, MaxBytes: c.MaxBytes, RefreshAhead: refreshAhead, Now: now})
	if err != nil {
		problems = append(problems, fmt.Errorf("in Cache: %w", err))
	}
	return cache, errors.Join(problems...)
}

// issued is a token that is kept. It never changes.
type issued struct {
	Response
	at     time.Time
	expiry time.Time // zero: unknown
}

// response is a copy for one caller.
func (i *issued) response(now time.Time) *Response {
	out := i.Response
	out.Scope = slices.Clone(out.Scope)
	if !i.expiry.IsZero() {
		out.ExpiresIn = max(i.expiry.Sub(now), 0)
	}
	return &out
}

// cached is Exchange with a cache.
func (c *Client) cached(ctx context.Context, req *Request) (*Response, error) {
	key := c.key(req)
	if token, ok := c.cache.Get(key); ok {
		return token.response(c.cfg.now()), nil
	}
	return c.fetch(ctx, key, *req)
}

// fetch has a copy of the request, which outlives the caller.
func (c *Client) fetch(ctx context.Context, key flight.Key, req Request) (*Response, error) {
	req.Audience, req.Resource, req.Scope = slices.Clone(req.Audience), slices.Clone(req.Resource), slices.Clone(req.Scope)
	// The call has a timeout of its own, which says more when it ends.
	token, _, err := c.cache.Do(ctx, key, 2*c.cfg.timeout(), func(ctx context.Context) (flight.Value[*issued], error) {
		return c.issue(ctx, &req)
	})
	if err == nil {
		return token.response(c.cfg.now()), nil
	}
	if refused := (*Error)(nil); errors.As(err, &refused) {
		mine := *refused // many callers get it
		return nil, &mine
	}
	if ctx.Err() != nil && err == ctx.Err() {
		return nil, fmt.Errorf("calling token endpoint %s: %w", c.where, err)
	}
	return nil, err
}

// issue makes the call and says how long its outcome may be kept.
func (c *Client) issue(ctx context.Context, req *Request) (flight.Value[*issued], error) {
	start := c.cfg.now()
	res, err := c.exchange(ctx, req)
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.definite() {
		life := cmp.Or(c.cfg.Cache.Refusals, defaultRefusals)
		return flight.Value[*issued]{Err: refused, Expiry: c.cfg.now().Add(life), Bytes: 128 + len(refused.Description) + len(refused.URI)}, nil
	}
	if err != nil {
		return flight.Value[*issued]{}, err
	}
	token := &issued{Response: *res, at: start}
	end := start.Add(unknownLife)
	if res.ExpiresIn > 0 {
		token.expiry = start.Add(res.ExpiresIn)
		end = token.expiry
	}
	final := false
	for _, shown := range []string{req.SubjectToken, req.ActorToken} {
		// What is no JWT, or no good one, says nothing here: the service has accepted it.
		if claims, err := readClaims(shown); err == nil && claims != nil && !claims.Expiry.IsZero() {
			// Services cut the life of what they issue at this moment, so that another call
			// would bring no more of it.
			final = final || !end.Before(claims.Expiry.Add(-time.Second))
			if claims.Expiry.Before(end) {
				end = claims.Expiry
			}
		}
	}
	end = end.Add(-min(cmp.Or(c.cfg.Cache.Margin, defaultMargin), end.Sub(start)/2))
	size := 160 + len(res.AccessToken) + len(res.IssuedTokenType) + len(res.TokenType)
	for _, s := range res.Scope {
		size += 16 + len(s)
	}
	return flight.Value[*issued]{V: token, Expiry: end, Bytes: size, Final: final}, nil
}

// definite reports whether asking again would bring the same answer.
func (e *Error) definite() bool {
	return e.Code != "" && e.Status >= 400 && e.Status < 500 && e.Status != http.StatusRequestTimeout && !errors.Is(e, ErrUnavailable)
}

// Evict forgets the token that [Client.Exchange] returned for req, because the API it is
// for refused it (401). It does so only if token is still the one that is kept: whoever
// comes late with bad news about an old token does not take the new one away. A token that
// was issued less than five seconds ago stays, since another one would fare no better.
// Without a cache there is nothing to forget.
func (c *Client) Evict(req Request, token string) {
	if c.cache == nil {
		return
	}
	now := c.cfg.now()
	c.cache.Evict(c.key(&req), func(kept *issued) bool {
		return kept.AccessToken == token && now.Sub(kept.at) >= evictAge
	})
}

// key is a hash of all that decides the answer. Every field has its length before it, so
// that no separator in a name makes two requests look like one.
func (c *Client) key(req *Request) flight.Key {
	var space [2048]byte // the stack is enough for the common token
	b := append(space[:0], c.identity...)
	b = appendFields(b,
		req.SubjectToken, cmp.Or(req.SubjectTokenType, TokenTypeAccessToken),
		req.ActorToken, req.ActorTokenType,
		cmp.Or(req.RequestedTokenType, TokenTypeAccessToken))
	scope := req.Scope
	if !slices.IsSorted(scope) { // a set: the order does not matter
		scope = slices.Sorted(slices.Values(scope))
	}
	for _, list := range [...][]string{req.Audience, req.Resource, scope} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(list)))
		b = appendFields(b, list...)
	}
	return sha256.Sum256(b)
}

func appendFields(b []byte, fields ...string) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint64(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}
