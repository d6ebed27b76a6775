package kongtest_test

import (
	"fmt"
	"strings"
	"testing"

	"phantomtoken/testenv/kongtest"
)

// TestRoutes: which of several routes gets a request. Every route has a service of its own,
// so that the upstream sees which.
func TestRoutes(t *testing.T) {
	routes := map[string]string{
		"prefix":       `paths: ["/a"]`,
		"longer":       `paths: ["/a/b"]`,
		"regex":        `paths: ["~/a/\\d+$"]`,
		"regex-high":   `{paths: ["~/r/.*"], regex_priority: 5}`,
		"regex-low":    `{paths: ["~/r/x"], regex_priority: 1}`,
		"captures":     `paths: ["~/c/(?<name>[a-z]+)/(\\d+)"]`,
		"root-doc":     `paths: ["~/.well-known/thing$"]`,
		"host":         `hosts: ["exact.example"]`,
		"host-path":    `{hosts: ["exact.example"], paths: ["/q"]}`,
		"wildcard":     `hosts: ["*.wild.example"]`,
		"suffix":       `hosts: ["tail.*"]`,
		"port":         `hosts: ["port.example:81"]`,
		"method":       `{paths: ["/m"], methods: [POST, DELETE]}`,
		"any-method":   `paths: ["/m"]`,
		"header":       `{paths: ["/h"], headers: {X-Version: ["1", "2"]}}`,
		"header-regex": `{paths: ["/h"], headers: {X-Kind: ["~*^v[0-9]$"]}}`,
		"no-header":    `paths: ["/h"]`,
	}
	var yaml strings.Builder
	yaml.WriteString("_format_version: \"3.0\"\nservices:\n")
	for name, matcher := range routes {
		matcher = strings.TrimSuffix(strings.TrimPrefix(matcher, "{"), "}")
		fmt.Fprintf(&yaml, "- name: %s\n  url: http://upstream:80/to-%s\n  routes:\n  - {name: %s, strip_path: false, %s}\n", name, name, name, matcher)
	}
	up := newUpstream(t, nil)
	g := start(t, kongtest.Config{YAML: []byte(yaml.String())}, up)
	tests := []struct {
		request, want string // the route, or nothing
	}{
		{"GET /a h", "prefix"}, {"GET /ab h", "prefix"}, {"GET /a/b h", "longer"}, {"GET /a/bc h", "longer"}, {"GET /a/x h", "prefix"},
		{"GET /a/12 h", "regex"}, {"GET /a/12x h", "prefix"}, {"GET /a//b h", "longer"}, {"GET /x/../a/b h", "longer"}, {"GET /%61/b h", "longer"},
		{"GET /r/x h", "regex-high"}, {"GET /c/abc/12 h", "captures"}, {"GET /c/abc h", ""},
		{"GET /.well-known/thing h", "root-doc"}, {"GET /.well-known/thing/a h", ""}, {"GET /.well-known/thing?x=y h", "root-doc"},
		{"GET / exact.example", "host"}, {"GET /z EXACT.example:8000", ""}, {"GET /z exact.example:8000", "host"},
		{"GET /q exact.example", "host-path"}, {"GET /q h", ""},
		{"GET / a.wild.example", "wildcard"}, {"GET / a.b.wild.example:99", "wildcard"}, {"GET / wild.example", ""},
		{"GET / tail.anything.example", "suffix"}, {"GET / port.example:81", "port"}, {"GET / port.example", ""},
		{"POST /m h", "method"}, {"GET /m h", "any-method"},
		{"GET /h h X-Version:2", "header"}, {"GET /h h x-version:3", "no-header"}, {"GET /h h X-Kind:V7", "header-regex"}, {"GET /h h", "no-header"},
		{"GET /nowhere h", ""},
	}
	for _, tt := range tests {
		t.Run(tt.request, func(t *testing.T) {
			part := strings.Fields(tt.request)
			head := part[0] + " " + part[1] + " HTTP/1.1\r\nHost: " + part[2] + "\r\n" + strings.Join(part[3:], "\r\n")
			if len(part) > 3 {
				head += "\r\n"
			}
			res := g.raw(part[0], head+"\r\n")
			if tt.want == "" {
				if res.StatusCode != 404 || !strings.Contains(res.body, `"message":"no Route matched with those values",`) || !strings.Contains(res.body, `"request_id":"`+res.Header.Get("X-Kong-Request-Id")) {
					t.Errorf("got %d %q, want 404", res.StatusCode, res.body)
				}
				return
			}
			if got := up.got(t).URL.Path; !strings.HasPrefix(got+"/", "/to-"+tt.want+"/") {
				t.Errorf("got %s, want the route %s", got, tt.want)
			}
		})
	}
}

// TestUpstreamPath joins the service's path and the request's.
func TestUpstreamPath(t *testing.T) {
	up := newUpstream(t, nil)
	tests := []struct {
		service, route, strip, request, want, prefix string
	}{
		{"", "/a", "true", "/a", "/", "/a"},
		{"", "/a", "true", "/a/", "/", "/a"},
		{"", "/a", "true", "/a/b", "/b", "/a"},
		{"", "/a", "true", "/ab", "/b", "/a"},
		{"", "/a", "false", "/a/b", "/a/b", ""},
		{"", "/", "true", "/a", "/a", ""},
		{"/s", "/a", "true", "/a", "/s", "/a"},
		{"/s", "/a", "true", "/a/", "/s/", "/a"},
		{"/s", "/a", "true", "/a/b", "/s/b", "/a"},
		{"/s", "/a", "true", "/ab", "/s/b", "/a"},
		{"/s", "/a", "false", "/a/b", "/s/a/b", ""},
		{"/s/", "/a", "true", "/a", "/s", "/a"},
		{"/s/", "/a", "true", "/a/", "/s/", "/a"},
		{"/s/", "/a", "true", "/a/b", "/s/b", "/a"},
		{"/s/", "/a", "false", "/a/b", "/s/a/b", ""},
		{"/s", "~/a/\\\\d", "true", "/a/1/x", "/s/x", "/a/1"},
		{"", "/a", "true", "/a../b", "/b", "/a"},
		{"", "/a", "false", "/a/%7E%2F b%20c", "", ""},
		{"", "/a", "false", "/a/%7E%2F%20c", "/a/~%2F%20c", ""},
	}
	for _, tt := range tests {
		if strings.Contains(tt.request, " ") {
			continue // no request line
		}
		t.Run(tt.service+tt.route+tt.strip+tt.request, func(t *testing.T) {
			yaml := fmt.Sprintf("_format_version: \"3.0\"\nservices:\n- name: up\n  url: http://upstream:80%s\n  routes:\n  - {name: p, paths: [\"%s\"], strip_path: %s}\n", tt.service, tt.route, tt.strip)
			g := start(t, kongtest.Config{YAML: []byte(yaml)}, up)
			g.raw("GET", "GET "+tt.request+" HTTP/1.1\r\nHost: h\r\n\r\n")
			r := up.got(t)
			if r.RequestURI != tt.want || r.Header.Get("X-Forwarded-Prefix") != tt.prefix {
				t.Errorf("got %q with prefix %q, want %q with %q", r.RequestURI, r.Header.Get("X-Forwarded-Prefix"), tt.want, tt.prefix)
			}
		})
	}
}

// TestDisabledService has no routes.
func TestDisabledService(t *testing.T) {
	yaml := strings.Replace(string(plain("")), "  retries: 1\n", "  enabled: false\n", 1)
	g := start(t, kongtest.Config{YAML: []byte(yaml)}, newUpstream(t, nil))
	if res := g.do("GET", "/p", "", nil); res.StatusCode != 404 {
		t.Errorf("got %d, want 404", res.StatusCode)
	}
}

// TestDerivesIDsLikeKong: recorded ids of a route and of its plugin.
func TestDerivesIDsLikeKong(t *testing.T) {
	route := kongtest.EntityID("routes", "p")
	if route != "2b6004ea-2d70-53b7-9104-27ab31332590" {
		t.Errorf("route: got %s", route)
	}
	if got := kongtest.EntityID("plugins", "plugins:*:probe:"+route+"::"); got != "19505532-9e88-5bc8-b529-d9274487637e" {
		t.Errorf("plugin: got %s", got)
	}
}
