package policy

import "phantomtoken/internal/oauth"

// tools reads what calls made for a tool may do. What no caller can have is refused: it is a
// mistake in one place or the other.
func (b *builder) tools(list *value) {
	if list == nil {
		return
	}
	b.policy.toolsLine = list.line
	b.policy.tools = make(map[string]*tool, len(list.items))
	for _, v := range list.items {
		audiences := v.get("audiences")
		requires := v.get("requires")
		t := &tool{
			path: v.path, line: v.line,
			requires:     oauth.Scopes(requires.texts()),
			requiresLine: requires.at(), audiencesLine: audiences.at(),
			targets: make(map[string]toolTarget),
		}
		for _, scopes := range audiences.all() {
			a := b.find(scopes.name, scopes.place)
			if a == nil {
				continue
			}
			t.names = append(t.names, a.Name)
			t.targets[a.Name] = toolTarget{path: scopes.path, line: scopes.line, scopes: oauth.Scopes(scopes.texts()), lines: lines(scopes)}
			b.reachable(a, scopes)
		}
		b.policy.tools[v.name] = t
	}
}

// reach is what all callers together can have of an audience.
type reach struct {
	callers int            // that list it
	scopes  []string       // in the order of the audience
	lines   map[string]int // scope → 1
	broken  bool           // one of the callers has a problem
}

// reachable reports what no caller can have of an audience.
func (b *builder) reachable(a *audience, scopes *value) {
	r := b.reach[a]
	if r == nil { // made once, however many tools there are
		r = b.reachOf(a)
		b.reach[a] = r
	}
	switch {
	case a.broken || r.broken:
	case r.callers == 0:
		b.add(scopes.place, "expected an audience that a caller may reach, got one that no caller lists")
	default:
		b.within(scopes, r.scopes, r.lines, "a caller for "+a.path)
	}
}

func (b *builder) reachOf(a *audience) *reach {
	r := &reach{lines: make(map[string]int)}
	for _, c := range b.policy.callers {
		t := c.targets[a.Name]
		if t == nil {
			continue
		}
		r.callers++
		r.broken = r.broken || t.broken
		for scope := range t.reach {
			r.lines[scope] = 1
		}
	}
	for _, scope := range a.Scopes {
		if r.lines[scope] != 0 {
			r.scopes = append(r.scopes, scope)
		}
	}
	return r
}
