package exchange_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/tokenexchange"
)

// delegated has one audience whose tokens come from the identity provider, and one whose
// tokens are minted.
const delegated = `
version: 1
limits: {token_lifetime: 5m}
audiences:
  https://api.example: {issue: idp, scopes: [read, write]}
  https://orders.example: {scopes: [read]}
callers:
  server:
    subject_audience: https://server.internal.example
    authentication: {secret_variables: [SERVER_SECRET]}
    accept_exchanged: true
    actors: [robot]
    audiences:
      https://api.example: {scopes: [read, write]}
      https://orders.example: {scopes: [read]}
`

// provider is an identity provider on loopback. It signs with the keys of the world's
// gateway: phantom tokens are its own.
type provider struct {
	w      *world
	server *httptest.Server

	mu     sync.Mutex
	calls  int
	forms  []url.Values
	token  func(*keyring.Token)         // what differs from a good token
	body   func(map[string]any)         // what differs from a good answer
	answer http.HandlerFunc             // instead of any token
	during func(*http.Request)          // runs before the answer
	sign   func(t keyring.Token) string // instead of the keys of the world
}

// newProvider makes a world whose exchanger delegates to a provider.
func newProvider(t testing.TB, change func(*exchange.Config)) *provider {
	t.Helper()
	p := new(provider)
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.server.Close)
	w := &world{t: t, gateway: newRing(t), own: newRing(t)}
	p.w = w
	client, err := tokenexchange.New(tokenexchange.Config{
		Endpoint: p.server.URL, ClientID: "sidecar", ClientSecret: "MARKED-secret-of-the-sidecar", Now: w.now, Timeout: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	endpoint, err := delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: client, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	w.x, err = exchange.New(w.config(func(c *exchange.Config) {
		c.Subject.Minted, c.Subject.Types = false, []string{keyring.TypeAccessToken, "JWT"}
		c.Provider = func(audience string) (*delegation.Target, error) {
			verifier, err := keyring.NewVerifier(keyring.VerifierConfig{
				Issuer: gateway, Audiences: []string{audience}, Keys: w.gateway, Types: []string{keyring.TypeAccessToken, "JWT"}, Leeway: 30 * time.Second, Now: w.now,
			})
			if err != nil {
				return nil, err
			}
			return delegation.NewTarget(delegation.TargetConfig{
				Endpoint: endpoint, Verifier: verifier, Audience: audience, ExactAudience: true, Now: w.now,
				Settings: delegation.Settings{
					Subject: "phantom token", ClientID: "IDP_CLIENT_ID", Credentials: "IDP_CLIENT_ID and IDP_CLIENT_SECRET", Endpoint: "IDP_TOKEN_ENDPOINT",
					Issuer: "IDP_ISSUER", Keys: "IDP_JWKS_URI", Issue: "audiences.issue", Audience: "audiences", Scope: "audiences.scopes",
				},
			})
		}
		if change != nil {
			change(c)
		}
	}), parse(t, delegated))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) serve(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.calls++
	p.forms = append(p.forms, r.PostForm)
	answer, during := p.answer, p.during
	p.mu.Unlock()
	if during != nil {
		during(r)
	}
	if answer != nil {
		answer(rw, r)
		return
	}
	token := keyring.Token{
		Issuer: gateway, Subject: "john", Audience: []string{r.PostForm.Get("audience")}, ClientID: "sidecar",
		IssuedAt: p.w.now(), Expiry: p.w.now().Add(3 * time.Minute), Scope: oauth.Scopes(strings.Fields(r.PostForm.Get("scope"))),
		Extra: map[string]any{},
	}
	if p.token != nil {
		p.token(&token)
	}
	var signed string
	var err error
	if p.sign != nil {
		signed = p.sign(token)
	} else {
		signed, err = p.w.gateway.Mint(token)
	}
	if err != nil {
		p.w.t.Errorf("minting at the provider: %v", err)
	}
	body := map[string]any{
		"access_token": signed, "issued_token_type": tokenexchange.TokenTypeAccessToken, "token_type": "Bearer",
		"expires_in": 180, "scope": r.PostForm.Get("scope"),
	}
	if p.body != nil {
		p.body(body)
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(body)
}

// asked is how often the provider was asked.
func (p *provider) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// refusal is an OAuth error of the provider, whose words are marked.
func refusal(status int, code, text string, header ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			rw.Header().Set(header[i], header[i+1])
		}
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": code, "error_description": text + " MARKED"})
	}
}

// TestProviderIssues: the token of the provider is passed on, asked for once, and the audit
// line says who issued it.
//
// Covers: TX-43
func TestProviderIssues(t *testing.T) {
	p := newProvider(t, nil)
	w := p.w
	req := w.request(nil)
	first, again := w.exchange(req), w.exchange(req)
	if first.Token != again.Token || p.asked() != 1 {
		t.Errorf("the provider was asked %d times, want once", p.asked())
	}
	form := p.forms[0]
	if form.Get("subject_token") != req.SubjectToken || form.Get("audience") != api || form.Get("scope") != "read" || form.Has("actor_token") {
		t.Errorf("asked with %v", form)
	}
	claims := w.claims(first.Token)
	if claims["iss"] != gateway || claims["aud"] != api || claims["sub"] != "john" {
		t.Errorf("got %v", claims)
	}
	line := w.lines()[0]
	if line["issue"] != "idp" || line["jti"] != claims["jti"] || line["cached"] != false {
		t.Errorf("audit line: got %v", line)
	}
	if act, there := line["act"]; there {
		t.Errorf("audit line: got act %v of a token that has none", act)
	}
	if o := w.seen[0]; o.Issue != policy.IDP || o.Outcome != exchange.Granted {
		t.Errorf("observation: got %+v", o)
	}
	if minted := w.exchange(w.request(func(r *exchange.Request) { r.Audience = []string{orders} })); w.claims(minted.Token)["iss"] != issuer || p.asked() != 1 {
		t.Error("the provider was asked for what is minted here")
	}
}

// TestProviderThatLies: whatever the provider answers, no token that is wider, for somebody
// else or for another place reaches the caller, nor do words of the provider.
//
// Covers: TX-41
func TestProviderThatLies(t *testing.T) {
	stranger := newRing(t)
	text := func(status int, contentType, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", contentType)
			rw.WriteHeader(status)
			_, _ = fmt.Fprint(rw, body)
		}
	}
	for _, tc := range []struct {
		name  string
		set   func(*provider)
		code  string // server_error when empty
		text  string
		level string // of the audit line, ERROR when empty
	}{
		{name: "RejectsWiderScopeInAnswer", set: func(p *provider) { p.body = func(b map[string]any) { b["scope"] = "read write" } }},
		{name: "RejectsWiderScopeInToken", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Scope = oauth.Scopes{"read", "write"} } }},
		{name: "RejectsWiderScopeInSCP", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Extra["scp"] = []string{"read", "admin"} } }},
		{name: "narrower scope", set: func(p *provider) { p.body = func(b map[string]any) { b["scope"] = "" } }, code: "invalid_scope",
			text: "the identity provider does not grant the scopes for this token", level: "INFO"},
		{name: "RejectsOtherAudience", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Audience = []string{orders} } }},
		{name: "RejectsFurtherAudience", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Audience = []string{api, orders} } }},
		{name: "RejectsOtherIssuer", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Issuer = "https://elsewhere.example" } }},
		{name: "RejectsOwnIssuer", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Issuer = issuer } }},
		{name: "RejectsOtherUser", set: func(p *provider) { p.token = func(k *keyring.Token) { k.Subject = "admin" } }},
		{name: "RejectsOtherKey", set: func(p *provider) {
			p.sign = func(k keyring.Token) string { s, _ := stranger.Mint(k); return s }
		}},
		{name: "RejectsKeyOfThisService", set: func(p *provider) {
			p.sign = func(k keyring.Token) string { s, _ := p.w.own.Mint(k); return s }
		}},
		{name: "RejectsTheSubjectToken", set: func(p *provider) {
			p.answer = func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(rw).Encode(map[string]any{"access_token": r.PostForm.Get("subject_token"), "issued_token_type": tokenexchange.TokenTypeAccessToken, "token_type": "Bearer"})
			}
		}},
		{name: "RejectsOpaqueToken", set: func(p *provider) { p.sign = func(keyring.Token) string { return "MARKED-opaque" } }},
		{name: "RejectsRefreshToken", set: func(p *provider) {
			p.body = func(b map[string]any) {
				b["issued_token_type"] = "urn:ietf:params:oauth:token-type:refresh_token"
			}
		}},
		{name: "RejectsTokenTypeNA", set: func(p *provider) { p.body = func(b map[string]any) { b["token_type"] = "N_A" } }},
		{name: "RejectsDPoP", set: func(p *provider) { p.body = func(b map[string]any) { b["token_type"] = "DPoP" } }},
		{name: "RejectsExpiredToken", set: func(p *provider) {
			p.token = func(k *keyring.Token) { k.IssuedAt, k.Expiry = k.IssuedAt.Add(-time.Hour), k.Expiry.Add(-time.Hour) }
		}},
		{name: "RejectsTokenOfTheFuture", set: func(p *provider) {
			p.token = func(k *keyring.Token) {
				k.IssuedAt, k.Expiry = k.IssuedAt.Add(5*time.Minute), k.Expiry.Add(5*time.Minute)
			}
		}},
		{name: "RejectsRedirect", set: func(p *provider) {
			p.answer = func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Location", "https://elsewhere.example/MARKED")
				rw.WriteHeader(http.StatusTemporaryRedirect)
			}
		}},
		{name: "page of HTML", set: func(p *provider) { p.answer = text(200, "text/html", "<html>MARKED</html>") }},
		{name: "no JSON", set: func(p *provider) { p.answer = text(200, "application/json", "MARKED") }},
		{name: "huge answer", set: func(p *provider) { p.answer = text(200, "application/json", strings.Repeat("MARKED", 300_000)) }},

		{name: "revoked", set: func(p *provider) { p.answer = refusal(400, "invalid_grant", "Token was revoked") }, code: "invalid_request",
			text: "subject_token was not accepted: the identity provider does not take it for an exchange: revoked, expired, or of a kind it cannot exchange", level: "INFO"},
		{name: "scope refused", set: func(p *provider) { p.answer = refusal(400, "invalid_scope", "no") }, code: "invalid_scope",
			text: "the identity provider does not grant the scopes for this token", level: "INFO"},
		{name: "target refused", set: func(p *provider) { p.answer = refusal(400, "invalid_target", "no") }, code: "invalid_target",
			text: "the identity provider refuses the target for this token", level: "INFO"},
		{name: "policy of the provider", set: func(p *provider) { p.answer = refusal(403, "access_denied", "no") }, code: "unauthorized_client",
			text: "the identity provider does not let this token be exchanged", level: "INFO"},
		{name: "our credentials", set: func(p *provider) { p.answer = refusal(401, "invalid_client", "no") }},
		{name: "exchange not switched on", set: func(p *provider) {
			p.answer = refusal(400, "invalid_request", "Standard token exchange is not enabled for the requested client")
		}},

		{name: "down", set: func(p *provider) { p.answer = refusal(500, "server_error", "no") }, code: "temporarily_unavailable",
			text: "the identity provider does not answer at the moment", level: "WARN"},
		{name: "unreachable", set: func(p *provider) { p.server.Close() }, code: "temporarily_unavailable",
			text: "the identity provider does not answer at the moment", level: "WARN"},
		{name: "too many requests", set: func(p *provider) { p.answer = refusal(429, "slow_down", "no", "Retry-After", "7") }, code: "temporarily_unavailable",
			text: "the identity provider does not answer at the moment", level: "WARN"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProvider(t, nil)
			tc.set(p)
			r := p.w.refused(p.w.request(nil))
			code, level, text := tc.code, tc.level, tc.text
			if code == "" {
				code, level, text = "server_error", "ERROR", "the identity provider gave no token that can be used; the log of the sidecar says why"
			}
			if r.Answer.Code != code || r.Answer.Description != text || r.Reason != exchange.ReasonProvider || r.Cause == nil {
				t.Errorf("got  %s: %s (%s, cause %v)\nwant %s: %s", r.Answer.Code, r.Answer.Description, r.Reason, r.Cause, code, text)
			}
			line := p.w.lines()[0]
			if line["level"] != level || line["err"] == nil || line["subject_fingerprint"] == nil {
				t.Errorf("audit line: got %v, want level %s and the cause", line, level)
			}
			if log := p.w.log.buf.String(); strings.Contains(log, "MARKED") || strings.Contains(log, "eyJ") {
				t.Errorf("the log has a token or words of the provider: %s", log)
			}
			if tc.name == "too many requests" && r.Answer.RetryAfter != 7*time.Second {
				t.Errorf("RetryAfter: got %s, want 7s", r.Answer.RetryAfter)
			}
		})
	}
}

// TestProviderLivesLonger: a token of the provider is given out for no longer than the policy
// and the subject token allow, whatever it and the answer say.
//
// Covers: TX-41
func TestProviderLivesLonger(t *testing.T) {
	for _, tc := range []struct {
		name    string
		token   time.Duration // exp of the provider's
		answer  int           // expires_in
		subject time.Duration
		want    time.Duration
	}{
		{name: "life of the policy", token: 10 * time.Hour, answer: 36000, subject: time.Hour, want: 5 * time.Minute},
		{name: "life of the subject", token: 10 * time.Hour, answer: 36000, subject: time.Minute, want: time.Minute},
		{name: "expires_in is longer than exp", token: 2 * time.Minute, answer: 36000, subject: time.Hour, want: 2 * time.Minute},
		{name: "expires_in is shorter than exp", token: 10 * time.Hour, answer: 30, subject: time.Hour, want: 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProvider(t, nil)
			p.token = func(k *keyring.Token) { k.Expiry = p.w.now().Add(tc.token) }
			p.body = func(b map[string]any) { b["expires_in"] = tc.answer }
			req := p.w.request(func(r *exchange.Request) {
				r.SubjectToken = p.w.mint(func(k *keyring.Token) { k.Expiry = p.w.now().Add(tc.subject) })
			})
			issued := p.w.exchange(req)
			if life := issued.Expiry.Sub(p.w.now()); life != tc.want {
				t.Errorf("life: got %s, want %s", life, tc.want)
			}
			p.w.advance(tc.want - time.Second)
			if again, err := p.w.x.Exchange(t.Context(), req); err == nil && again.Token == issued.Token {
				t.Error("the token was given out again in its last second")
			}
		})
	}
}

// TestRejectsSubjectThatExpiresAtTheProvider: it was good when the provider was asked.
func TestRejectsSubjectThatExpiresAtTheProvider(t *testing.T) {
	p := newProvider(t, nil)
	p.during = func(*http.Request) { p.w.advance(5 * time.Second) }
	r := p.w.refused(p.w.request(func(r *exchange.Request) {
		r.SubjectToken = p.w.mint(func(k *keyring.Token) { k.Expiry = p.w.now().Add(5 * time.Second) })
	}))
	if r.Answer.Code != "invalid_request" || !strings.HasPrefix(r.Answer.Description, "subject_token was not accepted") {
		t.Errorf("got %v, want the subject token refused", r)
	}
}

// TestRejectsWhatTheProviderCannotDo: it knows neither actors nor tokens of this service, and
// is not asked.
func TestRejectsWhatTheProviderCannotDo(t *testing.T) {
	p := newProvider(t, nil)
	w := p.w
	r := w.refused(w.request(func(r *exchange.Request) {
		r.ActorToken = w.mint(func(k *keyring.Token) { k.Subject, k.ClientID = "robot", "robot" })
	}))
	if r.Reason != exchange.ReasonActorToken || r.Answer.Code != "invalid_request" {
		t.Errorf("with an actor token: got %v", r)
	}
	r = w.refused(w.request(func(r *exchange.Request) { r.SubjectToken = w.mint(func(k *keyring.Token) { k.Issuer = issuer }) }))
	if r.Reason != exchange.ReasonProvider || r.Answer.Code != "invalid_request" {
		t.Errorf("with a token of this service: got %v", r)
	}
	if p.asked() != 0 {
		t.Errorf("the provider was asked %d times", p.asked())
	}
}

// TestProviderIsAskedOnce however many wait, and a definite refusal is not asked for again at
// once; trouble is.
func TestProviderIsAskedOnce(t *testing.T) {
	p := newProvider(t, nil)
	hold := make(chan struct{})
	p.during = func(*http.Request) { <-hold }
	req := p.w.request(nil)
	var group sync.WaitGroup
	tokens := make([]string, 64)
	for i := range tokens {
		group.Go(func() {
			if issued, err := p.w.x.Exchange(t.Context(), req); err == nil {
				tokens[i] = issued.Token
			}
		})
	}
	close(hold)
	group.Wait()
	for i, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Errorf("request %d: another token than the first, or none", i)
		}
	}
	if p.asked() != 1 {
		t.Errorf("the provider was asked %d times, want once", p.asked())
	}

	other := p.w.request(nil)
	p.mu.Lock()
	p.answer = refusal(400, "invalid_grant", "revoked")
	p.mu.Unlock()
	p.w.refused(other)
	p.w.refused(other)
	if p.asked() != 2 {
		t.Errorf("after a definite refusal: asked %d times, want 2 with the first", p.asked())
	}
	p.mu.Lock()
	p.answer = refusal(500, "server_error", "down")
	p.mu.Unlock()
	trouble := p.w.request(nil)
	p.w.refused(trouble)
	p.w.refused(trouble)
	if p.asked() != 4 {
		t.Errorf("after trouble: asked %d times, want 4 with the first", p.asked())
	}
}
