package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/flight"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/tokenexchange"
)

const (
	// clockLeeway is the accepted difference between our clock and the issuer's for iat and
	// nbf. An expired subject token is refused without leeway: what is issued must not outlive
	// it.
	clockLeeway = 30 * time.Second
	// decisionTimeout bounds one decision, fetching keys and asking the provider included. It
	// does not end with the request that caused it: others may be waiting for the same token.
	decisionTimeout = 10 * time.Second
)

// Config is what an Exchanger is made of. It is immutable once given to New.
type Config struct {
	// Issuer is iss of what is minted here.
	Issuer string
	// Keys sign what is minted.
	Keys keyring.Keys

	// Subject is the issuer of the phantom tokens: the gateway, or the identity provider where
	// the gateway passes on tokens of that.
	Subject Subject
	// Provider makes the way to the identity provider for an audience with `issue: idp`; nil
	// when there is no provider. It makes no call.
	Provider func(audience string) (*delegation.Target, error)

	// CacheEntries and CacheBytes bound the memory of issued tokens; 0 means 50,000 and 64 MiB.
	CacheEntries int
	CacheBytes   int64

	// Observe is told of every decision, after its audit line; nil when nobody counts.
	Observe func(Observation)
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Logger gets one line per decision; nil discards them.
	Logger *slog.Logger
}

// Subject is an issuer of subject tokens.
type Subject struct {
	Issuer string            // iss, byte by byte
	Keys   keyring.KeySource // of that issuer and no other
	// Types are the accepted values of typ; none means at+jwt. Providers send JWT.
	Types []string
	// Setting is the name of the setting of Issuer, for messages.
	Setting string
	// Minted says that the gateway signs these tokens itself: no identity provider takes them
	// for an exchange.
	Minted bool
	// Exchanger is the client_id of this service at the identity provider, empty without one.
	// Tokens that were issued to it are exchanged tokens like those that are minted here: only
	// callers that accept those may exchange them.
	Exchanger string
}

// Exchanger decides and issues. It is safe for concurrent use; the policy can be replaced
// while it works.
type Exchanger struct {
	cfg   Config
	cache *flight.Cache[*Issued]
	state atomic.Pointer[state]
}

// state is everything that comes from one policy file.
type state struct {
	policy   *policy.Policy
	callers  map[string]*caller
	provider map[string]*delegation.Target // by audience, for those with issue: idp
}

// caller is a policy.Caller made ready for requests.
type caller struct {
	policy.Caller
	phantom *keyring.Verifier // tokens of the gateway for it
	own     *keyring.Verifier // tokens of this service for it; nil unless it accepts them
	scopes  []string          // every scope it can get, for the log
	targets map[string]bool   // every name it may ask by, for the log
}

// New makes an Exchanger that decides by p. The error names what has to change.
func New(cfg Config, p *policy.Policy) (*Exchanger, error) {
	if cfg.Keys == nil || cfg.Subject.Keys == nil {
		return nil, errors.New("making exchanger: expected keys to sign and keys of the subject issuer, got none")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.CacheEntries == 0 {
		cfg.CacheEntries = 50_000
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 64 << 20
	}
	x := &Exchanger{cfg: cfg}
	if err := x.Use(p); err != nil {
		return nil, err
	}
	return x, x.makeCache()
}

// Use replaces the policy. Requests that are being decided end by the old one; what was
// cached by the old one is not used again. On error the old policy stays.
func (x *Exchanger) Use(p *policy.Policy) error {
	if err := x.Check(p); err != nil {
		return err
	}
	next := &state{policy: p, callers: make(map[string]*caller), provider: make(map[string]*delegation.Target)}
	for _, a := range p.Audiences() {
		if a.Issue != policy.IDP {
			continue
		}
		target, err := x.cfg.Provider(a.Name)
		if err != nil {
			return fmt.Errorf("line %d: audiences.%s: %w", a.Line, a.Name, err)
		}
		next.provider[a.Name] = target
	}
	for _, c := range p.Callers() {
		made, err := x.newCaller(c, p)
		if err != nil {
			return fmt.Errorf("line %d: callers.%s: %w", c.Line, c.ID, err)
		}
		next.callers[c.ID] = made
	}
	x.state.Store(next)
	return nil
}

// Policy is the policy in use.
func (x *Exchanger) Policy() *policy.Policy { return x.state.Load().policy }

// Check reports every line of p that cannot work with this configuration.
func (x *Exchanger) Check(p *policy.Policy) error {
	var problems []error
	problem := func(line int, format string, args ...any) {
		problems = append(problems, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
	}
	delegated := make(map[string]bool)
	for _, a := range p.Audiences() {
		if a.Issue != policy.IDP {
			continue
		}
		delegated[a.Name] = true
		switch {
		case x.cfg.Subject.Minted:
			problem(a.Line, "audiences.%s.issue: expected mint, got idp: the gateway mints its phantom tokens itself (TOKEN_EXCHANGE_SUBJECT_MODE is mint), and no identity provider takes a token of another issuer for an exchange; use issue: mint, or phantom_token.mode exchange at the gateway with TOKEN_EXCHANGE_SUBJECT_MODE=exchange here", a.Name)
		case x.cfg.Provider == nil:
			problem(a.Line, "audiences.%s.issue: expected an identity provider for idp, got none: set TOKEN_EXCHANGE_IDP_TOKEN_ENDPOINT and its credentials", a.Name)
		}
		if len(a.Scopes) == 0 {
			problem(a.Line, "audiences.%s.scopes: expected at least one scope with issue: idp, got none: a provider may answer a request without scope with a token that has none", a.Name)
		}
	}
	for _, r := range p.Rules() {
		if delegated[r.Audience] {
			problem(r.Line, "callers.%s.audiences.%s.rules: expected none with issue: idp: the provider would have to grant what the subject token lacks", r.Caller, r.Audience)
		}
	}
	for _, c := range p.Callers() {
		if c.SubjectAudience == x.cfg.Issuer {
			problem(c.Line, "callers.%s.subject_audience: expected the audience of tokens meant for this caller, got the issuer of this service", c.ID)
		}
	}
	return errors.Join(problems...)
}

func (x *Exchanger) newCaller(c policy.Caller, p *policy.Policy) (*caller, error) {
	out := &caller{Caller: c, targets: make(map[string]bool)}
	var err error
	if out.phantom, err = keyring.NewVerifier(keyring.VerifierConfig{
		Issuer: x.cfg.Subject.Issuer, Audiences: []string{c.SubjectAudience}, Keys: x.cfg.Subject.Keys,
		Types: x.cfg.Subject.Types, Leeway: clockLeeway, Now: x.cfg.Now,
	}); err != nil {
		return nil, err
	}
	if c.AcceptExchanged {
		if out.own, err = keyring.NewVerifier(keyring.VerifierConfig{
			Issuer: x.cfg.Issuer, Audiences: []string{c.SubjectAudience}, Keys: x.cfg.Keys,
			Leeway: clockLeeway, Now: x.cfg.Now,
		}); err != nil {
			return nil, err
		}
	}
	names, scopes := p.Reach(c.ID)
	for _, name := range names {
		out.targets[name] = true
	}
	out.scopes = scopes
	return out, nil
}

// Request asks for a token for an API. The caller has proved who it is.
type Request struct {
	Caller       string       // id in the policy
	SubjectToken string       // on whose behalf
	ActorToken   string       // who acts, when it is not the caller itself
	Audience     []string     // targets, by audience or resource name, byte by byte
	Scope        oauth.Scopes // asked for; none leaves the choice to the policy
	Tool         string       // the MCP tool that the call is made for, when it is known

	// Via is the door, for the audit line: ViaEndpoint or ViaEgress.
	Via Via
	// Method is how the caller proved who it is, for the audit line.
	Method string
}

// Via says through which door a request came.
type Via string

// The doors.
const (
	ViaEndpoint Via = "token_endpoint"
	ViaEgress   Via = "egress"
)

// Issued is a token for an API. It is shared by those who ask for the same: callers must not
// change it.
type Issued struct {
	Token  string
	Expiry time.Time
	// Scope is what the token has.
	Scope oauth.Scopes

	record record    // what the audit line says of it
	end    time.Time // no token for the same question lives longer
}

// Exchange decides about req and returns a token that was issued for it, now or before. The
// error is a *Refusal, or ctx's. There is one line in the log for each call but those whose
// ctx ended while they waited.
func (x *Exchanger) Exchange(ctx context.Context, req *Request) (*Issued, error) {
	at := x.cfg.Now()
	st := x.state.Load()
	c, known := st.callers[req.Caller]
	if !known {
		r := refuse(ReasonUnauthorized, tokenexchange.ErrorUnauthorizedClient, "client "+quote(req.Caller)+" is not in the policy")
		x.refused(ctx, at, st, nil, req, r)
		return nil, r
	}
	issued, cached, err := x.get(ctx, st, c, req)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			if ctx.Err() != nil { // nobody waits for an answer
				return nil, err
			}
			r = fault(ReasonFault, err)
		}
		x.refused(ctx, at, st, c, req, r)
		return nil, r
	}
	if issued.Expiry.Sub(x.cfg.Now()) < leastLife {
		r := invalidSubject(ReasonSubject, "expected a token that lives on for a second when the answer is ready, got one that ended meanwhile")
		x.refused(ctx, at, st, c, req, r)
		return nil, r
	}
	x.granted(ctx, at, st, c, req, issued, cached)
	return issued, nil
}

// Evict forgets token, the answer to req: the API does not take it. The next request gets
// another. A token that has taken its place already stays, and so does one that was just
// issued: another would fare no better, and an API that refuses every token must not cost an
// exchange for each call.
func (x *Exchanger) Evict(req *Request, token string) {
	now := x.cfg.Now()
	x.cache.Evict(x.keyOf(x.state.Load(), req), func(i *Issued) bool {
		return i.Token == token && now.Sub(i.record.at) >= evictionAge
	})
}

// decide is the flow: subject → actor → policy → exchanged token. There is one now: a second
// one could find a token expired that the first one found good. Every error is a *Refusal.
func (x *Exchanger) decide(ctx context.Context, st *state, c *caller, req *Request, now time.Time) (*Issued, error) {
	subject, err := x.verifySubject(ctx, c, req.SubjectToken, now)
	if err != nil {
		return nil, err
	}
	issued, err := x.decideFor(ctx, st, c, subject, req, now)
	if err != nil {
		return nil, x.about(subject, err)
	}
	return issued, nil
}

func (x *Exchanger) decideFor(ctx context.Context, st *state, c *caller, subject *oauth.Introspection, req *Request, now time.Time) (*Issued, error) {
	who, err := x.actor(ctx, c, subject, req.ActorToken, now)
	if err != nil {
		return nil, err
	}
	grant, err := decideGrant(st.policy, c, subject, who.earlier, req)
	if err != nil {
		return nil, err
	}
	return x.issue(ctx, st, c, subject, who, grant, req, now)
}

// knows reports whether name is one that the caller may ask for: other names are not logged,
// they could be a token in the wrong parameter.
func (c *caller) knows(name string) bool { return c != nil && c.targets[name] }

func (c *caller) knowsScope(scope string) bool { return c != nil && slices.Contains(c.scopes, scope) }
