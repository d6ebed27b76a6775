package exchange_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/exchange"
)

const (
	issuer  = "https://sts.example"
	gateway = "https://gw.example/phantom"
	api     = "https://api.example"
	orders  = "https://orders.example"
	server  = "https://server.internal.example"
	advisor = "https://advisor.internal.example"
)

// usual is a policy with two servers in a chain, a rule and a tool.
const usual = `
version: 1
limits: {token_lifetime: 5m, actors: 4}
audiences:
  https://api.example:
    resources: [https://api.example/v1]
    scopes: [read, write, audit]
    claims: {area: region}
  https://orders.example: {scopes: [read, order]}
  https://server.internal.example: {scopes: [read]}
callers:
  server:
    subject_audience: https://server.internal.example
    authentication: {secret_variables: [SERVER_SECRET]}
    accept_exchanged: true
    actors: [robot]
    audiences:
      https://api.example:
        scopes: [read, write]
        rules:
        - {name: writers-audit, when: [write], grant: [audit]}
      https://orders.example: {scopes: [read]}
  advisor:
    subject_audience: https://advisor.internal.example
    authentication: {secret_variables: [ADVISOR_SECRET]}
    audiences:
      https://server.internal.example: {scopes: [read]}
tools:
  look:
    requires: [read]
    audiences:
      https://api.example: [read]
`

// world is a gateway that mints phantom tokens and an exchanger, at a clock that stands still
// unless it is moved.
type world struct {
	t       testing.TB
	gateway *keyring.Ring
	own     *keyring.Ring
	elapsed atomic.Int64
	log     syncBuffer
	seen    []exchange.Observation
	mu      sync.Mutex
	x       *exchange.Exchanger
}

var start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func (w *world) now() time.Time { return start.Add(time.Duration(w.elapsed.Load())) }

func (w *world) advance(d time.Duration) { w.elapsed.Add(int64(d)) }

// newWorld makes an exchanger of the policy in text; change may alter its configuration.
func newWorld(t testing.TB, text string, change func(*exchange.Config)) *world {
	t.Helper()
	w := &world{t: t, gateway: newRing(t), own: newRing(t)}
	x, err := exchange.New(w.config(change), parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	w.x = x
	return w
}

func (w *world) config(change func(*exchange.Config)) exchange.Config {
	cfg := exchange.Config{
		Issuer:  issuer,
		Keys:    w.own,
		Subject: exchange.Subject{Issuer: gateway, Keys: w.gateway, Setting: "TOKEN_EXCHANGE_SUBJECT_ISSUER", Minted: true},
		Observe: func(o exchange.Observation) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, o)
		},
		Now:    w.now,
		Logger: slog.New(slog.NewJSONHandler(&w.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newRing(t testing.TB) *keyring.Ring {
	t.Helper()
	key, err := keyring.Generate(keyring.ES256)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// mint is a phantom token of john for the server; change may alter what it says.
func (w *world) mint(change func(*keyring.Token)) string {
	w.t.Helper()
	token := keyring.Token{
		Issuer: gateway, Subject: "john", Audience: []string{server}, ClientID: "dyn-123",
		IssuedAt: w.now().Add(-time.Minute), Expiry: w.now().Add(4 * time.Minute),
		Scope: oauth.Scopes{"read", "profile"}, Extra: map[string]any{"region": "USA"},
	}
	if change != nil {
		change(&token)
	}
	ring := w.gateway
	if token.Issuer == issuer {
		ring = w.own
	}
	out, err := ring.Mint(token)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// request is the server's for the API; change may alter it.
func (w *world) request(change func(*exchange.Request)) *exchange.Request {
	w.t.Helper()
	req := &exchange.Request{Caller: "server", Audience: []string{api}, Scope: oauth.Scopes{"read"}, Via: exchange.ViaEndpoint, Method: "client_secret_basic"}
	if change != nil {
		change(req)
	}
	if req.SubjectToken == "" {
		req.SubjectToken = w.mint(nil)
	}
	return req
}

func (w *world) exchange(req *exchange.Request) *exchange.Issued {
	w.t.Helper()
	issued, err := w.x.Exchange(w.t.Context(), req)
	if err != nil {
		w.t.Fatalf("exchange: %v", err)
	}
	return issued
}

// refused is the refusal of req.
func (w *world) refused(req *exchange.Request) *exchange.Refusal {
	w.t.Helper()
	issued, err := w.x.Exchange(w.t.Context(), req)
	var r *exchange.Refusal
	if !errors.As(err, &r) {
		w.t.Fatalf("got %v, %v, want a refusal", issued, err)
	}
	return r
}

// claims reads a token without verifying it.
func (w *world) claims(token string) map[string]any {
	w.t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		w.t.Fatalf("expected a signed JWT, got %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		w.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// syncBuffer collects log lines of several requests.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines are the log lines so far.
func (w *world) lines() []map[string]any {
	w.t.Helper()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(w.log.buf.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			w.t.Fatalf("log line is no JSON: %q", line)
		}
		out = append(out, v)
	}
	return out
}
