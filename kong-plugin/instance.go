package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/oauth"
	"phantomtoken/kong-plugin/pluginserver"
)

// starter makes the plugin's instances. Configurations that cannot work become instances
// too, which answer 500: Kong has no use for a failure, and other routes go on.
func starter(shared *parts, now func() time.Time, log *slog.Logger) func(config []byte) pluginserver.Instance {
	return func(config []byte) pluginserver.Instance {
		cfg, from, err := decodeConfig(config)
		log := log.With("plugin_id", from.PluginID)
		if err != nil {
			return newBroken(err, now, log)
		}
		gateConfig, release, err := cfg.build(shared, log)
		if err != nil {
			return newBroken(err, now, log)
		}
		g, err := gate.New(gateConfig)
		if err != nil {
			release()
			return newBroken(err, now, log)
		}
		return &instance{
			gate:      g,
			release:   release,
			route:     &routeMemo{scoped: from.RouteID != "", now: now},
			consumers: newConsumerMemo(now),
			log:       log,
		}
	}
}

// instance is one configuration at work.
type instance struct {
	gate      *gate.Gate
	release   func()
	route     *routeMemo
	consumers *consumerMemo
	log       *slog.Logger
}

// Close gives back what the instance shares with others.
func (i *instance) Close() { i.release() }

// broken stands for a configuration that cannot work.
type broken struct {
	problems string
	now      func() time.Time
	log      *slog.Logger

	mu   sync.Mutex
	said time.Time
}

// complaintPause keeps a broken route from filling the log.
const complaintPause = time.Minute

func newBroken(err error, now func() time.Time, log *slog.Logger) *broken {
	// One line, whatever the number of problems.
	b := &broken{problems: strings.ReplaceAll(err.Error(), "\n", "; "), now: now, log: log}
	b.complain()
	return b
}

// Access answers every request with a 500.
func (b *broken) Access(_ context.Context, e *pluginserver.Event) {
	b.complain()
	body := (&oauth.Error{Code: oauth.ErrorServerError}).Body()
	if err := answer(e, http.StatusInternalServerError, body); err != nil && !errors.Is(err, pluginserver.ErrGone) {
		b.log.Warn("answering a request failed", "err", err)
	}
}

// Close has nothing to close.
func (b *broken) Close() {}

func (b *broken) complain() {
	now := b.now()
	b.mu.Lock()
	due := b.said.IsZero() || now.Sub(b.said) >= complaintPause
	if due {
		b.said = now
	}
	b.mu.Unlock()
	if due {
		b.log.Error("plugin configuration cannot work, its routes answer 500", "problems", b.problems)
	}
}

// answer sends a JSON body that nobody may cache.
func answer(e *pluginserver.Event, status int, body []byte) error {
	return e.Exit(status, []pluginserver.Header{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Cache-Control", Value: "no-store"},
	}, body)
}
