package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"phantomtoken/internal/oauth"
)

// Gate decides for one configuration. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	now     func() time.Time
	log     *slog.Logger
	profile func() [32]byte // of the phantom tokens of this configuration, now
	answers [32]byte        // of the cached answers this configuration may use

	fixed *resource // of a configured resource

	derived sync.Map // of resources derived from routes: routeKey → []resource
}

// New checks cfg for what would make every decision wrong and returns its gate. What an
// operator may have mistyped is refused earlier, with the name of the setting.
func New(cfg Config) (*Gate, error) {
	switch {
	case cfg.Introspector == nil:
		return nil, errors.New("gate: expected an introspector, got none")
	case cfg.Cache == nil:
		return nil, errors.New("gate: expected a cache, got none")
	case cfg.Timeout <= 0:
		return nil, errors.New("gate: expected a positive timeout, got none")
	case cfg.Phantom == nil:
		return nil, errors.New("gate: expected a way to a phantom token, got none")
	}
	if err := cfg.Phantom.check(); err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	g := &Gate{cfg: cfg, now: cfg.Now, log: cfg.Logger, profile: cfg.Phantom.profile(), answers: answers(&cfg)}
	if g.now == nil {
		g.now = time.Now
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Resource.IsZero() {
		g.fixed = newResource(cfg.Resource, cfg.Metadata)
	}
	return g, nil
}

// Decide answers req or lets it through. It waits for nothing but the questions it puts to
// gw and, for a token it does not know, the provider: no longer than the configured
// timeout for what the token is worth, and once more for an exchange. It never returns a Decision without Answer or Forward.
func (g *Gate) Decide(ctx context.Context, req Request, gw Gateway) Decision {
	res := g.resource(gw)

	if answer := g.public(&req, gw, res); answer != nil {
		return Decision{Answer: answer}
	}
	if refusal := g.checkOrigin(&req, res); refusal != nil {
		return g.refuse(&req, res, refusal)
	}
	token, refusal := credential(&req, g.cfg.Token.MaxLength)
	if refusal != nil {
		return g.refuse(&req, res, refusal)
	}
	entry, refusal := g.token(ctx, token, gw)
	if refusal != nil {
		return g.refuse(&req, res, refusal.of(token))
	}
	if refusal := authorize(entry.Introspection, &g.cfg, res, g.now()); refusal != nil {
		return g.refuse(&req, res, refusal.of(token))
	}
	caller, refusal := g.caller(entry.Introspection, gw)
	if refusal != nil {
		return g.refuse(&req, res, refusal.of(token))
	}
	phantom, refusal := g.phantom(ctx, token, entry, res)
	if refusal != nil {
		return g.refuse(&req, res, refusal.of(token))
	}
	return Decision{Forward: &Forward{
		Authorization: oauth.SchemeBearer + " " + phantom,
		Clear:         identityHeaders(req.Headers, g.cfg.ClearHeaders),
		Response:      g.crossOrigin(req.first("origin"), res, true),
		Caller:        caller,
	}}
}
