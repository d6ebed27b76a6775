package delegation_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// TestRefusals: each answer of the provider, told apart, in words that name the setting, and
// remembered for as long as it says something definite.
//
// Covers: TX-14, TX-16
func TestRefusals(t *testing.T) {
	const brief, moment = 5 * time.Second, time.Second
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   delegation.Kind
		text   string
		life   time.Duration
	}{
		{"dead subject token", refuse(400, "invalid_request", "Invalid token"), delegation.KindSubject, "the provider does not take the SUBJECT for an exchange", brief},
		{"subject token by another code", refuse(400, "invalid_grant", ""), delegation.KindSubject, "does not take the SUBJECT", brief},
		{"subject token it cannot read", refuse(400, "invalid_request", "Assertion contains an invalid access token"), delegation.KindSubject, "of a kind it cannot exchange", brief},
		{"target", refuse(400, "invalid_target", ""), delegation.KindTarget, "AUDIENCE: the provider refuses it to CLIENT", brief},
		{"scope", refuse(400, "invalid_scope", "Scopes [x] not present in the initial access token [y]"), delegation.KindScope, "SCOPE: the provider refuses the scopes to CLIENT", brief},
		{"client may not", refuse(400, "unauthorized_client", ""), delegation.KindPolicy, "does not let CLIENT exchange this token", brief},
		{"Keycloak: client not in the token", refuse(403, "access_denied", "Client is not within the token audience"), delegation.KindPolicy, "CLIENT is not in the audience of the SUBJECT", brief},
		{"a code of its own", refuse(400, "consent_required", ""), delegation.KindPolicy, "does not let CLIENT exchange", brief},
		{"Keycloak: audience is no client", refuse(400, "invalid_client", "Audience not found"), delegation.KindConfiguration, "AUDIENCE: the provider knows no such audience", moment},
		{"Keycloak: audience not of these scopes", refuse(400, "invalid_request", "Requested audience not available: x"), delegation.KindConfiguration, "add an audience mapper to one of them, or correct SCOPE", moment},
		{"Keycloak: exchange is off", refuse(400, "invalid_request", "Standard token exchange is not enabled for the requested client"), delegation.KindConfiguration, "ISSUE: the provider does not let CLIENT exchange tokens", moment},
		{"Keycloak: type not supported", refuse(400, "invalid_request", "requested_token_type unsupported"), delegation.KindConfiguration, "ISSUE: the provider does not understand the request", moment},
		{"no such grant", refuse(400, "unsupported_grant_type", ""), delegation.KindConfiguration, "ISSUE: the provider knows no token exchange; switch it on there, or choose mint", moment},
		{"own credentials", refuse(401, "invalid_client", ""), delegation.KindConfiguration, "check CREDENTIALS", moment},
		{"own credentials, as a bad request", refuse(400, "invalid_client", ""), delegation.KindConfiguration, "check CREDENTIALS", moment},
		{"Keycloak: own credentials", refuse(401, "unauthorized_client", "Invalid client or Invalid client credentials"), delegation.KindConfiguration, "check CREDENTIALS", moment},
		{"another 401", refuse(401, "invalid_token", ""), delegation.KindConfiguration, "check CREDENTIALS", moment},
		{"not found", bare(404), delegation.KindConfiguration, "ENDPOINT: expected an endpoint of RFC 8693, got something else; check it, or what ISSUER says", moment},
		{"method not allowed", bare(405), delegation.KindConfiguration, "ENDPOINT: ", moment},
		{"a wall before the provider", bare(403), delegation.KindUnavailable, "cannot be asked", 0},
		{"its own error as a bad request", refuse(400, "server_error", ""), delegation.KindUnavailable, "cannot be asked", 0},
		{"slow down", refuse(400, "slow_down", ""), delegation.KindUnavailable, "cannot be asked", 0},
		{"temporarily unavailable", refuse(400, "temporarily_unavailable", ""), delegation.KindUnavailable, "cannot be asked", 0},
		{"server error", refuse(500, "invalid_request", ""), delegation.KindUnavailable, "cannot be asked", 0},
		{"429 without a time", bare(429), delegation.KindUnavailable, "cannot be asked", 0},
		{"503", bare(503), delegation.KindUnavailable, "cannot be asked", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.answers(tt.answer)
			_, err := w.exchange()
			e := w.wantKind(err, tt.want)
			if !strings.Contains(e.Text, tt.text) || errors.Is(err, delegation.ErrRemembered) {
				t.Errorf("got %q, want %q and nothing of memory", e, tt.text)
			}
			if refused := (*tokenexchange.Error)(nil); !errors.As(err, &refused) {
				t.Errorf("got %T, want the provider's refusal in it", e.Err)
			}
			// The cause is mended: for a moment nobody asks.
			w.answers(nil)
			if tt.life > 0 {
				w.step(tt.life - 1)
				_, err := w.exchange()
				if again := w.wantKind(err, tt.want); again.Text != e.Text || !errors.Is(err, delegation.ErrRemembered) {
					t.Errorf("got %q, want the same refusal from memory", again)
				}
				w.step(1)
			}
			w.wantToken(w.exchange())
			if w.calls() != 2 {
				t.Errorf("%d calls, want 2", w.calls())
			}
		})
	}
}

// What the exchanger refuses to send, or cannot find the endpoint for.
func TestRequestsThatWereNeverSent(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want delegation.Kind
	}{
		{"malformed", &tokenexchange.Error{Code: "invalid_request", Description: "parameter"}, delegation.KindConfiguration},
		{"no endpoint", errors.New("the metadata has no token_endpoint; set ENDPOINT"), delegation.KindUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			calls := 0
			w.connect(exchanger(func(context.Context, tokenexchange.Request) (*tokenexchange.Response, error) {
				calls++
				return nil, tt.err
			}))
			for range 20 { // says nothing of the endpoint's health
				_, err := w.exchange()
				if e := w.wantKind(err, tt.want); !errors.Is(e, tt.err) {
					t.Errorf("got %v, want the cause in it", e)
				}
				w.step(time.Second)
			}
			if calls != 20 {
				t.Errorf("%d calls, want 20", calls)
			}
		})
	}
}

// A refusal is that of one token, one audience and one set of scopes; nobody else is
// answered by it.
func TestRefusalIsRememberedForTheSameRequestOnly(t *testing.T) {
	for _, answer := range []http.HandlerFunc{
		refuse(400, "invalid_request", "Invalid token"),
		refuse(400, "invalid_scope", ""),
		refuse(400, "invalid_client", "Audience not found"),
		refuse(401, "invalid_client", "Audience not found"),
		refuse(401, "invalid_token", "a word about the token"),
	} {
		w := newWorld(t)
		w.answers(answer)
		if _, err := w.exchange(); err == nil {
			t.Fatal("got a token")
		}
		w.answers(nil)
		if _, err := w.exchange(); !errors.Is(err, delegation.ErrRemembered) {
			t.Fatalf("got %v, want it from memory", err)
		}
		for name, change := range map[string]func(*delegation.Request){
			"another token":       func(r *delegation.Request) { r.SubjectToken = "another" },
			"more scopes":         func(r *delegation.Request) { r.Scope = append(r.Scope, "stocks/trade") },
			"other scopes":        func(r *delegation.Request) { r.Scope = oauth.Scopes{"stocks/trade"} },
			"scopes run together": func(r *delegation.Request) { r.Scope = oauth.Scopes{"stocks/", "read"} },
		} {
			req := request()
			change(&req)
			if _, err := w.target.Exchange(t.Context(), req); err != nil {
				t.Errorf("%s: got %v, want a token", name, err)
			}
		}
		const other = "https://other.example.com"
		target := w.newTarget(func(c *delegation.TargetConfig) { c.Audience, c.Verifier = other, w.verifier(other) })
		w.wantToken(target.Exchange(t.Context(), request()))
	}
}

// A wrong secret is the answer to everybody: one call in a second finds out.
func TestWrongCredentialsAreRememberedForAll(t *testing.T) {
	w := newWorld(t)
	w.answers(refuse(401, "unauthorized_client", "Invalid client or Invalid client credentials"))
	for i := range 100 {
		req := request()
		req.SubjectToken = fmt.Sprintf("token-%d", i)
		_, err := w.target.Exchange(t.Context(), req)
		w.wantKind(err, delegation.KindConfiguration)
	}
	if w.calls() != 1 {
		t.Errorf("%d calls, want 1", w.calls())
	}
	w.step(time.Second)
	w.answers(nil)
	w.wantToken(w.exchange())
}

// Each target speaks of its own settings, whoever asked first.
func TestMemoryHasNoWords(t *testing.T) {
	w := newWorld(t)
	w.answers(refuse(400, "invalid_target", ""))
	_, _ = w.exchange()
	other := settings()
	other.Audience = "audiences.b"
	target := w.newTarget(func(c *delegation.TargetConfig) { c.Settings = other })
	_, err := target.Exchange(t.Context(), request())
	if e := w.wantKind(err, delegation.KindTarget); !strings.HasPrefix(e.Text, "audiences.b: ") || !errors.Is(err, delegation.ErrRemembered) {
		t.Errorf("got %q, want its own words from memory", e)
	}
}

// Many refused tokens push out the oldest refusal and nothing else.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	calls := 0
	w.connect(exchanger(func(_ context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
		calls++
		return nil, &tokenexchange.Error{Code: "invalid_grant", Status: 400}
	}))
	const bound = 4096
	for i := range bound + 1 {
		req := request()
		req.SubjectToken = fmt.Sprintf("token-%d", i)
		_, _ = w.target.Exchange(t.Context(), req)
	}
	for _, tt := range []struct {
		token string
		calls int
	}{{"token-4096", 0}, {"token-1", 0}, {"token-0", 1}} { // in this order: each call pushes one out
		before := calls
		req := request()
		req.SubjectToken = tt.token
		_, err := w.target.Exchange(t.Context(), req)
		w.wantKind(err, delegation.KindSubject)
		if calls-before != tt.calls {
			t.Errorf("%s: %d calls, want %d", tt.token, calls-before, tt.calls)
		}
	}
}
