package gate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"phantomtoken/internal/delegation"
	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/tokenexchange"
)

// swapper is a token endpoint: it signs with the ring of its provider.
type swapper struct {
	w *world

	mu       sync.Mutex
	requests []tokenexchange.Request
	err      error
	ring     *keyring.Ring
	token    keyring.Token                 // members that differ from a good token
	response func(*tokenexchange.Response) // changes a good response
	entered  chan struct{}                 // when not nil: a call has begun
	proceed  chan struct{}                 // and waits
}

func (s *swapper) Exchange(ctx context.Context, req tokenexchange.Request) (*tokenexchange.Response, error) {
	s.mu.Lock()
	s.requests = append(s.requests, req)
	entered, proceed := s.entered, s.proceed
	s.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
		select {
		case <-proceed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	token := keyring.Token{
		Issuer: idpURL, Subject: "john.doe", ClientID: "gateway", Audience: []string{upstreamAud},
		IssuedAt: s.w.now, Expiry: s.w.now.Add(5 * time.Minute), Scope: req.Scope,
	}
	if s.token.Issuer != "" {
		token.Issuer = s.token.Issuer
	}
	if s.token.Scope != nil {
		token.Scope = s.token.Scope
	}
	if s.token.Subject != "" {
		token.Subject = s.token.Subject
	}
	if s.token.Audience != nil {
		token.Audience = s.token.Audience
	}
	if !s.token.IssuedAt.IsZero() {
		token.IssuedAt = s.token.IssuedAt
	}
	if !s.token.Expiry.IsZero() {
		token.Expiry = s.token.Expiry
	}
	jwt, err := s.ring.Mint(token)
	if err != nil {
		s.w.t.Error(err)
		return nil, err
	}
	res := &tokenexchange.Response{AccessToken: jwt, TokenType: "Bearer", ExpiresIn: token.Expiry.Sub(s.w.now), Scope: req.Scope}
	if s.response != nil {
		s.response(res)
	}
	return res, nil
}

func (s *swapper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func newExchange(t *testing.T, change func(*gate.Config, *gate.Exchange)) (*world, *swapper) {
	t.Helper()
	s := &swapper{}
	w := newWorld(t, func(c *gate.Config) {
		s.ring = c.Phantom.(*gate.Mint).Keys.Ring()
		x := &gate.Exchange{Target: newTarget(t, s, s.ring, c.Now), Scopes: oauth.Scopes{"mcp:read", "mcp:write"}}
		c.Phantom = x
		if change != nil {
			change(c, x)
		}
	})
	s.w = w
	return w, s
}

func newTarget(t *testing.T, s *swapper, keys keyring.KeySource, now func() time.Time) *delegation.Target {
	t.Helper()
	verifier, err := keyring.NewVerifier(keyring.VerifierConfig{Issuer: idpURL, Audiences: []string{upstreamAud}, Keys: keys, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := delegation.NewEndpoint(delegation.EndpointConfig{Exchanger: s, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	target, err := delegation.NewTarget(delegation.TargetConfig{
		Endpoint: endpoint, Verifier: verifier, Audience: upstreamAud, Now: now,
		Settings: delegation.Settings{
			Subject: "access token", ClientID: "client_id", Credentials: "client_id, client_secret and introspection.auth_method",
			Endpoint: "phantom_token.token_endpoint", Issuer: "token.issuer", Keys: "token.jwks_uri", Issue: "phantom_token.mode",
			Audience: "phantom_token.audience", Scope: "phantom_token.exchange_scope",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func wantForwarded(t *testing.T, w *world, d gate.Decision) string {
	t.Helper()
	if d.Forward == nil {
		t.Fatalf("got %s, want forwarded; log: %s", wire(d.Answer), w.log.String())
	}
	return d.Forward.Authorization
}

// TestExchange: the access token is swapped once, for scopes that are named and granted,
// and the result is used while it, the access token and the answer about it live.
//
// Covers: TX-05, TX-09, TX-13
func TestExchange(t *testing.T) {
	t.Run("names granted scopes and the audience", func(t *testing.T) {
		w, s := newExchange(t, nil)
		w.idp.answer[goodToken] = claims(map[string]any{"scope": `"openid mcp:read offline_access"`})
		if got := wantForwarded(t, w, w.bearer(goodToken)); strings.Contains(got, goodToken) || strings.Count(got, ".") != 2 {
			t.Errorf("Authorization = %q, want the exchanged JWT", got)
		}
		r := s.requests[0]
		if r.SubjectToken != goodToken || !slices.Equal(r.Scope, []string{"mcp:read"}) || !slices.Equal(r.Audience, []string{upstreamAud}) || r.ActorToken != "" {
			t.Errorf("request is %+v, want the access token, scope mcp:read and the audience", r)
		}
	})
	t.Run("once for the life of the result", func(t *testing.T) {
		w, s := newExchange(t, func(c *gate.Config, _ *gate.Exchange) { c.CacheTTL = time.Hour })
		first := wantForwarded(t, w, w.bearer(goodToken))
		w.now = start.Add(270 * time.Second)
		if wantForwarded(t, w, w.bearer(goodToken)) != first || s.count() != 1 {
			t.Errorf("%d exchanges with 30 s left, want 1", s.count())
		}
		w.now = start.Add(271 * time.Second)
		if wantForwarded(t, w, w.bearer(goodToken)) == first || s.count() != 2 {
			t.Errorf("%d exchanges with 29 s left, want 2", s.count())
		}
	})
	t.Run("a short life is used for half of it", func(t *testing.T) {
		w, s := newExchange(t, nil)
		s.token.Expiry = start.Add(20 * time.Second)
		wantForwarded(t, w, w.bearer(goodToken))
		w.now = start.Add(10 * time.Second)
		wantForwarded(t, w, w.bearer(goodToken))
		if s.count() != 1 {
			t.Errorf("%d exchanges, want 1", s.count())
		}
	})
	t.Run("never beyond expires_in", func(t *testing.T) {
		w, s := newExchange(t, nil)
		s.response = func(r *tokenexchange.Response) { r.ExpiresIn = 40 * time.Second }
		wantForwarded(t, w, w.bearer(goodToken))
		w.now = start.Add(40 * time.Second)
		wantForwarded(t, w, w.bearer(goodToken))
		if s.count() != 2 {
			t.Errorf("%d exchanges, want 2", s.count())
		}
	})
	t.Run("never beyond the access token", func(t *testing.T) {
		w, s := newExchange(t, nil)
		s.token.Expiry = start.Add(time.Hour)
		w.idp.answer[goodToken] = claims(map[string]any{"exp": start.Add(50 * time.Second).Unix()})
		wantForwarded(t, w, w.bearer(goodToken))
		w.now = start.Add(49 * time.Second) // to its end: a new one would live no longer
		wantForwarded(t, w, w.bearer(goodToken))
		if s.count() != 1 {
			t.Errorf("%d exchanges, want 1", s.count())
		}
		w.now = start.Add(50 * time.Second)
		if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != 401 {
			t.Errorf("after the access token: got %+v, want 401", d)
		}
	})
	t.Run("two users, two tokens", func(t *testing.T) {
		w, s := newExchange(t, nil)
		w.idp.answer["second"] = claims(map[string]any{"sub": `"jane.roe"`})
		first := wantForwarded(t, w, w.bearer(goodToken))
		s.token.Subject = "jane.roe"
		if wantForwarded(t, w, w.bearer("second")) == first {
			t.Error("two users share a token")
		}
	})
	t.Run("routes of different audience do not share a token", func(t *testing.T) {
		w, s := newExchange(t, nil)
		wantForwarded(t, w, w.bearer(goodToken))
		other := w.cfg
		x := *w.cfg.Phantom.(*gate.Exchange)
		x.Scopes = oauth.Scopes{"mcp:read"}
		other.Phantom = &x
		g, err := gate.New(other)
		if err != nil {
			t.Fatal(err)
		}
		g.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
		if s.count() != 2 {
			t.Errorf("%d exchanges, want 2", s.count())
		}
	})
	t.Run("nothing is kept without a cache", func(t *testing.T) {
		w, s := newExchange(t, func(c *gate.Config, _ *gate.Exchange) { c.CacheTTL = 0 })
		wantForwarded(t, w, w.bearer(goodToken))
		wantForwarded(t, w, w.bearer(goodToken))
		if s.count() != 2 {
			t.Errorf("%d exchanges, want 2", s.count())
		}
	})
}

// TestConcurrentRequestsExchangeOnce: and one that leaves takes nothing from the others.
//
// Covers: TX-13
func TestConcurrentRequestsExchangeOnce(t *testing.T) {
	w, s := newExchange(t, nil)
	s.entered, s.proceed = make(chan struct{}, 1), make(chan struct{})
	decide := func(ctx context.Context) gate.Decision {
		return w.gate.Decide(ctx, request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
	}
	first, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if d := decide(first); d.Answer == nil || d.Answer.Status != 503 {
			t.Errorf("request that left: got %+v, want 503", d)
		}
	})
	<-s.entered
	leave()
	for range 32 {
		all.Go(func() {
			if d := decide(t.Context()); d.Forward == nil {
				t.Errorf("got %s, want forwarded", wire(d.Answer))
			}
		})
	}
	close(s.proceed)
	all.Wait()
	if s.count() != 1 || w.idp.count() != 1 {
		t.Errorf("%d exchanges and %d introspections, want one each", s.count(), w.idp.count())
	}
}

// TestExchangedTokenIsVerified: what must not go upstream is the provider's trouble, never
// a reason to send the access token on.
//
// Covers: TX-10, TX-12, TX-17, IN-21
func TestExchangedTokenIsVerified(t *testing.T) {
	foreign, err := keyring.Generate("ES256")
	if err != nil {
		t.Fatal(err)
	}
	foreignRing, err := keyring.NewRing(foreign)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*world, *swapper)
		status int
		log    string
	}{
		{"RejectsTokenOfAnotherUser", func(_ *world, s *swapper) { s.token.Subject = "jane.roe" }, 503, "expected the user of the access token"},
		{"RejectsAnotherAudience", func(_ *world, s *swapper) { s.token.Audience = []string{"https://other.internal"} }, 503, "expected audience"},
		{"RejectsAnotherIssuer", func(_ *world, s *swapper) { s.token.Issuer = "https://evil.example" }, 503, "expected issuer"},
		{"RejectsForeignSignature", func(_ *world, s *swapper) { s.ring = foreignRing }, 503, "unknown kid"},
		{"RejectsOpaqueToken", func(_ *world, s *swapper) {
			s.response = func(r *tokenexchange.Response) { r.AccessToken = "opaque" }
		}, 503, "expected a signed JWT"},
		{"RejectsExpiredToken", func(_ *world, s *swapper) { s.token.IssuedAt, s.token.Expiry = start.Add(-time.Minute), start }, 503, "expected a token that has not expired"},
		{"RejectsFewerScopes", func(_ *world, s *swapper) {
			s.response = func(r *tokenexchange.Response) { r.Scope = []string{} }
		}, 403, "grants less than it was asked for"},
		{"RejectsUserThatNobodyNames", func(w *world, _ *swapper) {
			w.idp.answer[goodToken] = claims(map[string]any{"sub": nil})
			w.cfg.Token.AllowWithoutUser = true
			w.gate, _ = gate.New(w.cfg)
		}, 500, "introspection answer has no sub"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, s := newExchange(t, nil)
			tt.change(w, s)
			d := w.bearer(goodToken)
			if d.Answer == nil || d.Answer.Status != tt.status {
				t.Fatalf("got %+v, want %d", d, tt.status)
			}
			if headerOf(d.Answer.Headers, "WWW-Authenticate") != "" {
				t.Error("the answer has a challenge: clients would log in again for nothing")
			}
			if !strings.Contains(w.log.String(), tt.log) {
				t.Errorf("log is %s, want %q", w.log.String(), tt.log)
			}
			if strings.Contains(w.log.String(), goodToken) || strings.Contains(w.log.String(), "eyJ") {
				t.Error("log holds a token")
			}
		})
	}
}

// TestExchangeRefusals: the provider's answers, told apart for the client, in words for
// the operator, and not in the provider's own.
//
// Covers: TX-14, TX-16, TX-17
func TestExchangeRefusals(t *testing.T) {
	refused := func(status int, code, text string) error {
		return &tokenexchange.Error{Status: status, Code: code, Description: text + " MARKED"}
	}
	tests := []struct {
		name   string
		err    error
		status int
		code   string
		log    string
	}{
		{"dead subject token", refused(400, "invalid_request", "Invalid token"), 401, "invalid_token", "does not take the access token for an exchange"},
		{"subject token by another code", refused(400, "invalid_grant", ""), 401, "invalid_token", "does not take the access token for an exchange"},
		{"subject token it cannot read", refused(400, "invalid_request", "Assertion contains an invalid access token"), 401, "invalid_token", "of a kind it cannot exchange"},
		{"unknown target", refused(400, "invalid_target", ""), 403, "access_denied", "phantom_token.audience: "},
		{"scope", refused(400, "invalid_scope", "Scopes [x] not present in the initial access token [y]"), 403, "access_denied", "phantom_token.exchange_scope: "},
		{"client may not", refused(400, "unauthorized_client", ""), 403, "access_denied", "does not let client_id exchange"},
		{"Keycloak: client not in the token", refused(403, "access_denied", "Client is not within the token audience"), 403, "access_denied", "client_id is not in the audience of the access token"},
		{"a code of its own", refused(400, "consent_required", ""), 403, "access_denied", "does not let client_id exchange"},
		{"Keycloak: audience is no client", refused(400, "invalid_client", "Audience not found"), 500, "server_error", "phantom_token.audience: the provider knows no such audience"},
		{"Keycloak: audience not of these scopes", refused(400, "invalid_request", "Requested audience not available: x"), 500, "server_error", "add an audience mapper"},
		{"Keycloak: exchange is off", refused(400, "invalid_request", "Standard token exchange is not enabled for the requested client"), 500, "server_error", "standard token exchange of the client"},
		{"Keycloak: type not supported", refused(400, "invalid_request", "requested_token_type unsupported"), 500, "server_error", "does not understand the request"},
		{"no such grant", refused(400, "unsupported_grant_type", ""), 500, "server_error", "knows no token exchange"},
		{"own credentials", refused(401, "invalid_client", ""), 500, "server_error", "check client_id, client_secret"},
		{"Keycloak: own credentials", refused(401, "unauthorized_client", "Invalid client or Invalid client credentials"), 500, "server_error", "check client_id, client_secret"},
		{"too many", &tokenexchange.Error{Status: 429, RetryAfter: 17 * time.Second}, 503, "temporarily_unavailable", "exchanging the access token"},
		{"server error", refused(500, "server_error", ""), 503, "temporarily_unavailable", "exchanging the access token"},
		{"down", fmt.Errorf("%w: connection refused", tokenexchange.ErrUnavailable), 503, "temporarily_unavailable", "connection refused"},
		{"unusable answer", fmt.Errorf("%w: for others", tokenexchange.ErrUnacceptable), 503, "temporarily_unavailable", "for others"},
		{"no metadata", errors.New("the metadata of X has no token_endpoint; set phantom_token.token_endpoint"), 503, "temporarily_unavailable", "set phantom_token.token_endpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, s := newExchange(t, nil)
			s.err = tt.err
			d := w.bearer(goodToken)
			if d.Answer == nil || d.Answer.Status != tt.status || !strings.HasPrefix(string(d.Answer.Body), `{"error":"`+tt.code+`"`) {
				t.Fatalf("got %+v, want %d %s", d, tt.status, tt.code)
			}
			if got := headerOf(d.Answer.Headers, "WWW-Authenticate") != ""; got != (tt.status == 401) {
				t.Errorf("challenge present = %v", got)
			}
			if got := headerOf(d.Answer.Headers, "Retry-After"); (got != "") != (tt.status == 503) || strings.Contains(tt.name, "too many") && got != "17" {
				t.Errorf("Retry-After = %q", got)
			}
			log := w.log.String()
			if !strings.Contains(log, tt.log) || strings.Contains(log, "MARKED") || strings.Contains(log, goodToken) {
				t.Errorf("log is %s, want %q, no token and no word of the provider", log, tt.log)
			}
			if alarm := strings.Contains(log, "level=ERROR"); alarm != (tt.status == 500) {
				t.Errorf("logged as an error = %v for status %d", alarm, tt.status)
			}
			// Trouble is not remembered, and what is remembered is soon forgotten.
			s.err = nil
			if tt.status != 503 {
				if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != tt.status {
					t.Errorf("a moment later: got %+v, want %d again", d, tt.status)
				}
			}
			w.now = w.now.Add(30 * time.Second)
			wantForwarded(t, w, w.bearer(goodToken))
			if s.count() != 2 {
				t.Errorf("%d exchanges, want 2", s.count())
			}
			// A token that was taken back is asked about again.
			if want := map[bool]int{true: 2, false: 1}[tt.status == 401]; w.idp.count() != want {
				t.Errorf("provider was asked %d times about the token, want %d", w.idp.count(), want)
			}
		})
	}
}

// A token that has none of the scopes for the upstream is told which ones to get.
func TestExchangeNeedsAScope(t *testing.T) {
	w, s := newExchange(t, func(_ *gate.Config, x *gate.Exchange) { x.Scopes = oauth.Scopes{"orders"} })
	d := w.bearer(goodToken)
	want := `Bearer error="insufficient_scope", scope="orders mcp:read", resource_metadata="` + metadataURL + `", error_description="Additional scope is required for this operation"`
	if d.Answer == nil || d.Answer.Status != 403 || headerOf(d.Answer.Headers, "WWW-Authenticate") != want {
		t.Errorf("got %+v, want 403 %s", d, want)
	}
	if s.count() != 0 {
		t.Error("the provider was asked for a token without scope")
	}
}

func TestGateRefusesWaysThatCannotWork(t *testing.T) {
	w := newWorld(t, nil)
	for name, way := range map[string]gate.Phantom{
		"none": nil, "mint": &gate.Mint{}, "fallback": &gate.Relay{Fallback: &gate.Mint{}}, "exchange": &gate.Exchange{},
	} {
		cfg := w.cfg
		cfg.Phantom = way
		if _, err := gate.New(cfg); err == nil {
			t.Errorf("%s: a way without settings was accepted", name)
		}
	}
}

// Whatever the provider answers: the access token itself, one that this gate would accept
// from outside, one of more scope, or one that came too late never goes upstream.
func TestExchangedTokensThatMustNotGoUpstream(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world, *swapper)
		status int
	}{
		{name: "ProviderEchoesTheAccessToken", status: 500, change: func(w *world, s *swapper) {
			s.response = func(r *tokenexchange.Response) { r.AccessToken = goodToken }
		}},
		{name: "AudienceHoldsOurResourceToo", status: 500, change: func(w *world, s *swapper) {
			s.token.Audience = []string{upstreamAud, resourceURL}
		}},
		{name: "MoreScopeThanTheUserGranted", status: 503, change: func(w *world, s *swapper) {
			s.token.Scope = oauth.Scopes{"mcp:read", "admin"}
		}},
		{name: "AccessTokenExpiredMeanwhile", status: 401, change: func(w *world, s *swapper) {
			w.idp.answer[goodToken] = claims(map[string]any{"exp": start.Add(2 * time.Second).Unix()})
			s.response = func(*tokenexchange.Response) { w.now = start.Add(3 * time.Second) }
		}},
		{name: "UnknownStatusSaysNothingOfTheToken", status: 503, change: func(w *world, s *swapper) {
			s.err = &tokenexchange.Error{Status: 400}
		}},
		{name: "WrongEndpoint", status: 500, change: func(w *world, s *swapper) {
			s.err = &tokenexchange.Error{Status: 404}
		}},
		{name: "RequestOfOursThatWasNeverSent", status: 500, change: func(w *world, s *swapper) {
			s.err = &tokenexchange.Error{Code: tokenexchange.ErrorInvalidRequest}
		}},
		{name: "ProvidersOwnError", status: 503, change: func(w *world, s *swapper) {
			s.err = &tokenexchange.Error{Status: 400, Code: tokenexchange.ErrorServerError}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, s := newExchange(t, nil)
			tt.change(w, s)
			for range 2 { // nothing of it is kept
				if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != tt.status {
					t.Fatalf("got %+v, want %d; log: %s", d, tt.status, w.log.String())
				}
			}
		})
	}
}

// The JWT beside an introspection answer that is the access token itself.
func TestRelayNeverForwardsTheAccessToken(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.Phantom = &gate.Relay{} })
	w.idp.jwt = goodToken
	if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != 500 {
		t.Errorf("got %+v, want 500", d)
	}
}

// A client that repeats a request does not have the gateway repeat its own.
//
// Covers: TX-14
func TestRepeatedRequestsDoNotReachTheProvider(t *testing.T) {
	for _, tt := range []struct {
		name           string
		err            error
		status         int
		introspections int
	}{
		{"token that was taken back", &tokenexchange.Error{Status: 400, Code: "invalid_request", Description: "Invalid token"}, 401, 2},
		{"policy", &tokenexchange.Error{Status: 400, Code: "invalid_target"}, 403, 1},
		{"wrong secret", &tokenexchange.Error{Status: 401, Code: "invalid_client"}, 500, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, s := newExchange(t, nil)
			s.err = tt.err
			for range 20 {
				if d := w.bearer(goodToken); d.Answer == nil || d.Answer.Status != tt.status {
					t.Fatalf("got %+v, want %d", d, tt.status)
				}
			}
			if s.count() != 1 || w.idp.count() != tt.introspections {
				t.Errorf("%d exchanges and %d introspections, want 1 and %d", s.count(), w.idp.count(), tt.introspections)
			}
			if got := strings.Count(w.log.String(), "not asked again, because the same was refused a moment ago"); got != 19 {
				t.Errorf("%d lines say that nobody was asked, want 19", got)
			}
		})
	}
}

// While the token endpoint is down, users whose token was exchanged go on working, and
// the others get their error at once.
func TestOutageOfTheTokenEndpoint(t *testing.T) {
	w, s := newExchange(t, nil)
	wantForwarded(t, w, w.bearer(goodToken))
	s.err = fmt.Errorf("%w: connection refused", tokenexchange.ErrUnavailable)
	w.idp.answer["second"] = claims(nil)
	for i := range 8 {
		d := w.bearer("second")
		if d.Answer == nil || d.Answer.Status != 503 {
			t.Fatalf("got %+v, want 503", d)
		}
		if got, want := headerOf(d.Answer.Headers, "Retry-After"), map[bool]string{true: "1", false: "5"}[i >= 5]; got != want {
			t.Errorf("request %d: Retry-After = %q, want %q", i+1, got, want)
		}
		wantForwarded(t, w, w.bearer(goodToken))
	}
	if s.count() != 6 {
		t.Errorf("%d exchanges, want the first one and 5 that failed", s.count())
	}
	s.err = nil
	w.now = w.now.Add(time.Second)
	wantForwarded(t, w, w.bearer("second"))
}

// What the provider asks for with 429 is what clients are told, less the time that passed.
func TestRateLimitReachesTheClient(t *testing.T) {
	w, s := newExchange(t, nil)
	s.err = &tokenexchange.Error{Status: 429, RetryAfter: time.Hour}
	for i, want := range []string{"30", "3"} {
		d := w.bearer(goodToken)
		if d.Answer == nil || d.Answer.Status != 503 || headerOf(d.Answer.Headers, "Retry-After") != want {
			t.Errorf("request %d: got %+v, want 503 with Retry-After %s", i+1, d.Answer, want)
		}
		w.now = w.now.Add(2 * time.Second)
	}
	if s.count() != 1 {
		t.Errorf("%d exchanges, want 1", s.count())
	}
}
