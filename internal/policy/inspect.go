package policy

import "slices"

// Rule is where a rule of a caller stands: the only way to a scope that the subject token
// lacks.
type Rule struct {
	Name, Caller, Audience string
	Line                   int
}

// Rules returns the rules of all callers, in file order.
func (p *Policy) Rules() []Rule {
	var out []Rule
	for _, c := range p.callers {
		for _, name := range c.names {
			for _, r := range c.targets[name].rules {
				out = append(out, Rule{Name: r.name, Caller: c.ID, Audience: name, Line: r.line})
			}
		}
	}
	return out
}

// Reach returns what the caller of that client_id can ask for with success: every name of an
// audience, its resources included, and every scope. Both are nil for an unknown caller.
func (p *Policy) Reach(id string) (names, scopes []string) {
	c, ok := p.byID[id]
	if !ok {
		return nil, nil
	}
	for name, t := range c.targets {
		names = append(append(names, name), t.Resources...)
		for scope := range t.reach {
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	slices.Sort(names)
	slices.Sort(scopes)
	return names, scopes
}

// HasTools reports whether the file has a table of tools: without one, a tool decides nothing.
func (p *Policy) HasTools() bool { return len(p.tools) > 0 }

// HasTool reports whether the file has a tool of that name.
func (p *Policy) HasTool(name string) bool {
	_, ok := p.tools[name]
	return ok
}
