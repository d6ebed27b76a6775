package introspection

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// The circuit opens after maxFailures failures in a row and stays open for minPause, then
// twice as long each time a probe fails, up to maxPause. The pauses are short because
// everything without a cache entry is refused meanwhile.
const (
	maxFailures = 5
	minPause    = time.Second
	maxPause    = 10 * time.Second
)

// verdict is what one call says about the health of the endpoint.
type verdict int

const (
	neutral verdict = iota // says nothing: not sent, caller gone, TLS, keys elsewhere
	healthy                // answered, whatever the answer
	failing                // no connection, no answer in time, 502, 503, 504
)

func verdictOf(err *Error) verdict {
	switch err.Kind {
	case KindTimeout, KindConnection:
		return failing
	case KindStatus:
		switch err.Status {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return failing
		}
		// A 500 may be the provider's trouble with this one token: nobody must be able to
		// shut out all others by sending it again.
		return healthy
	case KindCredentials, KindRedirect, KindMalformed, KindTooLarge, KindMediaType, KindUnverified:
		// Refusing everybody because of one odd answer would make an outage of a nuisance.
		return healthy
	default:
		return neutral
	}
}

// breaker stops calls to an endpoint that does not answer, so that users get their error
// at once and the endpoint gets room to recover.
type breaker struct {
	now    func() time.Time
	logger *slog.Logger

	mu       sync.Mutex    // guards what follows
	failures int           // in a row, while closed
	pause    time.Duration // zero: closed
	until    time.Time     // end of the pause
	probing  bool          // the pause is over and one call is finding out
	epoch    int           // counts openings and closings
}

// ticket remembers in which epoch a call started: calls from before an opening come back
// late and have no say any more.
type ticket struct {
	epoch int
	probe bool
}

func newBreaker(now func() time.Time, logger *slog.Logger) *breaker {
	return &breaker{now: now, logger: logger}
}

// start lets a call begin or says why not. Each ticket must be given to end.
func (b *breaker) start() (ticket, *Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return ticket{epoch: b.epoch}, nil
	}
	if b.probing || b.now().Before(b.until) {
		return ticket{}, failure(KindCircuit, "not asked, because the endpoint failed %d times in a row or its probe failed; the next attempt is made within %v", maxFailures, b.pause)
	}
	b.probing = true
	return ticket{epoch: b.epoch, probe: true}, nil
}

// end takes the verdict of a call.
func (b *breaker) end(t ticket, v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.epoch != b.epoch:
	case t.probe:
		b.probing = false
		switch v {
		case healthy:
			b.close()
		case failing:
			b.open(min(2*b.pause, maxPause))
		}
	case v == healthy:
		b.failures = 0
	case v == failing:
		if b.failures++; b.failures >= maxFailures {
			b.open(minPause)
		}
	}
}

func (b *breaker) open(pause time.Duration) {
	b.pause = pause
	b.until = b.now().Add(pause)
	b.epoch++
	b.logger.Error("introspection endpoint does not answer, calls are paused", "pause_seconds", pause.Seconds())
}

func (b *breaker) close() {
	b.pause, b.failures = 0, 0
	b.epoch++
	b.logger.Info("introspection endpoint answers again")
}
