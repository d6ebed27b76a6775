package doctor_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/kong-plugin/doctor"
	"phantomtoken/testenv/authserver"
)

// TestGoodStackIsWell visits the real plugin and a real authorization server, all the way:
// with a token, and with a client that is registered.
func TestGoodStackIsWell(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name string
		cfg  doctor.Config
	}{
		{"Http", doctor.Config{URL: w.url, Register: true, Token: w.token(authserver.Grant{Resource: w.url})}},
		{"TLS", doctor.Config{URL: w.secure, CAs: w.authority.pool}},
		{"WithoutToken", doctor.Config{URL: w.url}},
		{"OfAnotherOrigin", doctor.Config{URL: w.url, Origin: "https://claude.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.visit(t, tt.cfg)
			if r.ExitCode() != doctor.ExitWell {
				t.Errorf("exit code: got %d, want %d\n%s\n%s", r.ExitCode(), doctor.ExitWell, text(t, r), w.log)
			}
			for _, s := range r.Steps {
				if s.Result == doctor.Faulty {
					t.Errorf("step %d %s: got %+v, want no fault", s.Number, s.Name, s.Faults)
				}
			}
			if tt.cfg.Token != "" && r.Steps[len(r.Steps)-1].Result != doctor.OK {
				t.Errorf("last step: got %+v, want ok", r.Steps[len(r.Steps)-1])
			}
		})
	}
}

func answer(w http.ResponseWriter, status int, kind, body string, fields ...string) bool {
	w.Header().Set("Content-Type", kind)
	for i := 0; i+1 < len(fields); i += 2 {
		w.Header().Set(fields[i], fields[i+1])
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}

// at answers one path of the stack.
func at(path string, h func(w http.ResponseWriter, r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		h(w, r)
		return true
	}
}

// challenge changes the challenges of the gateway.
func challenge(change func(string) string) func(*spoiled) {
	return func(a *spoiled) {
		if v := a.header.Get("WWW-Authenticate"); v != "" {
			a.header.Set("WWW-Authenticate", change(v))
		}
	}
}

// plain changes the challenges to requests without a token only.
func plain(change func(string) string) func(*spoiled) {
	return challenge(func(s string) string {
		if strings.Contains(s, "error=") {
			return s
		}
		return change(s)
	})
}

func in(path, old, new string) func(*spoiled) {
	return func(a *spoiled) {
		if strings.HasPrefix(a.path, path) {
			*a.body = strings.ReplaceAll(*a.body, old, new)
		}
	}
}

const (
	resourceMetadata = "/.well-known/oauth-protected-resource"
	serverMetadata   = "/.well-known/oauth-authorization-server"
)

// forged is a JWT that nobody signed, for what the doctor reads in it.
func forged(t *testing.T, claims map[string]any) string {
	t.Helper()
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256"}`)) + "." + encode(b) + "." + encode([]byte("signature"))
}

// TestFindsPlantedFaults plants one fault at a time into a good stack. The doctor must name
// the rule and say what it saw, and must name no other rule.
//
// Covers: CH-21, CO-10, MCP-45, MCP-46
func TestFindsPlantedFaults(t *testing.T) {
	w := newWorld(t)
	host := strings.TrimSuffix(strings.TrimPrefix(w.url, "http://"), "/mcp")
	flapping := 0
	good := func() string { return w.token(authserver.Grant{Resource: w.url}) }
	tests := []struct {
		name  string
		plant fault
		cfg   doctor.Config
		certs *tls.Certificate
		rules []string // all that may be named
		want  string   // in what was seen
	}{
		{name: "OpenServer", rules: []string{"MCP-01", "MCP-15"}, want: "POST, GET, DELETE, HEAD: 200", plant: fault{
			gateway: at("/mcp", func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 200, "application/json", "{}", "Access-Control-Allow-Origin", "*", "Access-Control-Allow-Methods", "DELETE",
					"Access-Control-Allow-Headers", "authorization, content-type, mcp-protocol-version, mcp-session-id")
			})}},
		{name: "LoginPage", rules: []string{"MCP-01", "MCP-20", "CO-01"}, want: "302 to https://login.example.com/", plant: fault{
			gateway: at("/mcp", func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 302, "text/html", "", "Location", "https://login.example.com/")
			})}},
		{name: "NoRoute", rules: []string{"MCP-01", "MCP-20", "CO-01"}, want: "404 application/json", plant: fault{
			gateway: at("/mcp", func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 404, "application/json", `{"message":"no Route matched with those values"}`)
			})}},
		{name: "WAF", rules: []string{"CH-19", "MCP-20", "CO-01", "CO-09"}, want: "403 text/html", plant: fault{
			gateway: at("/mcp", func(w http.ResponseWriter, _ *http.Request) { answer(w, 403, "text/html", "blocked") })}},
		{name: "MethodRefusedBeforeAuthentication", rules: []string{"MCP-36"}, want: "GET, DELETE: 405", plant: fault{
			gateway: func(w http.ResponseWriter, r *http.Request) bool {
				return r.URL.Path == "/mcp" && (r.Method == "GET" || r.Method == "DELETE") && answer(w, 405, "application/json", "{}")
			}}},
		{name: "HeaderStrippedByProxy", rules: []string{"CH-01"}, want: "POST, GET, DELETE, HEAD: 401 without WWW-Authenticate", plant: fault{
			spoil: func(a *spoiled) { a.header.Del("WWW-Authenticate") }}},
		{name: "OwnPageFor401", rules: []string{"CH-17"}, want: "text/html", plant: fault{
			spoil: func(a *spoiled) {
				if *a.status == 401 && !strings.Contains(*a.body, "invalid_token") {
					a.header.Set("Content-Type", "text/html")
				}
			}}},
		{name: "CachedRefusal", rules: []string{"CH-17"}, want: "max-age=60", plant: fault{
			spoil: func(a *spoiled) {
				if *a.status == 401 {
					a.header.Set("Cache-Control", "public, max-age=60")
				}
			}}},
		{name: "SessionBeforeAuthentication", rules: []string{"MCP-41"}, want: "Mcp-Session-Id", plant: fault{
			spoil: func(a *spoiled) {
				if *a.status == 401 {
					a.header.Set("Mcp-Session-Id", "1")
				}
			}}},
		{name: "ChallengeWithRequestID", rules: []string{"CH-08", "CH-18"}, want: "req=", plant: fault{
			spoil: challenge(func(s string) string { flapping++; return fmt.Sprintf(`%s, req="%d"`, s, flapping) })}},
		{name: "LowerCaseScheme", rules: []string{"CH-04"}, want: "bearer", plant: fault{
			spoil: challenge(func(s string) string { return strings.Replace(s, "Bearer", "bearer", 1) })}},
		{name: "AnotherSchemeFirst", rules: []string{"CH-04"}, want: `"Basic" first`, plant: fault{
			spoil: challenge(func(s string) string { return `Basic realm="x", ` + s })}},
		{name: "EmptyScope", rules: []string{"CH-05"}, want: `scope=""`, plant: fault{
			spoil: plain(func(s string) string { return strings.Replace(s, `scope="stocks/read"`, `scope=""`, 1) })}},
		{name: "UnquotedURL", rules: []string{"CH-05"}, want: "without quotes", plant: fault{
			spoil: plain(func(s string) string { return strings.ReplaceAll(s, `"`, "") })}},
		{name: "EscapedQuote", rules: []string{"CH-06"}, want: "realm with a backslash", plant: fault{
			spoil: plain(func(s string) string { return s + `, realm="the \"best\""` })}},
		{name: "ErrorWithoutToken", rules: []string{"CH-11"}, want: `error="invalid_token"`, plant: fault{
			spoil: plain(func(s string) string { return s + `, error="invalid_token"` })}},
		{name: "RepeatedParameter", rules: []string{"CH-02"}, want: "scope twice", plant: fault{
			spoil: plain(func(s string) string { return s + `, scope="b"` })}},
		{name: "OfflineAccess", rules: []string{"MCP-10"}, want: "offline_access", plant: fault{
			spoil: plain(func(s string) string { return strings.Replace(s, `scope="`, `scope="offline_access `, 1) })}},
		{name: "SecondChallengeDiffers", rules: []string{"CH-09"}, want: "DPoP", plant: fault{
			spoil: plain(func(s string) string { return s + `, DPoP scope="other"` })}},
		{name: "RealmOnly", rules: []string{"MCP-02"}, want: "realm alone", plant: fault{
			spoil: plain(func(string) string { return `Bearer realm="api"` })}},
		{name: "WrongParameterName", rules: []string{"MCP-02"}, want: `resource="http`, plant: fault{
			spoil: plain(func(s string) string { return strings.Replace(s, "resource_metadata=", "resource=", 1) })}},
		{name: "InternalHostInChallenge", rules: []string{"CH-15"}, want: "http://kong.internal:8000", plant: fault{
			spoil: plain(func(s string) string { return strings.Replace(s, "http://"+host, "http://kong.internal:8000", 1) })}},

		{name: "HttpInMetadataBehindTLS", cfg: doctor.Config{URL: w.secure, CAs: w.authority.pool}, rules: []string{"CH-15"}, want: "resource http://", plant: fault{
			spoil: func(a *spoiled) {
				a.replace(strings.TrimSuffix(w.secure, "/mcp"), "http"+strings.TrimSuffix(strings.TrimPrefix(w.secure, "https"), "/mcp"))
			}}},
		{name: "ExpiredCertificate", cfg: doctor.Config{URL: w.secure, CAs: w.authority.pool}, rules: []string{"PR-20"}, want: "expired on", certs: func() *tls.Certificate {
			c := certificateFor("127.0.0.1")
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
			return w.authority.issue(t, c)
		}()},
		{name: "CertificateOfAnotherName", cfg: doctor.Config{URL: w.secure, CAs: w.authority.pool}, rules: []string{"PR-20"}, want: "other.example", certs: w.authority.issue(t, certificateFor("other.example"))},
		{name: "UnknownAuthority", cfg: doctor.Config{URL: w.secure, CAs: w.authority.pool}, rules: []string{"PR-20"}, want: "not known here", certs: newAuthority(t).issue(t, certificateFor("127.0.0.1"))},

		{name: "RedirectedMetadata", rules: []string{"PR-05"}, want: "302 to https://www.example.com/", plant: fault{
			gateway: func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, resourceMetadata) && !strings.HasSuffix(r.URL.Path, "/no-such-resource") && r.Method == "GET" &&
					answer(w, 302, "text/html", "", "Location", "https://www.example.com/")
			}}},
		{name: "MetadataBehindAuthentication", rules: []string{"PR-05", "CO-01"}, want: "401", plant: fault{
			gateway: at(resourceMetadata+"/mcp", func(w http.ResponseWriter, _ *http.Request) { answer(w, 401, "application/json", "{}") })}},
		{name: "MetadataMissing", rules: []string{"MCP-03", "CO-01"}, want: "404", plant: fault{
			gateway: at(resourceMetadata+"/mcp", func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "application/json", "{}") })}},
		{name: "PageInsteadOfMetadata", rules: []string{"PR-05"}, want: "200 text/html", plant: fault{
			gateway: func(w http.ResponseWriter, r *http.Request) bool {
				return r.URL.Path == resourceMetadata+"/mcp" && r.Method == "GET" && answer(w, 200, "text/html", "<html>")
			}}},
		{name: "RootMissing", rules: []string{"MCP-04"}, want: "404", plant: fault{
			gateway: at(resourceMetadata, func(w http.ResponseWriter, _ *http.Request) { answer(w, 404, "application/json", "{}") })}},
		{name: "ResourceWithSlash", rules: []string{"PR-04"}, want: "last slash", plant: fault{
			spoil: in(resourceMetadata, `/mcp"`, `/mcp/"`)}},
		{name: "ResourceIsOrigin", rules: []string{"MCP-04"}, want: "resource http://", plant: fault{
			spoil: in(resourceMetadata, `/mcp"`, `"`)}},
		{name: "NoAuthorizationServer", rules: []string{"MCP-06"}, want: "no authorization_servers", plant: fault{
			spoil: in(resourceMetadata, `"authorization_servers"`, `"authorization"`)}},
		{name: "NullInMetadata", rules: []string{"PR-06"}, want: "resource_name", plant: fault{
			spoil: in(resourceMetadata, `{"resource"`, `{"resource_name":null,"resource"`)}},
		{name: "PageForEveryPath", rules: []string{"MCP-24"}, want: "/no-such-resource", plant: fault{
			gateway: func(w http.ResponseWriter, r *http.Request) bool {
				known := r.URL.Path == "/mcp" || strings.TrimSuffix(r.URL.Path, "/") == resourceMetadata || strings.HasPrefix(r.URL.Path, resourceMetadata+"/mcp")
				return !known && answer(w, 200, "text/html", "<html>")
			}}},
		{name: "DefaultMetadataForEveryResource", rules: []string{"MCP-05"}, want: "200 application/json", plant: fault{
			gateway: at(resourceMetadata+"/no-such-resource", func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 200, "application/json", "{}")
			})}},
		{name: "GatewayPosesAsServer", rules: []string{"MCP-23"}, want: "https://idp.example.com", plant: fault{
			gateway: at(serverMetadata, func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 200, "application/json", `{"issuer":"https://idp.example.com"}`)
			})}},

		{name: "PreflightNeedsToken", rules: []string{"CO-01"}, want: "preflight of POST", plant: fault{
			gateway: func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == "OPTIONS" && r.URL.Path == "/mcp" && answer(w, 401, "application/json", "{}")
			}}},
		{name: "ChallengeNotExposed", rules: []string{"CO-05"}, want: "Access-Control-Expose-Headers", plant: fault{
			spoil: func(a *spoiled) { a.header.Del("Access-Control-Expose-Headers") }}},
		{name: "AuthorizationNotAllowed", rules: []string{"CO-04"}, want: `"*"`, plant: fault{
			spoil: func(a *spoiled) {
				if a.method == "OPTIONS" {
					a.header.Set("Access-Control-Allow-Headers", "*")
				}
			}}},
		{name: "WildcardWithCredentials", rules: []string{"CO-07"}, want: "credentials", plant: fault{
			spoil: func(a *spoiled) { a.header.Set("Access-Control-Allow-Credentials", "true") }}},
		{name: "TwoPluginsSetOrigin", rules: []string{"CO-06"}, want: "2 fields", plant: fault{
			spoil: func(a *spoiled) {
				if a.path == "/mcp" {
					a.header.Add("Access-Control-Allow-Origin", "*")
				}
			}}},
		{name: "RefusalWithoutOrigin", rules: []string{"CO-06"}, want: "401 with Access-Control-Allow-Origin", plant: fault{
			spoil: func(a *spoiled) {
				if *a.status == 401 {
					a.header.Del("Access-Control-Allow-Origin")
				}
			}}},
		{name: "OriginNotTrusted", rules: []string{"CO-09", "CO-01"}, want: "403", plant: fault{
			config: []string{"scope: stocks/read", "scope: stocks/read\n      trusted_web_origins: [https://app.example.com]"}}},

		{name: "WrongIssuer", rules: []string{"MCP-07"}, want: "says issuer", plant: fault{
			spoilServer: func(a *spoiled) {
				if strings.HasPrefix(a.path, "/.well-known/") {
					*a.body = strings.Replace(*a.body, `","authorization_endpoint"`, `/","authorization_endpoint"`, 1)
				}
			}}},
		{name: "ServerMetadataUnreachable", rules: []string{"AS-01"}, want: "502", plant: fault{
			server: func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, "/.well-known/") && answer(w, 502, "text/html", "bad gateway")
			}}},
		{name: "NoS256", rules: []string{"MCP-46"}, want: `["plain"]`, plant: fault{
			spoilServer: in("/.well-known/", `["S256"]`, `["plain"]`)}},
		{name: "NoRegistration", rules: []string{"MCP-45"}, want: "neither registration_endpoint", plant: fault{
			spoilServer: func(a *spoiled) {
				a.replace(`"registration_endpoint"`, `"x"`)
				a.replace(`"client_id_metadata_document_supported":true`, `"y":true`)
			}}},
		{name: "RegistrationNeedsToken", cfg: doctor.Config{Register: true}, rules: []string{"MCP-45"}, want: "401", plant: fault{
			server: at("/register", func(w http.ResponseWriter, _ *http.Request) { answer(w, 401, "application/json", "{}") })}},
		{name: "ServerClosedToWebPages", rules: []string{"CO-10"}, want: "metadata of", plant: fault{
			spoilServer: func(a *spoiled) {
				if strings.HasPrefix(a.path, "/.well-known/") {
					a.header.Del("Access-Control-Allow-Origin")
				}
			}}},
		{name: "ClockSkew", rules: []string{"IN-10"}, want: "fast", plant: fault{
			spoil: func(a *spoiled) {
				a.header.Set("Date", time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat))
			}}},

		{name: "WrongSecretOfGateway", rules: []string{"IN-08"}, want: "503", plant: fault{config: []string{"SECRET", "another secret"}}},
		{name: "WrongSecretOfGatewayWithToken", cfg: doctor.Config{Token: good()}, rules: []string{"IN-08"}, want: "503", plant: fault{config: []string{"SECRET", "another secret"}}},
		{name: "MissingAudience", cfg: doctor.Config{Token: w.token(authserver.Grant{})}, rules: []string{"MCP-20"}, want: "401"},
		{name: "MissingAudienceInReadableToken", cfg: doctor.Config{Token: forged(t, map[string]any{"sub": "john"})}, rules: []string{"MCP-15"}, want: "the token has no aud"},
		{name: "AnotherAudience", cfg: doctor.Config{Token: forged(t, map[string]any{"aud": "https://other.example"})}, rules: []string{"MCP-15"}, want: "https://other.example"},
		{name: "AnotherIssuer", cfg: doctor.Config{Token: forged(t, map[string]any{"aud": []string{w.url}, "iss": "https://evil.example"})}, rules: []string{"MCP-53"}, want: "https://evil.example"},
		{name: "ExpiredToken", cfg: doctor.Config{Token: forged(t, map[string]any{"aud": w.url, "exp": 1_700_000_000})}, rules: []string{"MCP-20"}, want: "expired at 2023-11-14"},
		{name: "TooFewScopes", cfg: doctor.Config{Token: w.token(authserver.Grant{Resource: w.url, Scope: "stocks/trade"})}, rules: []string{"MCP-11"}, want: "403"},
		{name: "ClientWithoutUser", cfg: doctor.Config{Token: w.token(authserver.Grant{Resource: w.url, NoUser: true})}, rules: []string{"CH-19"}, want: "403"},
		{name: "BrokenUpstream", cfg: doctor.Config{Token: good()}, rules: []string{"MCP-35"}, want: "502", plant: fault{config: []string{"url: UPSTREAM", "url: http://127.0.0.1:1"}}},
		{name: "BrokenConfiguration", rules: []string{"MCP-35", "CO-01", "MCP-03", "MCP-04", "MCP-24"}, want: "500", plant: fault{config: []string{"signing_key_file: KEY", "signing_key_file: /nowhere"}}},
	}
	whole := w.certificate.Load()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.plant(t, tt.plant)
			w.certificate.Store(whole)
			if tt.certs != nil {
				w.certificate.Store(tt.certs)
			}
			r := w.visit(t, tt.cfg)
			var rules []string
			var seen strings.Builder
			for _, s := range r.Steps {
				for _, f := range s.Faults {
					rules = append(rules, f.Rule)
					seen.WriteString(f.Seen + "\n")
					if f.Seen == "" || f.Expected == "" || f.Change == "" {
						t.Errorf("fault says too little: %+v", f)
					}
				}
			}
			slices.Sort(rules)
			slices.Sort(tt.rules)
			if rules = slices.Compact(rules); !slices.Equal(rules, tt.rules) || !strings.Contains(seen.String(), tt.want) {
				t.Errorf("rules: got %q, want %q with %q in what was seen\n%s", rules, tt.rules, tt.want, text(t, r))
			}
			if r.ExitCode() != doctor.ExitFaults {
				t.Errorf("exit code: got %d, want %d", r.ExitCode(), doctor.ExitFaults)
			}
			if tt.cfg.Token != "" {
				var b bytes.Buffer
				if err := r.WriteJSON(&b); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(b.String()+text(t, r), tt.cfg.Token) {
					t.Error("the report holds the token")
				}
			}
		})
	}
}

// TestSendsTokenOnlyOverGoodConnections: a certificate that is not accepted gets none.
func TestSendsTokenOnlyOverGoodConnections(t *testing.T) {
	w := newWorld(t)
	w.certificate.Store(w.authority.issue(t, certificateFor("other.example")))
	got := false
	token := w.token(authserver.Grant{Resource: w.secure})
	w.plant(t, fault{gateway: func(_ http.ResponseWriter, r *http.Request) bool {
		got = got || strings.Contains(r.Header.Get("Authorization"), token)
		return false
	}})
	r := w.visit(t, doctor.Config{URL: w.secure, CAs: w.authority.pool, Token: token})
	if got {
		t.Error("the token was sent")
	}
	if last := r.Steps[len(r.Steps)-1]; last.Result != doctor.Skipped {
		t.Errorf("last step: got %+v, want it skipped", last)
	}
}

// TestHidesTokenThatServerRepeats: a server that quotes the token does not bring it into
// the report.
func TestHidesTokenThatServerRepeats(t *testing.T) {
	w := newWorld(t)
	token := w.token(authserver.Grant{Resource: w.url})
	w.plant(t, fault{gateway: func(rw http.ResponseWriter, r *http.Request) bool {
		return r.Header.Get("Authorization") == "Bearer "+token &&
			answer(rw, 403, "application/json", `{"error":"access_denied","error_description":"`+token+` \u001b[31m is not welcome"}`)
	}})
	r := w.visit(t, doctor.Config{Token: token})
	if got := text(t, r); strings.Contains(got, token) || strings.Contains(got, "\x1b") || !strings.Contains(got, "[token]") {
		t.Errorf("got %s, want [token] in place of the token and no control characters", got)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, url, want string }{
		{"NothingListens", "http://" + closed + "/mcp", "no connection to"},
		{"NoSuchName", "https://no-such-host.invalid/mcp", "no address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := doctor.Run(t.Context(), doctor.Config{URL: tt.url})
			if err != nil {
				t.Fatal(err)
			}
			if r.ExitCode() != doctor.ExitUnreachable || !strings.Contains(text(t, r), tt.want) {
				t.Errorf("got exit code %d, want %d, with %q in\n%s", r.ExitCode(), doctor.ExitUnreachable, tt.want, text(t, r))
			}
		})
	}
}

// TestEndsInTime: a server that says nothing, and one that never ends, hold nobody up.
func TestEndsInTime(t *testing.T) {
	w := newWorld(t)
	// A handler learns of the client's leaving only when the body is read.
	left := func(r *http.Request) <-chan struct{} {
		_, _ = io.Copy(io.Discard, r.Body)
		return r.Context().Done()
	}
	for _, tt := range []struct {
		name string
		h    func(http.ResponseWriter, *http.Request)
	}{
		{"Silent", func(_ http.ResponseWriter, r *http.Request) { <-left(r) }},
		{"EndlessEvents", func(w http.ResponseWriter, r *http.Request) {
			gone := left(r)
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-gone
		}},
		{"EndlessBody", func(w http.ResponseWriter, r *http.Request) {
			left(r)
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.plant(t, fault{gateway: at("/mcp", tt.h)})
			if r := w.visit(t, doctor.Config{Timeout: 60 * time.Millisecond}); r.ExitCode() != doctor.ExitFaults {
				t.Errorf("exit code: got %d, want %d\n%s", r.ExitCode(), doctor.ExitFaults, text(t, r))
			}
		})
	}
}

// TestRemovesWhatItRegistered: a server that offers RFC 7592 is left as it was; the token
// for that goes to no other host.
func TestRemovesWhatItRegistered(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, place string
		removed     bool
	}{
		{"SameHost", "/register/1", true},
		{"AnotherHost", "http://127.0.0.1:1/register/1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			removed := false
			w.plant(t, fault{server: func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.URL.Path == "/register" && r.Method == "POST":
					place := tt.place
					if strings.HasPrefix(place, "/") {
						place = "http://" + r.Host + place
					}
					return answer(rw, 201, "application/json", `{"client_id":"c1","registration_client_uri":"`+place+`","registration_access_token":"removal"}`)
				case r.URL.Path == "/register/1" && r.Method == "DELETE":
					removed = r.Header.Get("Authorization") == "Bearer removal"
					rw.WriteHeader(http.StatusNoContent)
					return true
				}
				return false
			}})
			r := w.visit(t, doctor.Config{Register: true})
			if r.ExitCode() != doctor.ExitWell || removed != tt.removed || strings.Contains(text(t, r), "removal") {
				t.Errorf("got exit code %d, removed %t, want 0 and %t\n%s", r.ExitCode(), removed, tt.removed, text(t, r))
			}
		})
	}
}

func TestRefusesConfiguration(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  doctor.Config
		want string
	}{
		{"NoURL", doctor.Config{}, "url:"},
		{"URLWithPassword", doctor.Config{URL: "https://a:secret@gw.example.com/mcp"}, "url:"},
		{"URLWithFragment", doctor.Config{URL: "https://gw.example.com/mcp#x"}, "fragment"},
		{"TokenWithScheme", doctor.Config{URL: "https://gw.example.com/mcp", Token: "Bearer abc"}, "token:"},
		{"Origin", doctor.Config{URL: "https://gw.example.com/mcp", Origin: "example.com"}, "origin:"},
		{"Timeout", doctor.Config{URL: "https://gw.example.com/mcp", Timeout: -1}, "timeout:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := doctor.Run(t.Context(), tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "abc") {
				t.Errorf("got %v, want an error with %q and without secrets", err, tt.want)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the example of the README anew")

// TestReadmeShowsWhatDoctorSays keeps the example of the README true. Write it anew with:
// go test ./kong-plugin/doctor -run TestReadmeShowsWhatDoctorSays -update
func TestReadmeShowsWhatDoctorSays(t *testing.T) {
	w := newWorld(t)
	w.plant(t, fault{spoil: func(a *spoiled) { a.header.Del("WWW-Authenticate") }})
	r := w.visit(t, doctor.Config{URL: w.secure, CAs: w.authority.pool})
	got := strings.NewReplacer(
		strings.TrimSuffix(strings.TrimPrefix(w.secure, "https://"), "/mcp")+",", "203.0.113.7:443,",
		strings.TrimSuffix(w.secure, "/mcp"), "https://gw.example.com",
		w.idp.Issuer(), "https://idp.example.com",
	).Replace(text(t, r))

	const file = "../../README.md"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(doc), "```text doctor\n")
	want, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("README.md has no block \"text doctor\"")
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+"```text doctor\n"+got+"```\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("README.md, block \"text doctor\": got\n%swant\n%s(run the test with -update if that is meant)", got, want)
	}
}

// TestRulesAreInTheDocuments: whoever reads a rule's id in a report finds it.
func TestRulesAreInTheDocuments(t *testing.T) {
	doc, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`[("]([A-Z]{2,3}-\d{2})[")]`)
	n := 0
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range rule.FindAllStringSubmatch(string(source), -1) {
			n++
			if !strings.Contains(string(doc), "| "+m[1]+" |") {
				t.Errorf("%s names %s, which docs/conformance.md does not have", name, m[1])
			}
		}
	}
	if n == 0 {
		t.Error("no rules found in the code")
	}
}
