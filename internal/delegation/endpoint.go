package delegation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"phantomtoken/internal/breaker"
	"phantomtoken/tokenexchange"
)

// Exchanger swaps tokens at a token endpoint (RFC 8693), as [tokenexchange.Client] does and
// with the errors that it documents. It must end in a time of its own.
type Exchanger interface {
	Exchange(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error)
}

// EndpointConfig is what an Endpoint is made of.
type EndpointConfig struct {
	// Exchanger makes the calls, always as the same client. Required.
	Exchanger Exchanger
	// Now is the clock of pauses and memory; nil means time.Now.
	Now func() time.Time
	// Logger gets a line when calls are paused and when the endpoint answers again; nil
	// discards.
	Logger *slog.Logger
}

// maxConcurrent bounds the calls at one time, so that a slow provider does not take all we
// have.
const maxConcurrent = 64

// Endpoint is one token endpoint as one client. Targets share it, so that all know when it
// is down. It is safe for concurrent use; create it with [NewEndpoint].
type Endpoint struct {
	exchanger Exchanger
	now       func() time.Time
	log       *slog.Logger
	slots     chan struct{}
	breaker   *breaker.Breaker
	memory    *memory

	mu      sync.Mutex    // guards what follows
	limited time.Time     // until then the provider wants no calls; zero: it takes them
	pause   time.Duration // the most that the last 429 paused; zero: the last answer was another
}

// NewEndpoint returns an Endpoint. It makes no call.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	if cfg.Exchanger == nil {
		return nil, errors.New("making the exchange endpoint: expected an exchanger, got none")
	}
	memory, err := newMemory()
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		exchanger: cfg.Exchanger,
		now:       cfg.Now,
		log:       cfg.Logger,
		slots:     make(chan struct{}, maxConcurrent),
		memory:    memory,
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.breaker = breaker.New(breaker.Config{
		Opened: "token endpoint does not answer, calls are paused",
		Closed: "token endpoint answers again",
		Now:    e.now,
		Logger: e.log,
	})
	return e, nil
}

// Answers reports whether calls are being made: false while they are paused because the
// endpoint does not answer, or because it limits them. It is true again when a pause is
// over, since only a call can find out.
func (e *Endpoint) Answers() bool { return e.checkLimit() == nil && !e.breaker.Paused() }

// exchange makes the call unless its answer is known or nobody would answer. remembered
// says that the error is that of an earlier call.
func (e *Endpoint) exchange(ctx context.Context, req tokenexchange.Request) (res *tokenexchange.Response, remembered bool, err error) {
	key := keyOf(&req)
	if err := e.memory.recall(key, e.now()); err != nil {
		return nil, true, err
	}
	if err := e.takeSlot(ctx); err != nil {
		return nil, false, err
	}
	defer func() { <-e.slots }()
	res, err = e.call(ctx, req)
	if err != nil {
		e.memory.learn(key, e.now(), err)
		return nil, false, err
	}
	return res, false, nil
}

func (e *Endpoint) takeSlot(ctx context.Context) error {
	if ctx.Err() == nil {
		select {
		case e.slots <- struct{}{}:
			return nil
		case <-ctx.Done():
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("the caller went away: %w", ctx.Err())
	}
	return fmt.Errorf("all %d calls to the token endpoint are taken and none ended in time; it is slow, or there are more users than it can answer for", cap(e.slots))
}

func (e *Endpoint) call(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
	if err := e.checkLimit(); err != nil {
		return nil, err
	}
	ticket, err := e.breaker.Start()
	if err != nil {
		return nil, err
	}
	// A call that never reports would stop the circuit from ever closing.
	verdict := breaker.Neutral
	defer func() { e.breaker.End(ticket, verdict) }()

	res, err := e.exchanger.Exchange(ctx, req)
	verdict = health(ctx, err)
	e.heedLimit(err, verdict)
	if err != nil {
		return nil, err
	}
	return res, judge(&req, res)
}

// judge looks at what the provider says of its token. What the token says is another
// matter.
func judge(req *tokenexchange.Request, res *tokenexchange.Response) error {
	if res.AccessToken == req.SubjectToken {
		return errEcho
	}
	missing := slices.DeleteFunc(slices.Clone(req.Scope), func(s string) bool { return slices.Contains(res.Scope, s) })
	if len(missing) > 0 {
		return fmt.Errorf("%w: lacks %q", errNarrowed, missing)
	}
	return nil
}

// limitedError says that the provider wants no calls for a while.
type limitedError struct{ remaining time.Duration }

func (e *limitedError) Error() string {
	return fmt.Sprintf("not asked, because the provider limits our calls (status 429); the next one is made in %v", e.remaining.Round(time.Second))
}

// checkLimit refuses a call that the provider asked us not to make.
func (e *Endpoint) checkLimit() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if left := e.limited.Sub(e.now()); left > 0 {
		return &limitedError{remaining: left}
	}
	return nil
}

// firstLimit is the most that one 429 pauses the calls. It may be about one user, and all
// others wait too.
const firstLimit = 5 * time.Second

// heedLimit stops calling for as long as the provider asked with 429 (RFC 6585 §4), but for
// firstLimit at most, then twice as long with each 429 that follows on it without another
// answer, up to maxRetryAfter. Those that come during a pause were under way and are one with
// the first.
func (e *Endpoint) heedLimit(err error, verdict breaker.Verdict) {
	var refused *tokenexchange.Error
	limited := errors.As(err, &refused) && refused.Status == http.StatusTooManyRequests
	now := e.now()
	e.mu.Lock()
	fresh := !now.Before(e.limited)
	if !limited || refused.RetryAfter <= 0 {
		if !limited && verdict == breaker.Healthy && fresh {
			e.pause = 0
		}
		e.mu.Unlock()
		return
	}
	if fresh {
		e.pause = min(max(2*e.pause, firstLimit), maxRetryAfter)
	}
	pause := min(refused.RetryAfter, e.pause)
	if until := now.Add(pause); until.After(e.limited) {
		e.limited = until
	}
	e.mu.Unlock()
	if fresh {
		e.log.Warn("token endpoint limits our calls, calls are paused", "pause_seconds", pause.Seconds())
	}
}
