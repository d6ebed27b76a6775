package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// phantom is the way to the token that goes upstream, with the issuers whose metadata and
// keys are served here. The way of mode exchange is made later: it needs the provider.
func (c *Config) phantom(p *problems, resource oauth.Resource, now func() time.Time, log *slog.Logger) (gate.Phantom, []*keyring.Issuer) {
	mode := c.mode()
	p.oneOf("phantom_token.mode", mode, modeMint, modeIntrospection, modeExchange)
	p.between("phantom_token.lifetime_seconds", c.PhantomToken.LifetimeSeconds, 10, 3600)
	c.checkClaims(p)
	c.checkNames(p, resource)
	c.checkMode(p, mode)
	if mode == modeExchange {
		return nil, nil
	}
	var mint *gate.Mint
	var issuers []*keyring.Issuer
	if c.hasKey() {
		mint, issuers = c.mint(p, now, log)
	}
	if mode == modeMint {
		return mint, issuers
	}
	return &gate.Relay{Fallback: mint}, issuers
}

// checkMode finds settings that the mode needs, or that have no meaning with it: whoever
// wrote them expects something that would not happen.
func (c *Config) checkMode(p *problems, mode string) {
	t := c.PhantomToken
	const lacks = "expected phantom_token.signing_key or phantom_token.signing_key_file, got neither: an unresolved vault reference arrives empty; check that the variable is in Kong's own environment"
	if mode == modeMint && !c.hasKey() {
		p.add("phantom_token.mode", "mint needs a key: "+lacks)
	}
	if mode == modeIntrospection && !c.hasKey() || mode == modeExchange {
		why := "has a meaning only for tokens that are signed here: " + lacks
		if mode == modeExchange {
			why = "has a meaning only for tokens that are signed here; leave it out with phantom_token.mode exchange, or set the mode to mint"
		}
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"signing_key", t.SigningKey != ""},
			{"signing_key_file", t.SigningKeyFile != ""},
			{"issuer", t.Issuer != ""},
			{"published_key_files", len(t.PublishedKeyFiles) > 0},
			{"algorithm", t.Algorithm != ""},
			{"claims", len(t.Claims) > 0},
			{"subject_claim", t.SubjectClaim != ""},
		} {
			if f.set {
				p.add("phantom_token."+f.name, "%s", why)
			}
		}
	}
	if mode != modeExchange {
		const why = "has a meaning only with phantom_token.mode exchange"
		if t.TokenEndpoint != "" {
			p.add("phantom_token.token_endpoint", why)
		}
		if t.ExchangeScope != "" {
			p.add("phantom_token.exchange_scope", why)
		}
		return
	}
	if t.TokenEndpoint != "" {
		p.transport("phantom_token.token_endpoint", t.TokenEndpoint)
	}
	if c.Token.Issuer == "" {
		p.add("token.issuer", "expected with phantom_token.mode exchange the issuer whose keys verify the exchanged token, got nothing")
	}
	if t.Audience == "" {
		p.add("phantom_token.audience", "expected with phantom_token.mode exchange the upstream's own identifier, got nothing: a token without it could be sent here again from outside")
	}
}

// exchangeScopes are the scopes that mode exchange may ask for. Without one the provider
// might leave out every claim that hangs on a scope, as Keycloak does.
func (c *Config) exchangeScopes(p *problems, required, supported oauth.Scopes) oauth.Scopes {
	if c.mode() != modeExchange {
		return nil
	}
	scopes := p.scopes("phantom_token.exchange_scope", c.PhantomToken.ExchangeScope)
	if c.PhantomToken.ExchangeScope == "" {
		scopes = required.Union(supported)
	}
	if len(scopes) == 0 {
		p.add("phantom_token.exchange_scope", "expected the scopes that phantom_token.mode exchange asks for, got neither it nor scope")
	}
	return scopes
}

// mint says how the phantom token is signed here.
func (c *Config) mint(p *problems, now func() time.Time, log *slog.Logger) (*gate.Mint, []*keyring.Issuer) {
	t := c.PhantomToken
	mint := &gate.Mint{
		Issuer:       t.Issuer,
		Audience:     t.Audience,
		Lifetime:     seconds(t.LifetimeSeconds),
		SubjectClaim: t.SubjectClaim,
		Claims:       t.Claims,
		Keys:         c.keys(p, now, log),
	}
	if t.Audience == "" {
		p.add("phantom_token.audience", "expected the identifier of the upstream, got nothing")
	}
	if t.Issuer == "" {
		p.add("phantom_token.issuer", "expected the issuer of the signed tokens, an https URL of this gateway, got nothing")
		return mint, nil
	}
	if !p.issuer("phantom_token.issuer", t.Issuer) || mint.Keys == nil {
		return mint, nil
	}
	issuer, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: t.Issuer}, mint.Keys)
	if err != nil {
		p.check("phantom_token.issuer", err)
		return mint, nil
	}
	return mint, []*keyring.Issuer{issuer}
}

// checkNames refuses names that would let one party pass for another.
func (c *Config) checkNames(p *problems, resource oauth.Resource) {
	t := c.PhantomToken
	if t.Audience == "*" {
		p.add("phantom_token.audience", "expected the identifier of one upstream, got %q", t.Audience)
	}
	if t.Audience != "" && (resource.Matches(t.Audience) || slices.Contains(c.Token.Audience, t.Audience)) && (c.hasKey() || c.mode() == modeExchange) {
		p.add("phantom_token.audience", "expected the upstream's own identifier, got %q, with which the phantom token would be accepted here from outside", t.Audience)
	}
	if t.Issuer != "" && c.mode() != modeExchange && (slices.Contains(c.AuthorizationServers, t.Issuer) || t.Issuer == c.Token.Issuer) {
		p.add("phantom_token.issuer", "expected an issuer of the gateway's own, got %q, which is that of an authorization server: clients and upstreams must tell the two apart", t.Issuer)
	}
	if t.Issuer != "" && resource.SameOrigin(t.Issuer) {
		p.add("phantom_token.issuer", "expected an issuer with a path, for example %s/phantom, got %q, whose metadata would make old clients take this gateway for their authorization server", strings.TrimSuffix(t.Issuer, "/"), t.Issuer)
	}
}

func (c *Config) checkClaims(p *problems) {
	for _, name := range slices.Sorted(maps.Keys(c.PhantomToken.Claims)) {
		switch from := c.PhantomToken.Claims[name]; {
		case name == "" || from == "":
			p.add("phantom_token.claims", "expected the name of a claim and where it comes from, got an empty one")
		case slices.Contains(registeredClaims(), name):
			p.add("phantom_token.claims", "expected claims of your own, got %q, which the gateway sets", name)
		}
	}
}

// keys loads the keys: of files, which never change, or of a folder, which somebody else
// rotates. It is nil when there is a problem.
func (c *Config) keys(p *problems, now func() time.Time, log *slog.Logger) keyring.Keys {
	t := c.PhantomToken
	if t.Algorithm != "" && !p.oneOf("phantom_token.algorithm", t.Algorithm, keyring.ES256, keyring.RS256, keyring.PS256, keyring.EdDSA) {
		return nil
	}
	var key *keyring.Key
	var err error
	switch {
	case t.SigningKey != "" && t.SigningKeyFile != "":
		p.add("phantom_token.signing_key", "expected either it or phantom_token.signing_key_file, got both")
		return nil
	case t.SigningKey != "":
		key, err = keyring.Parse([]byte(t.SigningKey), t.Algorithm)
		p.check("phantom_token.signing_key", err)
	case keyring.IsFolder(t.SigningKeyFile):
		return c.folder(p, now, log)
	default:
		key, err = keyring.Load(t.SigningKeyFile, t.Algorithm)
		p.check("phantom_token.signing_key_file", err)
	}
	published := c.publishedKeys(p)
	if err != nil || len(published) != len(t.PublishedKeyFiles) {
		return nil
	}
	ring, err := keyring.NewRing(append([]*keyring.Key{key}, published...)...)
	if !p.check("phantom_token.published_key_files", err) {
		return nil
	}
	return ring
}

// folder opens a key folder, which is then followed for as long as the instance is used.
func (c *Config) folder(p *problems, now func() time.Time, log *slog.Logger) keyring.Keys {
	const field = "phantom_token.signing_key_file"
	if c.PhantomToken.Algorithm != "" {
		p.add("phantom_token.algorithm", "has a meaning only for a single key: those of a folder, which %s names, have their own", field)
	}
	folder, err := keyring.OpenFolder(keyring.FolderConfig{
		Dir:       c.PhantomToken.SigningKeyFile,
		Published: c.publishedKeys(p),
		Now:       now,
		Logger:    log,
	})
	if !p.check(field, err) {
		return nil
	}
	return folder
}

// publishedKeys are those that could be loaded.
func (c *Config) publishedKeys(p *problems) []*keyring.Key {
	var keys []*keyring.Key
	for _, file := range c.PhantomToken.PublishedKeyFiles {
		key, err := keyring.Load(file, "")
		if p.check("phantom_token.published_key_files", err) {
			keys = append(keys, key)
		}
	}
	return keys
}

// relayedAudiences are those of which the JWT of the provider must name one before it goes
// upstream (RFC 8725 §3.9): the upstream, or where that has no name of its own, what an
// access token may name.
func (c *Config) relayedAudiences(p *problems) []string {
	if c.PhantomToken.Audience != "" {
		return []string{c.PhantomToken.Audience}
	}
	out := slices.Clone(c.Token.Audience)
	if c.Resource != "" {
		out = append(out, c.Resource)
	}
	if len(out) == 0 {
		p.add("phantom_token.audience", "expected the audience that the provider's JWT names, since token.issuer asks for its verification, got nothing; set it, resource or token.audience")
	}
	return out
}
