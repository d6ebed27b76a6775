package discovery_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/discovery"
	"phantomtoken/internal/oauth"
)

const (
	rfc8414  = "/.well-known/oauth-authorization-server"
	openid   = "/.well-known/openid-configuration"
	remoteMe = "marked-remote-words"
)

// TestPlacesAreTriedInOrder: RFC 8414 path insertion, OpenID insertion, OpenID append; the
// first with metadata is believed.
//
// Covers: AS-01, AS-02, AS-05
func TestPlacesAreTriedInOrder(t *testing.T) {
	tests := []struct {
		name, path string // of the issuer
		at         string // where the metadata is
		want       []string
	}{
		{"NoPath", "", rfc8414, []string{rfc8414}},
		{"NoPathOpenID", "", openid, []string{rfc8414, openid}},
		{"SlashOnly", "/", rfc8414, []string{rfc8414}},
		{"Inserted", "/realms/mcp", rfc8414 + "/realms/mcp", []string{rfc8414 + "/realms/mcp"}},
		{"OpenIDInserted", "/realms/mcp", openid + "/realms/mcp", []string{rfc8414 + "/realms/mcp", openid + "/realms/mcp"}},
		{"OpenIDAppended", "/realms/mcp", "/realms/mcp" + openid, []string{rfc8414 + "/realms/mcp", openid + "/realms/mcp", "/realms/mcp" + openid}},
		{"TrailingSlashIsDroppedFromTheURLOnly", "/realms/mcp/", "/realms/mcp" + openid, []string{rfc8414 + "/realms/mcp", openid + "/realms/mcp", "/realms/mcp" + openid}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			m := metadata(h.URL+tt.path, h.URL)
			m["signed_metadata"] = "eyJhbGciOiJub25lIn0.e30."
			h.says(tt.at, m)
			i := newIssuer(t, discovery.Config{Issuer: h.URL + tt.path})
			introspection, err := i.IntrospectionEndpoint(t.Context())
			if want := (discovery.Endpoint{URL: h.URL + "/odd/introspect?k=1", AuthMethod: oauth.AuthBasic}); err != nil || introspection != want {
				t.Errorf("IntrospectionEndpoint = %+v, %v, want %+v", introspection, err, want)
			}
			token, err := i.TokenEndpoint(t.Context())
			if want := (discovery.Endpoint{URL: h.URL + "/odd/token", AuthMethod: oauth.AuthBasic}); err != nil || token != want {
				t.Errorf("TokenEndpoint = %+v, %v, want %+v", token, err, want)
			}
			keys, err := i.JWKSURI(t.Context())
			if err != nil || keys != h.URL+"/odd/keys" {
				t.Errorf("JWKSURI = %q, %v, want %q", keys, err, h.URL+"/odd/keys")
			}
			if got := h.questions(); !slices.Equal(got, tt.want) {
				t.Errorf("asked %q, want %q", got, tt.want)
			}
		})
	}
}

// TestIssuerThatIsNotItself: metadata of anybody else is refused, however close its name.
//
// Covers: AS-01, MCP-07
func TestIssuerThatIsNotItself(t *testing.T) {
	tests := []struct{ name, got, want string }{
		{"RejectsAnotherIssuer", "https://evil.example/" + remoteMe, "got another one"},
		{"RejectsTrailingSlash", "ISSUER/", "a slash more or less"},
		{"RejectsOtherLetterCase", "ISSUER-CASE", "other letter case"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			issuer := h.URL + "/realm"
			got := strings.Replace(strings.Replace(tt.got, "ISSUER-CASE", h.URL+"/Realm", 1), "ISSUER", issuer, 1)
			h.says(rfc8414+"/realm", metadata(got, h.URL))
			h.says("/realm"+openid, metadata(issuer, h.URL)) // a good one further on changes nothing
			_, err := newIssuer(t, discovery.Config{Issuer: issuer}).TokenEndpoint(t.Context())
			if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "token.issuer") {
				t.Errorf("TokenEndpoint = %v, want ErrUnavailable with %q and the setting", err, tt.want)
			}
			if strings.Contains(err.Error(), remoteMe) {
				t.Errorf("error quotes the remote side: %v", err)
			}
		})
	}
}

// TestWhatIsMissingIsAskedForByName: the error names the member that the metadata lacks
// and the setting that stands in for it.
//
// Covers: AS-02
func TestWhatIsMissingIsAskedForByName(t *testing.T) {
	introspection := func(i *discovery.Issuer, ctx context.Context) error {
		_, err := i.IntrospectionEndpoint(ctx)
		return err
	}
	token := func(i *discovery.Issuer, ctx context.Context) error {
		_, err := i.TokenEndpoint(ctx)
		return err
	}
	keys := func(i *discovery.Issuer, ctx context.Context) error {
		_, err := i.JWKSURI(ctx)
		return err
	}
	tests := []struct {
		name   string
		change map[string]any
		ask    func(*discovery.Issuer, context.Context) error
		want   string
	}{
		{"NoIntrospectionEndpoint", map[string]any{"introspection_endpoint": nil}, introspection, `has no introspection_endpoint; set introspection_endpoint`},
		{"NoTokenEndpoint", map[string]any{"token_endpoint": nil}, token, `has no token_endpoint; set phantom_token.token_endpoint`},
		{"NoKeys", map[string]any{"jwks_uri": nil}, keys, `has no jwks_uri; set token.jwks_uri`},
		{"KeysOverPlainHTTP", map[string]any{"jwks_uri": "http://169.254.169.254/" + remoteMe}, keys, `the jwks_uri in the metadata of`},
		{"EndpointWithPassword", map[string]any{"token_endpoint": "https://a:" + remoteMe + "@idp.example/token"}, token, "is not acceptable"},
		{"EndpointThatIsNoURL", map[string]any{"introspection_endpoint": "\x00"}, introspection, "is not acceptable"},
		{"EndpointThatIsNoText", map[string]any{"introspection_endpoint": 7}, introspection, "member introspection_endpoint: expected a string"},
		{"MethodsThatAreNoList", map[string]any{"token_endpoint_auth_methods_supported": "x"}, token, "member token_endpoint_auth_methods_supported: expected an array"},
		{"OnlyMethodsWeLack", map[string]any{"introspection_endpoint_auth_methods_supported": []string{"private_key_jwt"}}, introspection, "set introspection.auth_method"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			m := metadata(h.URL, h.URL)
			for name, v := range tt.change {
				m[name] = v
			}
			h.says(rfc8414, m)
			err := tt.ask(newIssuer(t, discovery.Config{Issuer: h.URL}), t.Context())
			if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ErrUnavailable with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), remoteMe) {
				t.Errorf("error quotes the remote side: %v", err)
			}
		})
	}
}

// Covers: AS-02
func TestAuthenticationMethod(t *testing.T) {
	const introspectionList, tokenList = "introspection_endpoint_auth_methods_supported", "token_endpoint_auth_methods_supported"
	tests := []struct {
		name       string
		lists      map[string]any
		configured string
		want       string // at the introspection endpoint
	}{
		{"NothingSaid", nil, "", oauth.AuthBasic},
		{"Both", map[string]any{introspectionList: []string{oauth.AuthPost, oauth.AuthBasic}}, "", oauth.AuthBasic},
		{"PostOnly", map[string]any{introspectionList: []string{"private_key_jwt", oauth.AuthPost}}, "", oauth.AuthPost},
		{"TokenEndpointSpeaksForIt", map[string]any{tokenList: []string{oauth.AuthPost}}, "", oauth.AuthPost},
		{"OwnListCounts", map[string]any{introspectionList: []string{oauth.AuthBasic}, tokenList: []string{oauth.AuthPost}}, "", oauth.AuthBasic},
		{"ConfiguredWins", map[string]any{introspectionList: []string{oauth.AuthBasic}}, oauth.AuthPost, oauth.AuthPost},
		{"ConfiguredWinsOverNoneOfOurs", map[string]any{introspectionList: []string{"none"}}, oauth.AuthBasic, oauth.AuthBasic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			m := metadata(h.URL, h.URL)
			for name, v := range tt.lists {
				m[name] = v
			}
			h.says(rfc8414, m)
			got, err := newIssuer(t, discovery.Config{Issuer: h.URL, AuthMethod: tt.configured}).IntrospectionEndpoint(t.Context())
			if err != nil || got.AuthMethod != tt.want {
				t.Errorf("got %q, %v, want %q", got.AuthMethod, err, tt.want)
			}
		})
	}
}

// TestSplitHorizon: the issuer's public name cannot be reached from here. What is under
// it is called at the internal address, other hosts as they stand, and the issuer in the
// metadata is still the public one.
//
// Covers: AS-03
func TestSplitHorizon(t *testing.T) {
	const public = "https://login.example.com/realms/mcp"
	h := startHost(t)
	m := metadata(public, "https://login.example.com")
	m["jwks_uri"] = h.URL + "/of-the-host-that-was-asked"
	m["token_endpoint"] = "https://login.example.com.evil.example/token"
	h.says(rfc8414+"/realms/mcp", m)
	i := newIssuer(t, discovery.Config{Issuer: public, InternalURL: h.URL + "/"})
	introspection, err := i.IntrospectionEndpoint(t.Context())
	if err != nil || introspection.URL != h.URL+"/odd/introspect?k=1" {
		t.Errorf("IntrospectionEndpoint = %q, %v, want it at the internal address", introspection.URL, err)
	}
	keys, err := i.JWKSURI(t.Context())
	if err != nil || keys != h.URL+"/of-the-host-that-was-asked" {
		t.Errorf("JWKSURI = %q, %v, want it unchanged", keys, err)
	}
	token, err := i.TokenEndpoint(t.Context())
	if err != nil || token.URL != "https://login.example.com.evil.example/token" {
		t.Errorf("TokenEndpoint = %q, %v, want it unchanged: it is not under the issuer's host", token.URL, err)
	}
}

// TestProviderTrouble: whatever is wrong, the error is in words of ours, the issuer is not
// asked again at once, and it is asked again soon.
//
// Covers: BC-15
func TestProviderTrouble(t *testing.T) {
	answer := func(status int, body string) func(h *host) http.HandlerFunc {
		return func(*host) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			}
		}
	}
	tests := []struct {
		name   string
		answer func(h *host) http.HandlerFunc
		want   string
	}{
		{"Status", answer(500, remoteMe), "status 500"},
		{"HTML", answer(200, "<html>"+remoteMe), "no metadata of an issuer"},
		{"Array", answer(200, `[{"issuer":"x"}]`), "no metadata of an issuer"},
		{"WithoutIssuer", answer(200, `{"error":"`+remoteMe+`"}`), "no metadata of an issuer"},
		{"RepeatedIssuer", answer(200, `{"issuer":"a","issuer":"b"}`), "no metadata of an issuer"},
		{"TooLarge", answer(200, `{"x":"`+strings.Repeat("x", 2000)+`"}`), "more than 1000 bytes"},
		{"Redirect", func(h *host) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, h.URL+"/elsewhere", http.StatusFound)
			}
		}, "a redirect, which is not followed"},
		{"NoAnswer", func(*host) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}, "closed before the answer was complete; check token.issuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t)
			trouble := tt.answer(h)
			h.at(rfc8414, trouble)
			h.at(openid, trouble)
			clk := newClock()
			i := newIssuer(t, discovery.Config{Issuer: h.URL, MaxBytes: 1000, Now: clk.Now})
			asked := 0
			for n := range 3 {
				_, err := i.IntrospectionEndpoint(t.Context())
				if !errors.Is(err, discovery.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "token.issuer") {
					t.Fatalf("got %v, want ErrUnavailable with %q and the setting", err, tt.want)
				}
				if strings.Contains(err.Error(), remoteMe) {
					t.Errorf("error quotes the remote side: %v", err)
				}
				if n == 0 {
					asked = len(h.questions())
				}
			}
			if got := len(h.questions()); got != asked {
				t.Errorf("asked %d times at once, want %d", got, asked)
			}
			if slices.Contains(h.questions(), "/elsewhere") {
				t.Error("a redirect was followed")
			}
			h.says(rfc8414, metadata(h.URL, h.URL))
			clk.advance(time.Second)
			if _, err := i.IntrospectionEndpoint(t.Context()); err != nil {
				t.Errorf("after the trouble: %v", err)
			}
		})
	}
}

// TestMetadataOutlivesAnOutage: it is refreshed behind the back of those who ask, goes on
// serving while the issuer is down, but not for ever, and changes when the issuer's does.
//
// Covers: AS-04
func TestMetadataOutlivesAnOutage(t *testing.T) {
	h := startHost(t)
	h.says(rfc8414, metadata(h.URL, h.URL+"/one"))
	clk, lines := newClock(), make(logLines, 10)
	i := newIssuer(t, discovery.Config{Issuer: h.URL, Now: clk.Now, Logger: lines.logger()})
	want := func(place string) {
		t.Helper()
		got, err := i.TokenEndpoint(t.Context())
		if err != nil || got.URL != h.URL+place+"/odd/token" {
			t.Fatalf("TokenEndpoint = %q, %v, want it below %q", got.URL, err, place)
		}
	}
	want("/one")
	clk.advance(10*time.Minute - time.Second)
	want("/one")
	if n := len(h.questions()); n != 1 {
		t.Errorf("asked %d times while fresh, want 1", n)
	}

	h.at(rfc8414, nil)
	clk.advance(time.Second)
	want("/one") // and asks in the background, which fails
	if line := <-lines; !strings.Contains(line, "refreshing issuer metadata failed") || !strings.Contains(line, "token.issuer") {
		t.Errorf("log line %q, want one that says so", line)
	}
	asked := len(h.questions())
	want("/one")
	if n := len(h.questions()); n != asked {
		t.Error("asked again at once after a failed refresh")
	}

	h.says(rfc8414, metadata(h.URL, h.URL+"/two"))
	clk.advance(30 * time.Second)
	want("/one")
	i.Wait()
	want("/two")
	i.Close() // what was found stays
	want("/two")

	clk.advance(24 * time.Hour)
	if _, err := i.TokenEndpoint(t.Context()); !errors.Is(err, discovery.ErrUnavailable) {
		t.Errorf("a day without the issuer: got %v, want ErrUnavailable", err)
	}
}

// A caller that leaves does not take the fetch with it, and all who wait share one.
func TestCallersShareOneFetch(t *testing.T) {
	h := startHost(t)
	entered, proceed := make(chan struct{}), make(chan struct{})
	h.at(rfc8414, func(w http.ResponseWriter, _ *http.Request) {
		close(entered) // panics if asked twice
		<-proceed
		_, _ = w.Write([]byte(`{"issuer":"` + h.URL + `","token_endpoint":"` + h.URL + `/t"}`))
	})
	i := newIssuer(t, discovery.Config{Issuer: h.URL})
	first, leave := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	callers.Go(func() {
		if _, err := i.TokenEndpoint(first); !errors.Is(err, context.Canceled) {
			t.Errorf("caller that left: got %v, want context.Canceled", err)
		}
	})
	<-entered
	leave()
	for range 8 {
		callers.Go(func() {
			if _, err := i.TokenEndpoint(t.Context()); err != nil {
				t.Errorf("caller that stayed: %v", err)
			}
		})
	}
	close(proceed)
	callers.Wait()
}

func TestConfigurationIsRefusedByName(t *testing.T) {
	tests := []struct {
		name string
		cfg  discovery.Config
		want string
	}{
		{"NoIssuer", discovery.Config{}, "token.issuer"},
		{"PlainHTTP", discovery.Config{Issuer: "http://idp.example"}, "token.issuer"},
		{"Query", discovery.Config{Issuer: "https://idp.example?x"}, "token.issuer"},
		{"Fragment", discovery.Config{Issuer: "https://idp.example#x"}, "token.issuer"},
		{"UnknownMethod", discovery.Config{Issuer: "https://idp.example", AuthMethod: "none"}, "introspection.auth_method"},
		{"InternalURLOverPlainHTTP", discovery.Config{Issuer: "https://idp.example", InternalURL: "http://keycloak:8080"}, "token.internal_url"},
		{"InternalURLWithPath", discovery.Config{Issuer: "https://idp.example", InternalURL: "https://keycloak:8443/auth"}, "token.internal_url"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := discovery.New(tt.cfg); err == nil || !strings.HasPrefix(err.Error(), tt.want+": ") {
				t.Errorf("New = %v, want an error that begins with %s", err, tt.want)
			}
		})
	}
	if _, err := discovery.New(discovery.Config{Issuer: "http://kc:8080/realms/x", InsecureHosts: []string{"kc:8080"}}); err != nil {
		t.Errorf("New with a named host: %v", err)
	}
}

// FuzzParseMetadata: nothing but metadata that names the issuer is believed.
func FuzzParseMetadata(f *testing.F) {
	const issuer = "https://idp.example"
	f.Add([]byte(`{"issuer":"https://idp.example","token_endpoint":"https://idp.example/t"}`))
	f.Add([]byte(`{"issuer":"https://idp.example","token_endpoint_auth_methods_supported":["x",1]}`))
	f.Add([]byte(`{"issuer":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := discovery.ParseMetadata(data, issuer); err == nil && !strings.Contains(strings.ReplaceAll(string(data), `\`, ""), "idp") && !strings.Contains(string(data), `\u`) {
			t.Errorf("%q was believed", data)
		}
	})
}
