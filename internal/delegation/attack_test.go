package delegation_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/tokenexchange"
)

// lenient is an exchanger that compares nothing: what is wrong with a token must be noticed
// even so.
type lenient struct{ w *world }

func (l lenient) Exchange(_ context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
	form, err := req.Form()
	if err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	l.w.mu.Lock()
	l.w.forms = append(l.w.forms, form)
	l.w.mu.Unlock()
	l.w.issue(rec, &http.Request{Form: url.Values(form)})
	res := new(tokenexchange.Response)
	return res, res.UnmarshalJSON(rec.Body.Bytes())
}

// TestLyingProvider: whatever the provider says, no token comes out that is wider, longer,
// for others or of another user, with an exchanger that looks at the answer and with one
// that does not. Nothing of it is remembered, and it does not open the circuit.
//
// Covers: TX-08, TX-10, TX-12, TX-17, IN-21
func TestLyingProvider(t *testing.T) {
	type members = map[string]any
	foreign := newSigner(t, "first") // another key under the id of the provider's
	tests := []struct {
		name   string
		header members
		claims members
		body   members
		change func(*world)
		want   delegation.Kind
		text   string // in the error; "" anything
	}{
		{name: "AnotherUser", claims: members{"sub": "jane.roe"}, want: delegation.KindUnacceptable, text: "expected the user of the SUBJECT"},
		{name: "NoUser", claims: members{"sub": nil}, want: delegation.KindUnacceptable},
		{name: "AnotherAudience", claims: members{"aud": "https://other.example.com"}, want: delegation.KindUnacceptable},
		{name: "AudienceOfAnotherCase", claims: members{"aud": strings.ToUpper(audience)}, want: delegation.KindUnacceptable},
		{name: "AudienceWithSlash", claims: members{"aud": audience + "/"}, want: delegation.KindUnacceptable},
		{name: "AnotherIssuer", claims: members{"iss": "https://evil.example"}, want: delegation.KindUnacceptable, text: "expected issuer"},
		{name: "IssuerWithSlash", claims: members{"iss": issuer + "/"}, want: delegation.KindUnacceptable},
		{name: "ForeignSignature", change: func(w *world) { w.signer = foreign }, want: delegation.KindUnacceptable, text: "expected a signature"},
		{name: "NoSignature", header: members{"alg": "none"}, want: delegation.KindUnacceptable},
		{name: "ScopeOfTheUserThatWasNotAskedFor", claims: members{"scope": "stocks/read stocks/trade"}, want: delegation.KindUnacceptable, text: "expected no more scope than was asked for"},
		{name: "ScopeThatTheUserLacks", claims: members{"scope": "stocks/read admin"}, want: delegation.KindUnacceptable, text: "expected no more scope"},
		{name: "WiderScopeInTheAnswer", body: members{"scope": "stocks/read stocks/trade"}, want: delegation.KindUnacceptable},
		{name: "WiderScopeInScp", claims: members{"scp": []string{"stocks/read", "admin"}}, want: delegation.KindUnacceptable, text: "expected no more scope"},
		{name: "WiderScopeInScpAsText", claims: members{"scope": nil, "scp": "stocks/read admin"}, want: delegation.KindUnacceptable, text: "expected no more scope"},
		{name: "UnreadableScp", claims: members{"scp": []any{members{"a": 1}}}, want: delegation.KindUnacceptable},
		{name: "ScpThatIsANumber", claims: members{"scp": 7}, want: delegation.KindUnacceptable},
		{name: "FewerScopesInTheAnswer", body: members{"scope": ""}, want: delegation.KindScope, text: "SCOPE: the provider grants less"},
		{name: "ScopeInPermissions", claims: members{"permissions": []string{"admin"}}, want: delegation.KindUnacceptable, text: "expected nothing that grants more than the SUBJECT, got permissions"},
		{name: "PermissionsOfTheUserAndMore", claims: members{"permissions": []string{"own", "admin"}}, want: delegation.KindUnacceptable, text: "got permissions that it lacks"},
		{name: "ScopeInAuthorizationDetails", claims: members{"authorization_details": []any{members{"type": "all"}}}, want: delegation.KindUnacceptable, text: "got authorization_details that it lacks"},
		{name: "IssuedToAnotherClientByAzp", claims: members{"azp": "somebody-else"}, want: delegation.KindUnacceptable, text: "issued to us (CLIENT), got another client in azp"},
		{name: "IssuedToAnotherClientByClientID", claims: members{"client_id": "somebody-else"}, want: delegation.KindUnacceptable, text: "got another client in client_id"},
		{name: "IssuedToNobody", claims: members{"azp": []string{"gateway"}}, want: delegation.KindUnacceptable, text: "expected a string"},
		{name: "Expired", claims: members{"iat": start.Add(-time.Hour).Unix(), "exp": start.Unix()}, want: delegation.KindUnacceptable},
		{name: "WithoutExpiry", claims: members{"exp": nil}, want: delegation.KindUnacceptable},
		{name: "OfTomorrow", claims: members{"nbf": start.Add(time.Hour).Unix()}, want: delegation.KindUnacceptable},
		{name: "BoundToAKey", claims: members{"cnf": members{"jkt": "x"}}, want: delegation.KindUnacceptable, text: "bound to a key"},
		{name: "IDTokenByClaim", claims: members{"typ": "ID"}, want: delegation.KindUnacceptable, text: "expected an access token"},
		{name: "IDTokenByNonce", claims: members{"typ": nil, "nonce": "n"}, want: delegation.KindUnacceptable, text: "expected an access token"},
		{name: "RefreshToken", claims: members{"typ": "Refresh"}, want: delegation.KindUnacceptable},
		{name: "LogoutToken", header: members{"typ": "logout+jwt"}, want: delegation.KindUnacceptable, text: "expected header typ"},
		{name: "OpaqueToken", body: members{"access_token": "opaque"}, want: delegation.KindUnacceptable},
		{name: "TheSubjectTokenItself", body: members{"access_token": subjectToken}, want: delegation.KindConfiguration, text: "must not go upstream"},
		{name: "TokenOf100KB", body: members{"access_token": "eyJ" + strings.Repeat("a", 100<<10)}, want: delegation.KindUnacceptable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, strict := range []bool{true, false} {
				w := newWorld(t)
				if !strict {
					w.connect(lenient{w})
				}
				w.header, w.claims, w.body = tt.header, tt.claims, tt.body
				if tt.change != nil {
					tt.change(w)
				}
				got, err := w.exchange()
				if got != nil {
					t.Fatalf("strict %v: got a token", strict)
				}
				e := w.wantKind(err, tt.want)
				if !strict && !strings.Contains(e.Error(), tt.text) {
					t.Errorf("got %q, want %q", e, tt.text)
				}
				for range 10 {
					_, _ = w.exchange()
				}
				if want := map[bool]int{true: 11, false: 1}[tt.want == delegation.KindUnacceptable]; w.calls() != want {
					t.Errorf("strict %v: %d calls, want %d", strict, w.calls(), want)
				}
			}
		})
	}
}

// TestAnswersThatAreNone: other types, error pages, floods.
//
// Covers: TX-08, TX-14
func TestAnswersThatAreNone(t *testing.T) {
	text := func(status int, contentType, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", contentType)
			rw.WriteHeader(status)
			_, _ = io.WriteString(rw, body)
		}
	}
	member := func(name string, value any) func(*world) {
		return func(w *world) { w.body = map[string]any{name: value} }
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		change func(*world)
		hangs  bool
		want   delegation.Kind
	}{
		{name: "HTML", answer: text(200, "text/html", "<html>MARKED"), want: delegation.KindUnacceptable},
		{name: "HTMLThatSaysJSON", answer: text(200, "application/json", "<html>MARKED"), want: delegation.KindUnacceptable},
		{name: "Nothing", answer: text(200, "application/json", ""), want: delegation.KindUnacceptable},
		{name: "TwoAnswers", answer: text(200, "application/json", "{}{}"), want: delegation.KindUnacceptable},
		{name: "10MB", answer: text(200, "application/json", `{"access_token":"`+strings.Repeat("MARKED", 2<<20)+`"}`), want: delegation.KindUnacceptable},
		{name: "10MBError", answer: text(400, "application/json", strings.Repeat(" ", 10<<20)), want: delegation.KindUnacceptable},
		{name: "Redirect", answer: func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/elsewhere?MARKED", http.StatusTemporaryRedirect)
		}, want: delegation.KindUnacceptable},
		{name: "IDTokenAsType", change: member("issued_token_type", tokenexchange.TokenTypeIDToken), want: delegation.KindUnacceptable},
		{name: "RefreshTokenAsType", change: member("issued_token_type", tokenexchange.TokenTypeRefreshToken), want: delegation.KindUnacceptable},
		{name: "NoType", change: member("issued_token_type", nil), want: delegation.KindUnacceptable},
		{name: "NotApplicable", change: member("token_type", "N_A"), want: delegation.KindUnacceptable},
		{name: "DPoP", change: member("token_type", "DPoP"), want: delegation.KindUnacceptable},
		{name: "ConnectionBroken", answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: delegation.KindUnavailable},
		{name: "SlowDrip", hangs: true, answer: func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(rw, " "); err != nil {
					return
				}
				_ = http.NewResponseController(rw).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		}, want: delegation.KindUnavailable},
		{name: "Silence", hangs: true, answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, want: delegation.KindUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.hurry = tt.hangs
			w.answers(tt.answer)
			if tt.change != nil {
				tt.change(w)
			}
			_, err := w.exchange()
			w.wantKind(err, tt.want)
			// What is over is over.
			w.answers(nil)
			w.hurry, w.body = false, nil
			w.wantToken(w.exchange())
		})
	}
}

// The subject token ends while the provider makes up its mind.
func TestSubjectTokenThatExpiresMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.answers(func(rw http.ResponseWriter, r *http.Request) {
		w.issue(rw, r)
		w.step(3 * time.Second)
	})
	req := request()
	req.Subject.Expiry = start.Add(2 * time.Second)
	_, err := w.target.Exchange(t.Context(), req)
	w.wantKind(err, delegation.KindSubject)
}

// The provider signs with a new key: the token is verified with keys that are fetched
// then, and an older key of it does not matter.
func TestRotatedKeys(t *testing.T) {
	w := newWorld(t)
	w.wantToken(w.exchange())
	next := newSigner(t, "second")
	w.mu.Lock()
	w.signer, w.jwks = next, next.jwks()
	w.mu.Unlock()
	_, err := w.exchange()
	w.wantKind(err, delegation.KindUnacceptable) // the set in hand is too young to be fetched again
	w.step(30 * time.Second)
	w.wantToken(w.exchange())

	// Without a set nothing is known of the token.
	w.mu.Lock()
	w.jwks = []byte("MARKED")
	w.mu.Unlock()
	w.step(2 * time.Hour)
	req := request()
	req.Subject.Expiry = start.Add(24 * time.Hour)
	_, err = w.target.Exchange(t.Context(), req)
	w.wantKind(err, delegation.KindUnavailable)
}
