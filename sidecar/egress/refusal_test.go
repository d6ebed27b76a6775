package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/sidecar/egress"
	"phantomtoken/tokenexchange"
)

// Covers: TX-14, TX-17
func TestExchangeErrors(t *testing.T) {
	const secret = "REMOTE-TEXT"
	answer := func(status int, code string) error {
		return fmt.Errorf("exchanging token: %w", &tokenexchange.Error{Code: code, Description: secret, URI: secret, Status: status})
	}
	for _, test := range []struct {
		name      string
		err       error
		status    int
		code      string
		result    egress.Result
		challenge string
		retry     string
	}{
		{name: "subject token refused", err: answer(400, "invalid_request"), status: 401, code: "invalid_token", result: egress.ResultInvalidToken, challenge: `Bearer realm="egress", error="invalid_token"`},
		{name: "target", err: answer(400, "invalid_target"), status: 403, code: "invalid_target", result: egress.ResultDenied},
		{name: "scope", err: answer(400, "invalid_scope"), status: 403, code: "invalid_scope", result: egress.ResultDenied},
		{name: "client without permission", err: answer(400, "unauthorized_client"), status: 403, code: "unauthorized_client", result: egress.ResultDenied},
		{name: "our credentials", err: answer(401, "invalid_client"), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "grant type", err: answer(400, "unsupported_grant_type"), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "server error", err: answer(500, "server_error"), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "code of its own", err: answer(400, "REMOTE-TEXT"), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "no code", err: answer(404, ""), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "another error", err: errors.New("no key"), status: 500, code: "server_error", result: egress.ResultMisconfigured},
		{name: "unavailable", err: fmt.Errorf("%w: idp", tokenexchange.ErrUnavailable), status: 503, code: "temporarily_unavailable", result: egress.ResultUnavailable, retry: "5"},
		{name: "temporarily unavailable", err: answer(503, "temporarily_unavailable"), status: 503, code: "temporarily_unavailable", result: egress.ResultUnavailable, retry: "5"},
		{name: "too many requests", err: &tokenexchange.Error{Status: 429, RetryAfter: 1500 * time.Millisecond}, status: 503, code: "temporarily_unavailable", result: egress.ResultUnavailable, retry: "2"},
		{name: "too slow", err: fmt.Errorf("exchanging: %w", context.DeadlineExceeded), status: 503, code: "temporarily_unavailable", result: egress.ResultUnavailable, retry: "5"},
		{name: "unacceptable answer", err: fmt.Errorf("%w: audience", tokenexchange.ErrUnacceptable), status: 502, code: "exchange_failed", result: egress.ResultExchangeFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := newAPI(t, nil)
			w := newWorld(t, to(t, upstream.URL))
			w.tokens.err = test.err
			got := w.get(t, "/")
			refused(t, got, test.status, test.code)
			if n := len(upstream.seen()); n != 0 {
				t.Errorf("expected nothing at the API, got %d requests", n)
			}
			if challenge := got.Header.Get("WWW-Authenticate"); challenge != test.challenge {
				t.Errorf("expected the challenge %q, got %q", test.challenge, challenge)
			}
			if retry := got.Header.Get("Retry-After"); retry != test.retry {
				t.Errorf("expected Retry-After %q, got %q", test.retry, retry)
			}
			o := w.outcome(t)
			for _, text := range []string{secret, phantom} {
				if strings.Contains(got.body+w.log.String(), text) {
					t.Errorf("expected no %q in answer and log, got %q and %q", text, got.body, w.log.String())
				}
			}
			if o.Result != test.result || o.Status != test.status || o.Route != 0 {
				t.Errorf("expected %s with %d on route 0, got %+v", test.result, test.status, o)
			}
		})
	}
}

// sourceFunc is a source that keeps nothing.
type sourceFunc func() string

func (f sourceFunc) Token(context.Context, egress.Call) (string, error) { return f(), nil }
func (sourceFunc) Evict(egress.Call, string)                            {}

// Covers: TX-17
func TestRejectsPhantomTokenAsExchangedToken(t *testing.T) {
	for _, token := range []string{phantom, "", "two words", "a\r\nX-Injected: 1"} {
		upstream := newAPI(t, nil)
		w := newWorldWith(t, egress.Config{Routes: []egress.Route{to(t, upstream.URL)}, Tokens: sourceFunc(func() string { return token })}, nil)
		refused(t, w.get(t, "/"), http.StatusInternalServerError, "server_error")
		if n := len(upstream.seen()); n != 0 {
			t.Errorf("%q: expected nothing at the API, got %d requests", token, n)
		}
	}
}

func TestUpstreamErrors(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for _, test := range []struct {
		name, base string
		status     int
		code       string
		result     egress.Result
	}{
		{"nobody listens", "http://" + gone.Addr().String(), 502, "upstream_unreachable", egress.ResultUpstreamUnreachable},
		{"too slow to answer", "http://" + silent.Addr().String(), 504, "upstream_timeout", egress.ResultUpstreamTimeout},
		{"too slow for TLS", "https://" + silent.Addr().String(), 504, "upstream_timeout", egress.ResultUpstreamTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			route := to(t, test.base)
			route.Timeout = 50 * time.Millisecond
			route.Line = 42
			w := newWorld(t, route)
			refused(t, w.get(t, "/secret-path?q=secret-query"), test.status, test.code)
			if o := w.outcome(t); o.Result != test.result || o.Status != test.status {
				t.Errorf("expected %s with %d, got %+v", test.result, test.status, o)
			}
			log := w.log.String()
			if !strings.Contains(log, "policy_line=42") || !strings.Contains(log, "result="+string(test.result)) || strings.Contains(log, "secret") {
				t.Errorf("expected a log line with result and line, and no path, got %s", log)
			}
		})
	}
}
