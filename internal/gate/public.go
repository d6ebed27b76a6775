package gate

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
)

// public answers what needs no token: preflights, metadata, the keys of the gateway's
// issuers, and the OAuth-looking paths that clients probe and that do not exist here.
// nil means that the request needs a token.
func (g *Gate) public(req *Request, gw Gateway, res *resource) *Answer {
	path, _ := req.path()
	doc, maxAge, known := g.document(path, res)
	probe := known || g.probed(path, req, res)

	origin, asks := req.first("origin"), req.first("access-control-request-method")
	preflight := g.cfg.CORS.Enabled && origin != "" && asks != ""
	if !probe && !preflight {
		return nil
	}
	method, err := gw.Method()
	switch {
	case err != nil:
		return nil // the request goes on to need a token: closed, not open
	case preflight && method == http.MethodOptions:
		return g.preflight(req, origin, res, probe)
	case !probe:
		return nil
	case !known:
		return plain(http.StatusNotFound, oauth.ErrorNotFound, g.openOrigin()...)
	case method != http.MethodGet && method != http.MethodHead:
		return plain(http.StatusMethodNotAllowed, oauth.ErrorMethodNotAllowed, append(g.openOrigin(), Header{"Allow", "GET, HEAD, OPTIONS"})...)
	}
	headers := []Header{
		{"Content-Type", "application/json"},
		{"Cache-Control", fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds()))},
	}
	return &Answer{Status: http.StatusOK, Headers: append(headers, g.openOrigin()...), Body: doc}
}

// document is the public document at path, and how long it may be kept: keys not so long
// that the next one signs before everybody knows it.
func (g *Gate) document(path string, res *resource) (doc []byte, maxAge time.Duration, known bool) {
	if res != nil && res.document != nil {
		trimmed := strings.TrimSuffix(path, "/")
		// Clients keep or strip the trailing slash of the resource, so both are served; the
		// resource in the document stays one canonical value.
		if trimmed == res.path || g.cfg.MetadataAtRoot && trimmed == oauth.WellKnownProtectedResource {
			return res.document, g.cfg.MetadataMaxAge, true
		}
	}
	for _, issuer := range g.cfg.Issuers {
		if doc, ok := issuer.Document(path); ok {
			return doc, min(g.cfg.MetadataMaxAge, keyring.DocumentMaxAge), true
		}
	}
	return nil, 0, false
}

// probed reports whether path is one that clients look up to find an authorization
// server. Anything but a small 404 there misleads them: 401 ends in a deadlock, 200 makes
// the gateway look like an authorization server.
func (g *Gate) probed(path string, req *Request, res *resource) bool {
	for _, known := range []string{oauth.WellKnownProtectedResource, oauth.WellKnownAuthorizationServer, oauth.WellKnownOpenIDConfiguration} {
		if i := strings.Index(path, known); i >= 0 {
			if rest := path[i+len(known):]; rest == "" || rest[0] == '/' {
				return true
			}
		}
	}
	switch path {
	case "/register", "/authorize", "/token":
		// The endpoints of a server without metadata (MCP 2025-03-26). An API may have such a
		// path itself, so only a request without credentials counts as a probe.
		return res != nil && res.document != nil && res.id.Path() != path && req.first("authorization") == ""
	}
	return false
}

func plain(status int, code string, further ...Header) *Answer {
	headers := append([]Header{{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}}, further...)
	return &Answer{Status: status, Headers: headers, Body: (&oauth.Error{Code: code}).Body()}
}

// Headers that browsers are told about. The wildcard does not cover Authorization, so the
// request headers are named; the response headers are those MCP clients read.
const (
	allowMethods  = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	allowHeaders  = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Session-Id, Mcp-Method, Mcp-Name, Last-Event-ID, DPoP, traceparent, tracestate"
	exposeHeaders = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, DPoP-Nonce"
)

// preflight answers OPTIONS with the two headers that make it a preflight (Fetch
// standard): it never carries credentials and never reaches the upstream.
func (g *Gate) preflight(req *Request, origin string, res *resource, public bool) *Answer {
	headers := []Header{{"Cache-Control", "no-store"}}
	if public {
		headers = append(headers, g.openOrigin()...)
	} else {
		if !g.originAllowed(origin, res) {
			return plain(http.StatusForbidden, oauth.ErrorAccessDenied)
		}
		headers = append(headers, g.crossOrigin(origin, res, false)...)
	}
	return &Answer{Status: http.StatusNoContent, Headers: append(headers,
		Header{"Access-Control-Allow-Methods", allowMethods},
		Header{"Access-Control-Allow-Headers", allowHeaders + parameterHeaders(req.first("access-control-request-headers"))},
		Header{"Access-Control-Max-Age", fmt.Sprint(int(g.cfg.CORS.MaxAge.Seconds()))},
	)}
}

// parameterHeaders are the requested Mcp-Param-* names, which the protocol leaves open.
func parameterHeaders(requested string) string {
	var b strings.Builder
	n := 0
	for name := range strings.SplitSeq(requested, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if rest, ok := strings.CutPrefix(name, "mcp-param-"); ok && rest != "" && isToken(name) && n < 32 {
			b.WriteString(", ")
			b.WriteString(name)
			n++
		}
	}
	return b.String()
}

func isToken(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return c <= 0x20 || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}

// checkOrigin refuses browsers of origins that are not on the list: what stops a web page
// from driving a local server through DNS rebinding (MCP Streamable HTTP, security).
func (g *Gate) checkOrigin(req *Request, res *resource) *refusal {
	origin := req.first("origin")
	if origin == "" || g.originAllowed(origin, res) {
		return nil
	}
	return denied(fmt.Sprintf("origin %q is not in trusted_web_origins", origin), "Requests from this web origin are not accepted here")
}

func (g *Gate) originAllowed(origin string, res *resource) bool {
	return len(g.cfg.CORS.Origins) == 0 || slices.Contains(g.cfg.CORS.Origins, origin) ||
		res != nil && res.id.SameOrigin(origin)
}

// crossOrigin are the headers that let a browser's script read an answer. Without a list
// any origin may: a token in a header is no ambient authority. On a response of the
// upstream they are set only for browsers.
func (g *Gate) crossOrigin(origin string, res *resource, upstream bool) []Header {
	if !g.cfg.CORS.Enabled || upstream && origin == "" {
		return nil
	}
	expose := Header{"Access-Control-Expose-Headers", exposeHeaders}
	if len(g.cfg.CORS.Origins) == 0 {
		return []Header{{"Access-Control-Allow-Origin", "*"}, expose}
	}
	if origin == "" || !g.originAllowed(origin, res) {
		return []Header{{"Vary", "Origin"}}
	}
	return []Header{
		{"Access-Control-Allow-Origin", origin},
		{"Access-Control-Allow-Credentials", "true"}, // as the Lua plugin does for listed origins
		expose,
		{"Vary", "Origin"},
	}
}

// openOrigin is for documents that are public anyway.
func (g *Gate) openOrigin() []Header {
	if !g.cfg.CORS.Enabled {
		return nil
	}
	return []Header{{"Access-Control-Allow-Origin", "*"}}
}
