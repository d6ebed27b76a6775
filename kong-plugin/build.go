package main

import (
	"log/slog"
	"slices"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/oauth"
)

// decisionSlack is what a decision may take beside the call to the provider.
const decisionSlack = 2 * time.Second

// build turns the configuration into that of the gate. It reads the key files, connects to
// nothing, and takes its share of parts; the caller gives it back by release. The error
// joins every problem there is; then nothing is to be released.
func (c *Config) build(shared *parts, log *slog.Logger) (cfg gate.Config, release func(), err error) {
	p := &problems{insecureHosts: c.InsecureHTTPHosts}
	for _, host := range c.InsecureHTTPHosts {
		p.host("insecure_http_hosts", host)
	}
	settings := c.providerSettings(p)
	cfg = gate.Config{
		MetadataMaxAge: seconds(c.Metadata.MaxAgeSeconds),
		MetadataAtRoot: c.Metadata.AtRoot,
		Realm:          c.Realm,
		CORS:           c.cors(p),
		Cache:          shared.cache,
		CacheTTL:       seconds(c.TokenCacheSeconds),
		NegativeTTL:    seconds(c.Cache.NegativeSeconds),
		Identity:       c.identity(p),
		ClearHeaders:   c.PhantomToken.ClearHeaders,
		Timeout:        settings.Timeout + decisionSlack,
		Now:            shared.now,
		Logger:         log,
	}
	p.check("realm", oauth.CheckDescription(c.Realm))
	p.between("token_cache_seconds", c.TokenCacheSeconds, 0, 86400)
	p.between("cache.negative_seconds", c.Cache.NegativeSeconds, 0, 60)
	p.between("cache.max_entries", c.Cache.MaxEntries, 1, 10_000_000)
	p.between("cache.max_bytes", c.Cache.MaxBytes, 1<<20, 1<<40)
	for _, name := range c.PhantomToken.ClearHeaders {
		p.header("phantom_token.clear_headers", name)
	}
	cfg.Token = c.tokenPolicy(p)
	cfg.Resource, cfg.Metadata = c.resource(p, cfg.Token.Scopes)
	cfg.Phantom, cfg.Issuers = c.phantom(p, cfg.Resource, shared.now, log)
	var audiences []string // of the provider's JWT that goes upstream
	if c.mode() != modeMint && c.Token.Issuer != "" {
		audiences = c.relayedAudiences(p)
	}
	if settings.AcceptJWT {
		settings.Audiences = audiences
	}
	exchangeScopes := c.exchangeScopes(p, cfg.Token.Scopes, cfg.Metadata.ScopesSupported)
	if err := p.err(); err != nil {
		return gate.Config{}, nil, err
	}

	used, err := shared.acquire(settings)
	if err != nil {
		return gate.Config{}, nil, err
	}
	if c.mode() == modeExchange {
		target, err := used.target(c.PhantomToken.Audience)
		if err != nil {
			shared.release(used)
			return gate.Config{}, nil, err
		}
		cfg.Phantom = &gate.Exchange{Target: target, Scopes: exchangeScopes}
	}
	shared.cache.Bounds(c.Cache.MaxEntries, int64(c.Cache.MaxBytes))
	cfg.Introspector, cfg.IntrospectionID, cfg.Failures = used, used.id, used.failures
	c.warn(log)
	return cfg, func() { shared.release(used) }, nil
}

// warn tells the operator what a configuration gives away.
func (c *Config) warn(log *slog.Logger) {
	if !c.VerifySSL {
		log.Warn("verify_ssl is false: whoever sits between the gateway and the authorization server can make any token valid")
	}
	switch c.audienceCheck() {
	case audienceOff:
		log.Warn("token.audience_check is off: a token for any other server opens this route")
	case audienceWhenPresent:
		log.Warn("token.audience_check is when_present: a token without audience opens this route; set resource to require one")
	}
	if slices.Contains(changeableClaims(), c.Identity.ConsumerClaim) {
		log.Warn("identity.consumer_claim is a claim that users can change at many providers, and then be another's consumer: use sub, or one that only administrators set", "claim", c.Identity.ConsumerClaim)
	}
	if c.Token.JWKSURI != "" && c.mode() == modeMint {
		log.Warn("token.jwks_uri has no effect: only the tokens of phantom_token.mode introspection and exchange are verified by keys")
	}
}

func (c *Config) audienceCheck() string {
	switch {
	case c.Token.AudienceCheck != "":
		return c.Token.AudienceCheck
	case c.Resource != "" || len(c.AuthorizationServers) > 0:
		return audienceRequired // clients are told for what to get a token
	default:
		return audienceWhenPresent // as the Lua plugin, which knew no audience
	}
}

func (c *Config) hasKey() bool {
	return c.PhantomToken.SigningKey != "" || c.PhantomToken.SigningKeyFile != ""
}

func (c *Config) mode() string {
	switch {
	case c.PhantomToken.Mode != "":
		return c.PhantomToken.Mode
	case c.hasKey():
		return modeMint
	default:
		return modeIntrospection
	}
}

func (c *Config) cors(p *problems) gate.CORS {
	for _, origin := range c.TrustedWebOrigins {
		p.origin("trusted_web_origins", origin)
	}
	p.between("cors.max_age_seconds", c.CORS.MaxAgeSeconds, 0, 86400)
	return gate.CORS{
		Enabled: c.CORS.Enabled,
		Origins: c.TrustedWebOrigins,
		MaxAge:  seconds(c.CORS.MaxAgeSeconds),
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
