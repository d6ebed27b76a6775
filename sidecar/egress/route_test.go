package egress_test

import (
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"phantomtoken/sidecar/egress"
)

// Covers: TX-20
func TestRouting(t *testing.T) {
	echo := func(name string) *api {
		return newAPI(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name+" "+r.RequestURI) })
	}
	a, b := echo("a"), echo("b")
	route := func(host, path string, strip bool, base string) egress.Route {
		return egress.Route{Host: host, Path: path, StripPath: strip, Upstream: parseURL(t, base), Audience: audience}
	}
	w := newWorld(t,
		route("", "/stocks", true, a.URL+"/by-path"),
		route("", "/stocks/deep", false, a.URL+"/deep"),
		route("api.internal", "", false, b.URL+"/host/"),
		route("api.internal", "/stocks/", true, b.URL+"/host-path"),
		route("api.internal", "/caf%C3%A9", true, b.URL+"/cafe"),
	)
	for _, test := range []struct {
		name, host, path string
		want             string // empty: no route
	}{
		{"path only", "anything", "/stocks/ACME", "a /by-path/ACME"},
		{"path only, the prefix itself", "", "/stocks", "a /by-path"},
		{"path only, the prefix with a slash", "", "/stocks/", "a /by-path/"},
		{"longest prefix", "", "/stocks/deep/x", "a /deep/stocks/deep/x"},
		{"no segment boundary", "", "/stocksx", ""},
		{"no route", "", "/other", ""},
		{"host", "api.internal", "/other", "b /host/other"},
		{"host, root", "api.internal", "/", "b /host/"},
		{"host and path before path", "api.internal", "/stocks/deep/x", "b /host-path/deep/x"},
		{"host in capitals with port", "API.Internal:9201", "/x", "b /host/x"},
		{"host with a dot at its end", "api.internal.", "/x", "b /host/x"},
		{"another host", "xapi.internal", "/x", ""},
		{"needless escapes match, and pass as sent", "api.internal", "/%73tocks/%41%7e%2D", "b /host-path/%41%7e%2D"},
		{"escapes in the prefix", "api.internal", "/caf%c3%a9/%C3%A9", "b /cafe/%C3%A9"},
		{"reserved characters pass", "api.internal", "/a;v=1/b,c/@(d)!*'/%3F%23", "b /host/a;v=1/b,c/@(d)!*'/%3F%23"},
		{"query", "api.internal", "/x?a=/../b&c=%2e%2e", "b /host/x?a=/../b&c=%2e%2e"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := w.raw(t, "GET "+test.path+" HTTP/1.1\r\nHost: "+test.host+"\r\nConnection: close\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
			if test.want == "" {
				refused(t, got, http.StatusNotFound, "not_found")
				if !strings.Contains(got.body, "egress.routes") {
					t.Errorf("expected the answer to name egress.routes, got %q", got.body)
				}
				return
			}
			if got.body != test.want {
				t.Errorf("expected %q, got status %d and %q", test.want, got.StatusCode, got.body)
			}
		})
	}
}

// ambiguousPaths are targets that servers do not agree about.
func ambiguousPaths() map[string]string {
	return map[string]string{
		"dot segments":                        "/stocks/../admin",
		"dot segment at the end":              "/stocks/..",
		"single dot segment":                  "/stocks/./x",
		"encoded dot segments":                "/stocks/%2e%2e/admin",
		"half encoded dot segments":           "/stocks/.%2E/admin",
		"dot segments with parameters":        "/stocks/..;/admin",
		"dot segments with encoded semicolon": "/stocks/..%3b/admin",
		"encoded slash":                       "/stocks/..%2fadmin",
		"encoded slash in a name":             "/stocks/a%2Fb",
		"encoded backslash":                   "/stocks/..%5cadmin",
		"backslash":                           `/stocks/..\admin`,
		"double slash":                        "/stocks//admin",
		"double slash in front":               "//stocks/x",
		"slashes around parameters":           "/stocks/;x/admin",
		"NUL":                                 "/stocks/a%00.json",
		"line feed":                           "/stocks/a%0d%0aX:1",
		"twice encoded dot segments":          "/stocks/%252e%252e/admin",
		"twice encoded slash":                 "/stocks/..%252fadmin",
		"twice encoded, in pieces":            "/stocks/%25%32%66admin",
		"three times encoded":                 "/stocks/%25252fadmin",
		"overlong UTF-8 slash":                "/stocks/..%c0%afadmin",
	}
}

// Covers: TX-20
func TestRejectsPathsThatLeaveTheRoute(t *testing.T) {
	upstream := newAPI(t, nil)
	for _, strip := range []bool{true, false} {
		w := newWorld(t, egress.Route{Path: "/stocks", StripPath: strip, Upstream: parseURL(t, upstream.URL+"/v1"), Audience: audience})
		for name, target := range ambiguousPaths() {
			t.Run(name, func(t *testing.T) {
				got := w.raw(t, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer "+phantom+"\r\n\r\n")
				refused(t, got, http.StatusBadRequest, "invalid_request")
			})
		}
	}
	if n := len(upstream.seen()); n != 0 {
		t.Errorf("expected nothing at the API, got %d requests", n)
	}
}

// FuzzTarget checks that whatever path an application asks for, the API sees one that is its
// base path or below it, however often it decodes it.
func FuzzTarget(f *testing.F) {
	for _, target := range ambiguousPaths() {
		f.Add(target)
	}
	for _, target := range []string{"/stocks", "/stocks/", "/stocks/a;b=c/d", "/%73tocks/%C3%A9", "/stocks/100%25", "*", "/stocks/[x]", "/stocks/\xff"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Scheme != "" || u.Host != "" {
			return
		}
		for _, strip := range []bool{true, false} {
			sent, ok := egress.Target("/stocks", strip, "http://api.example.com/v1/base", u)
			if !ok {
				continue
			}
			checkBelow(t, sent.EscapedPath(), "/v1/base")
			again, err := url.ParseRequestURI(sent.RequestURI())
			if err != nil || again.EscapedPath() != sent.EscapedPath() || again.RawQuery != sent.RawQuery {
				t.Errorf("%q: expected the target %q on the wire, got %v, %v", target, sent.EscapedPath(), again, err)
			}
			if sent.Host != "api.example.com" || sent.Scheme != "http" {
				t.Errorf("%q: expected the upstream, got %s", target, sent)
			}
		}
	})
}

func checkBelow(t *testing.T, escaped, base string) {
	t.Helper()
	for range 3 {
		slashes := strings.ReplaceAll(escaped, `\`, "/")
		segments := strings.Split(slashes, "/")
		for i, segment := range segments {
			segments[i], _, _ = strings.Cut(segment, ";") // as servlet containers do
		}
		if cleaned := path.Clean(strings.Join(segments, "/")); cleaned != base && !strings.HasPrefix(cleaned, base+"/") {
			t.Fatalf("expected a path below %q, got %q, which is %q", base, escaped, cleaned)
		}
		if strings.Contains(slashes, "//") || strings.ContainsRune(slashes, 0) {
			t.Fatalf("expected no empty segment and no NUL, got %q", slashes)
		}
		decoded, err := url.PathUnescape(escaped)
		if err != nil {
			return
		}
		escaped = decoded
	}
}
