package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"phantomtoken/internal/tokencache"
)

// parts are what outlives the plugin's instances: Kong makes a new instance of every
// configuration at every reload, and a reload must not empty the cache, drop the
// connections to the provider or forget that it is down. Safe for concurrent use.
type parts struct {
	cache *tokencache.Cache
	now   func() time.Time
	log   *slog.Logger

	mu        sync.Mutex
	providers map[[32]byte]*provider
}

func newParts(now func() time.Time, log *slog.Logger) (*parts, error) {
	cache, err := tokencache.New(tokencache.Config{MaxEntries: 1, MaxBytes: 1, Now: now}) // raised by each instance
	if err != nil {
		return nil, fmt.Errorf("making the token cache: %w", err)
	}
	return &parts{cache: cache, now: now, log: log, providers: map[[32]byte]*provider{}}, nil
}

// acquire returns the provider of these settings; release gives it back, and the last
// user's release closes it.
func (p *parts) acquire(settings providerSettings) (*provider, error) {
	b, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("identifying the introspection settings: %w", err)
	}
	id := sha256.Sum256(b)

	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.providers[id]; known != nil {
		known.users++
		return known, nil
	}
	fresh, err := newProvider(settings, p.now, p.log)
	if err != nil {
		return nil, err
	}
	fresh.id, fresh.users = id, 1
	p.providers[id] = fresh
	return fresh, nil
}

func (p *parts) release(used *provider) {
	p.mu.Lock()
	used.users--
	last := used.users == 0
	if last {
		delete(p.providers, used.id)
	}
	p.mu.Unlock()
	if last {
		used.close()
	}
}
