package main

import (
	"sync"
	"time"

	"github.com/Kong/go-pdk/server/kong_plugin_protocol"

	"phantomtoken/internal/gate"
	"phantomtoken/kong-plugin/pluginserver"
)

// Consumer asks Kong, unless it has said lately.
func (g gateway) Consumer(username string) (gate.Consumer, error) {
	if known, ok := g.consumers.get(username); ok {
		return known, nil
	}
	replies, err := g.event.Ask(pluginserver.LoadConsumer(username))
	if err != nil {
		return gate.Consumer{}, err
	}
	var found kong_plugin_protocol.Consumer
	if err := replies[0].Message(&found); err != nil {
		return gate.Consumer{}, err
	}
	consumer := gate.Consumer{
		ID: found.Id, Username: found.Username, CustomID: found.CustomId,
		CreatedAt: found.CreatedAt, Tags: found.Tags,
	}
	g.consumers.add(username, consumer)
	return consumer, nil
}

const (
	// consumerLife is how long a consumer is remembered. Without a database consumers
	// change only with the whole configuration, which brings a new instance and so a new
	// memo; with one, Kong asks it for every look-up, and so this is also how long a
	// consumer that was taken away still counts.
	consumerLife = 10 * time.Second
	// maxConsumers is where all are forgotten, to be looked up again.
	maxConsumers = 10_000
)

// consumerMemo remembers the consumers that Kong knows. That it does not know one is not
// remembered: a database that is down looks the same. Safe for concurrent use.
type consumerMemo struct {
	now func() time.Time

	mu    sync.Mutex // guards known
	known map[string]rememberedConsumer
}

type rememberedConsumer struct {
	consumer gate.Consumer
	until    time.Time
}

func newConsumerMemo(now func() time.Time) *consumerMemo {
	return &consumerMemo{now: now, known: map[string]rememberedConsumer{}}
}

func (m *consumerMemo) get(username string) (gate.Consumer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.known[username]
	if !ok || !m.now().Before(r.until) {
		return gate.Consumer{}, false
	}
	return r.consumer, true
}

func (m *consumerMemo) add(username string, c gate.Consumer) {
	if c.ID == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxConsumers {
		clear(m.known)
	}
	m.known[username] = rememberedConsumer{c, m.now().Add(consumerLife)}
}
