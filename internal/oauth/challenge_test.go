package oauth_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"phantomtoken/internal/oauth"
)

const metadataURL = "https://gw.example.com/.well-known/oauth-protected-resource/mcp"

// The reference challenges of our requirements, byte by byte. The names of parameters
// and error codes are spelled out here, so that a typo in a constant is seen.
//
// Covers: CH-04, CH-11, CH-14
func TestChallengeBytes(t *testing.T) {
	read, write := oauth.Scopes{"mcp:read"}, oauth.Scopes{"mcp:read", "mcp:write"}
	tests := []struct {
		name      string
		challenge oauth.Challenge
		want      string
	}{
		{
			name:      "A1 no credentials",
			challenge: oauth.Challenge{ResourceMetadata: metadataURL, Scope: read},
			want:      `Bearer resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp", scope="mcp:read"`,
		},
		{
			name: "A2 bad token",
			challenge: oauth.Challenge{
				Error: oauth.ErrorInvalidToken, ErrorDescription: "The access token is invalid, expired or not intended for this resource",
				ResourceMetadata: metadataURL, Scope: read,
			},
			want: `Bearer error="invalid_token", error_description="The access token is invalid, expired or not intended for this resource", resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp", scope="mcp:read"`,
		},
		{
			name: "A3 scope missing",
			challenge: oauth.Challenge{
				Error: oauth.ErrorInsufficientScope, ErrorDescription: "Additional scope is required for this operation",
				ResourceMetadata: metadataURL, Scope: write,
			},
			want: `Bearer error="insufficient_scope", scope="mcp:read mcp:write", resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp", error_description="Additional scope is required for this operation"`,
		},
		{
			name:      "A6 malformed credentials",
			challenge: oauth.Challenge{Error: oauth.ErrorInvalidRequest, ErrorDescription: "Two credentials", ResourceMetadata: metadataURL},
			want:      `Bearer error="invalid_request", error_description="Two credentials", resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp"`,
		},
		{name: "without metadata", challenge: oauth.Challenge{Realm: "stocks"}, want: `Bearer realm="stocks"`},
		{name: "realm comes first", challenge: oauth.Challenge{Realm: "stocks", ResourceMetadata: metadataURL}, want: `Bearer realm="stocks", resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp"`},
		{name: "no scope leaves the parameter out", challenge: oauth.Challenge{ResourceMetadata: metadataURL, Scope: oauth.Scopes{}}, want: `Bearer resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp"`},
		{name: "other scheme", challenge: oauth.Challenge{Scheme: "DPoP", ResourceMetadata: metadataURL}, want: `DPoP resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/mcp"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.challenge.String(); got != tt.want {
				t.Errorf("challenge\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// challengeGrammar is RFC 9110 §11.6.1 and RFC 6750 §3, narrowed to what every client
// reads: each parameter once, quoted, not empty, nothing to unescape, one line.
var challengeGrammar = regexp.MustCompile(`^Bearer [a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]+"(, [a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]+")*$`)

// params is what the challenge must say, by name.
func params(c oauth.Challenge) map[string]string {
	out := map[string]string{
		"realm": c.Realm, "error": c.Error, "error_description": c.ErrorDescription,
		"resource_metadata": c.ResourceMetadata, "scope": c.Scope.String(),
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// checkChallenge holds the properties that every challenge must have.
func checkChallenge(t *testing.T, c oauth.Challenge) {
	t.Helper()
	s := c.String()
	if again := c.String(); again != s {
		t.Errorf("the same challenge gives %q and %q", s, again)
	}
	if !challengeGrammar.MatchString(s) {
		t.Errorf("challenge %q does not follow the grammar", s)
	}
	if strings.Contains(s, `=""`) || strings.ContainsAny(s, "\r\n\\") {
		t.Errorf("challenge %q has an empty value, an escape or a line break", s)
	}
	want := params(c)
	for name := range want {
		if n := strings.Count(s, " "+name+`="`); n != 1 {
			t.Errorf("parameter %s occurs %d times in %q", name, n, s)
		}
	}
	// Clients that look for name="value" anywhere, first or last, find the same.
	for name, value := range want {
		found := regexp.MustCompile(name+`="([^"]+)"`).FindAllStringSubmatch(s, -1)
		if name == "error" || name == "scope" || name == "resource_metadata" {
			for _, f := range found {
				if f[1] != value {
					t.Errorf("a search for %s in %q finds %q, want %q", name, s, f[1], value)
				}
			}
		}
	}
	parsed, err := oauthex.ParseWWWAuthenticate([]string{s})
	if err != nil || len(parsed) != 1 {
		t.Fatalf("the MCP Go SDK reads %d challenges in %q: %v", len(parsed), s, err)
	}
	if parsed[0].Scheme != "bearer" || !maps.Equal(parsed[0].Params, want) {
		t.Errorf("the MCP Go SDK reads %s %v in %q, want bearer %v", parsed[0].Scheme, parsed[0].Params, s, want)
	}
}

// Every combination of parameters, with values from the edges of their alphabets.
//
// Covers: CH-02, CH-05, CH-07, CH-08, CH-12, CH-14
func TestChallengeProperties(t *testing.T) {
	alphabet := func(without string) string {
		var b strings.Builder
		for c := byte(0x21); c <= 0x7e; c++ {
			if c != '"' && c != '\\' && strings.IndexByte(without, c) < 0 {
				b.WriteByte(c)
			}
		}
		return b.String()
	}
	descriptions := []string{"", "User has no organization", "a, b, c", "comma,", ", leading", "semicolon; 'quote'", alphabet("=")}
	scopes := []oauth.Scopes{nil, {"a"}, {"stocks/read", "stocks/trade"}, {"a=b", "c,d"}, {alphabet("")}}
	urls := []string{"", metadataURL, "http://127.0.0.1:8000/.well-known/oauth-protected-resource/a,b/mcp?x=1,y=2"}
	for _, code := range []string{"", oauth.ErrorInvalidToken, oauth.ErrorInvalidRequest, oauth.ErrorInsufficientScope} {
		for _, description := range descriptions {
			if err := oauth.CheckDescription(description); err != nil {
				t.Fatal(err)
			}
			for _, scope := range scopes {
				for _, url := range urls {
					c := oauth.Challenge{Error: code, ErrorDescription: description, Scope: scope, ResourceMetadata: url}
					if len(params(c)) == 0 {
						c.Realm = "stocks"
					}
					checkChallenge(t, c)
				}
			}
		}
	}
}

// Covers: CH-03, CH-06, CH-07
func TestCheckDescription(t *testing.T) {
	for c := range 256 {
		s := "abc" + string([]byte{byte(c)}) + "def"
		want := c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' && c != '='
		if got := oauth.CheckDescription(s) == nil; got != want {
			t.Errorf("byte %#02x: accepted = %t, want %t", c, got, want)
		}
	}
	for _, s := range []string{"line\nbreak", "é", `say "no"`, `scope="admin"`, "scope=admin", "tab\t", "\x7f"} {
		err := oauth.CheckDescription(s)
		if err == nil {
			t.Errorf("%q is accepted", s)
		} else if !strings.Contains(err.Error(), "position") {
			t.Errorf("error %q, want it to name the position", err)
		}
	}
	if err := oauth.CheckDescription(""); err != nil {
		t.Errorf("empty description: %v", err)
	}
}

// Several challenges in one value are told apart again, Bearer first.
//
// Covers: CH-04, CH-09
func TestChallenges(t *testing.T) {
	bearer := oauth.Challenge{ResourceMetadata: metadataURL, Scope: oauth.Scopes{"mcp:read"}}
	dpop := bearer
	dpop.Scheme = "DPoP"
	s := oauth.Challenges(bearer, dpop)
	if !strings.HasPrefix(s, "Bearer ") {
		t.Errorf("value %q does not begin with Bearer", s)
	}
	parsed, err := oauthex.ParseWWWAuthenticate([]string{s})
	if err != nil {
		t.Fatal(err)
	}
	var schemes []string
	for _, p := range parsed {
		schemes = append(schemes, p.Scheme)
		if !maps.Equal(p.Params, params(bearer)) {
			t.Errorf("%s has parameters %v, want %v", p.Scheme, p.Params, params(bearer))
		}
	}
	if !slices.Equal(schemes, []string{"bearer", "dpop"}) {
		t.Errorf("schemes = %v, want bearer and dpop", schemes)
	}
	if got := oauth.Challenges(bearer); got != bearer.String() {
		t.Errorf("one challenge alone = %q, want %q", got, bearer)
	}
}

// Whatever passes the checks of configuration makes a challenge that every client reads.
func FuzzChallenge(f *testing.F) {
	f.Add("invalid_token", "The access token is invalid", "https://gw.example.com/mcp", "mcp:read mcp:write")
	f.Add("insufficient_scope", "a, b", "http://127.0.0.1:8000/a,b?c=d", "a=b c,d")
	f.Add("", "", "https://h", "")
	f.Add("invalid_request", `x="y`, "https://[::1]:8443/%22", `"`)
	f.Add("", "scope=admin", "http://[fe80::1%25%22]/", "a")
	f.Fuzz(func(t *testing.T, code, description, resource, scope string) {
		r, err := oauth.ParseResource(resource)
		if err != nil {
			return
		}
		scopes, err := oauth.ParseScopes(scope)
		if err != nil || oauth.CheckDescription(description) != nil {
			return
		}
		switch code {
		case "", oauth.ErrorInvalidRequest, oauth.ErrorInvalidToken, oauth.ErrorInsufficientScope:
		default:
			return
		}
		if strings.Contains(r.MetadataURL(), "=") {
			return // a query may look like a parameter to clients that search; discouraged, see RFC 9728 §1.2
		}
		checkChallenge(t, oauth.Challenge{Error: code, ErrorDescription: description, ResourceMetadata: r.MetadataURL(), Scope: scopes})
	})
}
