package delegation_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/oauth"
)

// TestExchange: what goes to the provider and what comes out.
//
// Covers: TX-02, TX-05, TX-07
func TestExchange(t *testing.T) {
	w := newWorld(t)
	got := w.wantToken(w.exchange())
	if got.Scope.String() != "stocks/read" || !slices.Equal(got.Audience, []string{audience}) || got.ID != "id-1" || !got.Expiry.Equal(start.Add(5*time.Minute)) {
		t.Errorf("got %+v with id %s until %v, want the scope, the audience, id-1 and 5 minutes", got, got.ID, got.Expiry)
	}
	form := w.forms[0]
	for name, want := range map[string]string{
		"subject_token": subjectToken, "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
		"audience": audience, "scope": "stocks/read", "actor_token": "",
	} {
		if form.Get(name) != want {
			t.Errorf("%s = %q, want %q", name, form.Get(name), want)
		}
	}
	for _, text := range []string{fmt.Sprint(got), fmt.Sprintf("%v %+v %#v", *got, *got, *got), slog.AnyValue(*got).Resolve().String()} {
		if strings.Contains(text, "eyJ") {
			t.Errorf("%q holds the token", text)
		}
	}
}

// TestNoTokenIsUsedTooLong: the earliest end counts, and all of it from before the call.
//
// Covers: TX-09
func TestNoTokenIsUsedTooLong(t *testing.T) {
	for _, tt := range []struct {
		name    string
		exp     time.Duration
		in      any // expires_in
		subject time.Duration
		want    time.Duration
	}{
		{name: "by exp", exp: time.Minute, in: 300, subject: time.Hour, want: time.Minute},
		{name: "by expires_in", exp: time.Hour, in: 60, subject: time.Hour, want: time.Minute},
		{name: "by the subject token", exp: time.Hour, in: 3600, subject: time.Minute, want: time.Minute},
		{name: "without expires_in", exp: time.Minute, subject: time.Hour, want: time.Minute},
		{name: "LifeOfTenYears", exp: 87600 * time.Hour, in: 315360000, subject: time.Minute, want: time.Minute},
		{name: "subject token without end", exp: time.Minute, in: 300, want: time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.claims = map[string]any{"exp": start.Add(tt.exp).Unix()}
			w.body = map[string]any{"expires_in": tt.in}
			req := request()
			req.Subject.Expiry = time.Time{}
			if tt.subject > 0 {
				req.Subject.Expiry = start.Add(tt.subject)
			}
			got := w.wantToken(w.target.Exchange(t.Context(), req))
			if !got.Expiry.Equal(start.Add(tt.want)) {
				t.Errorf("expiry in %v, want in %v", got.Expiry.Sub(start), tt.want)
			}
		})
	}
}

// A token without scope is one without any: the provider does not choose.
func TestTokenWithoutScope(t *testing.T) {
	w := newWorld(t)
	req := request()
	req.Scope = nil
	if got := w.wantToken(w.target.Exchange(t.Context(), req)); len(got.Scope) != 0 {
		t.Errorf("scope %q, want none", got.Scope)
	}
	if _, named := w.forms[0]["scope"]; named {
		t.Error("scope was asked for")
	}
	w.claims = map[string]any{"scope": "stocks/trade"}
	_, err := w.target.Exchange(t.Context(), req)
	w.wantKind(err, delegation.KindUnacceptable)
	w.claims, w.body = nil, map[string]any{"scope": "stocks/trade"}
	_, err = w.target.Exchange(t.Context(), req)
	w.wantKind(err, delegation.KindUnacceptable)
}

// Nothing says whose the issued token would be.
func TestSubjectWithoutUserIsNotExchanged(t *testing.T) {
	w := newWorld(t)
	for _, subject := range []*oauth.Introspection{nil, {Active: true}} {
		req := request()
		req.Subject = subject
		_, err := w.target.Exchange(t.Context(), req)
		if e := w.wantKind(err, delegation.KindConfiguration); !strings.Contains(e.Text, "the SUBJECT names no user") {
			t.Errorf("got %q", e.Text)
		}
	}
	if w.calls() != 0 {
		t.Error("the provider was asked")
	}
}

// The audience that is asked for must be in the token whatever else the verifier accepts,
// and alone where that is demanded.
//
// Covers: TX-12
func TestAudienceIsTheOneAskedFor(t *testing.T) {
	const other = "https://other.example.com"
	for _, tt := range []struct {
		name  string
		aud   any
		exact bool
		ok    bool
	}{
		{name: "alone", aud: audience, ok: true},
		{name: "alone, demanded", aud: audience, exact: true, ok: true},
		{name: "alone in an array", aud: []string{audience}, exact: true, ok: true},
		{name: "beside another", aud: []string{other, audience}, ok: true},
		{name: "AnotherBesideIt", aud: []string{audience, other}, exact: true},
		{name: "Twice", aud: []string{audience, audience}, exact: true},
		{name: "AnotherThatTheVerifierAccepts", aud: other},
		{name: "None", aud: nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			// Not an exchanger that compares the audience itself.
			w.connect(lenient{w})
			target := w.newTarget(func(c *delegation.TargetConfig) {
				c.ExactAudience, c.Verifier = tt.exact, w.verifier(audience, other)
			})
			w.claims = map[string]any{"aud": tt.aud}
			got, err := target.Exchange(t.Context(), request())
			if tt.ok {
				w.wantToken(got, err)
				return
			}
			w.wantKind(err, delegation.KindUnacceptable)
		})
	}
}

// What the subject token grants beside scope may stand in the issued one, and who acts is
// for the provider to say. Without ClientID, so is to whom a token is issued.
func TestClaimsThatTheProviderMayAdd(t *testing.T) {
	for name, claims := range map[string]map[string]any{
		"permissions of the subject token": {"permissions": []string{"own"}},
		"no client":                        {"azp": nil},
		"actor":                            {"act": map[string]any{"sub": "gateway"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.claims = claims
			w.wantToken(w.exchange())
		})
	}
	w := newWorld(t)
	w.claims = map[string]any{"azp": "client-of-the-user"}
	target := w.newTarget(func(c *delegation.TargetConfig) { c.ClientID = "" })
	w.wantToken(target.Exchange(t.Context(), request()))
}

func TestConfigurationsThatCannotWork(t *testing.T) {
	w := newWorld(t)
	if _, err := delegation.NewEndpoint(delegation.EndpointConfig{}); err == nil {
		t.Error("an endpoint without exchanger was accepted")
	}
	for name, change := range map[string]func(*delegation.TargetConfig){
		"endpoint": func(c *delegation.TargetConfig) { c.Endpoint = nil },
		"verifier": func(c *delegation.TargetConfig) { c.Verifier = nil },
		"audience": func(c *delegation.TargetConfig) { c.Audience = "" },
		"settings": func(c *delegation.TargetConfig) { c.Settings.Issue = "" },
	} {
		cfg := w.cfg
		change(&cfg)
		if _, err := delegation.NewTarget(cfg); err == nil {
			t.Errorf("a target without %s was accepted", name)
		}
	}
	if w.target.Audience() != audience {
		t.Errorf("audience is %q", w.target.Audience())
	}
}
