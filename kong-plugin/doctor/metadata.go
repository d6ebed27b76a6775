package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"phantomtoken/internal/oauth"
)

// metadata reads the protected resource metadata where the challenge says, and where
// clients look that do not read the challenge.
func (v *visit) metadata(ctx context.Context, s *Step) {
	place := v.id.MetadataURL()
	if named := v.challenge.get(oauth.ParamResourceMetadata); named != "" && named != place {
		if u, err := url.Parse(named); err == nil && (v.sameOrigin(u) || v.checkLocation(named) == nil) {
			if document := v.readMetadata(ctx, s, named, "CH-15"); document != nil {
				v.document = document
			}
		}
	}
	if document := v.readMetadata(ctx, s, place, "MCP-03"); document != nil {
		v.document = document
	}
	if v.document == nil {
		return
	}
	s.Seen = fmt.Sprintf("resource %s, authorization servers %s", text(v.document, "resource"), strings.Join(texts(v.document, "authorization_servers"), " "))
	v.judgeMetadata(s, v.document)
	if slashed := v.get(ctx, v.at(v.id.MetadataPath()+"/")); v.id.Path() != "" && slashed.object() == nil {
		s.note("with a slash at the end the same metadata answers %s; some clients ask so (PR-04)", slashed)
	}
}

// readMetadata fetches one document; rule is that of a document that is missing.
func (v *visit) readMetadata(ctx context.Context, s *Step, place, rule string) map[string]any {
	a := v.get(ctx, place)
	seen := "GET " + place + ": " + a.String()
	const expected = "200 application/json, without token and redirect"
	switch {
	case a.err != nil:
		s.fault(rule, seen, expected, "make the URL reachable for clients, or correct resource")
	case a.redirect():
		s.fault("PR-05", seen, expected, "take the redirect away: clients drop it")
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		s.fault("PR-05", seen, expected, "no other authentication on this path: it is how clients find out where to log in")
	case a.status == http.StatusNotFound:
		s.fault(rule, seen, expected, "add "+pathOf(place)+" to the paths of a route with the plugin, and set authorization_servers")
	case a.status != http.StatusOK:
		s.fault(rule, seen, expected, "see the gateway's log")
	case a.object() == nil:
		s.fault("PR-05", seen, "a JSON object as application/json", "a page of the site takes this path: route it to the plugin")
	default:
		if a.header.Get("Set-Cookie") != "" {
			s.fault("PR-05", seen+" with Set-Cookie", "a document without cookies", "switch session plugins off on this path")
		}
		return a.object()
	}
	return nil
}

func pathOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	return u.EscapedPath()
}

// judgeMetadata compares the document with the URL and with what clients demand.
func (v *visit) judgeMetadata(s *Step, document map[string]any) {
	resource := text(document, "resource")
	if resource != v.cfg.URL {
		v.judgeResource(s, resource)
	}
	servers := texts(document, "authorization_servers")
	if len(servers) == 0 {
		s.fault("MCP-06", "no authorization_servers", "at least one issuer", "set authorization_servers")
	}
	for _, issuer := range servers {
		if v.checkLocation(issuer) != nil {
			s.fault("AS-01", "authorization server "+issuer, "an https URL that other computers reach", "set authorization_servers to the public issuer")
		}
	}
	for _, name := range slices.Sorted(keys(document)) {
		list, isList := document[name].([]any)
		if document[name] == nil || isList && len(list) == 0 {
			s.fault("PR-06", name+" without a value", "members without a value left out: clients fail on null", "leave "+name+" out")
		}
	}
	if slices.Contains(texts(document, "scopes_supported"), "offline_access") {
		s.fault("MCP-10", "offline_access in scopes_supported", "scopes of the resource alone", "take it out of metadata.scopes_supported")
	}
	if methods := texts(document, "bearer_methods_supported"); len(methods) > 0 && !slices.Contains(methods, "header") {
		s.fault("PR-07", fmt.Sprintf("bearer_methods_supported %q", methods), "header among them", "MCP clients send the token in the Authorization header only")
	}
}

func (v *visit) judgeResource(s *Step, resource string) {
	expected := "exactly " + v.cfg.URL + ", the URL that users type: clients compare byte for byte"
	change := "set resource to it (or tell users the URL in the metadata)"
	u, err := url.Parse(resource)
	switch {
	case resource == "" || err != nil:
		s.fault("PR-01", "no resource", expected, "set resource")
	case u.Scheme == "http" && v.url.Scheme == "https":
		s.fault("CH-15", "resource "+resource+" behind https", expected, "set resource to the public https URL: behind a proxy that ends TLS the gateway cannot guess it")
	case strings.TrimSuffix(resource, "/") == strings.TrimSuffix(v.cfg.URL, "/"):
		s.fault("PR-04", "resource "+resource+", which differs in the last slash", expected, change)
	default:
		s.fault("MCP-04", "resource "+resource, expected, change)
	}
}

func keys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// rootMetadata: some clients look at the root alone.
func (v *visit) rootMetadata(ctx context.Context, s *Step) {
	if v.id.Path() == "" {
		s.skip("the resource is at the root of its host")
		return
	}
	place := v.at(oauth.WellKnownProtectedResource)
	if v.cfg.SharedHost {
		s.skip("the host has several resources")
		return
	}
	a := v.get(ctx, place)
	if a.err == nil && a.status == http.StatusNotFound {
		s.fault("MCP-04", "GET "+place+": "+a.String(), "the metadata of the only resource here: some clients look nowhere else",
			"add "+oauth.WellKnownProtectedResource+" to the paths of the route and set metadata.at_root; where the host has several resources, say -shared-host")
		return
	}
	document := v.readMetadata(ctx, s, place, "MCP-04")
	if document == nil {
		return
	}
	s.Seen = "resource " + text(document, "resource")
	if v.document == nil || text(document, "resource") != text(v.document, "resource") {
		v.judgeMetadata(s, document)
	}
}

// otherPaths asks for what clients guess when they find no metadata. Anything but a small
// 404 there leads them astray.
func (v *visit) otherPaths(ctx context.Context, s *Step) {
	issuers := texts(v.document, "authorization_servers")
	for _, issuer := range issuers {
		if u, err := url.Parse(issuer); err == nil && strings.EqualFold(u.Host, v.url.Host) {
			s.skip("the authorization server lives on this host")
			return
		}
	}
	paths := []string{
		oauth.WellKnownProtectedResource + "/no-such-resource",
		oauth.WellKnownAuthorizationServer, oauth.WellKnownOpenIDConfiguration,
		"/register", "/authorize", "/token",
	}
	if path := v.id.Path(); path != "" {
		paths = append(paths, oauth.WellKnownAuthorizationServer+path, oauth.WellKnownOpenIDConfiguration+path, path+oauth.WellKnownOpenIDConfiguration)
	}
	seen := newTally()
	for _, path := range paths {
		a := v.get(ctx, v.at(path))
		document := a.object()
		switch {
		case a.err == nil && a.status == http.StatusNotFound && document != nil:
		case a.err == nil && a.status == http.StatusOK && slices.Contains(issuers, text(document, "issuer")):
			// A copy for clients of 2025-03-26 (MCP-22).
		case a.err == nil && a.status == http.StatusOK && text(document, "issuer") != "":
			s.fault("MCP-23", "GET "+path+": metadata of "+text(document, "issuer"), "404, or a copy of the authorization server's own metadata", "do not pose as an authorization server that the metadata does not name")
		default:
			seen.add(a.String(), path)
		}
	}
	seen.each(func(what string, paths []string) {
		rule, change := "MCP-24", "route "+strings.Join(paths, ", ")+" to the plugin, which answers 404 in JSON"
		if len(paths) == 1 && strings.HasPrefix(paths[0], oauth.WellKnownProtectedResource) {
			rule = "MCP-05"
		}
		s.fault(rule, "GET "+strings.Join(paths, ", ")+": "+what, "404 application/json: with anything else clients take this host for an authorization server", change)
	})
	if len(s.Faults) == 0 {
		s.Seen = fmt.Sprintf("%d paths answer 404 in JSON", len(paths))
	}
}
