// Package breaker is a circuit breaker for calls to one endpoint: it stops the calls while
// the endpoint does not answer, so that users get their error at once and the endpoint gets
// room to recover.
package breaker

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// The circuit opens after maxFailures failures in a row and stays open for minPause, then
// twice as long each time a probe fails, up to maxPause. The pauses are short because
// everything that needs the endpoint is refused meanwhile.
const (
	maxFailures = 5
	minPause    = time.Second
	maxPause    = 10 * time.Second
)

// Verdict is what one call says about the health of the endpoint.
type Verdict int

const (
	// Neutral says nothing: the call was not sent, its caller went away, the trouble is
	// elsewhere. The zero value.
	Neutral Verdict = iota
	// Healthy: the endpoint answered, whatever the answer. One odd answer must not shut out
	// everybody.
	Healthy
	// Failing: no connection, no answer in time, or the answer of a proxy that has neither.
	Failing
)

// Config is what a Breaker is made of. Opened and Closed are required.
type Config struct {
	// Opened is the log message when the calls are paused, Closed when the endpoint answers
	// again: constants that name the endpoint.
	Opened, Closed string
	// Now is the clock of the pauses; nil means time.Now.
	Now func() time.Time
	// Logger gets an error for each pause and a line for each recovery; nil discards.
	Logger *slog.Logger
}

// Breaker watches one endpoint. It is safe for concurrent use; create it with [New].
type Breaker struct {
	cfg Config

	mu       sync.Mutex    // guards what follows
	failures int           // in a row, while closed
	pause    time.Duration // zero: closed
	until    time.Time     // end of the pause
	probing  bool          // the pause is over and one call is finding out
	epoch    int           // counts openings and closings
}

// Ticket stands for one call that was let through.
type Ticket struct {
	// epoch is when the call started: calls from before an opening come back late and have
	// no say any more.
	epoch int
	probe bool
}

// OpenError says that a call was not let through.
type OpenError struct {
	// Pause is how long the calls are paused, Remaining how much of it is left: 0 while a
	// probe is finding out.
	Pause, Remaining time.Duration
}

// Error is a text for the operator's log.
func (e *OpenError) Error() string {
	return fmt.Sprintf("not asked, because the endpoint failed %d times in a row or its probe failed; the next attempt is made within %v", maxFailures, e.Pause)
}

// New returns a Breaker that lets calls through.
func New(cfg Config) *Breaker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Breaker{cfg: cfg}
}

// Start lets a call begin. When it does not, the error is an [*OpenError]. Each Ticket must
// be given to End, or the circuit never closes again: defer it.
func (b *Breaker) Start() (Ticket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return Ticket{epoch: b.epoch}, nil
	}
	if left := b.until.Sub(b.cfg.Now()); b.refuses(left) {
		return Ticket{}, &OpenError{Pause: b.pause, Remaining: max(left, 0)}
	}
	b.probing = true
	return Ticket{epoch: b.epoch, probe: true}, nil
}

// End takes the verdict of a call that Start let begin.
func (b *Breaker) End(t Ticket, v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.epoch != b.epoch:
	case t.probe:
		b.probing = false
		switch v {
		case Healthy:
			b.close()
		case Failing:
			b.open(min(2*b.pause, maxPause))
		}
	case v == Healthy:
		b.failures = 0
	case v == Failing:
		if b.failures++; b.failures >= maxFailures {
			b.open(minPause)
		}
	}
}

// Paused reports whether Start would let no call begin. It is false again when the pause is
// over: only a call can find out whether the endpoint answers, so whoever routes calls by
// this must send some then.
func (b *Breaker) Paused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause > 0 && b.refuses(b.until.Sub(b.cfg.Now()))
}

// refuses, open and close want b.mu held. refuses is for a circuit that is open, with what
// is left of its pause.
func (b *Breaker) refuses(left time.Duration) bool { return b.probing || left > 0 }

func (b *Breaker) open(pause time.Duration) {
	b.pause = pause
	b.until = b.cfg.Now().Add(pause)
	b.epoch++
	b.cfg.Logger.Error(b.cfg.Opened, "pause_seconds", pause.Seconds())
}

func (b *Breaker) close() {
	b.pause, b.failures = 0, 0
	b.epoch++
	b.cfg.Logger.Info(b.cfg.Closed)
}
