package policy

import (
	"slices"
	"time"

	"phantomtoken/internal/oauth"
)

// Question is what Decide is asked: a request, and what is known of its subject token.
type Question struct {
	// Caller is the client_id that was authenticated.
	Caller string
	// Tool is the tool for which the call is made; empty when it is not known. It can only
	// narrow what the caller may have: the caller says it of itself.
	Tool string
	// Audience holds the audience and resource parameters (RFC 8693 §2.1). They are compared
	// byte by byte.
	Audience []string
	// Scope is what is asked for; empty leaves the choice to the policy.
	Scope oauth.Scopes
	// Granted are the scopes of the subject token.
	Granted oauth.Scopes
	// Actors is how many actors the act of the subject token has. Without act the client to
	// which it was issued counts as one, so 0 is like 1.
	Actors int
}

// Grant is what the policy gives: no target, scope or claim that is not in the file, and no
// scope that the subject token lacks but those that Rules gave. Its slices and maps share
// memory with the policy and the question and must not be changed.
type Grant struct {
	// Audience is aud of the token, at least one, each once.
	Audience []string
	// Scope of the token; empty for a token without scope.
	Scope oauth.Scopes
	// Claims maps claims of the token to claims of the subject token.
	Claims map[string]string
	// Lifetime is the longest life of the token. It must not live longer than the subject
	// token either.
	Lifetime time.Duration
	// Issue says who issues the token.
	Issue Issue
	// Rules are the names of the rules that gave a scope, each once. Each use must be logged.
	Rules []string
	// Lines are where the targets, the tool and the rules stand in the file.
	Lines []int
}

// Decide answers a question. It is pure: the answer depends on the policy and the question
// alone. Every error is a *Refusal.
//
// Names are compared byte by byte (RFC 8707 §2 leaves the mapping to us; anything looser
// would have to guess). A token for several targets has only what each of them may see: the
// scopes and claims that they have in common and the shortest of their lives.
func (p *Policy) Decide(q Question) (*Grant, error) {
	grant, refusal := p.decide(&q, nil)
	if refusal != nil { // not returned as it is: a nil *Refusal would be an error
		return nil, refusal
	}
	return grant, nil
}

// decide is the one way to an answer, for Decide and for Explain. rec takes notes; it is
// nil in Decide, which runs for every request and must not pay for them.
func (p *Policy) decide(q *Question, rec *recorder) (*Grant, *Refusal) {
	c, refusal := p.who(q, rec)
	if refusal != nil {
		return nil, refusal
	}
	tool, refusal := p.tool(q, rec)
	if refusal != nil {
		return nil, refusal
	}
	var few [4]*target // most requests have one
	targets, refusal := c.find(few[:0], q, tool, rec)
	if refusal != nil {
		return nil, refusal
	}
	grant := &Grant{Audience: targets[0].alone, Lines: targets[0].aloneLines}
	if len(targets) > 1 || tool != nil {
		grant.name(targets, tool)
	}
	grant.Scope, refusal = scope(q, tool, targets, rec)
	if refusal != nil {
		return nil, refusal
	}
	grant.rules(targets, q.Granted, rec)
	grant.common(targets, p.lines, rec)
	return grant, nil
}

// who finds the caller, and sees that the chain of actors has room for it.
func (p *Policy) who(q *Question, rec *recorder) (*caller, *Refusal) {
	c, ok := p.byID[q.Caller]
	if !ok {
		return nil, refuseCaller(q.Caller)
	}
	if rec != nil {
		rec.step(c.Line, "%s: the caller is known", c.path)
	}
	if len(c.targets) == 0 {
		return nil, refuseWithoutAudience(c)
	}
	before := max(q.Actors, 1)
	if before >= p.limits.Actors {
		return nil, refuseActors(p.limits.Actors, p.lines.actors)
	}
	if rec != nil {
		rec.step(p.lines.actors, "limits.actors: %d with the caller, at most %d", before+1, p.limits.Actors)
	}
	return c, nil
}

// tool finds the tool and sees that the subject token is good for it. It is nil where there
// is none to mind.
func (p *Policy) tool(q *Question, rec *recorder) (*tool, *Refusal) {
	if q.Tool == "" || len(p.tools) == 0 {
		return nil, nil
	}
	t, ok := p.tools[q.Tool]
	if !ok {
		return nil, refuseTool(q.Tool, p.toolsLine)
	}
	if rec != nil {
		rec.step(t.line, "%s: the tool is known", t.path)
	}
	for _, scope := range t.requires {
		if !slices.Contains(q.Granted, scope) {
			return nil, refuseRequires(t, q.Tool, scope, q.Granted)
		}
	}
	if rec != nil && len(t.requires) > 0 {
		rec.step(t.requiresLine, "%s.requires: the subject token has %s", t.path, quoteAll(t.requires))
	}
	return t, nil
}

// find maps what is asked for to targets of the caller, each once, behind those in targets.
func (c *caller) find(targets []*target, q *Question, tool *tool, rec *recorder) ([]*target, *Refusal) {
	for _, name := range q.Audience {
		t, ok := c.targets[name]
		if !ok {
			t, ok = c.targets[c.resources[name]]
		}
		if !ok {
			return nil, refuseTarget(c, name)
		}
		if slices.Contains(targets, t) {
			continue
		}
		targets = append(targets, t)
		if rec != nil {
			rec.target(name, t)
		}
		if tool == nil {
			continue
		}
		of, ok := tool.targets[t.Name]
		if !ok {
			return nil, refuseToolTarget(tool, q.Tool, t)
		}
		if rec != nil {
			rec.step(of.line, "%s: the tool may reach the target", of.path)
		}
	}
	if len(targets) == 0 {
		return nil, refuseNoTarget(c)
	}
	if len(targets) > 1 {
		// A token of the identity provider is asked for one target at a time, and two tokens do
		// not fit into one answer.
		for _, t := range targets {
			if t.Issue == IDP {
				return nil, refuseIssue(t)
			}
		}
	}
	return targets, nil
}

// name fills in aud and lines where they are not those of one target alone.
func (g *Grant) name(targets []*target, tool *tool) {
	if len(targets) > 1 {
		g.Audience = make([]string, 0, len(targets))
		for _, t := range targets {
			g.Audience = append(g.Audience, t.Name)
		}
	}
	g.Lines = make([]int, 0, 2*len(targets))
	for _, t := range targets {
		g.Lines = append(g.Lines, t.line)
		if tool != nil {
			g.Lines = append(g.Lines, tool.targets[t.Name].line)
		}
	}
}

// rules notes which rules gave scopes of the grant.
func (g *Grant) rules(targets []*target, granted oauth.Scopes, rec *recorder) {
	for _, t := range targets {
		if len(t.rules) == 0 {
			continue
		}
		for _, scope := range g.Scope {
			r, _ := t.source(scope, granted)
			if r == nil {
				continue
			}
			if rec != nil {
				rec.step(r.line, "rule %s: gives %s, since the subject token has %s", quote(r.name), quote(scope), quoteAll(r.when))
			}
			if !slices.Contains(g.Rules, r.name) {
				g.Rules = append(g.Rules, r.name)
				g.Lines = append(slices.Clip(g.Lines), r.line) // what is there belongs to the policy
			}
		}
	}
}

// common fills in what the targets share: claims, life, and who issues.
func (g *Grant) common(targets []*target, lines limitLines, rec *recorder) {
	first := targets[0]
	g.Claims, g.Lifetime, g.Issue = first.Claims, first.TokenLifetime, first.Issue
	from := first
	for _, t := range targets[1:] {
		g.Claims = inBoth(g.Claims, t.Claims)
		if t.TokenLifetime < g.Lifetime {
			g.Lifetime, from = t.TokenLifetime, t
		}
	}
	if rec != nil {
		rec.common(g, from, lines)
	}
}

// inBoth has the claims that are the same in a and b.
func inBoth(a, b map[string]string) map[string]string {
	out := make(map[string]string)
	for name, of := range a {
		if b[name] == of {
			out[name] = of
		}
	}
	return out
}
