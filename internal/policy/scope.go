package policy

import (
	"slices"

	"phantomtoken/internal/oauth"
)

// scope decides which scopes the token has. For each target that is
//
//	(scopes of the subject token ∩ scopes of the caller for it) ∪ what its rules grant
//
// and of that, what every target has, what the tool has, and what was asked for.
func scope(q *Question, tool *tool, targets []*target, rec *recorder) (oauth.Scopes, *Refusal) {
	if len(q.Scope) > 0 {
		return asked(q, tool, targets, rec)
	}
	// Each target is looked at by itself: together they may have no scope in common, and a
	// user who granted nothing for a target must not reach it in the company of another.
	scoped := false
	for _, t := range targets {
		if len(t.reach) == 0 {
			continue
		}
		scoped = true
		if !t.any(q.Granted) {
			return nil, refuseNone(t, q.Granted)
		}
	}
	out := targets[0].available(q.Granted)
	for _, t := range targets[1:] {
		out = slices.DeleteFunc(out, func(scope string) bool {
			_, ok := t.source(scope, q.Granted)
			return !ok
		})
	}
	if scoped && len(out) == 0 {
		return nil, refuseNoneInCommon(targets)
	}
	if rec != nil {
		rec.available(out, q.Granted, targets)
	}
	if tool != nil {
		return tool.narrow(out, q, targets, rec)
	}
	return out, nil
}

// asked checks the scopes that were asked for. One that cannot be had is an error rather
// than left out: the caller would find out at the API only.
func asked(q *Question, tool *tool, targets []*target, rec *recorder) (oauth.Scopes, *Refusal) {
	for _, scope := range q.Scope {
		for _, t := range targets {
			if !t.reach[scope] {
				return nil, refuseUnlisted(scope, t, inCommon(targets))
			}
			if tool != nil && tool.targets[t.Name].lines[scope] == 0 {
				return nil, refuseToolScope(scope, q.Tool, tool.targets[t.Name])
			}
		}
		for _, t := range targets {
			r, ok := t.source(scope, q.Granted)
			if !ok {
				return nil, refuseNotGranted(scope, t, q.Granted)
			}
			if rec != nil && r == nil {
				rec.step(t.lines[scope], "%s.scopes: %s is listed, and the subject token has it", t.path, quote(scope))
			}
		}
	}
	return q.Scope, nil
}

// narrow leaves those of the scopes that the tool has for every target. That none is left is an
// error, unless the tool is to have tokens without scope.
func (tool *tool) narrow(out oauth.Scopes, q *Question, targets []*target, rec *recorder) (oauth.Scopes, *Refusal) {
	scoped := -1
	for i, t := range targets {
		of := tool.targets[t.Name]
		if len(of.scopes) > 0 && scoped < 0 {
			scoped = i
		}
		out = slices.DeleteFunc(out, func(scope string) bool {
			if of.lines[scope] != 0 {
				return false
			}
			if rec != nil {
				rec.step(of.line, "%s: %s is not listed for the tool, left out", of.path, quote(scope))
			}
			return true
		})
	}
	if len(out) == 0 && scoped >= 0 {
		return nil, refuseNoneForTool(q.Tool, tool.targets[targets[scoped].Name], targets[0].available(q.Granted))
	}
	return out, nil
}

// any reports whether a subject token with these scopes may have a scope of t.
func (t *target) any(granted oauth.Scopes) bool {
	for _, scope := range granted {
		if t.lines[scope] != 0 {
			return true
		}
	}
	return slices.ContainsFunc(t.rules, func(r rule) bool { return granted.Contains(r.when) })
}

// available is what a subject token with these scopes may have of t: first what it has
// itself in its order, then what rules add in theirs. The slice is a new one.
func (t *target) available(granted oauth.Scopes) oauth.Scopes {
	out := make(oauth.Scopes, 0, len(t.reach))
	for _, scope := range granted {
		if t.lines[scope] != 0 && !slices.Contains(out, scope) {
			out = append(out, scope)
		}
	}
	for i := range t.rules {
		if r := &t.rules[i]; granted.Contains(r.when) {
			for _, scope := range r.grant {
				if !slices.Contains(out, scope) {
					out = append(out, scope)
				}
			}
		}
	}
	return out
}

// source says why a subject token with these scopes may have that one of t: by itself (nil)
// or by a rule, the first in the file. It is false when it may not.
func (t *target) source(scope string, granted oauth.Scopes) (*rule, bool) {
	if t.lines[scope] != 0 && slices.Contains(granted, scope) {
		return nil, true
	}
	for i := range t.rules {
		if r := &t.rules[i]; slices.Contains(r.grant, scope) && granted.Contains(r.when) {
			return r, true
		}
	}
	return nil, false
}

// inCommon lists the scopes that are configured for every target.
func inCommon(targets []*target) oauth.Scopes {
	return slices.DeleteFunc(oauth.Scopes(targets[0].reachable()), func(scope string) bool {
		return slices.ContainsFunc(targets[1:], func(t *target) bool { return !t.reach[scope] })
	})
}
