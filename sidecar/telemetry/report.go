package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// reportPause is the least time between two lines about spans that could not be sent: a
// collector that is down would otherwise fill the log.
const reportPause = time.Minute

// report has the errors of OpenTelemetry logged, which else writes them to standard error in
// its own format: with what the collector answered and with values of variables, so that
// neither error nor message of it is passed on. OpenTelemetry knows one place for this in a
// process.
func report(logger *slog.Logger) {
	r := &reporter{logger: logger, now: time.Now}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(r.handle))
	otel.SetLogger(logr.New(sink{r}))
}

// reporter logs errors, some of them.
type reporter struct {
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex
	last time.Time // of the last line
}

func (r *reporter) handle(err error) {
	r.mu.Lock()
	now := r.now()
	quiet := !r.last.IsZero() && now.Sub(r.last) < reportPause
	if !quiet {
		r.last = now
	}
	r.mu.Unlock()
	if !quiet {
		r.logger.Warn("traces cannot be sent", "cause", cause(err), "setting", variableEndpoint)
	}
}

// cause is what is wrong, in words of ours.
func cause(err error) string {
	var timeout net.Error
	var dial *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &dial):
		return "no connection"
	}
	return "refused, or not understood"
}

// sink is a logr.LogSink for what OpenTelemetry says about itself. Only its errors count.
type sink struct{ r *reporter }

func (sink) Init(logr.RuntimeInfo)                 {}
func (sink) Enabled(int) bool                      { return false }
func (sink) Info(int, string, ...any)              {}
func (s sink) Error(err error, _ string, _ ...any) { s.r.handle(err) }
func (s sink) WithValues(...any) logr.LogSink      { return s }
func (s sink) WithName(string) logr.LogSink        { return s }
