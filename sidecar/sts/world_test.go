package sts_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"phantomtoken/internal/keyring"
	"phantomtoken/internal/oauth"
	"phantomtoken/internal/policy"
	"phantomtoken/sidecar/caller"
	"phantomtoken/sidecar/exchange"
	"phantomtoken/sidecar/sts"
)

const (
	grantType       = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
	jwtType         = "urn:ietf:params:oauth:token-type:jwt"

	mcpServer   = "mcp-server"
	mcpSecret   = "MARKED-SECRET-of-mcp-server"
	mcpAudience = "https://mcp.internal.example"
	apiAudience = "https://api.demo.example"
	ordersURI   = "https://ORDERS.example/v1/"

	otherServer   = "other+server:1"
	otherSecret   = "MARKED+SECRET:of%other"
	otherAudience = "https://other.internal.example"
	otherAPI      = "https://other-api.example"

	idleServer = "idle-server"
	idleSecret = "MARKED-SECRET-of-idle"
)

// usual is the policy of most tests: two servers and one that may do nothing.
const usual = `version: 1
audiences:
  https://api.demo.example:
    scopes: [stocks/read, stocks/trade]
    claims: {region: region, client_type: client_type, client_assurance_level: client_assurance_level}
  https://ORDERS.example/v1/:
    scopes: [stocks/read, orders/write]
    claims: {region: region}
  reports: {}
  https://other-api.example: {scopes: [stocks/read]}
callers:
  mcp-server:
    subject_audience: https://mcp.internal.example
    authentication: {secret_variables: [MCP_SECRET]}
    audiences:
      https://api.demo.example: {scopes: [stocks/read, stocks/trade]}
      https://ORDERS.example/v1/: {scopes: [stocks/read, orders/write]}
      reports: {}
  other+server:1:
    subject_audience: https://other.internal.example
    authentication: {secret_variables: [OTHER_SECRET]}
    audiences:
      https://other-api.example: {scopes: [stocks/read]}
  idle-server:
    subject_audience: https://mcp.internal.example
    authentication: {secret_variables: [IDLE_SECRET]}
`

// lookup stands for the environment.
func lookup(variable string) (string, bool) {
	value, set := map[string]string{"MCP_SECRET": mcpSecret, "OTHER_SECRET": otherSecret, "IDLE_SECRET": idleSecret}[variable]
	return value, set
}

// parts are what a service is made of, before it is made.
type parts struct {
	policy   string
	exchange exchange.Config
	callers  caller.Config
	service  sts.Config
	tls      *tls.Config // nil serves plain http
}

// world is a gateway that mints phantom tokens and a token service on loopback that
// exchanges them, at a stopped clock.
type world struct {
	t       testing.TB
	url     string // of the service and its issuer
	phantom string // the issuer of phantom tokens
	gateway *keyring.Ring
	own     *keyring.Ring
	elapsed atomic.Int64 // nanoseconds since start
	log     *syncBuffer
	parts   parts
	replay  *caller.Replay
	service *sts.Service
	server  *httptest.Server
}

var start = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func (w *world) now() time.Time { return start.Add(time.Duration(w.elapsed.Load())) }

func (w *world) advance(d time.Duration) { w.elapsed.Add(int64(d)) }

// newWorld starts the service; change may alter what it is made of first.
func newWorld(t testing.TB, change func(*world, *parts)) *world {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	w := &world{
		t:       t,
		url:     "http://" + server.Listener.Addr().String(),
		gateway: newRing(t, keyring.ES256),
		own:     newRing(t, keyring.ES256),
		log:     new(syncBuffer),
		replay:  caller.NewReplay(0, 0),
		server:  server,
	}
	w.phantom = w.url + "/phantom"
	documents, err := keyring.NewIssuer(oauth.IssuerMetadata{Issuer: w.phantom}, w.gateway)
	if err != nil {
		t.Fatal(err)
	}
	w.parts = parts{
		policy: usual,
		exchange: exchange.Config{
			Issuer:  w.url,
			Keys:    w.own,
			Subject: exchange.Subject{Issuer: w.phantom, Keys: w.gateway, Setting: "TOKEN_EXCHANGE_SUBJECT_ISSUER", Minted: true},
			Now:     w.now,
			Logger:  slog.New(slog.NewJSONHandler(w.log, nil)),
		},
		callers: caller.Config{Issuer: w.url, TokenEndpoint: sts.TokenEndpoint(w.url), Lookup: lookup, Now: w.now},
		service: sts.Config{Issuer: w.url, Keys: w.own, SubjectDocuments: documents, Now: w.now},
	}
	if change != nil {
		change(w, &w.parts)
	}
	p := parsePolicy(t, w.parts.policy)
	w.parts.service.Exchange, err = exchange.New(w.parts.exchange, p)
	if err != nil {
		t.Fatal(err)
	}
	w.parts.service.Callers = w.newCallers(p)
	if w.service, err = sts.New(w.parts.service); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = w.service
	if server.TLS = w.parts.tls; server.TLS != nil {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return w
}

func parsePolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newCallers are those of p, as the sidecar registers them.
func (w *world) newCallers(p *policy.Policy) *caller.Authenticator {
	w.t.Helper()
	var registered []caller.Caller
	for _, c := range p.Callers() {
		a := c.Authentication
		r := caller.Caller{ID: c.ID, SecretFiles: a.SecretFiles, SecretVariables: a.SecretVariables, Where: "callers." + c.ID}
		if a.PrivateKeyJWT != nil {
			r.JWKSFile, r.JWKSURI = a.PrivateKeyJWT.JWKSFile, a.PrivateKeyJWT.JWKSURI
		}
		if a.MTLS != nil {
			r.SPIFFEID, r.DNSName = a.MTLS.SPIFFEID, a.MTLS.DNSName
		}
		if a.Kubernetes != nil {
			r.ServiceAccount = &caller.ServiceAccount{Namespace: a.Kubernetes.Namespace, Name: a.Kubernetes.Name}
		}
		registered = append(registered, r)
	}
	callers, err := caller.New(w.parts.callers, registered, w.replay)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(callers.Close)
	return callers
}

func newRing(t testing.TB, alg string) *keyring.Ring {
	t.Helper()
	key, err := keyring.Generate(alg)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.NewRing(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// subject is what the gateway says of john, who uses the client dyn-123.
func (w *world) subject() keyring.Token {
	return keyring.Token{
		Issuer:   w.phantom,
		Subject:  "john.doe@demo.example",
		Audience: []string{mcpAudience},
		ClientID: "dyn-123",
		IssuedAt: w.now().Add(-time.Minute),
		Expiry:   w.now().Add(4 * time.Minute),
		ID:       "phantom-1",
		Scope:    oauth.Scopes{"stocks/read", "profile"},
		Extra:    map[string]any{"region": "USA", "client_type": "mcp", "client_assurance_level": 1, "email": "john@demo.example"},
	}
}

// mint signs a phantom token; change may alter what it says.
func (w *world) mint(change func(*keyring.Token)) string {
	w.t.Helper()
	token := w.subject()
	if change != nil {
		change(&token)
	}
	return sign(w.t, w.gateway, token)
}

func sign(t testing.TB, ring *keyring.Ring, token keyring.Token) string {
	t.Helper()
	out, err := ring.Mint(token)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// form is the request of the MCP server for the stocks API.
func (w *world) form(change func(url.Values)) url.Values {
	w.t.Helper()
	form := url.Values{
		"grant_type":         {grantType},
		"subject_token":      {w.mint(nil)},
		"subject_token_type": {accessTokenType},
		"audience":           {apiAudience},
		"scope":              {"stocks/read"},
	}
	if change != nil {
		change(form)
	}
	return form
}

type answer struct {
	status int
	header http.Header
	body   string
	err    struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	ok struct {
		AccessToken     string  `json:"access_token"`
		IssuedTokenType string  `json:"issued_token_type"`
		TokenType       string  `json:"token_type"`
		ExpiresIn       int64   `json:"expires_in"`
		Scope           *string `json:"scope"`
	}
}

// request is a token request; the MCP server is the caller.
func (w *world) request(body string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/token", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	setBasic(r, mcpServer, mcpSecret)
	return r
}

func setBasic(r *http.Request, id, secret string) {
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
}

func (w *world) do(r *http.Request) answer {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	res, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(body)}
	if res.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &a.ok)
	} else {
		err = json.Unmarshal(body, &a.err)
	}
	if err != nil {
		w.t.Errorf("status %d with a body that is no JSON: %q", res.StatusCode, body)
	}
	return a
}

func (w *world) post(form url.Values) answer {
	w.t.Helper()
	return w.do(w.request(form.Encode()))
}

// issued exchanges and returns the claims of the result.
func (w *world) issued(form url.Values) map[string]any {
	w.t.Helper()
	a := w.post(form)
	if a.status != http.StatusOK {
		w.t.Fatalf("got %d %s, want 200", a.status, a.body)
	}
	return claimsOf(w.t, a.ok.AccessToken)
}

// claimsOf reads a token without verifying it.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	return part(t, token, 1)
}

func part(t testing.TB, token string, n int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a signed JWT, got %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
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

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines are the log lines so far, as JSON.
func (w *world) lines() []map[string]any {
	w.t.Helper()
	var out []map[string]any
	for line := range strings.Lines(w.log.String()) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			w.t.Fatalf("log line is no JSON: %q", line)
		}
		out = append(out, v)
	}
	return out
}
