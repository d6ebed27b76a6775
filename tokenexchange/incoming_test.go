package tokenexchange_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"phantomtoken/tokenexchange"
)

// TestMiddlewareTakesOneBearerToken, and nothing where it is not clear which.
func TestMiddlewareTakesOneBearerToken(t *testing.T) {
	api, got := server(t, nil)
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success("for-"+r.PostFormValue("subject_token"), ""))(w, r)
	}}
	client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})
	for _, tc := range []struct {
		name   string
		fields []string
		want   string // empty: no token
	}{
		{name: "token", fields: []string{"Bearer john"}, want: "john"},
		{name: "lower case", fields: []string{"bearer  john "}, want: "john"},
		{name: "none"},
		{name: "empty", fields: []string{""}},
		{name: "scheme only", fields: []string{"Bearer"}},
		{name: "another scheme", fields: []string{"Basic am9objpzZWNyZXQ="}},
		{name: "two fields", fields: []string{"Bearer john", "Bearer jane"}},
		{name: "two tokens", fields: []string{"Bearer john jane"}},
		{name: "no text", fields: []string{"Bearer jöhn"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			handler := tokenexchange.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				before := len(got.authorizations())
				_, err := send(t, client, request(t, r.Context(), "GET", api.URL, nil))
				sent := got.authorizations()[before:]
				if tc.want == "" {
					if !errors.Is(err, tokenexchange.ErrNoToken) || len(sent) != 0 {
						t.Errorf("got %v, sent %q, want ErrNoToken", err, sent)
					}
				} else if err != nil || len(sent) != 1 || sent[0] != "Bearer for-"+tc.want {
					t.Errorf("got %v, sent %q, want the token for %s", err, sent, tc.want)
				}
			}))
			// The token of somebody else in the context of the server must not shine through.
			r := httptest.NewRequestWithContext(tokenexchange.WithToken(t.Context(), "somebody-else"), "POST", "/mcp", nil)
			if tc.fields != nil {
				r.Header["Authorization"] = tc.fields
			}
			handler.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
}

// TestContextDoesNotPrintTheToken: contexts end up in logs.
func TestContextDoesNotPrintTheToken(t *testing.T) {
	h := http.Header{"Authorization": {"Bearer MARKED-token"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	for name, ctx := range map[string]context.Context{
		"WithToken":  tokenexchange.WithToken(t.Context(), "MARKED-token"),
		"WithHeader": tokenexchange.WithHeader(t.Context(), h),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(verb, ctx); strings.Contains(text, "MARKED") {
				t.Errorf("%s, %s: got %s", name, verb, text)
			}
		}
	}
}

// TestTransportInToolsOfTheMCPSDK: the official SDK hands the context of the HTTP request to
// a tool where it keeps no sessions, so Middleware is enough there. With sessions it is the
// context of the request that began the session, with the token of then: the middleware of
// the MCP server must take the header of each call. Both work together everywhere.
func TestTransportInToolsOfTheMCPSDK(t *testing.T) {
	for _, tc := range []struct {
		name      string
		stateless bool
		perCall   bool
		want      []string // the users for whom the API is called
	}{
		{name: "stateless, Middleware", stateless: true, want: []string{"first", "second"}},
		{name: "stateless, both", stateless: true, perCall: true, want: []string{"first", "second"}},
		{name: "sessions, both", perCall: true, want: []string{"first", "second"}},
		// Why WithHeader is there: without it the second call would have the first token.
		{name: "sessions, Middleware only", want: []string{"first", "first"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api, got := server(t, nil)
			sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
				answer(200, "application/json", success("for-"+r.PostFormValue("subject_token"), ""))(w, r)
			}}
			client := exchanging(t, newClock(), sts, tokenexchange.TransportConfig{Targets: []tokenexchange.Target{{URL: api.URL, Audience: []string{"api"}}}})

			srv := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			mcp.AddTool(srv, &mcp.Tool{Name: "call"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
				_, err := send(t, client, request(t, ctx, "GET", api.URL, nil))
				return nil, nil, err
			})
			if tc.perCall {
				srv.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
					return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
						if extra := req.GetExtra(); extra != nil {
							ctx = tokenexchange.WithHeader(ctx, extra.Header)
						}
						return next(ctx, method, req)
					}
				})
			}
			handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return srv }, &mcp.StreamableHTTPOptions{Stateless: tc.stateless})
			mcpServer := httptest.NewServer(tokenexchange.Middleware(handler))
			defer mcpServer.Close()

			user := &bearer{token: "first"}
			session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(),
				&mcp.StreamableClientTransport{Endpoint: mcpServer.URL, HTTPClient: &http.Client{Transport: user}, DisableStandaloneSSE: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			for _, token := range []string{"first", "second"} {
				user.token = token
				res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "call"})
				if err != nil || res.IsError {
					t.Fatalf("CallTool: %v, %+v", err, res)
				}
			}
			for i, a := range got.authorizations() {
				if want := "Bearer for-" + tc.want[i]; a != want {
					t.Errorf("call %d: got %q, want %q", i, a, want)
				}
			}
		})
	}
}

// bearer adds a token to what an agent sends.
type bearer struct{ token string }

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// FuzzTransportTarget: whatever the URL, a token goes only to the host and the path of its
// target, as the one who sends the request and the one who receives it read them.
func FuzzTransportTarget(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:9/v1/x", "http://127.0.0.1:9/v1/../v2", "http://127.0.0.1:9/v1%2f..", "http://x@127.0.0.1:9/v1", "http://127.0.0.1:9//v1", "http:127.0.0.1:9/v1", "http://127.0.0.1:90/v1"} {
		f.Add(seed)
	}
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		answer(200, "application/json", success("exchanged", ""))(w, r)
	}}
	var sent *http.Request
	client := exchanging(f, newClock(), sts, tokenexchange.TransportConfig{
		PassOthers: true,
		Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
		}),
		Targets: []tokenexchange.Target{{URL: "http://127.0.0.1:9/v1", Audience: []string{"api"}}},
	})
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.NewRequestWithContext(withToken(t), "GET", target, nil)
		if err != nil {
			return
		}
		sent = nil
		if _, err := client.Transport.RoundTrip(r); err != nil {
			return
		}
		if sent.Header.Get("Authorization") == "" {
			return
		}
		path := sent.URL.RequestURI()
		if sent.URL.Host != "127.0.0.1:9" || sent.URL.Scheme != "http" || !strings.HasPrefix(path, "/v1") || strings.Contains(strings.ToLower(strings.SplitN(path, "?", 2)[0]), "/../") {
			t.Errorf("%q: a token was sent to %s %s", target, sent.URL.Host, path)
		}
	})
}

// FuzzWithHeader: whatever comes in, nothing malformed goes out.
func FuzzWithHeader(f *testing.F) {
	f.Add("Bearer john", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1,b=2")
	f.Add("bearer\tjohn", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", "a=\"1\\\"")
	f.Add("Bearer a\r\nX: y", "00-00000000000000000000000000000000-0000000000000000-00", "\n")
	sts := &counter{answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
		if token := r.PostFormValue("subject_token"); token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
			f.Errorf("subject token: %q", token)
		}
		answer(200, "application/json", success("exchanged", ""))(w, r)
	}}
	var sent http.Header
	client := exchanging(f, newClock(), sts, tokenexchange.TransportConfig{
		Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r.Header
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
		}),
		Targets: []tokenexchange.Target{{URL: "https://api.example", Audience: []string{"api"}}},
	})
	wellFormed := regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?$`)
	f.Fuzz(func(t *testing.T, authorization, parent, state string) {
		ctx := tokenexchange.WithHeader(t.Context(), http.Header{"Authorization": {authorization}, "Traceparent": {parent}, "Tracestate": {state}})
		if _, err := client.Transport.RoundTrip(request(t, ctx, "GET", "https://api.example", nil)); err != nil {
			return
		}
		if got := sent["Authorization"]; len(got) != 1 || got[0] != "Bearer exchanged" {
			t.Errorf("Authorization: %q", got)
		}
		if got := sent.Get("Traceparent"); got != "" && !wellFormed.MatchString(got) {
			t.Errorf("traceparent: %q", got)
		}
		if got := sent.Get("Tracestate"); strings.ContainsAny(got, "\r\n\x00") || got != "" && sent.Get("Traceparent") == "" {
			t.Errorf("tracestate: %q", got)
		}
	})
}
