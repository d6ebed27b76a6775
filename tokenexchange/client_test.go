package tokenexchange_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/tokenexchange"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// newClient is a client of handler, served on loopback, at a stopped clock.
func newClient(t testing.TB, handler http.HandlerFunc, change func(*tokenexchange.Config)) *tokenexchange.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	cfg := tokenexchange.Config{
		Endpoint:     server.URL + "/token",
		ClientID:     "mcp-server",
		ClientSecret: "MARKED-CLIENT-SECRET",
		Now:          func() time.Time { return now },
	}
	if change != nil {
		change(&cfg)
	}
	client, err := tokenexchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// answer is a token endpoint that always says the same.
func answer(status int, contentType, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// jwt is the compact form of a token with these claims; nobody checks its signature here.
func jwt(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte("MARKED-SIGNATURE"))
}

func encode(part string) string { return base64.RawURLEncoding.EncodeToString([]byte(part)) }

// manyScopes is a scope value with which comparing each token with each would take minutes.
func manyScopes() string {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "%05d ", i)
	}
	return b.String()
}

func success(token, rest string) string {
	return fmt.Sprintf(`{"access_token":%q,"issued_token_type":%q,"token_type":"Bearer"%s}`, token, accessTokenType, rest)
}

// TestExchangeOnTheWire looks at what a token endpoint receives.
//
// Covers: TX-01, TX-02, TX-06, TX-07, RI-04
func TestExchangeOnTheWire(t *testing.T) {
	const id, secret = "mcp server:1", "s+e%c:ret&é"
	for _, tc := range []struct {
		method    tokenexchange.AuthMethod
		wantBasic bool
		wantForm  url.Values
	}{
		{method: "", wantBasic: true},
		{method: tokenexchange.AuthBasic, wantBasic: true},
		{method: tokenexchange.AuthPost, wantForm: url.Values{"client_id": {id}, "client_secret": {secret}}},
	} {
		t.Run("method "+string(tc.method), func(t *testing.T) {
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				form, err := url.ParseQuery(string(body))
				if err != nil {
					t.Errorf("body: %v", err)
				}
				want := url.Values{
					"grant_type": {grantType}, "subject_token": {"opaque+/="}, "subject_token_type": {accessTokenType},
					"requested_token_type": {accessTokenType}, "audience": {"a", "b"}, "resource": {"https://API.example.com/x/"}, "scope": {"x y"},
				}
				for name, values := range tc.wantForm {
					want[name] = values
				}
				if !reflect.DeepEqual(form, want) {
					t.Errorf("form: got  %v\nwant %v", form, want)
				}
				gotID, gotSecret, basic := r.BasicAuth()
				if basic != tc.wantBasic {
					t.Errorf("basic authentication: got %t, want %t", basic, tc.wantBasic)
				}
				if basic && (gotID != "mcp+server%3A1" || gotSecret != "s%2Be%25c%3Aret%26%C3%A9") {
					t.Errorf("basic credentials: got %q %q, want them form-encoded", gotID, gotSecret)
				}
				if r.Method != "POST" || r.URL.RequestURI() != "/token" {
					t.Errorf("got %s %s, want POST /token", r.Method, r.URL.RequestURI())
				}
				for name, want := range map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}
				answer(200, "application/json;charset=UTF-8", success("issued", `,"expires_in":60`))(w, r)
			}, func(c *tokenexchange.Config) { c.ClientID, c.ClientSecret, c.AuthMethod = id, secret, tc.method })
			got, err := client.Exchange(t.Context(), tokenexchange.Request{
				SubjectToken: "opaque+/=", Audience: []string{"a", "b"}, Resource: []string{"https://API.example.com/x/"}, Scope: []string{"x", "y"},
			})
			want := &tokenexchange.Response{AccessToken: "issued", IssuedTokenType: accessTokenType, TokenType: "Bearer", ExpiresIn: time.Minute, Scope: []string{"x", "y"}}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, error %v, want %v", got, err, want)
			}
		})
	}
}

// TestExchangeAnswers checks what is accepted and what it means.
//
// Covers: TX-08, TX-10, TX-11, TX-12
func TestExchangeAnswers(t *testing.T) {
	const api = "https://api.example"
	exp := func(in time.Duration) int64 { return now.Add(in).Unix() }
	good := fmt.Sprintf(`{"aud":%q,"sub":"john","exp":%d}`, api, exp(5*time.Minute))
	ask := tokenexchange.Request{SubjectToken: jwt(`{"sub":"john"}`), Audience: []string{api}, Scope: []string{"a", "b"}}
	asking := func(change func(*tokenexchange.Request)) tokenexchange.Request {
		r := ask
		change(&r)
		return r
	}
	typed := func(issued, tokenType string) string {
		return fmt.Sprintf(`{"access_token":"t","issued_token_type":%q,"token_type":%q}`, issued, tokenType)
	}
	for _, tc := range []struct {
		name        string
		request     tokenexchange.Request
		contentType string
		body        string
		wantErr     string // empty: accepted
		wantExpires time.Duration
		wantScope   []string
	}{
		{name: "opaque", request: ask, body: success("opaque", ""), wantScope: []string{"a", "b"}},
		{name: "reply narrows the scope", request: ask, body: success("opaque", `,"scope":"a"`), wantScope: []string{"a"}},
		{name: "reply has no scope at all", request: ask, body: success("opaque", `,"scope":""`), wantScope: []string{}},
		{name: "nobody spoke of scope", request: asking(func(r *tokenexchange.Request) { r.Scope = nil }), body: success("opaque", "")},
		{name: "JWT for the target", request: ask, body: success(jwt(good), ""), wantScope: ask.Scope, wantExpires: 5 * time.Minute},
		{name: "exp comes before expires_in", request: ask, body: success(jwt(good), `,"expires_in":3600`), wantScope: ask.Scope, wantExpires: 5 * time.Minute},
		{name: "expires_in comes before exp", request: ask, body: success(jwt(good), `,"expires_in":60`), wantScope: ask.Scope, wantExpires: time.Minute},
		{name: "JWT for the target and another", request: ask, body: success(jwt(`{"aud":["x","https://api.example"],"sub":"john"}`), ""), wantScope: ask.Scope},
		{name: "JWT for the resource", request: asking(func(r *tokenexchange.Request) { r.Audience, r.Resource = nil, []string{api} }),
			body: success(jwt(good), ""), wantScope: ask.Scope, wantExpires: 5 * time.Minute},
		{name: "name and URI of one target", request: asking(func(r *tokenexchange.Request) { r.Resource = []string{"https://api.example/v1"} }),
			body: success(jwt(good), ""), wantScope: ask.Scope, wantExpires: 5 * time.Minute},
		{name: "no target asked for", request: tokenexchange.Request{SubjectToken: "opaque"}, body: success(jwt(`{"aud":"x"}`), "")},
		{name: "subject without sub", request: asking(func(r *tokenexchange.Request) { r.SubjectToken = jwt(`{}`) }),
			body: success(jwt(good), ""), wantScope: ask.Scope, wantExpires: 5 * time.Minute},
		{name: "called a JWT", request: ask, body: typed("urn:ietf:params:oauth:token-type:jwt", "Bearer"), wantScope: ask.Scope},
		{name: "token type in lower case", request: ask, body: typed(accessTokenType, "bearer"), wantScope: ask.Scope},
		{name: "ID token asked for and given", request: asking(func(r *tokenexchange.Request) { r.RequestedTokenType = tokenexchange.TokenTypeIDToken }),
			body: typed("urn:ietf:params:oauth:token-type:id_token", "N_A"), wantScope: ask.Scope},

		{name: "ID token not asked for", request: ask, body: typed("urn:ietf:params:oauth:token-type:id_token", "N_A"), wantErr: `"issued_token_type"`},
		{name: "access token instead of an ID token", request: asking(func(r *tokenexchange.Request) { r.RequestedTokenType = tokenexchange.TokenTypeIDToken }),
			body: typed(accessTokenType, "Bearer"), wantErr: `"issued_token_type"`},
		{name: "access token that is none", request: ask, body: typed(accessTokenType, "N_A"), wantErr: `"token_type"`},
		{name: "DPoP", request: ask, body: typed(accessTokenType, "DPoP"), wantErr: `"token_type"`},
		{name: "RejectsTokenForOtherAudience", request: ask, body: success(jwt(`{"aud":["https://api.example.evil","x"]}`), ""), wantErr: `name audience "https://api.example"`},
		{name: "RejectsTokenWithoutAudience", request: ask, body: success(jwt(`{"sub":"john"}`), ""), wantErr: `name audience`},
		{name: "RejectsTokenForOneTargetOfTwo", request: asking(func(r *tokenexchange.Request) { r.Audience = []string{api, "second"} }),
			body: success(jwt(good), ""), wantErr: `name audience "second"`},
		{name: "RejectsTokenOfOtherUser", request: ask, body: success(jwt(`{"aud":"https://api.example","sub":"jane"}`), ""), wantErr: "sub of the issued token"},
		{name: "RejectsTokenWithoutUserForThatOfAUser", request: ask, body: success(jwt(`{"aud":"https://api.example"}`), ""), wantErr: "sub of the issued token"},
		{name: "RejectsClaimsInOtherCase", request: ask, body: success(jwt(`{"sub":"victim","aud":"https://other","exp":1,"Sub":"john","AUD":"https://api.example","Exp":99999999999}`), ""), wantErr: "in this case only"},
		{name: "RejectsSecondSubjectInOtherCase", request: ask, body: success(jwt(`{"sub":"john","aud":"https://api.example","Sub":"victim"}`), ""), wantErr: `"sub" in this case only`},
		{name: "RejectsRepeatedAudience", request: ask, body: success(jwt(`{"aud":"https://other","aud":"https://api.example","sub":"john"}`), ""), wantErr: "twice"},
		{name: "RejectsPaddedHeader", request: ask, body: success(encode(`{"alg":"ES256"}`)+"=."+encode(`{"aud":"https://other","sub":"v"}`)+".c2ln", ""), wantErr: "without padding"},
		{name: "RejectsPaddedHeaderThatBeginsWithASpace", request: ask, body: success(encode(` {"alg":"ES256"}`)+"=."+encode(`{"aud":"https://other","sub":"v"}`)+".c2ln", ""), wantErr: "without padding"},
		{name: "RejectsPaddedClaims", request: ask, body: success(encode(`{"alg":"ES256"}`)+"."+encode(`{"aud":"https://other","sub":"v"}`)+"=.c2ln", ""), wantErr: "without padding"},
		{name: "RejectsHeaderWithAlgorithmTwice", request: ask, body: success(encode(`{"alg":"ES256","alg":"none"}`)+"."+encode(good)+".c2ln", ""), wantErr: "one JSON object"},
		{name: "RejectsAlgNone", request: ask, body: success(encode(`{"alg":"none"}`)+"."+encode(good)+".", ""), wantErr: "expected a signed JWT"},
		{name: "RejectsAlgNoneInOtherCase", request: ask, body: success(encode(`{"alg":"NonE"}`)+"."+encode(good)+".c2ln", ""), wantErr: "expected a signed JWT"},
		{name: "RejectsHeaderWithoutAlgorithm", request: ask, body: success(encode(`{"Alg":"ES256"}`)+"."+encode(good)+".c2ln", ""), wantErr: "expected a signed JWT"},
		{name: "RejectsMissingSignature", request: ask, body: success(encode(`{"alg":"ES256"}`)+"."+encode(good)+".", ""), wantErr: "expected a signed JWT"},
		{name: "opaque with two dots", request: ask, body: success("opaque.to.ken", ""), wantScope: ask.Scope},
		{name: "RejectsScopeBeyondTheRequest", request: ask, body: success("opaque", `,"scope":"a admin"`), wantErr: "more"},
		{name: "scope of the service's choice", request: asking(func(r *tokenexchange.Request) { r.Scope = nil }), body: success("opaque", `,"scope":"a admin"`), wantScope: []string{"a", "admin"}},
		{name: "RejectsThousandsOfScopes", request: ask, body: success("opaque", `,"scope":"`+manyScopes()+`"`), wantErr: "at most 1000"},
		{name: "RejectsExpiredToken", request: ask, body: success(jwt(fmt.Sprintf(`{"aud":%q,"sub":"john","exp":%d}`, api, exp(-time.Minute))), ""), wantErr: "expired 1m0s ago"},
		{name: "RejectsOddAudienceInsteadOfTakingItForOpaque", request: ask, body: success(jwt(`{"aud":5}`), ""), wantErr: "expected claims"},
		{name: "RejectsOddExpiry", request: ask, body: success(jwt(`{"aud":"https://api.example","exp":1e300}`), ""), wantErr: `"exp"`},
		{name: "no token", request: ask, body: `{"issued_token_type":"x","token_type":"Bearer"}`, wantErr: `"access_token"`},
		{name: "HTML", request: ask, contentType: "text/html", body: "<html>", wantErr: "Content-Type"},
		{name: "no media type", request: ask, contentType: ";", body: success("t", ""), wantErr: "Content-Type"},
		{name: "not JSON", request: ask, body: "MARKED", wantErr: "one JSON object"},
		{name: "empty", request: ask, body: "", wantErr: "one JSON object"},
		{name: "5 MB", request: ask, body: success(strings.Repeat("x", 5<<20), ""), wantErr: "more than 1048576 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			contentType := tc.contentType
			if contentType == "" {
				contentType = "application/json"
			}
			client := newClient(t, answer(200, contentType, tc.body), nil)
			got, err := client.Exchange(t.Context(), tc.request)
			if tc.wantErr != "" {
				if got != nil || !errors.Is(err, tokenexchange.ErrUnacceptable) || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("got %v, error %v\nwant ErrUnacceptable with %q", got, err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatalf("got error %v", err)
			}
			if got.ExpiresIn != tc.wantExpires || !reflect.DeepEqual(got.Scope, tc.wantScope) {
				t.Errorf("got expires in %s, scope %#v, want %s, %#v", got.ExpiresIn, got.Scope, tc.wantExpires, tc.wantScope)
			}
		})
	}
}

func TestExchangeRefusals(t *testing.T) {
	for _, tc := range []struct {
		name            string
		handler         http.HandlerFunc
		want            tokenexchange.Error
		wantUnavailable bool
	}{
		{name: "invalid_target", handler: answer(400, "application/json", `{"error":"invalid_target","error_description":"unknown audience"}`),
			want: tokenexchange.Error{Code: "invalid_target", Description: "unknown audience", Status: 400}},
		{name: "invalid_client", handler: answer(401, "application/json", `{"error":"invalid_client"}`, "WWW-Authenticate", "Basic"),
			want: tokenexchange.Error{Code: "invalid_client", Status: 401}},
		{name: "try later", handler: answer(503, "application/json", `{"error":"temporarily_unavailable"}`, "Retry-After", "7"),
			want: tokenexchange.Error{Code: "temporarily_unavailable", Status: 503, RetryAfter: 7 * time.Second}, wantUnavailable: true},
		{name: "try at a time", handler: answer(429, "text/plain", "slow down", "Retry-After", now.Add(90*time.Second).Format(http.TimeFormat)),
			want: tokenexchange.Error{Status: 429, RetryAfter: 90 * time.Second}, wantUnavailable: true},
		{name: "try in a century", handler: answer(429, "text/plain", "slow down", "Retry-After", "3153600000"),
			want: tokenexchange.Error{Status: 429, RetryAfter: 24 * time.Hour}, wantUnavailable: true},
		{name: "try in the past", handler: answer(429, "text/plain", "slow down", "Retry-After", "-5"),
			want: tokenexchange.Error{Status: 429}, wantUnavailable: true},
		{name: "proxy page", handler: answer(502, "text/html", "<html>bad gateway</html>"),
			want: tokenexchange.Error{Status: 502}, wantUnavailable: true},
		{name: "JSON of another kind", handler: answer(500, "application/json", `{"message":"oops"}`),
			want: tokenexchange.Error{Status: 500}},
		{name: "error called HTML", handler: answer(400, "text/html", `{"error":"invalid_target"}`),
			want: tokenexchange.Error{Status: 400}},
		{name: "description quotes the token", handler: echo("the token %s is bad"),
			want: tokenexchange.Error{Code: "invalid_request", Description: "(withheld: it quotes a token or the secret)", Status: 400}},
		{name: "description quotes a piece of the token", handler: echo("the token %.14s is bad"),
			want: tokenexchange.Error{Code: "invalid_request", Description: "(withheld: it quotes a token or the secret)", Status: 400}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newClient(t, tc.handler, nil)
			got, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "MARKED-SUBJECT-TOKEN", Audience: []string{"a"}})
			var e *tokenexchange.Error
			if got != nil || !errors.As(err, &e) {
				t.Fatalf("got %v, error %v, want an *Error", got, err)
			}
			if *e != tc.want {
				t.Errorf("got  %+v\nwant %+v", *e, tc.want)
			}
			if got := errors.Is(err, tokenexchange.ErrUnavailable); got != tc.wantUnavailable {
				t.Errorf("unavailable: got %t, want %t", got, tc.wantUnavailable)
			}
		})
	}
}

// echo refuses with a description made of the subject token.
func echo(format string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := json.Marshal(map[string]string{
			"error":             "invalid_request",
			"error_description": fmt.Sprintf(format, r.PostFormValue("subject_token")),
			"error_uri":         "https://x.example/?" + r.PostFormValue("subject_token"),
		})
		answer(400, "application/json", string(body))(w, r)
	}
}

// TestExchangeNeverRedirects proves that tokens go nowhere but to the endpoint.
func TestExchangeNeverRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var elsewhere atomic.Int64
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
		defer other.Close()
		client := newClient(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) }, nil)
		_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"})
		if !errors.Is(err, tokenexchange.ErrUnacceptable) || !strings.Contains(err.Error(), "redirects are not followed") {
			t.Errorf("%d: got error %v, want ErrUnacceptable", status, err)
		}
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d: the redirect was followed", status)
		}
	}
}

// TestExchangeIgnoresProxyEnvironment calls a host to which net/http would apply the proxy
// of the environment, which it never does for a loopback address. net/http reads the
// environment once, so the test runs itself in a process that has the proxy from its start.
func TestExchangeIgnoresProxyEnvironment(t *testing.T) {
	const child = "PROXY_TEST_CHILD"
	if os.Getenv(child) == "" {
		var proxied atomic.Int64
		proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
		defer proxy.Close()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), child+"=1", "HTTP_PROXY="+proxy.URL, "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("with a proxy in the environment: %v\n%s", err, out)
		}
		if n := proxied.Load(); n != 0 {
			t.Errorf("%d calls went to the proxy of the environment", n)
		}
		return
	}
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: "http://sts.localhost:1/token", ClientID: "c", ClientSecret: "s",
		InsecureAllowHTTP: true, // of the names for this machine only those below localhost are not exempt from proxies
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); !errors.Is(err, tokenexchange.ErrUnavailable) {
		t.Errorf("got error %v, want ErrUnavailable", err)
	}
}

// TestExchangeUnavailable lists the ways in which there is no answer.
func TestExchangeUnavailable(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // net/http notices the end of the connection only then
		<-r.Context().Done()
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		change  func(*tokenexchange.Config)
		wantErr string
	}{
		{name: "no answer in time", handler: hang, change: func(c *tokenexchange.Config) { c.Timeout = 50 * time.Millisecond }, wantErr: "within 50ms (Timeout)"},
		{name: "body never ends", handler: func(w http.ResponseWriter, r *http.Request) {
			answer(200, "application/json", `{"access_`)(w, r)
			w.(http.Flusher).Flush()
			hang(w, r)
		}, change: func(c *tokenexchange.Config) { c.Timeout = 50 * time.Millisecond }, wantErr: "within 50ms (Timeout)"},
		{name: "nobody listens", change: func(c *tokenexchange.Config) { c.Endpoint = "http://127.0.0.1:1/token" }, wantErr: "http://127.0.0.1:1/token"},
		{name: "connection cut", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, wantErr: "ended without an HTTP answer"},
		{name: "no HTTP", handler: func(w http.ResponseWriter, r *http.Request) {
			conn, out := hijack(t, w)
			defer conn.Close()
			fmt.Fprintf(out, "MARKED-GARBAGE %s\r\n\r\n", r.PostFormValue("subject_token"))
			out.Flush()
		}, wantErr: "ended without an HTTP answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newClient(t, tc.handler, tc.change)
			_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "MARKED-SUBJECT-TOKEN"})
			if !errors.Is(err, tokenexchange.ErrUnavailable) || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got error %v, want ErrUnavailable with %q", err, tc.wantErr)
			}
			if strings.Contains(err.Error(), "MARKED") {
				t.Errorf("error quotes the answer: %v", err)
			}
		})
	}
}

func hijack(t *testing.T, w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	conn, out, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Errorf("hijacking: %v", err)
	}
	return conn, out
}

func TestExchangeChecksCertificates(t *testing.T) {
	server := httptest.NewTLSServer(answer(200, "application/json", success("t", "")))
	defer server.Close()
	server.Config.ErrorLog = nil
	cfg := tokenexchange.Config{Endpoint: server.URL, ClientID: "c", ClientSecret: "s"}

	client, err := tokenexchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); !errors.Is(err, tokenexchange.ErrUnavailable) || !strings.Contains(err.Error(), "Transport") {
		t.Errorf("unknown CA: got error %v, want ErrUnavailable that names Transport", err)
	}

	cfg.Transport = server.Client().Transport
	if client, err = tokenexchange.New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s"}); err != nil {
		t.Errorf("known CA: got error %v", err)
	}
}

// TestExchangeEndsWithContext: a caller that leaves is told so, and the endpoint is not
// blamed.
func TestExchangeEndsWithContext(t *testing.T) {
	entered := make(chan struct{})
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(entered)
		<-r.Context().Done()
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := client.Exchange(ctx, tokenexchange.Request{SubjectToken: "s"})
	if !errors.Is(err, context.Canceled) || errors.Is(err, tokenexchange.ErrUnavailable) {
		t.Errorf("got error %v, want context.Canceled alone", err)
	}
}

func TestExchangeSendsNothingMalformed(t *testing.T) {
	var calls atomic.Int64
	client := newClient(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) }, nil)
	_, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: "s", Resource: []string{"MARKED-misplaced-token"}})
	var e *tokenexchange.Error
	if !errors.As(err, &e) || e.Code != "invalid_target" || e.Status != 0 {
		t.Errorf("got error %v, want invalid_target with status 0", err)
	}
	if text := err.Error(); !strings.Contains(text, "parameter 'resource': expected") || strings.Contains(text, "MARKED") {
		t.Errorf("got error %q, want one that names the parameter and quotes no value", text)
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the endpoint was called %d times", n)
	}
}

// TestExchangeIsConcurrent is for the race detector: answers do not get mixed up.
func TestExchangeIsConcurrent(t *testing.T) {
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success("for-"+r.PostFormValue("subject_token"), ""))(w, r)
	}, nil)
	errs := make(chan error)
	const callers = 32
	for i := range callers {
		go func() {
			subject := fmt.Sprintf("subject-%d", i)
			res, err := client.Exchange(t.Context(), tokenexchange.Request{SubjectToken: subject})
			if err == nil && res.AccessToken != "for-"+subject {
				err = fmt.Errorf("got %q for %q", res.AccessToken, subject)
			}
			errs <- err
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestErrorsNameNoSecret runs marked tokens and a marked secret through every kind of
// failure of the client and looks at the errors.
func TestErrorsNameNoSecret(t *testing.T) {
	subject := jwt(`{"sub":"MARKED-USER"}`)
	echoed := func(w http.ResponseWriter, r *http.Request) string {
		return r.PostFormValue("subject_token") + r.PostFormValue("actor_token") + r.Header.Get("Authorization") + "MARKED"
	}
	handlers := []http.HandlerFunc{
		echo("%s"),
		func(w http.ResponseWriter, r *http.Request) { http.Error(w, echoed(w, r), 500) },
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/?"+echoed(w, r), http.StatusTemporaryRedirect)
		},
		func(w http.ResponseWriter, r *http.Request) {
			answer(200, "application/json", success(jwt(`{"aud":"MARKED-AUD","sub":"MARKED-SUB"}`), ""))(w, r)
		},
		func(w http.ResponseWriter, r *http.Request) { answer(200, "application/json", echoed(w, r))(w, r) },
		func(w http.ResponseWriter, r *http.Request) { answer(200, echoed(w, r), "x")(w, r) },
		func(w http.ResponseWriter, r *http.Request) {
			answer(200, "application/json", fmt.Sprintf(`{"access_token":"t","issued_token_type":%q,"token_type":"MARKED"}`, echoed(w, r)))(w, r)
		},
	}
	for i, handler := range handlers {
		client := newClient(t, handler, nil)
		_, err := client.Exchange(t.Context(), tokenexchange.Request{
			SubjectToken: subject, ActorToken: "MARKED-ACTOR-TOKEN", ActorTokenType: accessTokenType, Audience: []string{"a"},
		})
		if err == nil {
			t.Errorf("handler %d: got no error", i)
			continue
		}
		text := fmt.Sprintf("%v %+v", err, err)
		var e *tokenexchange.Error
		if errors.As(err, &e) {
			text += e.Description + e.URI
		}
		for _, secret := range []string{"MARKED", subject[:20], base64.StdEncoding.EncodeToString([]byte("mcp-server:MARKED"))[:20]} {
			if strings.Contains(text, secret) {
				t.Errorf("handler %d: error has %q: %s", i, secret, text)
			}
		}
	}
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*tokenexchange.Config)
		wantErr []string // empty: accepted
	}{
		{name: "https", change: func(*tokenexchange.Config) {}},
		{name: "http to 127.0.0.1", change: func(c *tokenexchange.Config) { c.Endpoint = "http://127.0.0.1:9200/token" }},
		{name: "http to ::1", change: func(c *tokenexchange.Config) { c.Endpoint = "http://[::1]:9200/token" }},
		{name: "http to localhost", change: func(c *tokenexchange.Config) { c.Endpoint = "http://LocalHost./token" }},
		{name: "http elsewhere, named", change: func(c *tokenexchange.Config) {
			c.Endpoint, c.InsecureAllowHTTP = "http://sidecar:9200/token", true
		}},
		{name: "nothing", change: func(c *tokenexchange.Config) { *c = tokenexchange.Config{} }, wantErr: []string{"Endpoint", "ClientID", "ClientSecret"}},
		{name: "http elsewhere", change: func(c *tokenexchange.Config) { c.Endpoint = "http://sidecar:9200/token" }, wantErr: []string{"Endpoint", "InsecureAllowHTTP"}},
		{name: "RejectsHostThatLooksLocal", change: func(c *tokenexchange.Config) { c.Endpoint = "http://127.0.0.1.evil.example/token" }, wantErr: []string{"Endpoint", "https"}},
		{name: "another scheme", change: func(c *tokenexchange.Config) { c.Endpoint = "ftp://sts.example/token" }, wantErr: []string{"Endpoint"}},
		{name: "no host", change: func(c *tokenexchange.Config) { c.Endpoint = "https:///token" }, wantErr: []string{"Endpoint"}},
		{name: "secret in the URL", change: func(c *tokenexchange.Config) { c.Endpoint = "https://c:MARKED@sts.example/token" }, wantErr: []string{"Endpoint", "user information"}},
		{name: "fragment", change: func(c *tokenexchange.Config) { c.Endpoint = "https://sts.example/token#x" }, wantErr: []string{"fragment"}},
		{name: "unknown method", change: func(c *tokenexchange.Config) { c.AuthMethod = "client_secret_jwt" }, wantErr: []string{"AuthMethod: expected", "client_secret_jwt"}},
		{name: "negative timeout", change: func(c *tokenexchange.Config) { c.Timeout = -time.Second }, wantErr: []string{"Timeout"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := tokenexchange.Config{Endpoint: "https://sts.example/token", ClientID: "c", ClientSecret: "MARKED-SECRET"}
			tc.change(&cfg)
			client, err := tokenexchange.New(cfg)
			if (err == nil) != (len(tc.wantErr) == 0) || (client == nil) != (err != nil) {
				t.Fatalf("got client %t, error %v", client != nil, err)
			}
			if err != nil && (strings.Contains(err.Error(), "MARKED") || slices.ContainsFunc(tc.wantErr, func(s string) bool { return !strings.Contains(err.Error(), s) })) {
				t.Errorf("got error %v, want one that names %q and no secret", err, tc.wantErr)
			}
		})
	}
}

// TestConnectionThatDiedIsNoOutage: the endpoint closes a connection that was kept when the
// next request is on its way. That request is sent once more, with an assertion of its own:
// the first may have been used.
func TestConnectionThatDiedIsNoOutage(t *testing.T) {
	p256, _, _ := generate(t)
	for _, method := range []tokenexchange.AuthMethod{tokenexchange.AuthBasic, tokenexchange.AuthPrivateKeyJWT} {
		t.Run(string(method), func(t *testing.T) {
			requests := 0
			shown := map[string]bool{}
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				if assertion := r.PostFormValue("client_assertion"); assertion != "" {
					if shown[assertion] {
						t.Error("an assertion came twice")
					}
					shown[assertion] = true
				}
				if _, ok := r.Header["Idempotency-Key"]; ok {
					t.Error("a header was sent that is meant for net/http alone")
				}
				if requests++; requests == 2 {
					panic(http.ErrAbortHandler)
				}
				answer(200, "application/json", success(fmt.Sprintf("token-%d", requests), ""))(w, r)
			}, func(c *tokenexchange.Config) {
				if c.AuthMethod = method; method == tokenexchange.AuthPrivateKeyJWT {
					c.ClientSecret, c.ClientKey = "", p256
				}
			})
			exchange(t, client, tokenexchange.Request{SubjectToken: "s"}, "token-1")
			exchange(t, client, tokenexchange.Request{SubjectToken: "s"}, "token-3")
			if requests != 3 {
				t.Errorf("%d requests, want 3", requests)
			}
		})
	}
}
