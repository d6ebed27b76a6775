package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
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

// provider is one authorization server as one client: what instances with the same
// settings share.
type provider struct {
	id       [32]byte
	client   *introspection.Client
	failures *tokencache.Limiter
	keys     func() // closes the source of its keys
	users    int    // guarded by parts.mu
}

// providerSettings are all settings that shape a provider. Equal settings are the same
// provider.
type providerSettings struct {
	Endpoint, ClientID, ClientSecret, AuthMethod string
	TokenTypeHint                                bool
	AcceptJWT                                    bool
	Timeout                                      time.Duration
	MaxResponseBytes                             int64
	FailuresPerMinute                            int

	CAs                string // PEM; empty: those of the system
	InsecureSkipVerify bool
	InsecureHosts      []string

	// Of the JWT in the answer; an empty Issuer verifies none.
	Issuer, JWKSURI string
	Audiences       []string
	Leeway          time.Duration
}

// maxFailureSources bounds the client addresses that are remembered for their failures.
const maxFailureSources = 100_000

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
	fresh, err := p.newProvider(settings)
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
		used.client.Close()
		used.keys()
	}
}

func (p *parts) newProvider(s providerSettings) (*provider, error) {
	var cas *x509.CertPool
	if s.CAs != "" {
		cas = x509.NewCertPool()
		cas.AppendCertsFromPEM([]byte(s.CAs)) // checked when the configuration was read
	}
	cfg := introspection.Config{
		Endpoint:           s.Endpoint,
		ClientID:           s.ClientID,
		ClientSecret:       s.ClientSecret,
		AuthMethod:         s.AuthMethod,
		TokenTypeHint:      s.TokenTypeHint,
		CAs:                cas,
		InsecureSkipVerify: s.InsecureSkipVerify,
		Timeout:            s.Timeout,
		MaxResponseBytes:   s.MaxResponseBytes,
		Now:                p.now,
		Logger:             p.log,
	}
	closeKeys := func() {}
	if s.AcceptJWT {
		cfg.Accept = introspection.AcceptJWT
	}
	if s.AcceptJWT && s.Issuer != "" {
		remote := keyring.RemoteConfig{
			URL:                s.JWKSURI,
			InsecureHosts:      s.InsecureHosts,
			CAs:                cas,
			InsecureSkipVerify: s.InsecureSkipVerify,
			Now:                p.now,
			Logger:             p.log,
		}
		var source keyring.KeySource
		if s.JWKSURI == "" {
			keys := newIssuerKeys(s.Issuer, remote)
			source, closeKeys = keys, keys.close
		} else {
			keys, err := keyring.NewRemoteKeys(remote)
			if err != nil {
				return nil, fmt.Errorf("token.jwks_uri: %w", err)
			}
			source, closeKeys = keys, keys.Close
		}
		verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
			Issuer:    s.Issuer,
			Audiences: s.Audiences,
			Keys:      source,
			// Keycloak and others do not follow RFC 9068 in their typ.
			Types:  []string{keyring.TypeAccessToken, "jwt"},
			Leeway: s.Leeway,
			Now:    p.now,
		})
		if err != nil {
			closeKeys()
			return nil, fmt.Errorf("token.issuer: %w", err)
		}
		cfg.Verifier = verifier
	}
	client, err := introspection.New(cfg)
	if err != nil {
		closeKeys()
		return nil, fmt.Errorf("introspection: %w", err)
	}
	return &provider{
		client:   client,
		failures: tokencache.NewLimiter(s.FailuresPerMinute, s.FailuresPerMinute, maxFailureSources, p.now),
		keys:     closeKeys,
	}, nil
}
