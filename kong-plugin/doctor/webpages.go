package doctor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// needed are the request headers that MCP clients in browsers send and that a wildcard
// does not cover, or that browsers ask about.
func needed() []string {
	return []string{"authorization", "content-type", "mcp-protocol-version", "mcp-session-id"}
}

// webPages looks at everything with the eyes of a browser.
func (v *visit) webPages(ctx context.Context, s *Step) {
	s.Seen = "from " + v.cfg.Origin
	v.preflight(ctx, s, v.gateway, v.cfg.URL, http.MethodPost, needed())
	v.preflight(ctx, s, v.gateway, v.at(v.id.MetadataPath()), http.MethodGet, []string{"mcp-protocol-version"})

	a := v.ask(ctx, v.gateway, http.MethodPost, v.cfg.URL, initialize, "Accept", "application/json, text/event-stream", "Content-Type", "application/json", "Origin", v.cfg.Origin)
	switch {
	case a.err != nil || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden:
	case a.status == http.StatusForbidden:
		s.fault("CO-09", "POST from "+v.cfg.Origin+": 403", "401", "add the origin to trusted_web_origins, or give -origin one that is in it")
		return
	default:
		v.allowed(s, "401", a, "CO-06")
		if exposed := list(a.header, "Access-Control-Expose-Headers"); !slices.Contains(exposed, "www-authenticate") {
			s.fault("CO-05", fmt.Sprintf("401 with Access-Control-Expose-Headers %q", a.header.Get("Access-Control-Expose-Headers")),
				"WWW-Authenticate among them: a script cannot see the challenge otherwise",
				"switch cors.enabled on in the plugin, or add it to exposed_headers of Kong's cors plugin")
		}
	}
	if v.document != nil {
		v.allowed(s, "metadata", v.get(ctx, v.at(v.id.MetadataPath())), "CO-07")
	}
	if bare := v.ask(ctx, v.gateway, http.MethodOptions, v.cfg.URL, ""); bare.err == nil && bare.status < 300 {
		s.note("OPTIONS without the fields of a preflight answers %s; with the plugin it needs a token (CO-02)", bare)
	}
}

// preflight asks what a browser asks before a request that is not simple.
func (v *visit) preflight(ctx context.Context, s *Step, client *http.Client, target, method string, headers []string) {
	a := v.ask(ctx, client, http.MethodOptions, target, "",
		"Origin", v.cfg.Origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", strings.Join(headers, ","))
	what, missed, wrong := "preflight of "+method+" "+target, "CO-01", "CO-06"
	if client == v.others {
		missed, wrong = "CO-10", "CO-10"
	}
	switch {
	case a.err != nil:
		s.fault(missed, what+": "+a.String(), "204 without a token", "make the URL reachable")
		return
	case a.status < 200 || a.status > 299:
		change := "let OPTIONS reach the plugin (no methods on the route), with cors.enabled, or use Kong's cors plugin"
		if client == v.others {
			change = "allow web origins at the authorization server"
		} else if a.status == http.StatusForbidden {
			change = "add the origin to trusted_web_origins, or give -origin one that is in it"
		}
		s.fault(missed, what+": "+a.String(), "204 without a token: browsers send none with a preflight", change)
		return
	}
	v.allowed(s, what, a, wrong)
	allowed := list(a.header, "Access-Control-Allow-Headers")
	var missing []string
	for _, h := range headers {
		// The wildcard does not cover Authorization.
		if !slices.Contains(allowed, h) && (h == "authorization" || !slices.Contains(allowed, "*")) && !simple(h) {
			missing = append(missing, h)
		}
	}
	if len(missing) > 0 {
		s.fault("CO-04", fmt.Sprintf("%s allows the headers %q", what, a.header.Get("Access-Control-Allow-Headers")), "also "+strings.Join(missing, ", "), "add them to the allowed headers of who answers preflights")
	}
	methods := list(a.header, "Access-Control-Allow-Methods")
	if method != http.MethodGet && method != http.MethodPost && !slices.Contains(methods, strings.ToLower(method)) {
		s.fault("CO-03", fmt.Sprintf("%s allows the methods %q", what, methods), "also "+method, "add it to the allowed methods")
	}
	if target == v.cfg.URL && !slices.Contains(methods, "delete") && !slices.Contains(methods, "*") {
		s.fault("CO-03", fmt.Sprintf("%s allows the methods %q", what, a.header.Get("Access-Control-Allow-Methods")), "also DELETE, with which clients end a session", "add it to the allowed methods")
	}
}

// simple reports whether browsers send a header without asking, or ask for it only with
// some values.
func simple(header string) bool { return header == "accept" }

// allowed looks for the origin in an answer.
func (v *visit) allowed(s *Step, what string, a answer, rule string) {
	if a.err != nil {
		return
	}
	values := a.header.Values("Access-Control-Allow-Origin")
	switch {
	case len(values) == 1 && values[0] == v.cfg.Origin:
	case len(values) == 1 && values[0] == "*":
		if a.header.Get("Access-Control-Allow-Credentials") == "true" {
			s.fault("CO-07", what+" with Access-Control-Allow-Origin * and credentials", "one or the other: browsers refuse both together", "take Access-Control-Allow-Credentials away")
		}
	case len(values) > 1:
		s.fault("CO-06", fmt.Sprintf("%s with %d fields Access-Control-Allow-Origin", what, len(values)), "one", "let either Kong's cors plugin or ours (cors.enabled) set it")
	default:
		s.fault(rule, fmt.Sprintf("%s with Access-Control-Allow-Origin %q", what, strings.Join(values, "")), v.cfg.Origin+" or *", "switch cors.enabled on and add the origin to trusted_web_origins, or let the answer's headers pass")
	}
}

// list is a comma separated field in lower case.
func list(h http.Header, name string) []string {
	var out []string
	for word := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if word = strings.ToLower(strings.TrimSpace(word)); word != "" {
			out = append(out, word)
		}
	}
	return out
}
