package gate_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"phantomtoken/internal/gate"
	"phantomtoken/internal/keyring"
	"phantomtoken/internal/tokencache"
)

// A route that asks every few seconds must not live on the answer of one that asks every
// hour: a revoked token would go on working there.
//
// Covers: CA-01
func TestRevokedTokenDoesNotLiveOnALaxerRoutesAnswer(t *testing.T) {
	lax := newWorld(t, func(c *gate.Config) { c.CacheTTL = time.Hour })
	strictConfig := lax.cfg
	strictConfig.CacheTTL = 5 * time.Second
	strict, err := gate.New(strictConfig)
	if err != nil {
		t.Fatal(err)
	}
	lax.payload(lax.bearer(goodToken))
	delete(lax.idp.answer, goodToken) // revoked
	lax.now = start.Add(10 * time.Second)
	d := strict.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
	if d.Answer == nil || d.Answer.Status != 401 {
		t.Errorf("strict route: got %+v, want 401", d)
	}
}

// Kong removes what Connection names after its plugins have run: the caller would reach
// the upstream without any token, as nobody.
func TestConnectionHeaderCannotStripThePhantomToken(t *testing.T) {
	for _, value := range []string{"Authorization", "keep-alive, AUTHORIZATION ", "close,\tauthorization", "x,authorization,y"} {
		w := newWorld(t, nil)
		d := w.decide(request("/mcp", "authorization", "Bearer "+goodToken, "connection", "keep-alive", "connection", value))
		if d.Answer == nil || d.Answer.Status != 400 {
			t.Errorf("Connection %q: got %+v, want 400", value, d)
		}
	}
	w := newWorld(t, nil)
	w.payload(w.decide(request("/mcp", "authorization", "Bearer "+goodToken, "connection", "keep-alive, x-authorization-hint")))
}

func TestForgedForwardingHeadersInOtherSpellings(t *testing.T) {
	w := newWorld(t, nil)
	forged := []string{
		"x_forwarded_for", "x-forwarded_host", "x_real_ip", "x-remote-group", "remote-email", "x-auth-user", "x-webauth-user",
		"x-goog-authenticated-user-email", "x-goog-iap-jwt-assertion", "x-amzn-oidc-identity", "x-ms-client-principal", "x-ms-client-principal-id",
		"cf-access-authenticated-user-email", "tailscale-user-login", "impersonate-user", "ssl-client-verify", "x-forwarded-authorization", "x-authorization",
	}
	r := request("/mcp", "authorization", "Bearer "+goodToken, "x-forwarded-for", "192.0.2.1", "x-real-ip", "192.0.2.1", "forwarded", "for=x")
	for _, name := range forged {
		r.Headers = append(r.Headers, gate.Header{Name: name, Value: "v"})
	}
	d := w.decide(r)
	if got := slices.Sorted(slices.Values(d.Forward.Clear)); !slices.Equal(got, slices.Sorted(slices.Values(forged))) {
		t.Errorf("cleared %q, want %q", got, forged)
	}
}

// One host has all the addresses of its network.
func TestTokenFishingFromOneIPv6NetworkHasOneBudget(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.Failures = tokencache.NewLimiter(60, 20, 1000, c.Now) })
	for i := range 100 {
		w.decideAt(request("/mcp", "authorization", fmt.Sprintf("Bearer guess%d", i)), &kong{address: fmt.Sprintf("2001:db8::%x", i)})
	}
	if n := w.idp.count(); n != 20 {
		t.Errorf("provider was asked %d times, want the burst of 20", n)
	}
	w.payload(w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{address: "2001:db8:0:1::1"}))
}

// Good tokens and trouble of the provider use up no budget.
func TestBudgetIsForBadTokensOnly(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) {
		c.Failures = tokencache.NewLimiter(60, 2, 1000, c.Now)
		c.CacheTTL = 0
	})
	for range 5 {
		w.payload(w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{address: "192.0.2.1"}))
	}
	w.idp.err = fmt.Errorf("down")
	for range 5 {
		if d := w.decideAt(request("/mcp", "authorization", "Bearer "+goodToken), &kong{address: "192.0.2.1"}); d.Answer.Status != 503 {
			t.Errorf("status = %d, want 503", d.Answer.Status)
		}
	}
}

// An RSA key signs by two algorithms under one kid.
func TestRoutesOfDifferentAlgorithmDoNotShareAToken(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	w := newWorld(t, nil)
	a, b := w.cfg, w.cfg
	for alg, cfg := range map[string]*gate.Config{"RS256": &a, "PS256": &b} {
		k, err := keyring.Parse(rsaKey, alg)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := keyring.NewRing(k)
		if err != nil {
			t.Fatal(err)
		}
		mint := *cfg.Phantom.(*gate.Mint)
		mint.Keys = ring
		cfg.Phantom = &mint
	}
	for alg, cfg := range map[string]gate.Config{"RS256": a, "PS256": b} {
		g, err := gate.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		d := g.Decide(t.Context(), request("/mcp", "authorization", "Bearer "+goodToken), &kong{})
		if d.Forward == nil || !strings.Contains(headerText(d), `"alg":"`+alg+`"`) {
			t.Errorf("%s: header = %s", alg, headerText(d))
		}
	}
}

// What a client or a provider sends cannot fill the log or a header field.
func TestLogLinesAndChallengesStayShort(t *testing.T) {
	w := newWorld(t, func(c *gate.Config) { c.CORS.Origins = []string{"https://a.example"} })
	w.decide(request("/mcp", "origin", "https://"+strings.Repeat("\x01", 8000)))
	many := make([]string, 900)
	for i := range many {
		many[i] = fmt.Sprintf("scope-number-%d", i)
	}
	w.idp.answer[goodToken] = claims(map[string]any{"scope": `"` + strings.Join(many, " ") + `"`})
	d := w.bearer(goodToken)
	if c := headerOf(d.Answer.Headers, "WWW-Authenticate"); len(c) > 1000 {
		t.Errorf("challenge has %d bytes", len(c))
	}
	for line := range strings.Lines(w.log.String()) {
		if len(line) > 2000 {
			t.Errorf("log line has %d bytes", len(line))
		}
	}
}
