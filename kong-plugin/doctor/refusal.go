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

// protocolVersion is sent where clients send one.
const protocolVersion = "2025-06-18"

// initialize is the first message of an MCP client.
const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + protocolVersion +
	`","capabilities":{},"clientInfo":{"name":"` + userAgent + `","version":"1"}}}`

// call sends what an MCP client sends with this method. authorization may be empty.
func (v *visit) call(ctx context.Context, method, authorization string) answer {
	fields := []string{"Accept", "application/json, text/event-stream"}
	body := ""
	if method == http.MethodPost {
		body = initialize
		fields = append(fields, "Content-Type", "application/json")
	}
	if authorization != "" {
		fields = append(fields, "Authorization", authorization)
	}
	return v.ask(ctx, v.gateway, method, v.cfg.URL, body, fields...)
}

// refusal looks at the answers to requests without a token: 401 whatever the method, with
// the same challenge, which is where clients learn everything.
func (v *visit) refusal(ctx context.Context, s *Step) {
	methods := []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodHead}
	seen, bare := newTally(), newTally()
	var first answer
	for _, method := range methods {
		a := v.call(ctx, method, "")
		if method == http.MethodPost {
			first = a
		}
		switch {
		case a.err != nil || a.status != http.StatusUnauthorized:
			seen.add(a.String(), method)
			continue
		case len(a.header.Values("WWW-Authenticate")) == 0:
			bare.add(a.header.Get("Server"), method)
			continue
		case first.status == http.StatusUnauthorized && !slices.Equal(a.header.Values("WWW-Authenticate"), first.header.Values("WWW-Authenticate")):
			s.fault("CH-18", fmt.Sprintf("%s gets the challenge %q, POST another", method, a.header.Values("WWW-Authenticate")), "the same challenge for every method",
				"find out who answers "+method+": another plugin or a proxy in front")
		}
		if a.header.Get("Mcp-Session-Id") != "" {
			s.fault("MCP-41", method+" gets 401 with Mcp-Session-Id", "no session before authentication", "let the gateway answer before the MCP server does")
		}
	}
	bare.each(func(server string, methods []string) { s.stripped(server, strings.Join(methods, ", ")) })
	seen.each(func(what string, methods []string) {
		s.notRefused(what, strings.Join(methods, ", "))
	})
	if first.err != nil || first.status != http.StatusUnauthorized {
		return
	}
	s.Seen = strings.Join(methods, ", ") + ": 401"
	if first.mediaType() != "application/json" {
		s.fault("CH-17", fmt.Sprintf("401 with content type %q", first.header.Get("Content-Type")), "application/json: clients read the error in it", "let the plugin's answer pass unchanged")
	}
	if !strings.Contains(first.header.Get("Cache-Control"), "no-store") {
		s.fault("CH-17", fmt.Sprintf("401 with Cache-Control %q", first.header.Get("Cache-Control")), "no-store: a cached 401 locks users out", "let the plugin's answer pass unchanged; check caches in front")
	}
	if all := parseChallenges(first.header.Values("WWW-Authenticate")); len(all) > 0 {
		again := v.call(ctx, http.MethodPost, "")
		if again.err == nil && !slices.Equal(again.header.Values("WWW-Authenticate"), first.header.Values("WWW-Authenticate")) {
			s.fault("CH-08", fmt.Sprintf("%q, then %q", first.header.Values("WWW-Authenticate"), again.header.Values("WWW-Authenticate")),
				"the same bytes each time: clients compare them to notice that they go round in a loop", "take request ids and times out of the challenge")
		}
		v.written, v.all, v.challenge = first.header.Values("WWW-Authenticate"), all, bearer(all)
	}
}

// stripped notes a 401 without a challenge.
func (s *Step) stripped(server, methods string) {
	if server == "" {
		server = "nobody who gives a name"
	}
	s.fault("CH-01", methods+": 401 without WWW-Authenticate, from "+server, "a challenge, which the plugin always sends",
		"find out who takes it away or answers in the plugin's place: a proxy or CDN in front (proxy_hide_header), a WAF, a plugin of higher priority; ask Kong itself, behind them")
}

// notRefused notes an answer that is no 401.
func (s *Step) notRefused(what, methods string) {
	expected, rule := "401 with a challenge", "MCP-01"
	change := "see who answers: the plugin sends nothing but 401 here"
	status, _, _ := strings.Cut(what, " ")
	switch status {
	case "no":
		change = "see the gateway's log; a client sees nothing at all"
	case "200", "201", "202", "204":
		change = "put the plugin on the route that takes this URL; now anybody may use the server"
	case "301", "302", "303", "307", "308":
		change = "no login pages and no moved URLs here: MCP clients follow a challenge, not a redirect. If it leads to https or to another path, tell users that URL"
	case "403":
		rule, change = "CH-19", "a policy answers before the plugin (WAF, acl, ip-restriction, bot detection): let requests without a token through to the plugin"
	case "404":
		change = "no route takes this URL: compare it with hosts and paths of the route"
	case "405":
		rule, change = "MCP-36", "let every method reach the plugin: take methods off the route; the MCP server says 405 to who is logged in"
	case "406", "400", "415", "422":
		change = "the request reaches the MCP server without a token, or is refused in front: put the plugin on the route"
	case "500":
		rule, change = "MCP-35", "see Kong's log for \"plugin configuration cannot work\"; phantom-token check finds the field"
	case "502", "503", "504":
		rule, change = "MCP-35", "the gateway or its service is down, or the plugin is not on this route"
	}
	s.fault(rule, methods+": "+what, expected, change)
}

// bearer returns the first Bearer challenge.
func bearer(all []*challenge) *challenge {
	for _, c := range all {
		if strings.EqualFold(c.scheme, oauth.SchemeBearer) {
			return c
		}
	}
	return nil
}

// challenged looks at each byte of the challenge with the eyes of the pickiest clients.
func (v *visit) challenged(_ context.Context, s *Step) {
	if len(v.written) == 0 {
		s.skip("no 401 with a challenge")
		return
	}
	s.Seen = strings.Join(v.written, " | ")
	mend := "let the gateway's challenge pass unchanged, or correct who writes it"
	c := v.challenge
	if c == nil {
		s.fault("CH-04", fmt.Sprintf("%q", v.written), "a Bearer challenge", mend)
		return
	}
	if !strings.HasPrefix(v.written[0], "Bearer ") {
		s.fault("CH-04", fmt.Sprintf("%q first", v.all[0].scheme), "\"Bearer \" as the first bytes of the first field: clients compare them, some with the capital letter", mend)
	}
	names := map[string]bool{}
	for _, p := range c.params {
		name := strings.ToLower(p.name)
		if names[name] {
			s.fault("CH-02", p.name+" twice", "every parameter once", mend)
		}
		names[name] = true
		switch {
		case p.value == "":
			s.fault("CH-05", p.name+`=""`, "no empty value: parsers fail on it and login with them", "leave "+p.name+" out where there is nothing to say (the plugin: unset "+settingOf(name)+")")
		case !p.quoted:
			s.fault("CH-05", p.name+"="+p.value+" without quotes", p.name+`="`+p.value+`"`, mend)
		case p.escaped:
			s.fault("CH-06", p.name+" with a backslash", "a value that needs no escape: many clients know none", "take quotes and backslashes out of the value")
		}
	}
	for _, p := range []string{"error", "error_description", "error_uri"} {
		if c.has(p) {
			s.fault("CH-11", p+`="`+c.get(p)+`"`, "no "+p+" where there was no token: clients take it for a rejected token", mend)
			break
		}
	}
	if scope := c.get("scope"); scope != "" {
		scopes, err := oauth.ParseScopes(scope)
		if err != nil {
			s.fault("CH-07", fmt.Sprintf("scope=%q", scope), "scopes separated by single spaces", "correct the setting scope")
		}
		if slices.Contains(scopes, "offline_access") {
			s.fault("MCP-10", "offline_access in scope", "scopes of the resource alone", "take it out: clients ask for refresh tokens by themselves")
		}
	}
	for _, other := range v.all {
		if other == c {
			continue
		}
		for _, p := range other.params {
			if mine := c.get(p.name); mine != "" && mine != p.value && slices.Contains([]string{"error", "scope", oauth.ParamResourceMetadata}, strings.ToLower(p.name)) {
				s.fault("CH-09", fmt.Sprintf("%s is %q and, in the %s challenge, %q", p.name, mine, other.scheme, p.value), "the same value in all challenges: some clients take the first, some the last", mend)
			}
		}
	}
	v.metadataURL(s, c)
}

// settingOf is the plugin's setting behind a parameter.
func settingOf(name string) string {
	if name == "scope" || name == "realm" {
		return name
	}
	return "what fills it"
}

// metadataURL looks at the URL that the challenge names.
func (v *visit) metadataURL(s *Step, c *challenge) {
	target := c.get(oauth.ParamResourceMetadata)
	if !c.has(oauth.ParamResourceMetadata) {
		seen := "none"
		for _, wrong := range []string{"resource", "resource_metadata_uri", "resource_metadata_url", "as_uri", "authorization_uri"} {
			if c.has(wrong) {
				seen = wrong + `="` + c.get(wrong) + `"`
			}
		}
		if seen == "none" && c.has("realm") {
			seen = "realm alone"
		}
		s.fault("MCP-02", seen, `resource_metadata="`+v.id.MetadataURL()+`"`, "configure resource and authorization_servers in the plugin; without them clients do not learn where to log in")
		return
	}
	if target == "" {
		return // told already
	}
	u, err := url.Parse(target)
	switch {
	case err != nil || !u.IsAbs() || u.Host == "":
		s.fault("MCP-02", target, "an absolute URL", "set resource to the public URL of the server")
	case u.Scheme != "https" && (v.url.Scheme == "https" || !oauth.IsLoopbackHost(u.Hostname())):
		s.fault("CH-15", target, "https, as in "+v.id.MetadataURL(), "set resource to the public https URL: behind a proxy that ends TLS the gateway cannot guess it")
	case !strings.EqualFold(u.Host, v.url.Host):
		s.fault("CH-15", target, "the host that clients know: "+v.id.MetadataURL(), "set resource to the URL that users type")
	case target != v.id.MetadataURL():
		s.note("the metadata is at %s; clients that do not read the challenge look at %s", target, v.id.MetadataURL())
	}
}

// tally groups what was seen by its text, in order.
type tally struct {
	order []string
	by    map[string][]string
}

func newTally() *tally { return &tally{by: map[string][]string{}} }

func (t *tally) add(what, whose string) {
	if t.by[what] == nil {
		t.order = append(t.order, what)
	}
	t.by[what] = append(t.by[what], whose)
}

func (t *tally) each(visit func(what string, whose []string)) {
	for _, what := range t.order {
		visit(what, t.by[what])
	}
}
