package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/discovery"
	"phantomtoken/internal/introspection"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/tokencache"
	"phantomtoken/tokenexchange"
)

// providerSettings are all settings that shape a provider. Equal settings are the same
// provider.
type providerSettings struct {
	Endpoint               string // introspection; empty: found by Issuer
	ClientID, ClientSecret string
	AuthMethod             string // empty: what the metadata says, or basic
	TokenTypeHint          bool
	AcceptJWT              bool
	Timeout                time.Duration
	MaxResponseBytes       int64
	FailuresPerMinute      int

	CAs                string // PEM; empty: those of the system
	InsecureSkipVerify bool
	InsecureHosts      []string

	Issuer      string // whose tokens these are, and where the rest is found
	InternalURL string // origin in place of the issuer's
	JWKSURI     string // empty: found by Issuer
	// Of the JWT in the answer; an empty Issuer verifies none.
	Audiences []string
	Leeway    time.Duration

	Exchange      bool   // tokens are exchanged there
	TokenEndpoint string // empty: found by Issuer
}

// provider is one authorization server as one client: what instances with the same
// settings share. It is a gate.Introspector, a delegation.Exchanger and a keyring.KeySource;
// where the metadata is needed and cannot be had, each fails with a word about it.
type provider struct {
	id       [32]byte
	settings providerSettings
	cas      *x509.CertPool
	now      func() time.Time
	log      *slog.Logger
	failures *tokencache.Limiter
	users    int // guarded by parts.mu

	issuer        *discovery.Issuer // nil when everything is configured
	introspection *located[discovery.Endpoint, *introspection.Client]
	keys          *located[string, *keyring.RemoteKeys]               // nil when no token is verified
	exchange      *located[discovery.Endpoint, *tokenexchange.Client] // nil when none is exchanged
	exchanges     *delegation.Endpoint                                // through exchange; nil with it
}

// maxFailureSources bounds the client addresses that are remembered for their failures.
const maxFailureSources = 100_000

// leastDiscoveryTimeout is for metadata at a provider whose calls must be quicker.
const leastDiscoveryTimeout = 5 * time.Second

// newProvider checks the settings; it makes no request.
func newProvider(s providerSettings, now func() time.Time, log *slog.Logger) (*provider, error) {
	p := &provider{
		settings: s,
		now:      now,
		log:      log,
		failures: tokencache.NewLimiter(s.FailuresPerMinute, s.FailuresPerMinute, maxFailureSources, now),
	}
	if s.CAs != "" {
		p.cas = x509.NewCertPool()
		p.cas.AppendCertsFromPEM([]byte(s.CAs)) // checked when the configuration was read
	}
	verifies := (s.AcceptJWT || s.Exchange) && s.Issuer != ""
	if s.Endpoint == "" || verifies && s.JWKSURI == "" || s.Exchange && s.TokenEndpoint == "" {
		var err error
		p.issuer, err = discovery.New(discovery.Config{
			Issuer:             s.Issuer,
			InsecureHosts:      s.InsecureHosts,
			InternalURL:        s.InternalURL,
			AuthMethod:         s.AuthMethod,
			CAs:                p.cas,
			InsecureSkipVerify: s.InsecureSkipVerify,
			// What takes longer than one request waits is there for the next.
			Timeout: max(s.Timeout, leastDiscoveryTimeout),
			Now:     now,
			Logger:  log,
		})
		if err != nil {
			return nil, err
		}
	}
	if err := p.assemble(verifies); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// assemble makes the parts. Those whose place is configured are made at once, so that
// what is wrong with them is known at once.
func (p *provider) assemble(verifies bool) error {
	s := &p.settings
	if verifies {
		p.keys = &located[string, *keyring.RemoteKeys]{build: p.makeKeys, end: (*keyring.RemoteKeys).Close, find: at(s.JWKSURI)}
		if s.JWKSURI == "" {
			p.keys.find = p.issuer.JWKSURI
		} else if _, err := p.keys.get(context.Background()); err != nil {
			return fmt.Errorf("token.jwks_uri: %w", err)
		}
	}
	if s.Exchange {
		p.exchange = &located[discovery.Endpoint, *tokenexchange.Client]{
			build: p.makeExchange, end: (*tokenexchange.Client).CloseIdleConnections,
			find: at(discovery.Endpoint{URL: s.TokenEndpoint, AuthMethod: cmp.Or(s.AuthMethod, oauth.AuthBasic)}),
		}
		if s.TokenEndpoint == "" {
			p.exchange.find = p.issuer.TokenEndpoint
		} else if _, err := p.exchange.get(context.Background()); err != nil {
			return fmt.Errorf("phantom_token.token_endpoint: %w", err)
		}
		var err error
		p.exchanges, err = delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: p, Now: p.now, Logger: p.log})
		if err != nil {
			return err
		}
	}
	p.introspection = &located[discovery.Endpoint, *introspection.Client]{
		build: p.makeIntrospection, end: (*introspection.Client).Close,
		find: at(discovery.Endpoint{URL: s.Endpoint, AuthMethod: cmp.Or(s.AuthMethod, oauth.AuthBasic)}),
	}
	if s.Endpoint == "" {
		p.introspection.find = p.issuer.IntrospectionEndpoint
	} else if _, err := p.introspection.get(context.Background()); err != nil {
		return fmt.Errorf("introspection: %w", err)
	}
	return nil
}

func (p *provider) makeIntrospection(endpoint discovery.Endpoint) (*introspection.Client, error) {
	s := &p.settings
	cfg := introspection.Config{
		Endpoint:           endpoint.URL,
		ClientID:           s.ClientID,
		ClientSecret:       s.ClientSecret,
		AuthMethod:         endpoint.AuthMethod,
		TokenTypeHint:      s.TokenTypeHint,
		CAs:                p.cas,
		InsecureSkipVerify: s.InsecureSkipVerify,
		Timeout:            s.Timeout,
		MaxResponseBytes:   s.MaxResponseBytes,
		Now:                p.now,
		Logger:             p.log,
	}
	if s.AcceptJWT {
		cfg.Accept = introspection.AcceptJWT
		if p.keys != nil {
			verifier, err := p.verifier(s.Audiences)
			if err != nil {
				return nil, err
			}
			cfg.Verifier = verifier
		}
	}
	return introspection.New(cfg)
}

func (p *provider) makeKeys(uri string) (*keyring.RemoteKeys, error) {
	return keyring.NewRemoteKeys(keyring.RemoteConfig{
		URL:                uri,
		InsecureHosts:      p.settings.InsecureHosts,
		CAs:                p.cas,
		InsecureSkipVerify: p.settings.InsecureSkipVerify,
		Now:                p.now,
		Logger:             p.log,
	})
}

// maxExchanges bounds the exchanges at one time, and so the connections.
const maxExchanges = 64

func (p *provider) makeExchange(endpoint discovery.Endpoint) (*tokenexchange.Client, error) {
	s := &p.settings
	return tokenexchange.New(tokenexchange.Config{
		Endpoint:     endpoint.URL,
		ClientID:     s.ClientID,
		ClientSecret: s.ClientSecret,
		AuthMethod:   tokenexchange.AuthMethod(endpoint.AuthMethod),
		Timeout:      s.Timeout,
		Transport: &http.Transport{
			// A dial outlives the request that asked for it and keeps its place among the
			// connections: without bounds of its own a silent peer would take them all for good.
			DialContext:         (&net.Dialer{Timeout: s.Timeout}).DialContext,
			TLSHandshakeTimeout: s.Timeout,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				RootCAs:            p.cas,
				InsecureSkipVerify: s.InsecureSkipVerify,
			},
			ForceAttemptHTTP2:      true,
			MaxConnsPerHost:        maxExchanges,
			MaxIdleConnsPerHost:    maxExchanges,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		InsecureAllowHTTP: true, // by insecure_http_hosts only, which was checked where the URL came from
		Now:               p.now,
	})
}

// verifier checks tokens that the provider issued for one of audiences.
func (p *provider) verifier(audiences []string) (*keyring.Verifier, error) {
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
		Issuer:    p.settings.Issuer,
		Audiences: audiences,
		Keys:      p,
		// Keycloak and others do not follow RFC 9068 in their typ.
		Types:  []string{keyring.TypeAccessToken, "jwt"},
		Leeway: p.settings.Leeway,
		Now:    p.now,
	})
	if err != nil {
		return nil, fmt.Errorf("token.issuer: %w", err)
	}
	return verifier, nil
}

// target has tokens exchanged for audience.
func (p *provider) target(audience string) (*delegation.Target, error) {
	verifier, err := p.verifier([]string{audience})
	if err != nil {
		return nil, err
	}
	return delegation.NewTarget(delegation.TargetConfig{
		Endpoint: p.exchanges,
		Verifier: verifier,
		Audience: audience,
		ClientID: p.settings.ClientID,
		Settings: delegation.Settings{
			Subject:     "access token",
			ClientID:    "client_id",
			Credentials: "client_id, client_secret and introspection.auth_method",
			Endpoint:    "phantom_token.token_endpoint",
			Issuer:      "token.issuer",
			Keys:        "token.jwks_uri",
			Issue:       "phantom_token.mode",
			Audience:    "phantom_token.audience",
			Scope:       "phantom_token.exchange_scope",
		},
		Now: p.now,
	})
}

// Introspect asks what token is worth (RFC 7662).
func (p *provider) Introspect(ctx context.Context, token string) (*introspection.Result, error) {
	client, err := p.introspection.get(ctx)
	if err != nil {
		return nil, err
	}
	return client.Introspect(ctx, token)
}

// Exchange swaps a token (RFC 8693).
func (p *provider) Exchange(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
	client, err := p.exchange.get(ctx)
	if err != nil {
		return nil, err
	}
	return client.Exchange(ctx, req)
}

// Keys returns keys of the issuer.
func (p *provider) Keys(ctx context.Context, kid string) ([]keyring.PublicKey, error) {
	keys, err := p.keys.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", keyring.ErrKeysUnavailable, err)
	}
	return keys.Keys(ctx, kid)
}

// close ends what is under way.
func (p *provider) close() {
	if p.introspection != nil {
		p.introspection.close()
	}
	if p.exchange != nil {
		p.exchange.close()
	}
	if p.keys != nil {
		p.keys.close()
	}
	if p.issuer != nil {
		p.issuer.Close()
	}
}
