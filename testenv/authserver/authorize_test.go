package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"phantomtoken/testenv/authserver"
)

// TestAuthorizeRefusesByRedirect: once client and redirect URI are known to belong
// together, the client is told what is wrong, with its state and our iss.
func TestAuthorizeRefusesByRedirect(t *testing.T) {
	s := start(t)
	id := s.publicClient()
	readOnly := s.register(`{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"none","scope":"stocks/read"}`).object(t)["client_id"].(string)
	good := authorization(id)
	tests := []struct {
		name  string
		query url.Values
		code  string
	}{
		{"no response type", with(good, "response_type"), "invalid_request"},
		{"RejectsImplicit", with(good, "response_type", "token"), "unsupported_response_type"},
		{"hybrid", with(good, "response_type", "code id_token"), "unsupported_response_type"},
		{"fragment", with(good, "response_mode", "fragment"), "invalid_request"},
		{"form_post", with(good, "response_mode", "form_post"), "invalid_request"},
		{"RejectsMissingPKCE", with(with(good, "code_challenge"), "code_challenge_method"), "invalid_request"},
		{"RejectsPlainPKCE", with(good, "code_challenge_method", "plain"), "invalid_request"},
		{"RejectsPlainPKCEByDefault", with(good, "code_challenge_method"), "invalid_request"},
		{"lower case method", with(good, "code_challenge_method", "s256"), "invalid_request"},
		{"short challenge", with(good, "code_challenge", "abc"), "invalid_request"},
		{"padded challenge", with(good, "code_challenge", challenge(verifier)+"="), "invalid_request"},
		{"method without challenge", with(good, "code_challenge"), "invalid_request"},
		{"unknown scope", with(good, "scope", "stocks/read admin"), "invalid_scope"},
		{"malformed scope", with(good, "scope", `a"b`), "invalid_scope"},
		{"RejectsScopeThatWasNotRegistered", with(authorization(readOnly), "scope", "stocks/read stocks/trade"), "invalid_scope"},
		{"unknown resource", with(good, "resource", "https://elsewhere.example/mcp"), "invalid_target"},
		{"RejectsResourcePrefix", with(good, "resource", resource+"/admin"), "invalid_target"},
		{"RejectsResourceOrigin", with(good, "resource", "http://127.0.0.1:8000"), "invalid_target"},
		{"relative resource", with(good, "resource", "/mcp"), "invalid_target"},
		{"resource with fragment", with(good, "resource", resource+"#x"), "invalid_target"},
		{"one of two resources unknown", with(good, "resource", resource, "https://elsewhere.example"), "invalid_target"},
		{"request object", with(good, "request", "eyJhbGciOiJub25lIn0.e30."), "request_not_supported"},
		{"request URI", with(good, "request_uri", "https://evil.example/request"), "request_uri_not_supported"},
		{"scope twice", with(good, "scope", "stocks/read", "stocks/trade"), "invalid_request"},
		{"RejectsSecondChallenge", with(good, "code_challenge", challenge(verifier), challenge(strings.Repeat("a", 43))), "invalid_request"},
		{"unknown prompt", with(good, "prompt", "sing"), "invalid_request"},
		{"prompt none and login", with(good, "prompt", "none login"), "invalid_request"},
		{"prompt none", with(good, "prompt", "none"), "login_required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := s.browser().authorize(tt.query)
			if !strings.HasPrefix(a.header.Get("Location"), callback+"?") {
				t.Fatalf("got %d %q, want a redirect to %s\n%s", a.status, a.header.Get("Location"), callback, a.body)
			}
			got := location(t, a)
			if got.Get("error") != tt.code || got.Get("code") != "" {
				t.Errorf("got %v, want error %s", got, tt.code)
			}
			if got.Get("state") != "af0ifjsldkj" || got.Get("iss") != s.Issuer() {
				t.Errorf("got state %q and iss %q", got.Get("state"), got.Get("iss"))
			}
		})
	}
	t.Run("state twice is not echoed", func(t *testing.T) {
		got := location(t, s.browser().authorize(with(good, "state", "a", "b")))
		if got.Get("error") != "invalid_request" || got.Has("state") {
			t.Errorf("got %v, want invalid_request without state", got)
		}
	})
	t.Run("without state", func(t *testing.T) {
		if got := location(t, s.browser().authorize(with(with(good, "state"), "scope", "nope"))); got.Has("state") {
			t.Errorf("got %v, want no state", got)
		}
	})
}

// TestAuthorizeRefusesOnPage: as long as it is not sure who asks and where the answer
// goes, nobody is redirected anywhere.
func TestAuthorizeRefusesOnPage(t *testing.T) {
	s := start(t)
	id := s.publicClient(callback, "https://app.example/cb")
	good := authorization(id)
	tests := []struct {
		name  string
		query url.Values
	}{
		{"no client", with(good, "client_id")},
		{"unknown client", with(good, "client_id", "nobody")},
		{"client twice", with(good, "client_id", id, id)},
		{"RejectsSecondClient", with(good, "client_id", id, "nobody")},
		{"redirect URI missing, two registered", with(good, "redirect_uri")},
		{"RejectsSecondRedirectURI", with(good, "redirect_uri", callback, "https://evil.example/")},
		{"RejectsRedirectToUnregisteredURI", with(good, "redirect_uri", "https://evil.example/")},
		{"RejectsRedirectToSiblingHost", with(good, "redirect_uri", "https://app.example.evil.example/cb")},
		{"RejectsRedirectToSubdomain", with(good, "redirect_uri", "https://x.app.example/cb")},
		{"RejectsRedirectToOtherPort", with(good, "redirect_uri", "https://app.example:8443/cb")},
		{"RejectsRedirectToOtherPath", with(good, "redirect_uri", "https://app.example/cb/../evil")},
		{"RejectsRedirectWithAddedQuery", with(good, "redirect_uri", "https://app.example/cb?next=evil")},
		{"RejectsRedirectWithFragment", with(good, "redirect_uri", "https://app.example/cb#")},
		{"RejectsRedirectWithUserInformation", with(good, "redirect_uri", "https://app.example@evil.example/cb")},
		{"RejectsRedirectInOtherCase", with(good, "redirect_uri", "https://app.example/CB")},
		{"RejectsRedirectWithOtherScheme", with(good, "redirect_uri", "http://app.example/cb")},
		{"RejectsLoopbackOtherPath", with(good, "redirect_uri", "http://127.0.0.1:33418/evil")},
		{"RejectsLoopbackOtherHost", with(good, "redirect_uri", "http://localhost:33418/callback")},
		{"RejectsLoopbackUserInformation", with(good, "redirect_uri", "http://127.0.0.1:33418@evil.example/callback")},
		{"RejectsLoopbackBackslash", with(good, "redirect_uri", `http://127.0.0.1:33418\@evil.example/callback`)},
		{"RejectsLoopbackWithHTTPS", with(good, "redirect_uri", "https://127.0.0.1:33418/callback")},
		{"RejectsProtocolRelative", with(good, "redirect_uri", "//evil.example/callback")},
		{"RejectsJavaScript", with(good, "redirect_uri", "javascript:alert(1)")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantPage(t, s.browser().authorize(tt.query), http.StatusBadRequest)
		})
	}
	t.Run("very long", func(t *testing.T) {
		wantPage(t, s.browser().authorize(with(good, "state", strings.Repeat("x", 20<<10))), http.StatusRequestURITooLong)
	})
	t.Run("undecodable", func(t *testing.T) {
		wantPage(t, s.browser().open(s.Issuer()+"/authorize?client_id=%zz"), http.StatusBadRequest)
	})
}

// TestRedirectTargets checks what the redirect URI looks like with the answer added.
func TestRedirectTargets(t *testing.T) {
	tests := []struct {
		name       string
		registered string
		requested  string
		want       string // beginning of the target
	}{
		{"exact", "https://app.example/cb", "https://app.example/cb", "https://app.example/cb?code="},
		{"query kept", "https://app.example/cb?tenant=1", "https://app.example/cb?tenant=1", "https://app.example/cb?tenant=1&code="},
		{"loopback, port chosen later", "http://127.0.0.1/", "http://127.0.0.1:50123/", "http://127.0.0.1:50123/?code="},
		{"loopback, other port", "http://localhost:3000/cb", "http://localhost:50123/cb", "http://localhost:50123/cb?code="},
		{"loopback IPv6", "http://[::1]:3000/cb", "http://[::1]:50123/cb", "http://[::1]:50123/cb?code="},
		{"private-use scheme", "com.example.app:/cb", "com.example.app:/cb", "com.example.app:/cb?code="},
		{"private-use scheme without slash", "com.example.app:cb", "com.example.app:cb", "com.example.app:cb?code="},
		{"left out, one registered", "https://app.example/cb", "", "https://app.example/cb?code="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t)
			id := s.publicClient(tt.registered)
			b := s.browser()
			page := b.signIn(b.authorize(with(authorization(id), "redirect_uri", tt.requested)))
			a := b.submit(page, url.Values{"accept": {"yes"}})
			if got := a.header.Get("Location"); a.status != http.StatusSeeOther || !strings.HasPrefix(got, tt.want) {
				t.Fatalf("got %d %q, want %q", a.status, got, tt.want)
			}
			if scheme, _, _ := strings.Cut(tt.want, ":"); !strings.Contains(page.header.Get("Content-Security-Policy"), " "+scheme+":") {
				t.Errorf("the browser would not follow to %s: %q", scheme, page.header.Get("Content-Security-Policy"))
			}
			form := with(redemption(id, location(t, a).Get("code")), "redirect_uri", tt.requested)
			if a := s.post("/token", form); a.status != http.StatusOK {
				t.Errorf("token: got %d\n%s", a.status, a.body)
			}
		})
	}
}

func TestMatchRedirectURI(t *testing.T) {
	registered := []string{"http://127.0.0.1:1/cb?x=1", "http://localhost/cb", "https://127.0.0.1:1/tls", "com.example.app:/cb"}
	tests := []struct {
		uri  string
		want bool
	}{
		{"http://127.0.0.1:2/cb?x=1", true},
		{"http://127.0.0.1/cb?x=1", true},
		{"http://localhost:65535/cb", true},
		{"http://127.0.0.1:2/cb?x=2", false},
		{"http://127.0.0.1:2/cb", false},
		{"http://127.0.0.1:0/cb?x=1", false},
		{"http://127.0.0.1:/cb?x=1", true}, // an empty port is the default port (RFC 3986 §3.2.3)
		{"http://127.0.0.2:1/cb?x=1", false},
		{"http://localhost:1/cb/", false},
		{"http://localhost:1/%63b", false},
		{"https://127.0.0.1:2/tls", false},
		{"com.example.app:/cb2", false},
		{"", false},
	}
	for _, tt := range tests {
		if got := authserver.MatchRedirectURI(registered, tt.uri); got != tt.want {
			t.Errorf("%q: got %t, want %t", tt.uri, got, tt.want)
		}
	}
}

// TestScopes checks which scopes a token gets.
func TestScopes(t *testing.T) {
	tests := []struct {
		name       string
		registered string
		requested  string
		want       string
	}{
		{"as asked", "stocks/read stocks/trade", "stocks/trade", "stocks/trade"},
		{"nothing asked: what was registered", "stocks/read", "", "stocks/read"},
		{"nothing registered: all may be asked for", "", "stocks/read stocks/trade", "stocks/read stocks/trade"},
		{"openid and offline_access are dropped", "openid stocks/read", "openid offline_access stocks/read", "stocks/read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t)
			id := s.register(`{"redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"none","scope":"` + tt.registered + `"}`).object(t)["client_id"].(string)
			code := s.browser().allow(with(authorization(id), "scope", tt.requested)).Get("code")
			if got := s.post("/token", redemption(id, code)).object(t)["scope"]; got != tt.want {
				t.Errorf("got %v, want %q", got, tt.want)
			}
		})
	}
}

// TestResources checks which audience a token gets, and that both endpoints must agree
// (RFC 8707 §2.2).
func TestResources(t *testing.T) {
	tests := []struct {
		name      string
		fallback  string // Config.DefaultResource
		authorize []string
		token     []string
		want      any    // aud
		code      string // or an error
	}{
		{name: "same", authorize: []string{resource}, token: []string{resource}, want: resource},
		{name: "slash and case", authorize: []string{"HTTP://127.0.0.1:8000/mcp/"}, token: []string{resource}, want: resource},
		{name: "left out at the token endpoint", authorize: []string{resource}, want: resource},
		{name: "two, one of them redeemed", authorize: []string{resource, otherResource}, token: []string{otherResource}, want: otherResource},
		{name: "two, both redeemed", authorize: []string{resource, otherResource}, want: []any{resource, otherResource}},
		{name: "the same twice", authorize: []string{resource, resource + "/"}, want: resource},
		{name: "RejectsResourceMismatch", authorize: []string{resource}, token: []string{otherResource}, code: "invalid_target"},
		{name: "RejectsAddedResource", authorize: []string{resource}, token: []string{resource, otherResource}, code: "invalid_target"},
		{name: "RejectsResourceOnlyAtTokenEndpoint", token: []string{resource}, code: "invalid_target"},
		{name: "RejectsUnknownResourceAtTokenEndpoint", authorize: []string{resource}, token: []string{"https://elsewhere.example"}, code: "invalid_target"},
		{name: "none: no audience", want: nil},
		{name: "none, with a default", fallback: otherResource, want: otherResource},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, func(c *authserver.Config) { c.DefaultResource = tt.fallback })
			id := s.publicClient()
			code := s.browser().allow(with(authorization(id), "resource", tt.authorize...)).Get("code")
			a := s.post("/token", with(redemption(id, code), "resource", tt.token...))
			if tt.code != "" {
				wantError(t, a, http.StatusBadRequest, tt.code)
				return
			}
			token, _ := a.object(t)["access_token"].(string)
			got := s.introspect(token).object(t)["aud"]
			list, isList := got.([]any)
			want, wantList := tt.want.([]any)
			if isList != wantList || !isList && got != tt.want || isList && (len(list) != 2 || list[0] != want[0] || list[1] != want[1]) {
				t.Errorf("aud: got %v, want %v", got, tt.want)
			}
		})
	}
}
