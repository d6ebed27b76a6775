package policy

import "phantomtoken/internal/oauth"

// callers reads who may exchange tokens.
func (b *builder) callers(list *value) {
	rules := make(map[string]place)
	identities := make(map[string]string) // → path of the caller
	for _, v := range list.all() {
		c := &caller{path: v.path, targets: make(map[string]*target), resources: b.policy.resources}
		c.Caller = Caller{
			ID:               v.name,
			SubjectAudience:  v.get("subject_audience").string(),
			Authentication:   b.authentication(v.get("authentication"), v.path, identities),
			AllowWithoutUser: v.get("allow_without_user").bool(),
			AcceptExchanged:  v.get("accept_exchanged").bool(),
			Actors:           v.get("actors").texts(),
			Line:             v.line,
		}
		c.audiencesLine = v.line
		if audiences := v.get("audiences"); audiences != nil {
			c.audiencesLine = audiences.line
			for _, t := range audiences.items {
				if a := b.find(t.name, t.place); a != nil {
					c.names = append(c.names, a.Name)
					c.targets[a.Name] = b.target(a, t, rules)
				}
			}
		}
		b.policy.callers = append(b.policy.callers, c)
		b.policy.byID[c.ID] = c
	}
}

// target reads what a caller may have of an audience.
func (b *builder) target(a *audience, v *value, rules map[string]place) *target {
	list := v.get("scopes")
	t := &target{
		audience: a, path: v.path, broken: v.broken, line: v.line, scopesLine: v.line,
		scopes: oauth.Scopes(list.texts()), lines: lines(list), reach: make(map[string]bool),
		alone: []string{a.Name}, aloneLines: []int{v.line},
	}
	if list != nil {
		t.scopesLine = list.line
	}
	if !a.broken {
		b.within(list, a.Scopes, a.lines, a.path+".scopes")
	}
	for _, scope := range t.scopes {
		t.reach[scope] = true
	}
	for _, r := range v.get("rules").all() {
		name, grant := r.get("name"), r.get("grant")
		// A list of rules that two targets share by an alias is one list.
		if first, twice := rules[name.string()]; twice && !name.broken && (first.line != name.shown.line || first.column != name.shown.column) {
			b.add(name.shown, "expected a name of its own, since the log tells rules by it; got that of line %d", first.line)
		}
		if name != nil && !name.broken {
			rules[name.text] = name.shown
		}
		if !a.broken {
			b.within(grant, a.Scopes, a.lines, a.path+".scopes")
		}
		t.rules = append(t.rules, rule{name: name.string(), when: oauth.Scopes(r.get("when").texts()), grant: oauth.Scopes(grant.texts()), line: r.line})
		for _, scope := range grant.texts() {
			t.reach[scope] = true
		}
	}
	return t
}

// authentication reads the methods of a caller.
func (b *builder) authentication(v *value, caller string, identities map[string]string) Authentication {
	a := Authentication{
		SecretFiles:     v.get("secret_files").texts(),
		SecretVariables: v.get("secret_variables").texts(),
	}
	// Of a certificate or a service account that two callers have, nobody could say which of
	// them calls.
	own := func(at *value, identity string) {
		if first, twice := identities[identity]; twice {
			b.add(at.shown, "expected an identity of its own, got that of %s", first)
			return
		}
		identities[identity] = caller
	}
	if keys := v.get("private_key_jwt"); keys != nil {
		a.PrivateKeyJWT = &KeySet{JWKSFile: keys.get("jwks_file").string(), JWKSURI: keys.get("jwks_uri").string()}
		if uri := keys.get("jwks_uri"); uri != nil && !uri.broken {
			if _, err := parseURL(uri.text); err != nil {
				// What it says may quote.
				b.add(uri.shown, "expected an absolute http or https URL without user information, query and fragment, got another (not shown: it might be a secret)")
			}
		}
	}
	if mtls := v.get("mtls"); mtls != nil {
		a.MTLS = &Certificate{SPIFFEID: mtls.get("spiffe_id").string(), DNSName: mtls.get("dns_name").string()}
		for _, name := range mtls.items {
			if name.broken {
				continue
			}
			own(name, name.name+" "+name.text)
		}
	}
	if account := v.get("kubernetes"); account != nil {
		a.Kubernetes = &ServiceAccount{Namespace: account.get("namespace").string(), Name: account.get("service_account").string()}
		if !account.broken {
			own(account, "kubernetes "+a.Kubernetes.Namespace+"/"+a.Kubernetes.Name)
		}
	}
	return a
}

// methods refuses callers without authentication, but for the one behind the egress proxy:
// it is the application in the same pod.
func (b *builder) methods(callers, egress *value) {
	for _, v := range callers.all() {
		if v.get("authentication") == nil && !v.broken && egress.get("caller").string() != v.name {
			b.add(place{v.line, v.column, v.path + ".authentication"}, "expected at least one method, got nothing: only egress.caller needs none")
		}
	}
}
