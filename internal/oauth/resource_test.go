package oauth_test

import (
	"net/url"
	"strings"
	"testing"

	"phantomtoken/internal/oauth"
)

func parseResource(t testing.TB, s string) oauth.Resource {
	t.Helper()
	r, err := oauth.ParseResource(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Covers: PR-02
func TestMetadataURL(t *testing.T) {
	const wellKnown = "/.well-known/oauth-protected-resource"
	tests := []struct {
		resource, url, path string
	}{
		{resource: "https://h", url: "https://h" + wellKnown, path: wellKnown},
		{resource: "https://h/", url: "https://h" + wellKnown, path: wellKnown},
		{resource: "https://h/a", url: "https://h" + wellKnown + "/a", path: wellKnown + "/a"},
		{resource: "https://h/a?x=1", url: "https://h" + wellKnown + "/a?x=1", path: wellKnown + "/a"},
		{resource: "https://h/?x=1", url: "https://h" + wellKnown + "?x=1", path: wellKnown},
		{resource: "https://h?x=1", url: "https://h" + wellKnown + "?x=1", path: wellKnown},
		{resource: "https://h/a/mcp", url: "https://h" + wellKnown + "/a/mcp", path: wellKnown + "/a/mcp"},
		{resource: "https://h/mcp/", url: "https://h" + wellKnown + "/mcp", path: wellKnown + "/mcp"},
		{resource: "https://GW.Example.com:8443/mcp", url: "https://GW.Example.com:8443" + wellKnown + "/mcp", path: wellKnown + "/mcp"},
		{resource: "HTTPS://h/mcp", url: "https://h" + wellKnown + "/mcp", path: wellKnown + "/mcp"},
		{resource: "http://127.0.0.1:8000/mcp", url: "http://127.0.0.1:8000" + wellKnown + "/mcp", path: wellKnown + "/mcp"},
		{resource: "http://[::1]:8000/mcp", url: "http://[::1]:8000" + wellKnown + "/mcp", path: wellKnown + "/mcp"},
		{resource: "https://h/a%2Fb", url: "https://h" + wellKnown + "/a%2Fb", path: wellKnown + "/a%2Fb"},
		{resource: "https://h/~user/@me", url: "https://h" + wellKnown + "/~user/@me", path: wellKnown + "/~user/@me"},
	}
	for _, tt := range tests {
		r := parseResource(t, tt.resource)
		if got := r.MetadataURL(); got != tt.url {
			t.Errorf("MetadataURL of %s = %s, want %s", tt.resource, got, tt.url)
		}
		if got := r.MetadataPath(); got != tt.path {
			t.Errorf("MetadataPath of %s = %s, want %s", tt.resource, got, tt.path)
		}
		if got, want := r.Path(), strings.TrimPrefix(tt.path, wellKnown); got != want {
			t.Errorf("Path of %s = %q, want %q", tt.resource, got, want)
		}
		if r.String() != tt.resource {
			t.Errorf("String() = %s, want %s byte for byte", r, tt.resource)
		}
	}
	var zero oauth.Resource
	if !zero.IsZero() || zero.MetadataURL() != "" || zero.Matches("") || zero.Matches("https://h") {
		t.Error("the zero resource has an URL or matches something")
	}
}

func TestParseResourceRefuses(t *testing.T) {
	tests := []struct {
		name, in string
	}{
		{name: "Empty", in: ""},
		{name: "Relative", in: "/mcp"},
		{name: "NoScheme", in: "gw.example.com/mcp"},
		{name: "SchemeRelative", in: "//gw.example.com/mcp"},
		{name: "OtherScheme", in: "ftp://gw.example.com/mcp"},
		{name: "Opaque", in: "https:gw.example.com"},
		{name: "URN", in: "urn:example:mcp"},
		{name: "JavaScript", in: "javascript:alert(1)//https://h"},
		{name: "NoHost", in: "https:///mcp"},
		{name: "PortOnly", in: "https://:443/mcp"},
		{name: "Fragment", in: "https://h/mcp#x"},
		{name: "EmptyFragment", in: "https://h/mcp#"},
		{name: "EmptyQuery", in: "https://h/mcp?"},
		{name: "User", in: "https://sesame@h/mcp"},
		{name: "UserAndPassword", in: "https://user:sesame@h/mcp"},
		{name: "EmptyUser", in: "https://@h/mcp"},
		{name: "HostAsUser", in: "https://h@evil.example/mcp"},
		{name: "PasswordInOtherScheme", in: "ftp://user:sesame@h/mcp"},
		{name: "PasswordInBadURL", in: "https://user:sesame@h:x/mcp"},
		{name: "Quote", in: `https://h/"mcp`},
		{name: "QuoteInQuery", in: `https://h/mcp?x="`},
		{name: "Backslash", in: `https://h\mcp`},
		{name: "Blank", in: "https://h/m cp"},
		{name: "LeadingBlank", in: " https://h/mcp"},
		{name: "Newline", in: "https://h/mcp\nX-Injected: 1"},
		{name: "NotASCII", in: "https://h/café"},
		{name: "NotASCIIHost", in: "https://gẃ.example.com/mcp"},
		{name: "EncodedHost", in: "https://%c3%a9.example.com/mcp"},
		{name: "HostWithZone", in: "https://[fe80::1%25eth0]/mcp"},
		{name: "QuoteInZone", in: "https://[fe80::1%25%22]/mcp"},
		{name: "HostWithAngle", in: "https://a<b/mcp"},
		{name: "HostStar", in: "https://*.example.com/mcp"},
		{name: "BadEscape", in: "https://h/%zz"},
		{name: "BadPort", in: "https://h:port/mcp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := oauth.ParseResource(tt.in)
			if err == nil {
				t.Fatalf("got %s, want an error", r)
			}
			if !r.IsZero() {
				t.Errorf("got %s beside the error", r)
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("error %q shows a password", err)
			}
			if !strings.Contains(err.Error(), "expected") {
				t.Errorf("error %q, want it to say what was expected", err)
			}
		})
	}
}

// Covers: MCP-16
func TestResourceMatches(t *testing.T) {
	tests := []struct {
		name     string
		resource string
		accepts  []string
		refuses  []string
	}{
		{
			name:     "path",
			resource: "https://gw.example.com/mcp",
			accepts: []string{
				"https://gw.example.com/mcp", "https://gw.example.com/mcp/", "https://GW.EXAMPLE.COM/mcp",
				"HTTPS://gw.example.com/mcp", "https://gw.example.com:443/mcp", "https://GW.example.com:443/mcp/",
			},
			refuses: []string{
				"", "https://gw.example.com", "https://gw.example.com/", "https://gw.example.com/mcp2", "https://gw.example.com/mcp/x",
				"https://gw.example.com/mc", "https://gw.example.com/MCP", "https://gw.example.com//mcp", "https://gw.example.com/mcp//",
				"http://gw.example.com/mcp", "https://gw.example.com:8443/mcp", "https://gw.example.com:80/mcp", "https://gw.example.com:4433/mcp",
				"https://gw.example.com.evil.example/mcp", "https://evil.example/mcp", "https://sub.gw.example.com/mcp", "https://gw.example.com./mcp",
				"https://gw.example.com@evil.example/mcp", "https://user@gw.example.com/mcp", "https://evil.example/https://gw.example.com/mcp",
				"https://gw.example.com/mcp#x", "https://gw.example.com/mcp?", "https://gw.example.com/mcp?x=1", "https://gw.example.com/mcp;x",
				"https://gw.example.com/%6dcp", "https://gw.example.com/mcp%2F", "https://gw.example.com/mcp%00", "https://gw.example.com/a/../mcp", "https://gw.example.com/./mcp",
				`https://gw.example.com\mcp`, "https://gw.example.com/mcp ", " https://gw.example.com/mcp", "https://gw.example.com/mcp\n",
				"gw.example.com/mcp", "//gw.example.com/mcp", "/mcp", "https:gw.example.com/mcp", "*", "https://*/mcp",
				"https://gw.example.com/mcp https://evil.example",
			},
		},
		{
			name:     "root",
			resource: "https://h",
			accepts:  []string{"https://h", "https://h/", "https://h:443", "https://H:443/"},
			refuses:  []string{"https://h//", "https://h/x", "https://h:80", "http://h", "https://h/?x", "https://", "h"},
		},
		{
			name:     "encoded slash is no slash",
			resource: "https://h/a/b",
			accepts:  []string{"https://h/a/b/"},
			refuses:  []string{"https://h/a%2Fb", "https://h/a%2fb", "https://h/a%5Cb"},
		},
		{
			name:     "slash is no encoded slash",
			resource: "https://h/a%2Fb",
			accepts:  []string{"https://h/a%2Fb", "https://h/a%2Fb/"},
			refuses:  []string{"https://h/a/b", "https://h/a%2fb", "https://h/a%252Fb"},
		},
		{
			name:     "port",
			resource: "http://127.0.0.1:8000/mcp",
			accepts:  []string{"http://127.0.0.1:8000/mcp"},
			refuses:  []string{"http://127.0.0.1/mcp", "http://127.0.0.1:80/mcp", "http://localhost:8000/mcp", "https://127.0.0.1:8000/mcp", "http://127.0.0.1:08000/mcp", "http://127.1:8000/mcp"},
		},
		{
			name:     "default port of http",
			resource: "http://localhost:80/mcp",
			accepts:  []string{"http://localhost/mcp", "http://LOCALHOST:80/mcp/"},
			refuses:  []string{"http://localhost:443/mcp"},
		},
		{
			name:     "IPv6",
			resource: "http://[::1]/mcp",
			accepts:  []string{"http://[::1]:80/mcp", "http://[::1]/mcp/"},
			refuses:  []string{"http://[::1]:8000/mcp", "http://[::2]/mcp", "http://[0:0:0:0:0:0:0:1]/mcp", "http://[::1%25lo]/mcp", "http://::1/mcp"},
		},
		{
			name:     "address that ends like a port",
			resource: "https://[2001:db8::443]/mcp",
			accepts:  []string{"https://[2001:DB8::443]:443/mcp"},
			refuses:  []string{"https://[2001:db8:]/mcp", "https://[2001:db8::]/mcp"},
		},
		{
			name:     "query",
			resource: "https://h/mcp?tenant=a",
			accepts:  []string{"https://h/mcp?tenant=a", "https://h/mcp/?tenant=a"},
			refuses:  []string{"https://h/mcp", "https://h/mcp?tenant=b", "https://h/mcp?tenant=A", "https://h/mcp?tenant=a&x=1", "https://h/mcp?"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := parseResource(t, tt.resource)
			for _, a := range tt.accepts {
				if !r.Matches(a) {
					t.Errorf("%s refuses the audience %q", r, a)
				}
			}
			for _, a := range tt.refuses {
				if r.Matches(a) {
					t.Errorf("%s accepts the audience %q", r, a)
				}
			}
		})
	}
}

func TestResourceSameOrigin(t *testing.T) {
	r := parseResource(t, "https://gw.example.com/mcp")
	for origin, want := range map[string]bool{
		"https://gw.example.com": true, "https://GW.example.com": true, "https://gw.example.com:443": true,
		"http://gw.example.com": false, "https://gw.example.com:8443": false, "https://evil.example": false, "https://gw.example.com.evil.example": false,
		"null": false, "": false, "*": false, "https://gw.example.com/mcp": false, "https://gw.example.com?x": false, "https://user@gw.example.com": false,
	} {
		if got := r.SameOrigin(origin); got != want {
			t.Errorf("SameOrigin(%q) = %t, want %t", origin, got, want)
		}
	}
	if (oauth.Resource{}).SameOrigin("https://gw.example.com") {
		t.Error("the zero resource has an origin")
	}
}

func TestIsLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost.": true, "gw.localhost": false, "a.b.localhost.": false, // the DNS is asked for these
		"127.0.0.1": true, "127.8.9.10": true, "::1": true, "[::1]": true, "0:0:0:0:0:0:0:1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.evil.example": false, "notlocalhost": false, "127.0.0.1.evil.example": false, "127.evil.example": false,
		"0.0.0.0": false, "::": false, "10.0.0.1": false, "128.0.0.1": false, "169.254.169.254": false, "::2": false, "::ffff:10.0.0.1": false,
		"2130706433": false, "0x7f.0.0.1": false, "127.1": false, "0177.0.0.1": false,
	} {
		if got := oauth.IsLoopbackHost(host); got != want {
			t.Errorf("IsLoopbackHost(%q) = %t, want %t", host, got, want)
		}
	}
}

func TestCheckTransport(t *testing.T) {
	tests := []struct {
		name     string
		url      string
		insecure []string
		ok       bool
	}{
		{name: "https", url: "https://idp.example.com/introspect", ok: true},
		{name: "https in capitals", url: "HTTPS://idp.example.com", ok: true},
		{name: "loopback", url: "http://127.0.0.1:8180/introspect", ok: true},
		{name: "localhost", url: "http://localhost:8180", ok: true},
		{name: "loopback IPv6", url: "http://[::1]:8180", ok: true},
		{name: "named host", url: "http://keycloak:8080/realms/x", insecure: []string{"keycloak"}, ok: true},
		{name: "named host and port", url: "http://keycloak:8080/realms/x", insecure: []string{"KEYCLOAK:8080"}, ok: true},
		{name: "named default port", url: "http://keycloak/realms/x", insecure: []string{"keycloak:80"}, ok: true},
		{name: "named among others", url: "http://keycloak", insecure: []string{"a", "keycloak"}, ok: true},

		{name: "PlainHTTP", url: "http://idp.example.com/introspect"},
		{name: "OtherHostNamed", url: "http://idp.example.com", insecure: []string{"keycloak"}},
		{name: "OtherPortNamed", url: "http://keycloak:8081", insecure: []string{"keycloak:8080"}},
		{name: "DefaultPortNamedOtherUsed", url: "http://keycloak:8080", insecure: []string{"keycloak:80"}},
		{name: "DomainNamedHostBelowUsed", url: "http://a.example.com", insecure: []string{"example.com"}},
		{name: "EmptyNameIsNoWildcard", url: "http://idp.example.com", insecure: []string{""}},
		{name: "StarIsNoWildcard", url: "http://idp.example.com", insecure: []string{"*"}},
		{name: "LoopbackLookalike", url: "http://127.0.0.1.evil.example"},
		{name: "LocalhostLookalike", url: "http://localhost.evil.example"},
		{name: "LoopbackAsUser", url: "http://127.0.0.1@evil.example/"},
		{name: "NamedHostAsUser", url: "http://keycloak@evil.example/", insecure: []string{"keycloak"}},
		{name: "MetadataAddress", url: "http://169.254.169.254/"},
		{name: "AnyAddress", url: "http://0.0.0.0/"},
		{name: "PrivateAddress", url: "http://10.0.0.1/"},
		{name: "NoURL", url: ""},
		{name: "OtherScheme", url: "ws://127.0.0.1/"},
		{name: "UserInfo", url: "https://user:sesame@idp.example.com/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := oauth.CheckTransport(tt.url, tt.insecure)
			if got := err == nil; got != tt.ok {
				t.Errorf("accepted = %t (%v), want %t", got, err, tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("error %q shows a password", err)
			}
		})
	}
	if err := oauth.CheckTransport("http://idp.example.com", nil); err == nil || !strings.Contains(err.Error(), "insecure_http_hosts") {
		t.Errorf("error %v, want it to name the setting", err)
	}
}

func FuzzParseResource(f *testing.F) {
	for _, seed := range []string{
		"https://h", "https://h/", "https://h/a?x=1", "HTTP://LocalHost:80/a/b/", "https://[::1]:443/%2F", "https://[fe80::1%25%22]/",
		"https://u@h/", "https://h/#", "https://h?", "https://%e4/", "https://h/\"", "https://h/a//", "https://h:/x", "https://h/<>", "https://h/a;b,c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := oauth.ParseResource(s)
		if err != nil {
			return
		}
		if r.String() != s || r.IsZero() || !r.Matches(s) {
			t.Errorf("%q reads as %q, zero %t, matches itself %t", s, r, r.IsZero(), r.Matches(s))
		}
		// Comparison is symmetric, and knows what must never be equal.
		for _, other := range []string{s + "x", s + "/x", s + "#x", "x" + s, strings.Replace(s, "://", "://user@", 1), strings.Replace(s, "://", "://x.", 1)} {
			if r.Matches(other) {
				t.Errorf("%q matches %q", s, other)
			}
		}
		if !strings.Contains(s, "?") {
			if slashed, err := oauth.ParseResource(s + "/"); err == nil && !strings.HasSuffix(s, "/") && (!r.Matches(s+"/") || !slashed.Matches(s)) {
				t.Errorf("%q does not match itself with a slash", s)
			}
		}
		// The metadata URL can stand in a header, is a URL of the same host, and holds the
		// well-known path before the resource's own.
		m := r.MetadataURL()
		if strings.ContainsAny(m, "\"\\ \r\n") {
			t.Errorf("MetadataURL %q cannot stand in a header", m)
		}
		u, err := url.Parse(m)
		if err != nil {
			t.Fatalf("MetadataURL %q of %q: %v", m, s, err)
		}
		original, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if u.Host != original.Host || u.Scheme != original.Scheme || u.RawQuery != original.RawQuery || u.EscapedPath() != r.MetadataPath() {
			t.Errorf("MetadataURL %q of %q is of another place", m, s)
		}
	})
}
